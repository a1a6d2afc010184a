//! `restore --store` and `list --store`: what needs only the store. Nothing here calls a coordinator.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backstay_archive::Manifest;
use backstay_archive::catalog::{self, Vouched};
use backstay_archive::release::Origin;
use backstay_archive::restore::{self, Contents, Outcome, Progress, RestoreBackupError, RestoreError, Restored};
use backstay_archive::trust::Voucher;
use backstay_daemon::bucket::Named;
use backstay_daemon::stop;
use backstay_daemon::units;
use backstay_protocol::{SnapshotName, Timestamp};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::console::{Console, Failure};
use super::progress;
use arguments::{FromStore, Restore};
use choice::Cluster;
use error::RestoreFailure;
use open::open;
use trust::KeyFile;

use super::cluster_restore::choose::SnapshotSelector;

pub mod arguments;
pub mod choice;
pub mod dry_run;
pub mod error;
pub mod keys;
pub mod list;
pub mod merge;
pub mod next;
mod open;
pub mod trust;
pub mod ways;

/// How often the progress is shown; also the shortest time between two lines.
const LOOK: Duration = Duration::from_secs(1);

/// The same without a terminal, for work that is usually over in a moment.
const LOOK_IN_LINES: Duration = Duration::from_secs(5);

/// Restores a backup from a store into a data folder.
///
/// # Errors
/// Nothing was restored, and nothing is left in the folder, but with [`RestoreFailure::NotSynced`].
pub async fn run(restore: Restore, now: Timestamp, console: &mut Console<'_>) -> Result<(), Failure> {
    let Restore { store, snapshot, of_cluster, from_store, bucket, dry_run, .. } = restore;
    let (Some(url), Some(folder)) = (store, from_store.data_dir.clone()) else {
        return Err(RestoreFailure::Usage("--store and --data-dir must be used together".into()).into());
    };
    let which = match SnapshotSelector::of(snapshot.as_deref(), of_cluster.before.as_ref()) {
        Err(error) if !choice::is_nearly_a_name(&error.given) => return Err(Failure::Name(error)),
        which => which,
    };
    let cluster = Cluster::of(from_store.cluster_name.clone(), from_store.cluster_uuid);
    let options = from_store.options().map_err(RestoreFailure::Usage)?;
    let key = from_store.identity.as_deref().map(KeyFile::read).transpose()?;
    let trust = trust::trust(&from_store.signers, key.as_ref(), from_store.allow_unsigned)?;
    let cancel = stop::on_signal(&TaskTracker::new()).map_err(RestoreFailure::Signals)?;
    let looked_at = catalog::Progress::default();
    let prepared = cancel.run_until_cancelled(async {
        let store = open(Named { url, flags: bucket.words() }, bucket.settings()).await?;
        let which = match which {
            Ok(which) => which,
            Err(error) => return Err(choice::not_a_name(error, &store, &cluster, now, &trust.signers).await),
        };
        let (backup, skipped) = choice::choose(&store, &cluster, &which, now, &trust, &looked_at).await?;
        let identity = keys::opener(&*store, &backup.manifest, key, from_store.allow_unencrypted).await?;
        Ok::<_, RestoreFailure>((store, backup, identity, skipped))
    });
    let prepared = looking(prepared, &looked_at, console).await?;
    let (store, Vouched { manifest, voucher, .. }, identity, skipped) =
        prepared.ok_or(RestoreFailure::Interrupted)??;
    skipped.lines().try_for_each(|skipped| console.remark(&format!("Note: skipped: {skipped}")))?;
    if dry_run {
        let planned = cancel.run_until_cancelled(dry_run::run(&*store, &manifest, voucher.as_ref(), &folder, &options));
        let plan = planned.await.ok_or(RestoreFailure::Interrupted)??;
        console.print(&plan)?;
        return Ok(console.remark("Nothing was changed (dry run).")?);
    }
    let progress = Arc::<Progress>::default();
    let restored =
        restore::restore(&*store, &manifest, identity.as_ref(), &folder, options.clone(), &progress, &cancel);
    let Outcome { restored, contents } = shown(restored, &manifest, &progress, console)
        .await?
        .map_err(|cause| failure(manifest.snapshot, folder, cause))?;
    console.print(&told(&manifest, voucher.as_ref(), &restored, contents.as_ref().ok()))?;
    if let Err(unknown) = contents {
        console.remark(&format!("Note: the database could not be inspected completely: {unknown}"))?;
    }
    notes(&from_store, &restored).iter().try_for_each(|note| console.remark(&format!("Note: {note}")))?;
    let folder = std::path::absolute(&restored.folder).unwrap_or_else(|_| restored.folder.clone());
    console.print(&format!("\n{}", next::steps(&manifest, &options, &folder)))?;
    Ok(())
}

