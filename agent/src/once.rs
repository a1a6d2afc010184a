//! One backup without NATS or coordinator, through the very same pipeline.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backstay_archive::catalog::Settled;
use backstay_archive::manifest::{Inspection, Trigger};
use backstay_archive::seal::Recipient;
use backstay_archive::store::Key;
use backstay_archive::writer::{Limits, Plan, Progress};
use backstay_archive::{Manifest, Store, catalog};
use backstay_protocol::bus::FailureCode;
use backstay_protocol::time::clock_is_off;
use backstay_protocol::{AttemptId, Clock, ClusterName, ClusterUuid, SlotId, SnapshotName};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::attempt::{Backup, Failure, take};
use crate::etcd::Etcd;
use backstay_archive::store::spec::StoreSpec;

/// How many seconds the name may move on: one is taken by each backup of the same second.
const NAME_TRIES: usize = 60;

/// How long the store may take to say what time it is.
const TIME_TIMEOUT: Duration = Duration::from_secs(10);

/// Somebody who pressed Ctrl-C waits for this.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(5);
const SWEEP_INTERRUPTED: Duration = Duration::from_millis(1500);

/// What to back up, and where to.
#[derive(Debug)]
pub struct Once {
    pub cluster: ClusterName,
    /// By default the store is asked by name, and a new one is made where it knows none.
    pub cluster_uuid: Option<ClusterUuid>,
    pub store: StoreSpec,
    /// Empty: not encrypted.
    pub recipients: Vec<Recipient>,
    pub limits: Limits,
    pub deadline: Duration,
    pub stall: Duration,
}

/// A backup that was taken.
#[derive(Debug)]
pub struct Taken {
    pub manifest: Manifest,
    /// Where the sealed object lies.
    pub url: String,
    /// Whether the store had no backup of this cluster.
    pub first: bool,
}

/// Takes one backup. On failure, nothing of it is left in the store that the store lets go.
pub async fn once(once: Once, etcd: &Etcd, clock: &dyn Clock, cancel: &CancellationToken) -> Result<Taken, Failure> {
    let cancelled = || Failure::new(FailureCode::Cancelled, "cancelled");
    let store = cancel.run_until_cancelled(once.store.clone().open()).await.ok_or_else(cancelled)??;
    let named = cancel.run_until_cancelled(cluster_uuid(&once, &*store)).await.ok_or_else(cancelled)?;
    let (cluster_uuid, first) = named?;
    hold_clock_against(&*store, clock, cancel).await;
    let mut name = SnapshotName::from_unix_seconds(clock.now().seconds)
        .map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))?;
    let mut tries = 1;
    loop {
        let backup = plan(&once, cluster_uuid, name);
        match take(&backup, Arc::clone(&store), etcd, &Arc::<Progress>::default(), clock, cancel).await {
            Ok(manifest) => {
                let url = format!("{}/{}", store.url(), Key::snapshot(cluster_uuid, name));
                return Ok(Taken { manifest, url, first });
            }
            Err(failure) if failure.code == FailureCode::NameTaken && tries < NAME_TRIES => {
                debug!(%name, "the name is taken: the next second is tried");
                name = name.next().map_err(|e| Failure::new(FailureCode::NameTaken, e.to_string()))?;
                tries += 1;
            }
            Err(failure) => {
                return match sweep(&*store, &backup.plan, &failure, patience(cancel)).await {
                    Some(manifest) => {
                        let url = format!("{}/{}", store.url(), Key::snapshot(cluster_uuid, name));
                        Ok(Taken { manifest, url, first })
                    }
                    None => Err(failure),
                };
            }
        }
    }
}

/// Says where this machine's clock, by which the backup is named, is not the store's. Nothing depends on the answer.
async fn hold_clock_against(store: &dyn Store, clock: &dyn Clock, cancel: &CancellationToken) {
    let asked = clock.now();
    let time = cancel.run_until_cancelled(tokio::time::timeout(TIME_TIMEOUT, store.time())).await;
    let Some(Ok(Ok(Some(time)))) = time else { return };
    let here = asked.as_millis().midpoint(clock.now().as_millis());
    if let Some(off) = clock_is_off(here.saturating_sub(time.as_millis()), "the store's") {
        warn!("this machine's clock is {off}: the backup is named by it; set the clock that is wrong");
    }
}

