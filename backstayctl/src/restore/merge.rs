//! `merge`: several series of backups of one cluster become one, only in the store.

use std::io::Read;

use backstay_archive::merge::{self, Copy, MergeError, Plan};
use backstay_archive::trust::Signers;
use backstay_archive::{Store, catalog, names};
use backstay_daemon::bucket::{Named, WritableBucket};
use backstay_daemon::stop;
use backstay_daemon::units;
use backstay_protocol::{ClusterName, ClusterUuid, Timestamp};
use clap::Args;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::RestoreFailure;
use super::open::Opened;
use crate::console::{Console, Failure, Unconfirmed};
use crate::output::table;

pub const MERGE_HELP: &str = "\
A cluster can end up with several UUIDs, for example if an older release made
its first backups on several machines at once, or if --cluster-uuid was used.
This command copies all its backups, and the keys that open them, under one of
these UUIDs. Each backup is checked while it is copied. If a backup's name is
already taken, the copy gets the name of the next second. An interrupted merge
can be run again. A signature is for one UUID only, so signed backups are not
copied, unless you pass --allow-unsigned.

Exit codes:
  0  everything was copied
  1  error; what was copied so far is kept
  3  something could not be copied

Nothing is deleted. Once the exit code is 0, and `backstayctl list -o wide` and
`backstayctl verify` find everything under the one UUID, delete the folders of
the other UUIDs with the store's own tools.

Merge into the UUID that the coordinator uses: `backstayctl get clusteruuid
NAME` shows it.

Examples:
  backstayctl merge --store s3://etcd-backups --cluster prod --dry-run
  backstayctl merge --store s3://etcd-backups --cluster prod \\
    --into 7d3a5a4c-9a0d-4c39-9b3c-3a2f1d9c2f10";

/// Several series of one cluster.
#[derive(Debug, Args)]
pub struct Merge {
    /// URL of the store: file:///path or s3://bucket[/prefix]
    #[arg(long, value_name = "URL")]
    pub store: String,
    /// Name of the cluster
    #[arg(long, value_name = "NAME")]
    pub cluster: ClusterName,
    /// UUID to merge into [default: the one that the store has for the name]
    #[arg(long, value_name = "UUID")]
    pub into: Option<ClusterUuid>,
    /// UUID whose backups to copy; can be repeated [default: all others of that name]
    #[arg(long, value_name = "UUID")]
    pub from: Vec<ClusterUuid>,
    /// Copy signed backups too, although the copies are not signed
    #[arg(long)]
    pub allow_unsigned: bool,
    /// Show what would be copied, without copying anything
    #[arg(long)]
    pub dry_run: bool,
    /// Skip the confirmation
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub bucket: WritableBucket,
}

/// Puts the series of a cluster together.
///
/// # Errors
/// [`Failure::No`] where not everything could be copied.
pub async fn run(merge: Merge, now: Timestamp, stdin: &mut dyn Read, console: &mut Console<'_>) -> Result<(), Failure> {
    let cancel = stop::on_signal(&TaskTracker::new()).map_err(RestoreFailure::Signals)?;
    let progress = catalog::Progress::default();
    let prepared = cancel.run_until_cancelled(prepare(&merge, now, &progress));
    let prepared = super::looking(prepared, &progress, console).await?;
    let (store, into, sources, plan) = prepared.ok_or(RestoreFailure::MergeInterrupted)??;
    console.print(&shown(&merge, &store.url(), into, &sources, &plan))?;
    plan.problems.lines().try_for_each(|problem| console.remark(&format!("Warning: not copied: {problem}")))?;
    let mut missed = plan.problems.count();
    if merge.dry_run || sources.is_empty() {
        return if missed == 0 { Ok(()) } else { Err(Failure::No) };
    }
    if !merge.yes {
        let name = merge.cluster.as_str();
        console.can_ask()?;
        if !console.typed("Type the name of the cluster to continue: ", name, stdin)? {
            return Err(Unconfirmed::NotTyped.into());
        }
    }
    for source in &sources {
        let problems = merge::copy_keys(&*store, *source, into).await.map_err(RestoreFailure::Store)?;
        missed += problems.len();
        problems.iter().try_for_each(|problem| console.remark(&format!("Warning: {problem}")))?;
    }
    for copy in &plan.copies {
        missed += usize::from(!copied(&*store, copy, into, &cancel, console).await?);
    }
    names::point(&*store, &merge.cluster, into).await.map_err(RestoreFailure::Store)?;
    if missed > 0 {
        let what = if missed == 1 { "one backup or key was" } else { "backups or keys were" };
        let count = if missed == 1 { String::new() } else { format!("{missed} ") };
        console.print(&format!("{count}{what} not copied (see the warnings above): keep the sources\n"))?;
        return Err(Failure::No);
    }
    Ok(console.print(&format!("all backups of {} are under {into}\n", merge.cluster))?)
}

