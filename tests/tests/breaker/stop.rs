//! SIGTERM of an agent in the middle of an upload.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_protocol::bus::{FailureCode, RefusalCode, StartBackup};
use backstay_tests::{Op, eventually};

use super::LONG;
use super::raw_commands::{RawCommands, failure};
use super::rig::{Rig, builder};

/// The agent promises ten seconds; the rest is for a busy machine, and less than it waits for a store that hangs.
const STOPPED: Duration = Duration::from_secs(25);

#[tokio::test]
async fn a_stopped_agent_aborts_reports_and_the_next_member_takes_over() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 3)).await?;
    let mut raw = RawCommands::new(&rig).await?;
    let order = rig.order("a").await?;
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    let first = rig.agent("a", order[0]);
    let machine = first.machine.to_string();
    let ended = first.daemon.sigterm_and_wait(STOPPED).await?;
    ensure!(ended.success(), "{ended}\n{}", rig.agent("a", order[0]).daemon.log());
    let report = raw.final_report(|r| r.machine == machine).await?;
    let failed = failure(&report)?;
    ensure!(failed.code() == FailureCode::Cancelled && failed.text.contains("was stopped"), "{failed:?}");
    let status = rig.end(&round).await?;
    ensure!(status.is_ok(), "{status:?}");
    let manifests = rig.proven("a", 1).await?;
    let by = manifests[0].machine.map(|m| m.to_string());
    ensure!(by == Some(rig.agent("a", order[1]).machine.to_string()), "it was taken by {by:?}");
    Ok(())
}

#[tokio::test]
async fn a_stopping_agent_refuses_and_ends_in_time_though_the_store_hangs() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    let raw = RawCommands::new(&rig).await?;
    let another = StartBackup { epoch: rig.epoch(0)?, ..raw.command(&rig, "a", 0).await? };
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    let abort = rig.s3.hold(Op::AbortMultipartUpload.nth(1));
    let asked = async {
        abort.reached(LONG).await?;
        raw.start(&another).await
    };
    let (ended, refused) = tokio::join!(rig.clusters[0].agents[0].daemon.sigterm_and_wait(STOPPED), asked);
    ensure!(ended?.success(), "{}", rig.agent("a", 0).daemon.log());
    let refused = refused?.err().context("a stopping agent took an attempt")?;
    ensure!(refused.code() == RefusalCode::Stopping, "{refused:?}");
    rig.s3.clear_faults();
    let status = rig.end(&round).await?;
    ensure!(status.is_error(), "{status:?}");
    // With the agent back everything goes on, and what the hanging store kept is gone.
    rig.agent("a", 0).daemon.start_and_wait(LONG).await?;
    eventually(LONG, || async { raw.beat(&rig.cluster("a").agents[0].machine.to_string()).await }).await?;
    rig.must_back_up("a").await?;
    rig.proven("a", 1).await?;
    Ok(())
}