/// The UUID that was given, or the store's own for this name, or a new one; and whether it is new to the store.
async fn cluster_uuid(once: &Once, store: &dyn Store) -> Result<(ClusterUuid, bool), Failure> {
    let known = match once.cluster_uuid {
        Some(given) => return Ok((given, false)),
        None => catalog::find_by_name(store, &once.cluster).await?,
    };
    Ok(known.map_or_else(|| (ClusterUuid(Uuid::new_v4()), true), |uuid| (uuid, false)))
}

fn plan(once: &Once, cluster_uuid: ClusterUuid, snapshot: SnapshotName) -> Backup {
    let plan = Plan {
        cluster: once.cluster.clone(),
        cluster_uuid,
        machine: None,
        attempt: AttemptId(Uuid::new_v4()),
        slot: SlotId(Uuid::new_v4()),
        snapshot,
        trigger: Trigger::Once,
        recipients: once.recipients.clone(),
        agent_version: crate::VERSION.to_owned(),
    };
    Backup { plan, limits: once.limits.clone(), deadline: once.deadline, stall: once.stall, etcd_cluster: None }
}

/// How long the store may take at the end: whoever interrupted it waits.
fn patience(cancel: &CancellationToken) -> Duration {
    if cancel.is_cancelled() { SWEEP_INTERRUPTED } else { SWEEP_TIMEOUT }
}

/// The writer has cleaned up already; this is for what it could not reach at that moment. Where the backup turns
/// out to be there after all (its completion succeeded and the answer was lost), it is a success.
async fn sweep(store: &dyn Store, plan: &Plan, failure: &Failure, patience: Duration) -> Option<Manifest> {
    // Only where the store was touched: another machine may be at work under the same second's name.
    let touched = [FailureCode::Store, FailureCode::Cancelled, FailureCode::Deadline, FailureCode::Corruption];
    if !touched.contains(&failure.code) {
        return None;
    }
    let swept = async {
        catalog::sweep_slot(store, plan.cluster_uuid, plan.snapshot).await?;
        catalog::settle(store, plan.cluster_uuid, plan.snapshot).await
    };
    match tokio::time::timeout(patience, swept).await {
        Ok(Ok(Settled::Done(manifest))) if manifest.attempt == plan.attempt => Some(*manifest),
        Ok(Ok(_)) => None,
        Ok(Err(error)) => {
            warn!(%error, "could not look for what the failed backup left");
            None
        }
        Err(_) => {
            warn!("gave up looking for what the failed backup left: the store does not answer");
            None
        }
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Manifest { cluster, cluster_uuid, origin, seal, .. } = &self.manifest;
        let new = if self.first { ", new: first backup of this name in the store" } else { "" };
        writeln!(f, "stored     {}", self.url)?;
        writeln!(f, "cluster    {cluster} (UUID {cluster_uuid}{new})")?;
        writeln!(f, "etcd       {}, member {}, revision {}", origin.etcd_version, origin.member_id, origin.revision)?;
        writeln!(f, "database   {} bytes", self.manifest.snapshot_bytes)?;
        writeln!(f, "sha256     {}", self.manifest.snapshot_sha256)?;
        if let Some(inspection) = &self.manifest.inspection {
            writeln!(f, "inspected  {}", Verdict(inspection))?;
        }
        writeln!(f, "sealed     {} bytes", self.manifest.sealed_bytes)?;
        if seal.recipients.is_empty() {
            writeln!(f, "encrypted  no")?;
            write!(f, "open with  zstd -d < FILE > snapshot.db")
        } else {
            writeln!(f, "encrypted  to {}", seal.recipients.join(", "))?;
            write!(f, "open with  age -d -i KEY FILE | zstd -d > snapshot.db")
        }
    }
}

/// An inspection in a line for people.
struct Verdict<'a>(&'a Inspection);

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inspection { verdict, compared_with, reason, contents, .. } = self.0;
        match contents {
            Some(contents) => write!(f, "{} entries, every page whole; ", contents.entries)?,
            None => write!(f, "not wholly; ")?,
        }
        write!(f, "{}", verdict.as_str())?;
        if let Some(member) = compared_with {
            write!(f, " to member {member}")?;
        }
        reason.iter().try_for_each(|reason| write!(f, " ({reason})"))
    }
}
