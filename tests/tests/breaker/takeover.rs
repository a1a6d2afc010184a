//! A coordinator that sleeps through its lease and wakes up: it must not act any more.

use anyhow::{Result, ensure};
use backstay_tests::{Op, eventually};

use super::LONG;
use super::rig::{Rig, builder};

#[tokio::test]
async fn a_leader_that_overslept_its_lease_does_nothing() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1).standby()).await?;
    let first = rig.leader_of(&[0, 1], &[0, 0]).await?;
    let second = 1 - first;

    // Asleep while an attempt of its own is under way.
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    rig.coordinators[first].daemon.pause()?;
    rig.leader_of(&[second], &[0, 0]).await?;
    let marks = rig.marks();
    rig.coordinators[first].daemon.resume()?;
    eventually(LONG, || async {
        let log = rig.coordinators[first].daemon.log();
        ensure!(log[marks[first]..].contains("no longer leading"), "it still leads");
        Ok(())
    })
    .await?;
    gate.open();
    let status = rig.end(&round).await?;
    ensure!(status.is_ok(), "{status:?}");
    rig.holds("a", 1).await?;

    // Asleep while the other one takes a whole backup.
    let marks = rig.marks();
    rig.coordinators[second].daemon.pause()?;
    rig.leader_of(&[first], &marks).await?;
    rig.must_back_up("a").await?;
    rig.coordinators[second].daemon.resume()?;
    eventually(LONG, || async {
        let log = rig.coordinators[second].daemon.log();
        ensure!(log[marks[second]..].contains("no longer leading"), "it still leads");
        Ok(())
    })
    .await?;
    rig.must_back_up("a").await?;
    let log = rig.coordinators[second].daemon.log();
    ensure!(!log[marks[second]..].contains("requesting a backup"), "it acted without the lease:\n{log}");
    rig.proven("a", 3).await?;
    Ok(())
}
