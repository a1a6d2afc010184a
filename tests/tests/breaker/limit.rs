//! `[backup] upload_limit` from the coordinator's settings to what the store sees.

use anyhow::{Result, ensure};
use backstay_daemon::SystemClock;
use backstay_protocol::{Clock, SnapshotName};
use backstay_tests::Op;

use super::LONG;
use super::raw_commands::{RawCommands, is_finished};
use super::rig::{Rig, builder};

/// Random text that makes three parts and a bit.
const VALUES: usize = 800;
const VALUE_BYTES: usize = 64 * 1024;
/// Of an attempt; even on a busy machine its first part is out by then.
const DEADLINE: &str = "30s";

#[tokio::test]
async fn an_upload_limit_spaces_the_parts_and_changes_nothing_else() -> Result<()> {
    // At one byte each second the second part's turn comes in months.
    let crawling = builder()
        .coordinator_variable("BACKSTAY_BACKUP__UPLOAD_LIMIT", "1")
        .coordinator_variable("BACKSTAY_BACKUP__DEADLINE", DEADLINE);
    let mut rig = Rig::start(crawling.cluster("a", 1)).await?;
    rig.cluster("a").etcd.put_many("k", VALUES, VALUE_BYTES).await?;

    // By hand and without a limit: so many parts there are.
    let mut raw = RawCommands::new(&rig).await?;
    let mut command = raw.command(&rig, "a", 0).await?;
    // The coordinator's own commands must not be older, and have another name.
    command.epoch = 1;
    command.snapshot = SnapshotName::from_unix_seconds(SystemClock.now().seconds - 3600)?.to_string();
    let before = rig.s3.count(Op::UploadPart);
    ensure!(raw.start(&command).await?.is_ok(), "refused");
    ensure!(is_finished(&raw.final_reports(&[&command]).await?[0]), "it failed");
    let parts = rig.s3.count(Op::UploadPart) - before;
    ensure!(parts >= 3, "{parts} parts do not show a limit");

    let before = rig.s3.count(Op::UploadPart);
    let status = rig.back_up("a").await?;
    ensure!(status.is_error() && status.error.contains(&format!("within {DEADLINE}")), "{status:?}");
    let sent = rig.s3.count(Op::UploadPart) - before;
    ensure!(sent == 1, "{sent} parts were sent");
    rig.holds("a", 1).await?;

    // With one that lets them through it is the same backup in as many parts.
    let coordinator = &mut rig.coordinators[0].daemon;
    coordinator.set_variable("BACKSTAY_BACKUP__UPLOAD_LIMIT", &(16 << 20).to_string());
    coordinator.start_and_wait(LONG).await?;
    let before = rig.s3.count(Op::UploadPart);
    rig.must_back_up("a").await?;
    let sent = rig.s3.count(Op::UploadPart) - before;
    ensure!(sent == parts, "{sent} parts were sent, not {parts}");
    rig.proven("a", 2).await?;
    Ok(())
}
