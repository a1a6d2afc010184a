//! One cluster's task: it owns the cluster's record, decides by the schedule, and takes one backup at a time from the
//! slot to the status.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use backstay_daemon::trouble::Trouble;
use backstay_protocol::{AttemptId, MachineId, SlotId, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{Instrument, Span, error_span, info, warn};
use uuid::Uuid;

use super::proof_rounds;
use super::rest::Rest;
use super::restore_rounds::RoundState;
use super::steps::{self, Permit, StepEnd};
use crate::directory::{Handle, Message};
use crate::kv::{KvError, Revised, entry_room};
use crate::record::{self, room};
use crate::record::{ClusterRecord, SlotEnd, Trigger};
use crate::schedule::{self, Decision};
use crate::storage::{ActiveStore, View};
use crate::term::Term;

/// How many messages may wait for a cluster's task.
const INBOX: usize = 32;
/// The pause after the KV did not accept a change.
const KV_PAUSE: Duration = Duration::from_millis(500);
/// The schedule is evaluated at least this often, since clocks may jump.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Why the task stops.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The coordinator no longer leads, or is stopping.
    NotLeading,
    /// The cluster was deleted.
    Forgotten,
}

pub(super) type StepFuture = Pin<Box<dyn Future<Output = StepEnd> + Send>>;

/// The task.
pub struct ClusterTask {
    pub(super) term: Arc<Term>,
    pub(super) record: Arc<ClusterRecord>,
    pub(super) revision: u64,
    pub(super) inbox: mpsc::Receiver<Message>,
    pub(super) published: watch::Sender<Arc<ClusterRecord>>,
    pub(super) step: Option<StepFuture>,
    /// Reports whose reply waits for the running confirmation.
    pub(super) confirming: Option<oneshot::Sender<()>>,
    /// Whether the active store was asked for its newest backup; if it did not answer, when to ask again.
    pub(super) synced: bool,
    pub(super) sync_at: Instant,
    /// One of the permits for all clusters, if the settings limit them; held while a slot is open.
    pub(super) permit: Permit,
    /// The store of the open slot: a new configuration is for the next slot.
    pub(super) store: Option<Arc<ActiveStore>>,
    /// The attempt that this coordinator requested; one that it found in the record is requested once more.
    pub(super) asked: Option<AttemptId>,
    /// How long ago backups really were made.
    pub(super) rest: Rest,
    /// Machines that did not answer for the open slot, and how many rounds were made among them.
    pub(super) silent: Vec<MachineId>,
    pub(super) rounds: u32,
    /// What is known about the running restore besides the record.
    pub(super) round_state: RoundState,
    /// Machines with a restore that is in no record; each is logged once.
    pub(super) lost: BTreeSet<MachineId>,
    /// What was logged about a store that does not say which backup is its newest.
    pub(super) trouble: Trouble,
}

/// Makes the task for a record that is stored already, and the handle by which others reach it.
pub fn task(term: Arc<Term>, kept: Revised<ClusterRecord>) -> (ClusterTask, Handle) {
    let (sender, inbox) = mpsc::channel(INBOX);
    let record = Arc::new(kept.value);
    let published = watch::Sender::new(record.clone());
    let handle = Handle { inbox: sender, record: published.subscribe() };
    let task = ClusterTask {
        term,
        record,
        revision: kept.revision,
        inbox,
        published,
        step: None,
        confirming: None,
        synced: false,
        sync_at: Instant::now(),
        permit: None,
        store: None,
        asked: None,
        rest: Rest::default(),
        silent: Vec::new(),
        rounds: 0,
        round_state: RoundState::default(),
        lost: BTreeSet::new(),
        trouble: Trouble::default(),
    };
    (task, handle)
}

impl ClusterTask {
    /// Runs until the coordinator no longer leads.
    pub async fn run(mut self) {
        let cancel = self.term.cancel.clone();
        tokio::select! {
            biased;
            // Nothing is begun any more once the lease is lost.
            () = cancel.cancelled() => {}
            Err(stopped) = self.work() => match stopped {
                Stopped::NotLeading => cancel.cancel(),
                Stopped::Forgotten => info!(cluster = %self.record.name, "deleted"),
            },
        }
    }

    async fn work(&mut self) -> Result<std::convert::Infallible, Stopped> {
        let mut storage = self.term.storage.subscribe();
        loop {
            let view = storage.borrow_and_update().clone();
            let wake = match &self.step {
                Some(_) => None,
                None => {
                    let span = self.span();
                    self.next_step(&view).instrument(span).await?
                }
            };
            let span = self.span();
            tokio::select! {
                Some(message) = self.inbox.recv() => self.on_message(message).instrument(span).await?,
                end = poll_step(&mut self.step).instrument(span.clone()) => self.on_step_end(end).instrument(span).await?,
                Ok(()) = storage.changed() => {
                    self.synced = false;
                    self.rest.forget_backup();
                }
                () = sleep_until(wake), if self.step.is_none() => {}
            }
        }
    }

    /// A span for what is logged from here on: that of the attempt under way, if there is one.
    fn span(&self) -> Span {
        let attempt = self.record.slot.as_ref().and_then(|slot| slot.attempt.as_ref());
        // Of the highest level: a log of warnings alone still says which attempt each belongs to.
        attempt.map_or_else(Span::none, |attempt| error_span!("backup", attempt = %attempt.id))
    }