/// Adds what is in the folder now to an error.
fn failure(snapshot: SnapshotName, folder: PathBuf, cause: RestoreBackupError) -> RestoreFailure {
    match cause {
        RestoreBackupError::Cancelled => RestoreFailure::Interrupted,
        RestoreBackupError::Restore(RestoreError::NotSynced { folder, cause }) => {
            RestoreFailure::NotSynced { snapshot, folder, cause }
        }
        cause => RestoreFailure::Restore { snapshot, folder, cause: Box::new(cause) },
    }
}

/// Waits until the manifests are read, and meanwhile shows how many were read if there are many.
async fn looking<T>(
    work: impl Future<Output = T>,
    so_far: &catalog::Progress,
    console: &mut Console<'_>,
) -> Result<T, Failure> {
    let mut progress = progress::Progress::new(console.bar);
    let pace = if console.bar { LOOK } else { LOOK_IN_LINES };
    let mut looks = tokio::time::interval_at(Instant::now() + pace, pace);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            _ = looks.tick() => {
                let (done, total) = (so_far.done(), so_far.total());
                if total > 0 {
                    progress.message(format!("reading manifests: {done} of {total}"), console)?;
                }
            }
        }
    }
}

/// Waits for the end, and meanwhile shows the progress.
async fn shown(
    restored: impl Future<Output = Result<Outcome, RestoreBackupError>>,
    manifest: &Manifest,
    so_far: &Progress,
    console: &mut Console<'_>,
) -> Result<Result<Outcome, RestoreBackupError>, Failure> {
    let name = format!("restore of {}", manifest.cluster);
    let mut progress = progress::Progress::new(console.bar);
    let mut looks = tokio::time::interval(LOOK);
    tokio::pin!(restored);
    loop {
        tokio::select! {
            restored = &mut restored => return Ok(restored),
            _ = looks.tick() => {
                let (done, total) = (so_far.written.load(Ordering::Relaxed), manifest.snapshot_bytes);
                if done == total {
                    progress.message(format!("{name}: syncing to disk"), console)?;
                } else {
                    progress.amount(&name, &name, done, total, console)?;
                }
            }
        }
    }
}

fn told(manifest: &Manifest, voucher: Option<&Voucher>, restored: &Restored, contents: Option<&Contents>) -> String {
    let Manifest { cluster, cluster_uuid, snapshot, created_at, .. } = manifest;
    let Restored { revision_before, revision_after, cluster_id, member_id, .. } = restored;
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "restored   {}", restored.folder.display());
    let _ = writeln!(text, "from       {snapshot} of {cluster} (UUID {cluster_uuid}), taken {}", created_at.rfc3339());
    let _ = writeln!(text, "signed     {}", trust::told(voucher));
    let keys =
        contents.and_then(|contents| contents.live_keys).map(|keys| format!(", {keys} keys")).unwrap_or_default();
    let _ = writeln!(text, "database   {}{keys}", units::bytes(restored.database_bytes));
    let origin =
        Origin { etcd: &manifest.origin.etcd_version, mark: restored.storage_version.as_deref().unwrap_or_default() };
    // Nobody can know here which etcd will be started.
    let starters = origin.starters();
    if !starters.is_empty() {
        let taken = if origin.etcd.is_empty() { String::new() } else { format!("taken from {}; ", origin.etcd) };
        let _ = writeln!(text, "etcd       {taken}{starters}");
    }
    let _ = writeln!(text, "revision   {revision_after} (the backup has {revision_before})");
    let was = &manifest.origin.etcd_cluster_id;
    let _ = writeln!(text, "cluster    new etcd cluster ID {cluster_id:016x} (was {was}), member ID {member_id:016x}");
    let _ = writeln!(
        text,
        "next       pass --new-cluster-id to the next `backstay-agent once --cluster {cluster}`, \
        once"
    );
    text
}

/// What a person should know before etcd is started.
fn notes(from_store: &FromStore, restored: &Restored) -> Vec<String> {
    let mut notes = Vec::new();
    if restored.revision_after == restored.revision_before {
        notes.push("the revision was not raised: clients that watched the old cluster may keep stale data".into());
    }
    if restored.auth_enabled {
        notes.push("authentication is enabled, with the users and passwords of the backup".into());
    }
    if restored.alarms > 0 && !from_store.remove_alarms {
        notes.push(
            "the backup contains alarms: run `etcdctl alarm disarm` once etcd has started, or restore with \
             --remove-alarms"
                .into(),
        );
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_that_is_not_there_is_said_to_hold_nothing() {
        let file = || RestoreError::File { action: "sync", path: "/a".into(), cause: std::io::Error::other("no disk") };
        let text = |cause: RestoreError| {
            let snapshot = SnapshotName::from_unix_seconds(1_701_184_522).expect("in range");
            failure(snapshot, "/a/data".into(), cause.into()).to_string()
        };
        assert!(text(file()).ends_with("failed to sync /a: no disk; nothing was written there"), "{}", text(file()));
        let shown = text(RestoreError::NotSynced { folder: "/a/data".into(), cause: Box::new(file()) });
        let said = " was restored into /a/data, but could not be synced to disk: failed to sync /a: no disk";
        assert!(shown.ends_with(said), "{shown}");
    }
}
