//! The steps of one backup that take time. Each is a future for which a cluster's task waits while it keeps answering.
//! Nothing here changes the record.

use std::sync::Arc;
use std::time::Duration;

use age::x25519::Recipient;
use backstay_archive::catalog::{self, Settled};
use backstay_archive::trust::Signers;
use backstay_archive::{Key, Manifest, Store, StoreError, names};
use backstay_protocol::bus::{self, start_reply};
use backstay_protocol::subject::Command;
use backstay_protocol::{ClusterName, ClusterUuid, MachineId, SnapshotName, Timestamp};
use prost::Message as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::agent_call::{recipient, request};
use super::proof_rounds;
use super::restore_rounds::RoundResult;
use crate::fleet::Agent;
use crate::keys::KeyError;
use crate::kv::KvError;
use crate::member;
use crate::record::stored::Stored;
use crate::record::{Attempt, ClusterRecord, Slot, Trigger};
use crate::schedule::is_ahead;
use crate::storage::ActiveStore;
use crate::term::Term;

/// How long a slot waits for an agent if none is connected: after an outage of NATS, all of them reconnect.
const AGENT_WAIT: Duration = Duration::from_secs(15);
/// How long after its deadline an attempt may report its end.
const DEADLINE_GRACE: Duration = Duration::from_secs(60);
/// How long an agent may be silent if the interval of its beats is not known yet.
const PATIENCE: Duration = Duration::from_secs(16);
/// How long to look for a reported backup in the store.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(20);
/// The pause before the store is asked again; it grows by this with each try.
const CONFIRM_PAUSE: Duration = Duration::from_secs(2);
const CONFIRM_PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often the cluster's key is asked for where the KV does not answer, and the pause between.
const KEY_TRIES: u32 = 4;
const KEY_PAUSE: Duration = Duration::from_millis(500);
const WATCH_TICK: Duration = Duration::from_millis(500);

/// A permit to work on a slot, where the settings limit how many there are.
pub type Permit = Option<OwnedSemaphorePermit>;

/// How a step ended.
#[derive(Debug)]
pub enum StepEnd {
    Synced(Synced),
    Looked(Looked, Permit),
    /// The pause before the next round is over.
    Rested,
    AgentReplied(AgentReply),
    /// The attempt under way will no longer report.
    Lost(String),
    /// A report says that the slot's backup is there: it is, or why not.
    Confirmed {
        visible: Result<Box<Manifest>, String>,
        report: Unconfirmed,
    },
    /// The store does not say whether it is.
    Unconfirmed(Unconfirmed, String),
    /// No attempt is under way any more: the slot's backup if there is one nevertheless, otherwise the error.
    Concluded {
        done: Option<Box<Manifest>>,
        error: String,
    },
    /// An agent was asked how far a verification is.
    Verified(proof_rounds::Round),
    /// All machines of a restore were told once.
    RestoreRound(Box<RoundResult>),
}

/// A report of a backup that the store has not confirmed.
#[derive(Debug, Clone, Copy)]
pub struct Unconfirmed {
    /// When the backup was complete, as the report says.
    pub completed: Timestamp,
    /// When the report came.
    pub since: Instant,
    /// How often the store was asked in vain.
    pub tries: u32,
    /// It is about the attempt under way.
    pub is_current: bool,
}

/// What the store says of a cluster.
#[derive(Debug)]
pub struct Synced {
    /// The UUID that the store has for the cluster's name, if any.
    pub found: Option<ClusterUuid>,
    /// The newest backup.
    pub newest: Result<Option<Stored>, String>,
    /// What it has and what it misses, where that has changed.
    pub missing: Option<Option<SnapshotName>>,
}

/// What was found in the store before an attempt.
#[derive(Debug)]
pub enum Looked {
    /// The attempt can begin; the backup is to be encrypted to these recipients.
    Free(Vec<Recipient>),
    /// The verified backup of an earlier attempt is there.
    Done(Box<Manifest>),
    /// The name belongs to another backup.
    Taken,
    /// There is a backup by somebody else that is younger than the interval: nothing is due.
    NotDue(Timestamp),
    /// The store has this UUID for the cluster's name.
    Known(ClusterUuid),
    /// The store does not have this backup any more, or has again what was missed.
    Missing(Option<SnapshotName>),
    Failed(String),
}

