//! Which member is asked, and who comes next when one does not do it.

use anyhow::{Context, Result, ensure};
use backstay_archive::Manifest;
use backstay_daemon::SystemClock;
use backstay_protocol::{Clock, SnapshotName};
use backstay_tests::{Op, Stand, eventually};

use super::LONG;
use super::raw_commands::RawCommands;
use super::rig::{Rig, builder};

/// How often a backup is asked for until an agent that was killed counts as gone.
const TRIES: usize = 10;

impl Rig {
    fn machine(&self, cluster: &str, index: usize) -> String {
        self.cluster(cluster).agents[index].machine.to_string()
    }

    /// Whether the newest backup was taken by that agent.
    fn taken_by(&self, manifests: &[Manifest], cluster: &str, index: usize) -> Result<()> {
        let by = manifests.first().and_then(|m| m.machine).context("there is no backup with a machine")?;
        ensure!(by.to_string() == self.machine(cluster, index), "it was taken by {by}");
        Ok(())
    }
}

#[tokio::test]
async fn a_follower_is_asked_while_there_is_one() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 3)).await?;
    let order = rig.order("a").await?;
    rig.must_back_up("a").await?;
    rig.taken_by(&rig.proven("a", 1).await?, "a", order[0])?;
    rig.agent("a", order[0]).daemon.kill9();
    rig.must_back_up("a").await?;
    rig.taken_by(&rig.proven("a", 2).await?, "a", order[1])?;

    // Only the leader's agent is left: better than no backup.
    rig.agent("a", order[1]).daemon.kill9();
    rig.must_back_up("a").await?;
    rig.taken_by(&rig.proven("a", 3).await?, "a", order[2])?;

    // Nobody is left. Once that is known a backup is refused.
    rig.agent("a", order[2]).daemon.kill9();
    eventually(LONG, || async {
        let agents = rig.get(&["agents"]).await?;
        ensure!(agents.is_empty(), "still connected: {agents:?}");
        Ok(())
    })
    .await?;
    let refused = rig.apply(&Stand::manual_backup("a", SystemClock.now().seconds)).await?;
    let said = refused.stderr.contains("no agent of cluster \"a\" is connected");
    ensure!(!refused.status.success() && said, "{refused:?}");
    ensure!(!rig.status("a").await?.is_running(), "{:?}", rig.status("a").await?);
    rig.proven("a", 3).await?;
    Ok(())
}

#[tokio::test]
async fn where_nobody_answers_the_next_one_is_asked_and_the_status_says_why() -> Result<()> {
    // Whoever is gone counts as connected, and is asked, for three of these.
    let builder = builder().agent_variable("BACKSTAY_BEAT_INTERVAL", "5s");
    let mut rig = Rig::start(builder.cluster("a", 3)).await?;
    let order = rig.order("a").await?;
    rig.must_back_up("a").await?;

    rig.agent("a", order[0]).daemon.kill9();
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    let running = rig.status_is("a", super::rig::Status::is_running).await?;
    let begins = format!("machine m{}", order[0] + 1);
    ensure!(running.error.starts_with(&begins), "{begins}: {running:?}");
    ensure!(
        running.error.ends_with(": no agent is running there: check backstay-agent on that machine"),
        "{running:?}"
    );
    ensure!(!running.last_backup.is_null(), "the last good backup was forgotten: {running:?}");
    gate.open();
    ensure!(rig.end(&round).await?.is_ok(), "it failed");
    rig.taken_by(&rig.proven("a", 2).await?, "a", order[1])?;
    Ok(())
}