    /// Begins the step that is due now; if none is, returns when to check again.
    async fn next_step(&mut self, view: &View) -> Result<Option<Instant>, Stopped> {
        let now = self.term.clock.now();
        let changes = self.record.restore.as_ref().is_some_and(|restore| restore.changes_cluster_id(now));
        self.term.fleet.expect_change(&self.record.name, changes);
        if self.record.slot.is_none() && self.record.restoring().is_some() {
            return self.next_of_restore(view).await;
        }
        if self.record.slot.is_none() {
            self.store = None;
        } else if self.store.is_none() {
            self.store.clone_from(&view.active_store);
        }
        let Some(active_store) = self.store.clone().or_else(|| view.active_store.clone()) else {
            if let Some(slot) = self.record.slot.clone() {
                self.end_slot(slot.id, SlotEnd::Failed { error: view.state.unavailable() }).await?;
            }
            return Ok(None);
        };
        if let Some(slot) = self.record.slot.clone() {
            let (term, record) = (self.term.clone(), self.record.clone());
            self.step = Some(match slot.attempt.clone() {
                Some(attempt) if self.asked == Some(attempt.id) => {
                    Box::pin(steps::watch(term, record.name.clone(), attempt))
                }
                _ => Box::pin(steps::look(term, active_store, record, slot, self.permit.take())),
            });
            return Ok(None);
        }
        self.permit = None;
        if !self.synced && self.sync_at <= Instant::now() {
            self.step = Some(Box::pin(steps::sync(active_store, self.record.clone(), self.term.clock.now())));
            return Ok(None);
        }
        let now = self.term.clock.now();
        if let Some(next) = self.rest.corrected(&self.record, now, Instant::now()) {
            info!(cluster = %next.name, "the time of the last backup was in the future because a clock was wrong; it \
                is corrected");
            self.save(next).await?;
        }
        let known = self.rest.known(&self.record, Instant::now());
        let trigger = match schedule::decide(&known, &self.term.policy(), self.record.uuid, now) {
            Decision::Manual(at) => Trigger::Manual { seconds: at.seconds },
            Decision::Interval => Trigger::Interval,
            decision => {
                // What is due goes before.
                if self.record.verification.as_ref().is_some_and(|proof| !proof.has_ended()) {
                    let round = proof_rounds::drive(self.term.clone(), view.active_store.clone(), self.record.clone());
                    self.step = Some(Box::pin(async { round.await.map_or(StepEnd::Rested, StepEnd::Verified) }));
                    return Ok(None);
                }
                return Ok(Some(self.look_again(decision, now)));
            }
        };
        self.open_slot(trigger).await.map(Some)
    }

    /// When to evaluate the schedule again if nothing happens before.
    fn look_again(&self, decision: Decision, now: Timestamp) -> Instant {
        let due = match decision {
            Decision::At(due) => Duration::from_millis((due.as_millis() - now.as_millis()).max(0).unsigned_abs()),
            _ => LOOK_AGAIN,
        };
        let again = Instant::now() + due.min(LOOK_AGAIN);
        if self.synced { again } else { again.min(self.sync_at) }
    }

    /// Opens a slot; returns when to check it.
    async fn open_slot(&mut self, trigger: Trigger) -> Result<Instant, Stopped> {
        let id = SlotId(Uuid::new_v4());
        let now = self.term.clock.now();
        let mut next = (*self.record).clone();
        if let Err(error) = next.open_slot(trigger, id, now) {
            warn!(cluster = %self.record.name, %error, "no snapshot name can be made from this machine's clock");
            return Ok(Instant::now() + LOOK_AGAIN);
        }
        (self.silent, self.rounds) = (Vec::new(), 0);
        self.rest.open(Instant::now());
        info!(cluster = %next.name, slot = %id, ?trigger, "a backup is due");
        self.save(next).await?;
        Ok(Instant::now())
    }

    /// The most bytes that the record may have.
    pub(super) fn room(&self) -> usize {
        entry_room(self.term.bus.max_payload())
    }

    /// Stores `next` in the KV, then publishes it. Repeats until the KV has it or the coordinator no longer leads.
    pub(super) async fn save(&mut self, mut next: ClusterRecord) -> Result<(), Stopped> {
        room::fit(&mut next, self.room());
        if next == *self.record {
            return Ok(());
        }
        let mut trouble = Trouble::default();
        let status_changed = next.status != self.record.status;
        let key = record::entry(&next.name);
        self.revision = loop {
            match self.term.kv.update(&key, &next, self.revision).await {
                Ok(revision) => break revision,
                Err(KvError::Conflict { .. }) => match self.term.kv.get::<ClusterRecord>(&key).await {
                    // An earlier try was taken and its answer lost.
                    Ok(Some(found)) if found.value == next => break found.revision,
                    Ok(_) => {
                        warn!(cluster = %next.name, "the record was changed by someone else: no longer leading");
                        return Err(Stopped::NotLeading);
                    }
                    Err(error) => not_kept(&mut trouble, &next, &error),
                },
                Err(error) => not_kept(&mut trouble, &next, &error),
            }
            tokio::time::sleep(KV_PAUSE).await;
        };
        self.record = Arc::new(next);
        self.published.send_replace(self.record.clone());
        if status_changed {
            self.term.overall_changed.notify_one();
        }
        Ok(())
    }
}

fn not_kept(trouble: &mut Trouble, next: &ClusterRecord, error: &KvError) {
    if let Some(told) = trouble.note(&error.to_string()) {
        warn!(cluster = %next.name, %error, lasting = told.lasting, "could not write to the KV; trying again");
    }
}

async fn poll_step(step: &mut Option<StepFuture>) -> StepEnd {
    match step {
        Some(step) => step.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}