/// What the agent said.
#[derive(Debug)]
pub enum AgentReply {
    Accepted,
    Refused(String),
    /// The agent has seen this epoch, which is newer than ours.
    Stale(u64),
    /// No agent received the command, or none answered in time; in that case it may have been received nevertheless.
    NoAnswer(String),
}

/// Asks the store for the cluster's UUID (if the one in the record is not final) and for its newest backup.
pub async fn sync(active_store: Arc<ActiveStore>, record: Arc<ClusterRecord>, now: Timestamp) -> StepEnd {
    let store = &*active_store.store;
    let found = match record.uuid_final {
        true => None,
        false => match names::find(store, &record.name, now, &Signers::default()).await {
            Ok(found) => found,
            Err(error) => {
                return StepEnd::Synced(Synced { found: None, newest: Err(error.to_string()), missing: None });
            }
        },
    };
    let looked = async {
        let newest = newest(store, found.unwrap_or(record.uuid), now).await?;
        Ok::<_, StoreError>((newest, missing(store, &record).await?))
    };
    let (newest, missing) = match looked.await {
        Ok((newest, missing)) => (Ok(newest), missing),
        Err(error) => (Err(error.to_string()), None),
    };
    StepEnd::Synced(Synced { found, newest, missing })
}

/// Whether the store still has what was made in it. The answer is what is missed now, where that is not what the record
/// says.
async fn missing(store: &dyn Store, record: &ClusterRecord) -> Result<Option<Option<SnapshotName>>, StoreError> {
    let url = store.url();
    if record.stored_in != url {
        return Ok(record.missing.is_some().then_some(None));
    }
    let before = record.missing().map(|missing| missing.snapshot);
    let mut now = None;
    // The newest first: where it is missed, the earlier one does not matter.
    for snapshot in record.must_have(&url).into_iter().chain(before) {
        let is_there = match store.head(&Key::manifest(record.uuid, snapshot)).await {
            Ok(found) => found.is_some(),
            // It is there, and cannot be looked at.
            Err(error) if error.is_one_object_s() => true,
            Err(error) => return Err(error),
        };
        if !is_there {
            now = Some(snapshot);
            break;
        }
    }
    Ok((now != before).then_some(now))
}

/// The newest backup. One with a time in the future does not hide the others.
async fn newest(store: &dyn Store, cluster: ClusterUuid, now: Timestamp) -> Result<Option<Stored>, StoreError> {
    Ok(catalog::newest_true(store, cluster, now, &Signers::default())
        .await?
        .map(|newest| Stored::from(&newest.manifest)))
}

/// Checks whether the slot's backup exists already, removes what dead attempts left, and gets the keys. If permits are
/// limited, it waits for one first.
pub async fn look(
    term: Arc<Term>,
    active_store: Arc<ActiveStore>,
    record: Arc<ClusterRecord>,
    slot: Slot,
    mut permit: Permit,
) -> StepEnd {
    if let (None, Some(permits)) = (&permit, &term.permits) {
        // The semaphore is never closed.
        permit = permits.clone().acquire_owned().await.ok();
    }
    let looked = match try_look(&term, &active_store, &record, &slot).await {
        Ok(looked) => looked,
        Err(error) => Looked::Failed(error),
    };
    if matches!(looked, Looked::Free(_)) {
        let wanted = slot.attempt.as_ref().map(|a| a.machine);
        wait_for_an_agent(&term, &record, &slot.tried, wanted).await;
    }
    StepEnd::Looked(looked, permit)
}

