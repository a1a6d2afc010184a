//! Which clusters there are. They are registered by their agents' first beats, by what people apply, and from the store
//! if NATS has lost its disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backstay_archive::catalog::Rank;
use backstay_archive::trust::Signers;
use backstay_archive::{catalog, names};
use backstay_daemon::trouble::Troubles;
use backstay_protocol::spec::ClusterSpec;
use backstay_protocol::{ClusterName, ClusterUuid};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::kv::{KvError, Revised};
use crate::record::{self, ClusterRecord, FORMAT};
use crate::storage::ActiveStore;
use crate::term::Term;
use crate::{cluster, forgotten};

/// The pause between two attempts to rebuild from a store that did not answer.
const REBUILD_PAUSE: Duration = Duration::from_secs(10);

/// Starts a task for each cluster that has a record.
///
/// # Errors
/// The KV does not answer. A record that cannot be parsed is not an error: that cluster is left out, with an error in
/// the log.
pub async fn start(term: &Arc<Term>) -> Result<(), KvError> {
    for key in term.kv.keys("cluster.").await? {
        match read(term, &key).await {
            Ok(Some(found)) => look_after(term, found),
            Ok(None) => {}
            // One cluster's broken record is no other cluster's trouble.
            Err(error @ KvError::Malformed { .. }) => {
                error!(%error, "the cluster's record cannot be read; ignoring the cluster until it can")
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A cluster's record. One with a newer format counts as unreadable, so that this coordinator does not change it.
async fn read(term: &Term, key: &str) -> Result<Option<Revised<ClusterRecord>>, KvError> {
    match term.kv.get::<ClusterRecord>(key).await? {
        Some(Revised { value: ClusterRecord { format, .. }, .. }) if format != FORMAT => {
            let cause = format!(
                "it was written by a newer coordinator (format {format}, this one supports {FORMAT}): update \
                    this coordinator"
            );
            Err(KvError::Malformed { key: key.into(), cause })
        }
        found => Ok(found),
    }
}

/// Starts the task of a cluster that has a record.
fn look_after(term: &Arc<Term>, found: Revised<ClusterRecord>) {
    let name = found.value.name.clone();
    let (task, handle) = cluster::task(term.clone(), found);
    term.attempts.know(&name);
    if term.directory.add(name, handle) {
        term.spawn_to_the_end(task.run());
    }
}

/// Registers a cluster with the UUID that the store has for its name, or a new one; returns whether it was new. A name
/// that is registered stays as it is.
///
/// # Errors
/// The KV does not answer.
pub async fn register(
    term: &Arc<Term>,
    name: &ClusterName,
    spec: ClusterSpec,
    uuid: Option<ClusterUuid>,
) -> Result<bool, KvError> {
    let _one_at_a_time = term.registering.lock().await;
    register_alone(term, name, spec, uuid).await
}

/// The same for a cluster that is in the store, unless it was deleted. A cluster that is being deleted stays in the
/// directory until the deletion is recorded.
async fn register_again(term: &Arc<Term>, name: &ClusterName, uuid: ClusterUuid) -> Result<bool, KvError> {
    let _one_at_a_time = term.registering.lock().await;
    if term.directory.contains(name) || forgotten::is(&term.kv, name).await? {
        return Ok(false);
    }
    register_alone(term, name, ClusterSpec::default(), Some(uuid)).await
}

async fn register_alone(
    term: &Arc<Term>,
    name: &ClusterName,
    spec: ClusterSpec,
    uuid: Option<ClusterUuid>,
) -> Result<bool, KvError> {
    if term.directory.contains(name) {
        return Ok(false);
    }
    let fresh = ClusterUuid(Uuid::new_v4());
    let mut record = ClusterRecord::new(name.clone(), uuid.unwrap_or(fresh), spec, term.clock.now());
    record.uuid_final = uuid.is_some();
    if let Some(late) = term.kv.get(&record::late_entry(name)).await? {
        record.unsettled = late.value;
    }
    let key = record::entry(name);
    let found = match term.kv.create(&key, &record).await {
        Ok(revision) => Revised { revision, value: record },
        Err(KvError::Conflict { .. }) => match read(term, &key).await? {
            Some(found) => found,
            None => return Err(KvError::Conflict { key }),
        },
        Err(error) => return Err(error),
    };
    info!(cluster = %name, uuid = %found.value.uuid, "registered");
    look_after(term, found);
    forgotten::is_no_more(&term.kv, name).await;
    Ok(true)
}

/// Whenever a store becomes active, registers the clusters that only the store knows.
pub async fn rebuild_always(term: Arc<Term>) {
    let mut storage = term.storage.subscribe();
    let mut troubles = Troubles::default();
    loop {
        let view = storage.borrow_and_update().clone();
        let complete = match view.active_store {
            Some(active_store) => rebuild(&term, &active_store, &mut troubles).await,
            None => true,
        };
        tokio::select! {
            changed = storage.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(REBUILD_PAUSE), if !complete => {}
        }
    }
}

/// Returns whether everything could be read.
async fn rebuild(term: &Arc<Term>, active_store: &ActiveStore, troubles: &mut Troubles) -> bool {
    let known: Vec<ClusterUuid> = term.directory.records().iter().map(|r| r.uuid).collect();
    let folders = match catalog::clusters(&*active_store.store).await {
        Ok(folders) => folders,
        Err(error) => {
            if let Some(told) = troubles.note("", &error.to_string()) {
                let lasting = told.lasting;
                warn!(%error, lasting, "could not list the clusters in the store; trying again");
            }
            return false;
        }
    };
    // Where several folders have one name, the one with the newest backup is the cluster's.
    let mut newest: BTreeMap<ClusterName, (Rank, ClusterUuid)> = BTreeMap::new();
    let (mut complete, now) = (true, term.clock.now());
    for uuid in folders.into_iter().filter(|uuid| !known.contains(uuid)) {
        match catalog::newest_true(&*active_store.store, uuid, now, &Signers::default()).await {
            Ok(Some(backup)) => {
                let found = (Rank::of(&backup, now), uuid);
                let entry = newest.entry(backup.manifest.cluster).or_insert(found);
                *entry = found.max(*entry);
            }
            Ok(None) => {}
            Err(error) => {
                if let Some(told) = troubles.note(&uuid.to_string(), &error.to_string()) {
                    let lasting = told.lasting;
                    warn!(%uuid, %error, lasting, "could not read the newest manifest; trying again");
                }
                complete = false;
            }
        }
    }
    for (name, (_, newest)) in newest {
        // The same answer as everybody else's who asks the store for the name.
        let uuid = match names::find(&*active_store.store, &name, now, &Signers::default()).await {
            Ok(found) => found.unwrap_or(newest),
            Err(error) => {
                if let Some(told) = troubles.note(name.as_str(), &error.to_string()) {
                    let lasting = told.lasting;
                    warn!(cluster = %name, %error, lasting, "could not look up the cluster's UUID in the store; trying \
                        again");
                }
                complete = false;
                continue;
            }
        };
        if let Err(error) = register_again(term, &name, uuid).await {
            if let Some(told) = troubles.note(name.as_str(), &error.to_string()) {
                let lasting = told.lasting;
                warn!(cluster = %name, %error, lasting, "could not register the cluster again");
            }
            // A record that is left alone for this term is no reason to list the store again and again.
            complete &= matches!(error, KvError::Malformed { .. });
        }
    }
    complete
}
