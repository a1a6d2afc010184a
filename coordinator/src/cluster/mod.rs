//! One cluster's task: it owns the cluster's record, decides by the schedule, and takes one backup at a
//! time from slot to status. Its trouble is its own: nothing here waits for another cluster.

pub mod agent_call;
pub mod proof_rounds;
mod rest;
pub mod restore_rounds;
mod restoring;
mod slot;
pub mod steps;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use backstay_daemon::trouble::Trouble;
use backstay_protocol::api::{ApiError, ErrorCode, check_version};
use backstay_protocol::bus::{FailureCode, Report, report};
use backstay_protocol::{AttemptId, MachineId, SlotId, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{Instrument, Span, error_span, info, warn};
use uuid::Uuid;

use crate::attempts::Ended;
use crate::directory::{Handle, Message, Reply};
use crate::forgotten;
use crate::kv::{KvError, Revised, entry_room};
use crate::record::runs::Proven;
use crate::record::{self, room};
use crate::record::{ClusterRecord, Slot, SlotEnd, Trigger};
use crate::schedule::{self, Decision};
use crate::storage::{InForce, View};
use crate::term::Term;
use rest::Rest;
use restore_rounds::Memory;
use steps::{Asked, Permit, StepEnd, Synced};

/// Messages that wait for a cluster's task.
const INBOX: usize = 32;
/// After the KV did not take a change.
const KV_PAUSE: Duration = Duration::from_millis(500);
/// After the store could not be asked for its newest backup.
const SYNC_PAUSE: Duration = Duration::from_secs(30);
/// The schedule is looked at again after this long at the latest: clocks jump.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Why the task ends where it is.
#[derive(Debug)]
enum Stopped {
    /// The coordinator does not lead any more, or is stopping.
    NotLeading,
    /// The cluster was deleted.
    Forgotten,
}

type Step = Pin<Box<dyn Future<Output = StepEnd> + Send>>;

/// The task.
pub struct ClusterTask {
    term: Arc<Term>,
    record: Arc<ClusterRecord>,
    revision: u64,
    inbox: mpsc::Receiver<Message>,
    published: watch::Sender<Arc<ClusterRecord>>,
    step: Option<Step>,
    /// Reports whose reply waits for the running confirmation.
    confirming: Option<oneshot::Sender<()>>,
    /// The store in force was asked for its newest backup; when to ask again where it did not answer.
    synced: bool,
    sync_at: Instant,
    /// One of the fleet's permits, where the settings limit them; held while a slot is worked on.
    permit: Permit,
    /// The store of the open slot: a configuration that changes meanwhile is for the next one.
    store: Option<Arc<InForce>>,
    /// The attempt that this coordinator asked for; one that it found is asked for once more.
    asked: Option<AttemptId>,
    /// How long ago backups really were.
    rest: Rest,
    /// Machines that did not answer for the open slot, and how often they were asked all over again.
    silent: Vec<MachineId>,
    rounds: u32,
    /// What is known of the restore under way beyond the record.
    memory: Memory,
    /// Machines whose restore nobody knows: each is told of once in the log.
    lost: BTreeSet<MachineId>,
    /// The store does not say which backup is its newest.
    trouble: Trouble,
}

/// Makes the task of a record that is kept already, and the handle by which others reach it.
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
        memory: Memory::default(),
        lost: BTreeSet::new(),
        trouble: Trouble::default(),
    };
    (task, handle)
}

