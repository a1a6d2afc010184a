//! Restarts take no backup that is not due, however many old ones there are.

use anyhow::{Result, ensure};
use backstay_daemon::SystemClock;
use backstay_protocol::{Clock, SnapshotName};

use super::LONG;
use super::raw_commands::{RawCommands, is_finished};
use super::rig::{Rig, builder};

#[tokio::test]
async fn a_restart_takes_no_extra_backup() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    let mut raw = RawCommands::new(&rig).await?;
    // Old backups, far beyond the interval: none of them must be taken for the latest.
    let now = SystemClock.now().seconds;
    for hours in [72, 5, 2] {
        let mut command = raw.command(&rig, "a", 0).await?;
        command.snapshot = SnapshotName::from_unix_seconds(now - hours * 3600)?.to_string();
        // The coordinator's own commands must not be older.
        command.epoch = 1;
        ensure!(raw.start(&command).await?.is_ok(), "refused");
        ensure!(is_finished(&raw.final_report(|r| r.attempt == command.attempt).await?), "it failed");
    }
    rig.holds("a", 3).await?;
    // Due at once: for an interval of an hour the newest is too old.
    rig.set_interval("a", 3600).await?;
    rig.status_is("a", super::rig::Status::is_ok).await?;
    rig.holds("a", 4).await?;
    for number in 5..=7 {
        rig.coordinators[0].daemon.sigterm_and_wait(LONG).await?;
        rig.coordinators[0].daemon.start_and_wait(LONG).await?;
        rig.agent("a", 0).daemon.sigterm_and_wait(LONG).await?;
        rig.agent("a", 0).daemon.start_and_wait(LONG).await?;
        // An automatic backup that was thought to be due would come before the end of this one, or after it.
        rig.must_back_up("a").await?;
        rig.holds("a", number).await?;
    }
    let manifests = rig.proven("a", 7).await?;
    let automatic = manifests.iter().filter(|m| m.trigger == backstay_archive::manifest::Trigger::Interval).count();
    ensure!(automatic == 1, "{automatic} automatic backups");
    Ok(())
}