async fn try_look(
    term: &Term,
    active_store: &ActiveStore,
    record: &ClusterRecord,
    slot: &Slot,
) -> Result<Looked, String> {
    let store = &*active_store.store;
    if !record.uuid_final {
        let etcd = term.fleet.cluster_id(&record.name, record.etcd_cluster_id, Instant::now());
        let etcd = etcd.map(|id| format!("{id:016x}"));
        // From here on the name is this UUID's: also for a `backstay-agent once` of the same second.
        let claim =
            names::claim(store, &record.name, record.uuid, etcd.as_deref(), term.clock.now(), &Signers::default())
                .await;
        let claim = claim.map_err(|e| e.to_string())?;
        if claim.uuid != record.uuid {
            return Ok(Looked::Known(claim.uuid));
        }
    }
    if slot.attempt.is_none()
        && slot.tried.is_empty()
        && let Some(missing) = missing(store, record).await.map_err(|e| e.to_string())?
    {
        return Ok(Looked::Missing(missing));
    }
    match catalog::settle(store, record.uuid, slot.snapshot).await.map_err(|e| e.to_string())? {
        Settled::Done(manifest) if manifest.slot == slot.id => return Ok(Looked::Done(manifest)),
        Settled::Done(_) | Settled::Orphan(_) | Settled::Unreadable(_) => return Ok(Looked::Taken),
        Settled::Free => {}
    }
    if let Some(newer) = not_due(record, slot, store, term.clock.now()).await.map_err(|e| e.to_string())? {
        return Ok(Looked::NotDue(newer));
    }
    // What a living attempt has under way is not a dead one's.
    if slot.attempt.is_none() {
        sweep(store, record, slot.snapshot).await.map_err(|e| e.to_string())?;
    }
    let recipients = recipients(term, store, record.uuid).await.map_err(|e| e.to_string())?;
    Ok(Looked::Free(recipients))
}

/// The recipients of a backup. The KV is asked several times, so that one lost answer does not fail a backup.
async fn recipients(term: &Term, store: &dyn Store, cluster: ClusterUuid) -> Result<Vec<Recipient>, KeyError> {
    let mut tries = 1;
    loop {
        match term.keys.recipients(&term.kv, store, cluster).await {
            Err(KeyError::Kv(error @ KvError::Failed { .. })) if tries < KEY_TRIES => {
                debug!(%cluster, %error, "looking up the cluster's key again");
                tries += 1;
                tokio::time::sleep(KEY_PAUSE).await;
            }
            recipients => return recipients,
        }
    }
}

/// Whether an automatic backup is due is decided from the store, since somebody else may have made one meanwhile.
async fn not_due(
    record: &ClusterRecord,
    slot: &Slot,
    store: &dyn Store,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    if slot.trigger != Trigger::Interval || slot.attempt.is_some() || !slot.tried.is_empty() {
        return Ok(None);
    }
    let newest = newest(store, record.uuid, now).await?;
    Ok(newest.filter(|newest| record.is_news(newest) && !is_ahead(newest.at, now)).map(|newest| newest.at))
}

/// Waits until the given agent is connected; without one, until any agent is that can be asked.
async fn wait_for_an_agent(term: &Term, record: &ClusterRecord, tried: &[MachineId], wanted: Option<MachineId>) {
    let there = || match wanted {
        Some(machine) => term.fleet.agents(&record.name, Instant::now()).contains_key(&machine),
        None => choices(term, record).0.iter().any(|machine| !tried.contains(machine)),
    };
    // Where others were tried already, this one's turn has come or nobody's.
    let patience = if tried.is_empty() || wanted.is_some() { AGENT_WAIT } else { Duration::ZERO };
    let wait = async {
        while !there() {
            tokio::time::sleep(WATCH_TICK).await;
        }
    };
    // Where nobody comes, the choice of a member says so.
    let _ = tokio::time::timeout(patience, wait).await;
}

/// The members that can be asked, best first, and why the others cannot.
pub fn choices(term: &Term, record: &ClusterRecord) -> (Vec<MachineId>, Vec<(MachineId, String)>) {
    let now = Instant::now();
    let known = term.fleet.cluster_id(&record.name, record.etcd_cluster_id, now);
    member::choose(&term.fleet.candidates(&record.name, now), known)
}