impl ClusterTask {
    /// Runs until the coordinator leads no more.
    pub async fn run(mut self) {
        let cancel = self.term.cancel.clone();
        tokio::select! {
            Err(stopped) = self.work() => match stopped {
                Stopped::NotLeading => cancel.cancel(),
                Stopped::Forgotten => info!(cluster = %self.record.name, "deleted"),
            },
            () = cancel.cancelled() => {}
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

    /// What is logged from here on belongs to the attempt under way, if there is one.
    fn span(&self) -> Span {
        let attempt = self.record.slot.as_ref().and_then(|slot| slot.attempt.as_ref());
        // Of the highest level: a log of warnings alone still says which attempt each belongs to.
        attempt.map_or_else(Span::none, |attempt| error_span!("backup", attempt = %attempt.id))
    }

    /// Begins the step that is due now; where none is, says when to look again.
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
            self.store.clone_from(&view.in_force);
        }
        let Some(in_force) = self.store.clone().or_else(|| view.in_force.clone()) else {
            if let Some(slot) = self.record.slot.clone() {
                let error = format!("backup storage is not configured: {}", view.state.error());
                self.end_slot(slot.id, SlotEnd::Failed { error }).await?;
            }
            return Ok(None);
        };
        if let Some(slot) = self.record.slot.clone() {
            let (term, record) = (self.term.clone(), self.record.clone());
            self.step = Some(match slot.attempt.clone() {
                Some(attempt) if self.asked == Some(attempt.id) => {
                    Box::pin(steps::watch(term, record.name.clone(), attempt))
                }
                _ => Box::pin(steps::look(term, in_force, record, slot, self.permit.take())),
            });
            return Ok(None);
        }
        self.permit = None;
        if !self.synced && self.sync_at <= Instant::now() {
            self.step = Some(Box::pin(steps::sync(in_force, self.record.clone(), self.term.clock.now())));
            return Ok(None);
        }
        let now = self.term.clock.now();
        if let Some(next) = self.rest.corrected(&self.record, now, Instant::now()) {
            info!(cluster = %next.name, "the last backup's time lay in the future: a clock was wrong; now it is the true one");
            self.save(next).await?;
        }
        let known = self.rest.known(&self.record, Instant::now());
        let trigger = match schedule::decide(&known, &self.term.policy(), self.record.uuid, now) {
            Decision::Manual(at) => Trigger::Manual { seconds: at.seconds },
            Decision::Interval => Trigger::Interval,
            decision => {
                // What is due goes before.
                if self.record.verification.as_ref().is_some_and(|proof| !proof.has_ended()) {
                    let round = proof_rounds::drive(self.term.clone(), view.in_force.clone(), self.record.clone());
                    self.step = Some(Box::pin(async { round.await.map_or(StepEnd::Rested, StepEnd::Verified) }));
                    return Ok(None);
                }
                return Ok(Some(self.look_again(decision, now)));
            }
        };
        self.open_slot(trigger).await?;
        Ok(Some(Instant::now()))
    }

    /// When to look at the schedule again where nothing happens before.
    fn look_again(&self, decision: Decision, now: Timestamp) -> Instant {
        let due = match decision {
            Decision::At(due) => Duration::from_millis((due.as_millis() - now.as_millis()).max(0).unsigned_abs()),
            _ => LOOK_AGAIN,
        };
        let again = Instant::now() + due.min(LOOK_AGAIN);
        if self.synced { again } else { again.min(self.sync_at) }
    }

    async fn open_slot(&mut self, trigger: Trigger) -> Result<(), Stopped> {
        let id = SlotId(Uuid::new_v4());
        let now = self.term.clock.now();
        let mut next = (*self.record).clone();
        if let Err(error) = next.open_slot(trigger, id, now) {
            warn!(cluster = %self.record.name, %error, "the machine's clock gives no snapshot name");
            tokio::time::sleep(LOOK_AGAIN).await;
            return Ok(());
        }
        (self.silent, self.rounds) = (Vec::new(), 0);
        self.rest.open(Instant::now());
        info!(cluster = %next.name, slot = %id, ?trigger, "a backup is due");
        self.save(next).await
    }

