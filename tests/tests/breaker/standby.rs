//! Two coordinators on one NATS: one leads, the other takes over.

use anyhow::{Context, Result, bail, ensure};
use backstay_tests::{Op, eventually};

use super::LONG;
use super::raw_commands::RawCommands;
use super::rig::{LEADING, Rig, builder};

impl Rig {
    /// Which coordinator said last that it leads, of those in `among`, behind their marks.
    pub async fn leader_of(&self, among: &[usize], marks: &[usize]) -> Result<usize> {
        eventually(LONG, || async {
            for &i in among {
                let log = self.coordinators[i].daemon.log();
                if log[marks[i]..].contains(LEADING) {
                    return Ok(i);
                }
            }
            bail!("none of {among:?} leads")
        })
        .await
    }

    /// Where the logs of the coordinators end.
    pub fn marks(&self) -> Vec<usize> {
        self.coordinators.iter().map(|c| c.daemon.log().len()).collect()
    }
}

#[tokio::test]
async fn a_standby_takes_over_from_a_killed_leader() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1).standby()).await?;
    let first = rig.leader_of(&[0, 1], &[0, 0]).await?;
    let second = 1 - first;
    ensure!(!rig.coordinators[second].daemon.log().contains(LEADING), "both lead");

    // In the middle of an attempt: it goes on.
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    rig.coordinators[first].daemon.kill9();
    rig.leader_of(&[second], &[0, 0]).await?;
    gate.open();
    let status = rig.end(&round).await?;
    ensure!(status.is_ok(), "{status:?}");
    rig.holds("a", 1).await?;

    // Right after a request was accepted: it is neither lost nor repeated.
    let marks = rig.marks();
    rig.coordinators[first].daemon.start_and_wait(LONG).await?;
    let round = rig.begin("a").await?;
    rig.coordinators[second].daemon.kill9();
    rig.leader_of(&[first], &marks).await?;
    let status = rig.end(&round).await?;
    ensure!(status.is_ok(), "{status:?}");
    rig.proven("a", 2).await?;
    Ok(())
}

#[tokio::test]
async fn sigterm_hands_over() -> Result<()> {
    // A lease so long that only handing it over can explain what follows.
    let long = builder().cluster("a", 1).standby().coordinator_variable("BACKSTAY_LEASE__TTL", "10m");
    let mut rig = Rig::start(long).await?;
    let first = rig.leader_of(&[0, 1], &[0, 0]).await?;
    let second = 1 - first;
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    let ended = rig.coordinators[first].daemon.sigterm_and_wait(LONG).await?;
    ensure!(ended.success(), "{ended}\n{}", rig.coordinators[first].daemon.log());
    // It is taken for gone when it says so, not when the standby happens to ask.
    rig.leader_of(&[second], &[0, 0]).await.context("the standby waits for a lease that was given up")?;
    gate.open();
    let status = rig.end(&round).await?;
    ensure!(status.is_ok(), "{status:?}");
    rig.must_back_up("a").await?;
    rig.proven("a", 2).await?;
    Ok(())
}

#[tokio::test]
async fn the_epoch_of_a_successor_is_newer() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1).standby()).await?;
    let first = rig.leader_of(&[0, 1], &[0, 0]).await?;
    rig.must_back_up("a").await?;
    let old = rig.epoch(first)?;
    rig.coordinators[first].daemon.kill9();
    rig.leader_of(&[1 - first], &[0, 0]).await?;
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    let new = rig.epoch(1 - first)?;
    ensure!(new > old, "{new} is not newer than {old}");
    // What the old one would say now is refused: it can neither start nor cancel anything.
    let raw = RawCommands::new(&rig).await?;
    let mut stale = raw.command(&rig, "a", 0).await?;
    stale.epoch = old;
    let refused = raw.start(&stale).await?.err().context("an old epoch was accepted")?;
    ensure!(refused.code() == backstay_protocol::bus::RefusalCode::StaleEpoch, "{refused:?}");
    stale.attempt = raw.beat(&stale.machine).await?.attempt;
    ensure!(!stale.attempt.is_empty(), "nothing is under way");
    ensure!(!raw.cancel(&stale, old).await?, "an old epoch cancelled the attempt");
    gate.open();
    ensure!(rig.end(&round).await?.is_ok(), "it failed");
    rig.proven("a", 2).await?;
    Ok(())
}