/// Sends the command and waits for the agent's answer.
pub async fn ask(
    term: Arc<Term>,
    active_store: Arc<ActiveStore>,
    record: Arc<ClusterRecord>,
    attempt: Attempt,
    recipients: Vec<Recipient>,
) -> StepEnd {
    let command = match command(&term, &active_store, &record, &attempt, &recipients) {
        Ok(command) => command.encode_to_vec(),
        Err(error) => return StepEnd::AgentReplied(AgentReply::NoAnswer(error)),
    };
    let answer = request::<bus::StartReply>(&term, &record.name, attempt.machine, Command::Start, command).await;
    StepEnd::AgentReplied(match answer.map(|reply| reply.answer) {
        Ok(Some(start_reply::Answer::Accepted(_))) => AgentReply::Accepted,
        Ok(Some(start_reply::Answer::Refused(refused))) if refused.newest_epoch > term.epoch => {
            AgentReply::Stale(refused.newest_epoch)
        }
        Ok(Some(start_reply::Answer::Refused(refused))) => AgentReply::Refused(format!("refused: {}", refused.text)),
        Ok(None) => AgentReply::Refused("its answer neither accepts nor refuses".into()),
        Err(error) => AgentReply::NoAnswer(error),
    })
}

fn command(
    term: &Term,
    active_store: &ActiveStore,
    record: &ClusterRecord,
    attempt: &Attempt,
    recipients: &[Recipient],
) -> Result<bus::StartBackup, String> {
    let slot = record.slot.as_ref().ok_or("the backup has ended")?;
    let recipient = recipient(term, &record.name, attempt.machine)?;
    let backup = &term.config.settings.backup;
    let millis = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
    Ok(bus::StartBackup {
        version: backstay_protocol::VERSION,
        epoch: term.epoch,
        attempt: attempt.id.to_string(),
        slot: slot.id.to_string(),
        cluster: record.name.to_string(),
        cluster_uuid: record.uuid.to_string(),
        machine: attempt.machine.to_string(),
        snapshot: slot.snapshot.to_string(),
        trigger: match slot.trigger {
            Trigger::Manual { .. } => bus::Trigger::Manual,
            Trigger::Interval => bus::Trigger::Interval,
        }
        .into(),
        store: Some(active_store.for_agent(&recipient).map_err(|e| e.to_string())?),
        recipients: recipients.iter().map(ToString::to_string).collect(),
        limits: Some(bus::Limits {
            deadline_ms: millis(backup.deadline),
            stall_ms: millis(backup.stall),
            upload_bytes_per_second: backup.upload_limit,
        }),
        etcd_cluster_id: term.fleet.cluster_id(&record.name, record.etcd_cluster_id, Instant::now()).unwrap_or(0),
    })
}

/// Tells an agent that its attempt was given to another agent or is no longer needed.
pub async fn cancel(term: Arc<Term>, cluster: ClusterName, attempt: Attempt) {
    let body =
        bus::CancelBackup { version: backstay_protocol::VERSION, epoch: term.epoch, attempt: attempt.id.to_string() };
    if let Err(error) =
        request::<bus::CancelReply>(&term, &cluster, attempt.machine, Command::Cancel, body.encode_to_vec()).await
    {
        debug!(%cluster, attempt = %attempt.id, %error, "the cancel command failed");
    }
}

/// Waits until the attempt's agent has been silent for too long, or works on something else without a report.
pub async fn watch(term: Arc<Term>, cluster: ClusterName, attempt: Attempt) -> StepEnd {
    let begun = Instant::now();
    let limit = term.config.settings.backup.deadline + DEADLINE_GRACE;
    let mut seen_at_work = begun;
    loop {
        tokio::time::sleep(WATCH_TICK).await;
        let now = Instant::now();
        let machine = attempt.machine;
        let agent = term.fleet.last(&cluster, machine);
        let patience = agent.as_ref().map_or(PATIENCE, Agent::patience);
        // Our own silence is not the agent's.
        if !term.bus.is_connected() {
            seen_at_work = now;
        }
        match agent {
            Some(agent) if agent.attempt() == Some(attempt.id) => seen_at_work = seen_at_work.max(agent.seen),
            Some(agent) if agent.alive(now) && now.duration_since(seen_at_work) > patience => {
                return StepEnd::Lost("it is no longer working on the attempt and sent no report".into());
            }
            _ => {}
        }
        if now.duration_since(seen_at_work) > patience {
            return StepEnd::Lost("it stopped sending heartbeats".into());
        }
        if now.duration_since(begun) > limit {
            return StepEnd::Lost("it did not finish within the deadline".into());
        }
    }
}