type Prepared = (Opened, ClusterUuid, Vec<ClusterUuid>, Plan);

async fn prepare(merge: &Merge, now: Timestamp, progress: &catalog::Progress) -> Result<Prepared, RestoreFailure> {
    let named = Named { url: merge.store.clone(), flags: merge.bucket.words() };
    let store = super::open::open(named, merge.bucket.settings()).await?;
    let none = || RestoreFailure::NoBackupOfName {
        store: store.url(),
        cluster: merge.cluster.clone(),
        list: store.list_line(),
    };
    let into = match merge.into {
        Some(into) => into,
        None => names::find(&*store, &merge.cluster, now, &Signers::default()).await?.ok_or_else(none)?,
    };
    let mut sources = match merge.from.is_empty() {
        true => merge::series_of(&*store, &merge.cluster).await?,
        false => merge.from.clone(),
    };
    sources.sort();
    sources.dedup();
    sources.retain(|source| *source != into);
    let plan = merge::plan(&*store, &merge.cluster, into, &sources, merge.allow_unsigned, progress)
        .await
        .map_err(RestoreFailure::Merge)?;
    Ok((store, into, sources, plan))
}

/// Copies one backup, and returns whether that succeeded. If it is interrupted, it removes what it had sent.
async fn copied(
    store: &dyn Store,
    copy: &Copy,
    into: ClusterUuid,
    cancel: &CancellationToken,
    console: &mut Console<'_>,
) -> Result<bool, Failure> {
    let Copy { backup, name } = copy;
    match cancel.run_until_cancelled(merge::copy(store, copy, into)).await {
        Some(Ok(name)) => {
            let (from, size) = (backup.cluster_uuid, units::bytes(backup.sealed_bytes));
            console.print(&format!("copied     {from}/{} as {name} ({size})\n", backup.snapshot))?;
            Ok(true)
        }
        // That backup's trouble: the others are copied all the same.
        Some(Err(error @ (MergeError::Damaged { .. } | MergeError::Changed { .. }))) => {
            console.remark(&format!("Warning: {error}"))?;
            Ok(false)
        }
        Some(Err(error)) => Err(RestoreFailure::Merge(error).into()),
        None => {
            catalog::sweep_slot(store, into, *name).await.map_err(RestoreFailure::Store)?;
            Err(RestoreFailure::MergeInterrupted.into())
        }
    }
}

fn shown(merge: &Merge, url: &str, into: ClusterUuid, sources: &[ClusterUuid], plan: &Plan) -> String {
    if sources.is_empty() {
        return format!("nothing to merge: all backups of {} in {url} are under {into}\n", merge.cluster);
    }
    let bytes = plan.copies.iter().map(|copy| copy.backup.sealed_bytes).sum();
    let mut text = format!(
        "Merge of the backups of {} in {url}\n  Into:      {into}\n  To copy:   {} ({}); {} already there\n  \
         Sources:   left unchanged\n\n",
        merge.cluster,
        plan.copies.len(),
        units::bytes(bytes),
        plan.done,
    );
    let row = |copy: &Copy| {
        let Copy { backup, name } = copy;
        let name = if *name == backup.snapshot { String::new() } else { name.to_string() };
        let origin = &backup.origin;
        vec![
            backup.cluster_uuid.to_string(),
            backup.snapshot.to_string(),
            name,
            backup.created_at.rfc3339(),
            origin.revision.to_string(),
            origin.etcd_cluster_id.clone(),
            units::bytes(backup.sealed_bytes),
        ]
    };
    let heading = ["FROM", "SNAPSHOT", "NEW NAME", "CREATED AT", "REVISION", "ETCD CLUSTER", "STORED"];
    text.push_str(&table::plain(&heading, plan.copies.iter().map(row)));
    text
}