    async fn on_message(&mut self, message: Message) -> Result<(), Stopped> {
        let now = self.term.clock.now();
        let mut next = (*self.record).clone();
        match message {
            Message::Manual { seconds, reply } => {
                let accepted = next.accept_manual(seconds, now).map_err(|e| ApiError::invalid(e.to_string()));
                self.save_and_reply(accepted.map(|_| next), reply).await
            }
            Message::Configure { spec, meta, given, created, reply } => {
                if !created && let Err(conflict) = check_version(given, next.cluster.version) {
                    let _ = reply.send(Err(conflict));
                    return Ok(());
                }
                next.configure(spec, meta, now);
                if created {
                    next.cluster.version = 1;
                }
                self.save_and_reply(Ok(next), reply).await
            }
            Message::DropManual { reply } => {
                next.drop_manual();
                self.save_and_reply(Ok(next), reply).await
            }
            Message::Forget { reply } if next.restoring().is_some() => {
                let _ = reply.send(Err(ApiError::invalid(next.under_way())));
                Ok(())
            }
            Message::Forget { reply } => self.forget(reply).await,
            Message::Restore { restore, reply } => self.on_restore(*restore, reply).await,
            Message::ControlPlanesDeleted { reply } => self.on_control_planes_deleted(reply).await,
            Message::Behind => {
                self.settle_restore();
                Ok(())
            }
            Message::Verify { verification, reply } => self.on_verify(*verification, reply).await,
            Message::Report { report, done } => self.on_report(&report, done).await,
        }
    }