/// Checks that a reported backup is really in the store: the report alone is somebody's word. If the store does not answer,
/// the backup counts for nothing yet, and is looked for again until the attempt's deadline.
pub async fn confirm(
    term: Arc<Term>,
    active_store: Arc<ActiveStore>,
    record: Arc<ClusterRecord>,
    slot: Slot,
    reported: Unconfirmed,
) -> StepEnd {
    if reported.tries > 0 {
        tokio::time::sleep(CONFIRM_PAUSE.saturating_mul(reported.tries).min(CONFIRM_PAUSE_MAX)).await;
    }
    let settled = catalog::settle(&*active_store.store, record.uuid, slot.snapshot);
    let (answered, error) = match tokio::time::timeout(CONFIRM_TIMEOUT, settled).await {
        Ok(Ok(Settled::Done(manifest))) if manifest.slot == slot.id => {
            return StepEnd::Confirmed { visible: Ok(manifest), report: reported };
        }
        Ok(Ok(Settled::Unreadable(error))) => (true, error.to_string()),
        Ok(Ok(_)) => (true, active_store.not_visible(&slot.snapshot.to_string())),
        Ok(Err(error)) => (false, error.to_string()),
        Err(_) => (false, format!("the store did not answer within {} s", CONFIRM_TIMEOUT.as_secs())),
    };
    if answered || reported.since.elapsed() > term.config.settings.backup.deadline {
        return StepEnd::Confirmed { visible: Err(error), report: reported };
    }
    warn!(cluster = %record.name, %error, "a reported backup is not confirmed by the store yet; looking again");
    StepEnd::Unconfirmed(Unconfirmed { tries: reported.tries.saturating_add(1), ..reported }, error)
}

/// Removes what the slot's attempts left, then checks whether one of them completed nevertheless; after the removal,
/// none can.
pub async fn conclude(
    active_store: Arc<ActiveStore>,
    record: Arc<ClusterRecord>,
    slot: Slot,
    error: String,
) -> StepEnd {
    let store = &*active_store.store;
    let concluded = async {
        sweep(store, &record, slot.snapshot).await?;
        catalog::settle(store, record.uuid, slot.snapshot).await
    };
    let done = match concluded.await {
        Ok(Settled::Done(manifest)) if manifest.slot == slot.id => Some(manifest),
        Ok(_) => None,
        Err(error) => {
            not_swept(&record, &error);
            None
        }
    };
    StepEnd::Concluded { done, error }
}

/// Removes what is left under the name of a backup that exists: the intent of an attempt that died after completing it,
/// the upload of another attempt, or an upload that was begun twice because an answer was lost.
pub async fn tidy(active_store: Arc<ActiveStore>, record: Arc<ClusterRecord>, snapshot: SnapshotName) {
    if let Err(error) = sweep(&*active_store.store, &record, snapshot).await {
        not_swept(&record, &error);
    }
}

async fn sweep(store: &dyn Store, record: &ClusterRecord, snapshot: SnapshotName) -> Result<(), StoreError> {
    let swept = catalog::sweep_slot(store, record.uuid, snapshot).await?;
    debug!(cluster = %record.name, ?swept, "removed leftovers");
    Ok(())
}

fn not_swept(record: &ClusterRecord, error: &StoreError) {
    warn!(cluster = %record.name, %error, "leftovers of the attempts could not be removed; trying again later");
}
