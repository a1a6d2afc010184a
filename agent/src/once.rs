//! One backup without NATS or coordinator, through the same pipeline as any other.

use std::sync::Arc;
use std::time::Duration;

use backstay_archive::catalog::Settled;
use backstay_archive::manifest::{Origin, Replaced, Sequence, Trigger};
use backstay_archive::names::{self, Claim};
use backstay_archive::seal::Recipient;
use backstay_archive::series::{self, Difference};
use backstay_archive::store::Key;
use backstay_archive::trust::{Signers, SigningKey};
use backstay_archive::writer::{Limits, Plan, Progress, Signing};
use backstay_archive::{Manifest, Store, catalog};
use backstay_daemon::bucket::Named;
use backstay_protocol::bus::FailureCode;
use backstay_protocol::{AttemptId, Clock, ClusterName, ClusterUuid, SlotId, SnapshotName, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::attempt::{Backup, BackupFailure, Member, Taking, clock_off};
use crate::etcd::{Etcd, source};
use backstay_archive::store::spec::StoreSpec;

pub mod show;
mod told;

pub use told::Taken;

/// How many later seconds are tried for the name: other backups may have begun in the same second.
const NAME_TRIES: usize = 60;

/// How long cleaning up after Ctrl-C may take; a person waits for it.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(5);
const SWEEP_INTERRUPTED: Duration = Duration::from_millis(1500);

/// What to back up, and where to.
#[derive(Debug)]
pub struct Once {
    pub cluster: ClusterName,
    /// By default, the store is asked for the name's UUID, and a new one is created if it has none.
    pub cluster_uuid: Option<ClusterUuid>,
    /// Whether this etcd replaces the one of the newest backup.
    pub new_cluster_id: bool,
    pub store: StoreSpec,
    /// The same as it was typed.
    pub named: Named,
    /// Empty: not encrypted.
    pub recipients: Vec<Recipient>,
    /// Nobody is to open it, although earlier backups of the cluster are encrypted.
    pub allow_unencrypted: bool,
    /// Signs the backup, where there is one.
    pub sign_key: Option<Arc<SigningKey>>,
    /// Who may have signed earlier backups, besides that key.
    pub signers: Signers,
    pub limits: Limits,
    pub deadline: Duration,
    pub stall: Duration,
}

impl Once {
    /// Whose earlier backups count first.
    fn trusted(&self) -> Signers {
        let own = self.sign_key.as_ref().and_then(|key| key.signer("own").ok());
        Signers::from_iter(own).and(self.signers.clone())
    }
}

/// Makes one backup; `tries` gets the progress of each attempt. If it fails, nothing of it is left in the store, as far
/// as the store permits deleting it.
///
/// # Errors
/// As [`Taking::take`](crate::attempt::Taking::take); also if the store cannot be opened, or no name is free.
pub async fn once(
    once: Once,
    member: &Member,
    clock: &dyn Clock,
    tries: &watch::Sender<Arc<Progress>>,
    cancel: &CancellationToken,
) -> Result<Taken, BackupFailure> {
    let begun = Instant::now();
    let cancelled = || BackupFailure::new(FailureCode::Cancelled, "cancelled");
    let store = cancel.run_until_cancelled(once.store.clone().open_to_write()).await.ok_or_else(cancelled)??;
    let found =
        cancel.run_until_cancelled(find(&once, &*store, &member.etcd, clock.now())).await.ok_or_else(cancelled)?;
    let series = found?;
    let clock_off = cancel.run_until_cancelled(clock_off(&*store, clock)).await.flatten();
    let mut name = SnapshotName::from_unix_seconds(clock.now().seconds)
        .map_err(|e| BackupFailure::new(FailureCode::Internal, e.to_string()))?;
    let taken = |store: &dyn Store, name, manifest| {
        let url = format!("{}/{}", store.url(), Key::snapshot(series.uuid, name));
        let (first, named, took) = (series.first, once.named.clone(), begun.elapsed());
        let signed_by = once.sign_key.as_ref().map(|key| key.fingerprint());
        Taken { manifest, url, named, first, clock_off: clock_off.clone(), took, signed_by }
    };
    let mut tried = 1;
    loop {
        let backup = plan(&once, &series, name);
        let (store, progress) = (&store, &Arc::<Progress>::default());
        tries.send_replace(Arc::clone(progress));
        match (Taking { backup: &backup, store, member, progress, clock, cancel }).take().await {
            Ok(manifest) => return Ok(taken(&**store, name, manifest)),
            Err(failure) if failure.code == FailureCode::NameTaken && tried < NAME_TRIES => {
                debug!(%name, "the backup's name is taken; trying the next second");
                name = name.next().map_err(|e| BackupFailure::new(FailureCode::NameTaken, e.to_string()))?;
                tried += 1;
            }
            Err(failure) => {
                let found = sweep(&**store, &backup.plan, &failure, patience(cancel)).await;
                return found.map(|manifest| taken(&**store, name, manifest)).ok_or(failure);
            }
        }
    }
}

/// The series of backups to which this one belongs.
struct Series {
    uuid: ClusterUuid,
    /// Whether the store had no backup of this cluster.
    first: bool,
    /// The etcd that answers.
    etcd: u64,
    /// What this backup replaces.
    replaces: Option<Replaced>,
    /// How this backup is signed.
    signing: Option<Signing>,
}

/// The series of the given UUID, otherwise of the name. Refuses an etcd that cannot be the one in that series, unless
/// the flag for a new etcd was given.
async fn find(once: &Once, store: &dyn Store, etcd: &Etcd, now: Timestamp) -> Result<Series, BackupFailure> {
    let mut origin = source::origin(etcd).await?;
    let signers = once.trusted();
    let claim = match once.cluster_uuid {
        Some(uuid) => Claim { uuid, is_new: false, etcd_cluster_id: None, listed: None },
        None => {
            let proposed = ClusterUuid(Uuid::new_v4());
            names::claim(store, &once.cluster, proposed, Some(&origin.etcd_cluster_id), now, &signers).await?
        }
    };
    let entries = match claim.listed {
        Some(entries) => entries,
        None => catalog::list(store, claim.uuid).await?,
    };
    let signed = catalog::newest_signed(store, &entries, &signers).await?;
    let signing = once.sign_key.as_ref().map(|key| {
        let before = signed.as_ref().map(|before| (&before.manifest, &*before.json));
        Signing { key: Arc::clone(key), sequence: Sequence::after(before) }
    });
    let newest = series::newest(store, entries, now, &signers, signed.as_ref()).await?;
    if let Some(newest) = &newest
        && newest.manifest.seal.encryption != "none"
        && once.recipients.is_empty()
        && !once.allow_unencrypted
    {
        let text = format!(
            "earlier backups of {} in {} are encrypted, but neither --recipient nor --recipients-file was given. To store \
             this one unencrypted, pass --allow-unencrypted",
            once.cluster,
            store.url()
        );
        return Err(BackupFailure::new(FailureCode::Source, text));
    }
    let difference = |is: &Origin| series::difference(newest.as_ref()?, &is.etcd_cluster_id, is.revision);
    let mut differs = difference(&origin);
    if differs == Some(Difference::Behind) {
        // Another machine's backup may have come after the revision was read.
        origin = source::origin(etcd).await?;
        differs = difference(&origin);
    }
    let id = origin.etcd_cluster_id.as_str();
    let replaces = match (&newest, differs) {
        // What is signed says nothing that is nobody's word.
        (Some(newest), Some(_)) if once.new_cluster_id => {
            (signing.is_none() || signed.is_some()).then(|| (&newest.manifest).into())
        }
        (Some(newest), Some(difference)) => {
            return Err(refusal(&told(once, &store.url(), &newest.manifest, difference, &origin)));
        }
        _ => None,
    };
    // Two clusters may come with one name in the same second, before either has a backup.
    if let (None, Some(theirs)) = (&newest, claim.etcd_cluster_id.filter(|theirs| theirs != id))
        && !once.new_cluster_id
    {
        let (name, url) = (&once.cluster, store.url());
        let text = format!(
            "the name {name} is used in {url} for etcd cluster {theirs}, but this etcd belongs to cluster {id}"
        );
        return Err(refusal(&text));
    }
    let etcd = u64::from_str_radix(id, 16).expect("it was printed so");
    Ok(Series { uuid: claim.uuid, first: claim.is_new, etcd, replaces, signing })
}

fn refusal(text: &str) -> BackupFailure {
    let text = format!(
        "{text}. If this etcd was restored or recreated, pass --new-cluster-id this once; if it is a different \
         cluster, use another --cluster name"
    );
    BackupFailure::new(FailureCode::Source, text)
}

fn told(once: &Once, url: &str, newest: &Manifest, difference: Difference, is: &Origin) -> String {
    let (name, snapshot, taken) = (&once.cluster, newest.snapshot, newest.created_at.rfc3339());
    let Origin { etcd_cluster_id: theirs, revision: reached, .. } = &newest.origin;
    let Origin { etcd_cluster_id: ours, revision, .. } = is;
    let backup = format!("the newest backup of {name} in {url} ({snapshot}, taken {taken})");
    match difference {
        Difference::Other => format!(
            "{backup} is from etcd cluster {theirs} at revision {reached}, but this etcd is cluster {ours} at revision \
             {revision}"
        ),
        Difference::Behind => format!(
            "{backup} is at revision {reached}, but this etcd is only at {revision}, with the same cluster ID {ours}: \
             either it lost data that the backup has, or it is a different etcd with the same peer URLs and token"
        ),
    }
}

fn plan(once: &Once, series: &Series, snapshot: SnapshotName) -> Backup {
    let plan = Plan {
        cluster: once.cluster.clone(),
        cluster_uuid: series.uuid,
        machine: None,
        attempt: AttemptId(Uuid::new_v4()),
        slot: SlotId(Uuid::new_v4()),
        snapshot,
        trigger: Trigger::Once,
        recipients: once.recipients.clone(),
        agent_version: crate::VERSION.to_owned(),
        replaces: series.replaces.clone(),
        signing: series.signing.clone(),
    };
    let etcd_cluster = Some(series.etcd);
    Backup { plan, limits: once.limits.clone(), deadline: once.deadline, stall: once.stall, etcd_cluster }
}

/// How long cleaning up in the store may take at the end.
fn patience(cancel: &CancellationToken) -> Duration {
    if cancel.is_cancelled() { SWEEP_INTERRUPTED } else { SWEEP_TIMEOUT }
}

/// Cleans up what the writer could not reach when it did. If the backup exists nevertheless (its completion succeeded,
/// but the answer was lost), that is a success.
async fn sweep(store: &dyn Store, plan: &Plan, failure: &BackupFailure, patience: Duration) -> Option<Manifest> {
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
            warn!(%error, "could not look for leftovers of the failed backup");
            None
        }
        Err(_) => {
            warn!("gave up looking for leftovers of the failed backup: the store does not answer");
            None
        }
    }
}