    /// Once the entry has gone nobody goes on from it: what is under way is cancelled first.
    async fn forget(&mut self, reply: Reply) -> Result<(), Stopped> {
        if let Some(slot) = &self.record.slot {
            self.cancel_attempt(slot);
        }
        let name = self.record.name.clone();
        let gone = match self.keep_late().await {
            Ok(()) => forgotten::forget(&self.term.kv, &name, self.term.clock.now()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = gone {
            let _ = reply.send(Err(ApiError::new(ErrorCode::Unavailable, error.to_string())));
            return Ok(());
        }
        self.term.directory.remove(&name);
        self.term.overall_changed.notify_one();
        let _ = reply.send(Ok(self.record.clone()));
        Err(Stopped::Forgotten)
    }

    async fn save_and_reply(&mut self, next: Result<ClusterRecord, ApiError>, reply: Reply) -> Result<(), Stopped> {
        let answer = match next {
            Ok(next) if !room::has_room(&next, self.room()) => Err(ApiError::invalid(format!(
                "it does not fit: what is kept of cluster {:?} may have {} bytes with it; shorten its labels and annotations",
                next.name.as_str(),
                self.room()
            ))),
            Ok(next) => {
                self.save(next).await?;
                Ok(self.record.clone())
            }
            Err(error) => Err(error),
        };
        // A caller that went away has its answer in the record.
        let _ = reply.send(answer);
        Ok(())
    }

    async fn on_report(&mut self, report: &Report, done: oneshot::Sender<()>) -> Result<(), Stopped> {
        let Some((slot, current)) = self.slot_of(report) else {
            // A backup that nobody waited for any more may be the newest all the same: the store is asked.
            self.synced &= !matches!(report.state, Some(report::State::Finished(_)));
            let _ = done.send(());
            return Ok(());
        };
        // Without a store nothing can be folded: the report comes again.
        let Some(in_force) = self.store.clone() else { return Ok(()) };
        let completed = Timestamp::from_millis(report.at_ms);
        match &report.state {
            Some(report::State::Finished(_)) => self.begin_confirm(in_force, slot, completed, done),
            Some(report::State::Failed(failed)) if failed.code() == FailureCode::SlotDone => {
                self.begin_confirm(in_force, slot, completed, done);
            }
            Some(report::State::Failed(failed)) if current => {
                self.on_attempt_failed(&slot, Ended::Failed(failed.code()), &failed.text, in_force).await?;
                let _ = done.send(());
            }
            _ => {
                let _ = done.send(());
            }
        }
        Ok(())
    }

    /// The open slot that a report is about, and whether it comes from the attempt under way. A report
    /// from another machine than the attempt's is nobody's.
    fn slot_of(&self, report: &Report) -> Option<(Slot, bool)> {
        let slot = self.record.slot.clone()?;
        if slot.id.to_string() != report.slot || self.record.uuid.to_string() != report.cluster_uuid {
            return None;
        }
        let current = slot.attempt.as_ref().is_some_and(|a| a.id.to_string() == report.attempt);
        let from_its_machine = slot.attempt.as_ref().is_some_and(|a| a.machine.to_string() == report.machine);
        if current && !from_its_machine {
            warn!(cluster = %self.record.name, machine = %report.machine, "dropped a report for another machine's attempt");
            return None;
        }
        Some((slot, current))
    }

    fn begin_confirm(&mut self, in_force: Arc<InForce>, slot: Slot, completed: Timestamp, done: oneshot::Sender<()>) {
        // The same report again does not begin the same check anew.
        if self.confirming.replace(done).is_some() && self.step.is_some() {
            return;
        }
        self.step = Some(Box::pin(steps::confirm(in_force, self.record.clone(), slot, completed)));
    }

    async fn on_step_end(&mut self, end: StepEnd) -> Result<(), Stopped> {
        self.step = None;
        let end = match end {
            StepEnd::Synced(synced) => return self.on_synced(synced).await,
            StepEnd::Driven(driven) => return self.on_driven(*driven).await,
            StepEnd::Verified(round) => return self.on_verified(round).await,
            other => other,
        };
        let (Some(slot), Some(in_force)) = (self.record.slot.clone(), self.store.clone()) else { return Ok(()) };
        match end {
            StepEnd::Synced(_)
            | StepEnd::Driven(_)
            | StepEnd::Verified(..)
            | StepEnd::Rested
            | StepEnd::Asked(Asked::Accepted) => Ok(()),
            StepEnd::Looked(looked, permit) => {
                self.permit = permit;
                self.on_looked(slot, looked, in_force).await
            }
            // The attempt stands in the record: whoever leads next, above that epoch, asks for it again.
            StepEnd::Asked(Asked::Stale(epoch)) => Err(self.outdated(epoch).await),
            StepEnd::Asked(Asked::Refused(error)) => {
                self.on_attempt_failed(&slot, Ended::Refused, &error, in_force).await
            }
            StepEnd::Asked(Asked::NoAnswer(error)) => {
                self.silent.extend(slot.attempt.as_ref().map(|a| a.machine));
                self.cancel_attempt(&slot);
                self.on_attempt_failed(&slot, Ended::Unanswered, &error, in_force).await
            }
            StepEnd::Lost(error) => {
                self.cancel_attempt(&slot);
                self.on_attempt_failed(&slot, Ended::Lost, &error, in_force).await
            }
            StepEnd::Concluded { done, error } => {
                let end = match done {
                    Some(manifest) => SlotEnd::done(&manifest),
                    None => SlotEnd::Failed { error },
                };
                self.end_slot(slot.id, end).await
            }
            StepEnd::Confirmed { visible, completed } => {
                let end = match visible {
                    Ok(manifest) => {
                        self.note_origin(manifest.as_deref()).await?;
                        SlotEnd::Done { completed, proven: manifest.as_deref().map(Proven::of) }
                    }
                    Err(error) => SlotEnd::Failed { error },
                };
                let reported = self.confirming.take();
                self.end_slot(slot.id, end).await?;
                if let Some(reported) = reported {
                    let _ = reported.send(());
                }
                Ok(())
            }
        }
    }

    async fn on_synced(&mut self, synced: Synced) -> Result<(), Stopped> {
        let mut next = (*self.record).clone();
        if let Some(found) = synced.found {
            next.adopt(found);
        }
        match synced.newest {
            Ok(newest) => {
                self.synced = true;
                self.trouble.over();
                next.note_stored(newest, self.term.clock.now());
                if next.last_backup > self.record.last_backup {
                    self.rest.forget_backup();
                }
            }
            Err(error) => {
                if let Some(told) = self.trouble.note(&error.to_string()) {
                    let lasting = told.lasting;
                    warn!(cluster = %next.name, %error, lasting, "the store could not be asked for its newest backup");
                }
                self.sync_at = Instant::now() + SYNC_PAUSE;
            }
        }
        self.save(next).await
    }

    /// Bytes that the record may have.
    fn room(&self) -> usize {
        entry_room(self.term.bus.max_payload())
    }

    /// Keeps `next`, then shows it. Tries until the KV took it or the coordinator leads no more.
    async fn save(&mut self, mut next: ClusterRecord) -> Result<(), Stopped> {
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
                        warn!(cluster = %next.name, "somebody else changed the record: not leading any more");
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
        warn!(cluster = %next.name, %error, lasting = told.lasting, "the KV did not take a change; trying again");
    }
}

async fn poll_step(step: &mut Option<Step>) -> StepEnd {
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