#[tokio::test]
async fn a_member_that_is_cut_off_from_the_store_is_passed_over_and_a_broken_store_is_not_tried_by_all() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 3)).await?;
    let order = rig.order("a").await?;
    for cut_off in 1..=2 {
        let agent = rig.agent("a", order[cut_off - 1]);
        agent.daemon.kill9();
        // Nobody listens there.
        agent.daemon.set_variable("HTTP_PROXY", "http://127.0.0.1:1").start_and_wait(LONG).await?;
        let round = rig.begin("a").await?;
        let end = rig.end(&round).await?;
        if cut_off == 1 {
            ensure!(end.is_ok(), "{end:?}");
            rig.taken_by(&rig.proven("a", 1).await?, "a", order[1])?;
        } else {
            // Whichever of the two was asked last; the third was not asked.
            let named = |place: usize| end.error.contains(&format!("m{}", order[place] + 1));
            ensure!(!end.is_ok() && (named(0) || named(1)) && !named(2), "{end:?}");
            rig.proven("a", 1).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_busy_agent_refuses_and_the_others_do_it() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 3)).await?;
    let mut raw = RawCommands::new(&rig).await?;
    let order = rig.order("a").await?;
    // The best member works for somebody else.
    let mut other = raw.command(&rig, "a", order[0]).await?;
    other.epoch = 1;
    // Named after another time than the coordinator's.
    other.snapshot = SnapshotName::from_unix_seconds(SystemClock.now().seconds - 3600)?.to_string();
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    ensure!(raw.start(&other).await?.is_ok(), "refused");
    gate.reached(LONG).await?;
    rig.must_back_up("a").await?;
    ensure!(rig.listed("a").await?.len() == 1, "{:?}", rig.listed("a").await?);

    // The others are gone: once that is known it alone is asked, and says why not.
    rig.agent("a", order[1]).daemon.kill9();
    rig.agent("a", order[2]).daemon.kill9();
    let mut status = rig.back_up("a").await?;
    for _ in 0..TRIES {
        ensure!(status.is_error(), "{status:?}");
        if status.error.contains("is running") {
            break;
        }
        status = rig.back_up("a").await?;
    }
    ensure!(status.error.contains("is running"), "{status:?}");
    ensure!(!status.last_backup.is_null(), "the last good backup was forgotten: {status:?}");

    gate.open();
    raw.final_report(|r| r.attempt == other.attempt).await?;
    rig.taken_by(&rig.proven("a", 2).await?, "a", order[1])?;
    Ok(())
}

#[tokio::test]
async fn an_agent_that_falls_silent_loses_the_attempt_for_good() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 3)).await?;
    let mut raw = RawCommands::new(&rig).await?;
    let order = rig.order("a").await?;
    let first = rig.machine("a", order[0]);
    let (gate, parts) = (rig.s3.hold(Op::UploadPart.first(2)), rig.s3.count(Op::UploadPart));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    ensure!(rig.status("a").await?.is_running(), "{:?}", rig.status("a").await?);

    rig.agent("a", order[0]).daemon.pause()?;
    // The second one's upload is held as well, so that there is time to look.
    let status = rig.status_is("a", |s| s.error.contains("stopped sending heartbeats")).await?;
    ensure!(status.is_running() && status.error.contains(&format!("machine m{}", order[0] + 1)), "{status:?}");
    rig.s3.reached(Op::UploadPart, parts + 2, LONG).await?;
    rig.agent("a", order[0]).daemon.resume()?;
    gate.open();
    let status = rig.end(&round).await?;
    ensure!(status.is_ok(), "{status:?}");
    // The first one's attempt ends too, and makes no second backup.
    ensure!(
        !super::raw_commands::is_finished(&raw.final_report(|r| r.machine == first).await?),
        "two backups for one slot"
    );
    rig.taken_by(&rig.proven("a", 1).await?, "a", order[1])?;

    // It is as good as the others again.
    let mut fresh = raw.beat(&first).await?;
    while !fresh.attempt.is_empty() {
        fresh = raw.beat(&first).await?;
    }
    rig.must_back_up("a").await?;
    rig.taken_by(&rig.proven("a", 2).await?, "a", order[0])?;
    Ok(())
}

#[tokio::test]
async fn an_agent_that_dies_and_stays_dead_is_replaced() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 3)).await?;
    let order = rig.order("a").await?;
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    rig.agent("a", order[0]).daemon.kill9();
    let status = rig.end(&round).await?;
    ensure!(status.is_ok(), "{status:?}");
    // What the dead one had begun is gone as well.
    rig.taken_by(&rig.proven("a", 1).await?, "a", order[1])
}

#[tokio::test]
async fn a_learner_is_never_asked() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    let url = rig.cluster_mut("a").etcd.add_learner().await?.client_url.clone();
    let mut learner = rig.prepare_agent("a", "a-learner", &url)?;
    learner.daemon.start_and_wait(LONG).await?;
    rig.cluster_mut("a").agents.push(learner);
    rig.agents_known("a").await?;
    rig.must_back_up("a").await?;
    rig.taken_by(&rig.proven("a", 1).await?, "a", 0)?;

    rig.agent("a", 0).daemon.kill9();
    let status = rig.back_up("a").await?;
    ensure!(status.is_error() && status.error.contains("learner"), "{status:?}");
    rig.proven("a", 1).await?;
    Ok(())
}
