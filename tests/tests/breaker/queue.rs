//! Requests that wait, and backups that nobody asked for by hand: a killed coordinator neither loses nor repeats
//! them.

use anyhow::{Result, ensure};
use backstay_tests::{Op, eventually};

use super::LONG;
use super::rig::{Rig, Status, builder};

#[tokio::test]
async fn requests_that_wait_are_neither_lost_nor_repeated() -> Result<()> {
    const REQUESTS: usize = 4;
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    let mut last = rig.begin("a").await?;
    gate.reached(LONG).await?;
    for _ in 1..REQUESTS {
        last = rig.begin("a").await?;
    }
    rig.coordinators[0].daemon.kill9();
    rig.coordinators[0].daemon.start_and_wait(LONG).await?;
    gate.open();
    rig.holds("a", REQUESTS).await?;
    rig.ask_again(&last).await?;
    rig.must_back_up("a").await?;
    rig.proven("a", REQUESTS + 1).await?;
    Ok(())
}

#[tokio::test]
async fn an_automatic_backup_survives_a_kill() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    rig.set_interval("a", 3600).await?;
    gate.reached(LONG).await?;
    rig.coordinators[0].daemon.kill9();
    rig.coordinators[0].daemon.start_and_wait(LONG).await?;
    gate.open();
    rig.status_is("a", Status::is_ok).await?;
    rig.holds("a", 1).await?;

    // One that fails is tried again after a pause, also by the next coordinator; a manual one comes beside it.
    let refused = rig.s3.inject(Op::CreateMultipartUpload.always(), backstay_tests::Fault::Status(403));
    rig.set_interval("a", 1).await?;
    rig.status_is("a", Status::is_error).await?;
    rig.coordinators[0].daemon.kill9();
    rig.coordinators[0].daemon.start_and_wait(LONG).await?;
    let before = refused.fired();
    eventually(LONG, || async {
        ensure!(refused.fired() > before, "nothing was tried again");
        Ok(())
    })
    .await?;
    rig.s3.clear_faults();
    rig.status_is("a", |s| s.is_ok() && s.last_backup != serde_json::Value::Null).await?;
    rig.set_interval("a", 3600).await?;
    rig.must_back_up("a").await?;
    let backups = rig.count("a").await?;
    ensure!(backups >= 3, "{backups} backups");
    rig.proven("a", backups).await?;
    Ok(())
}
