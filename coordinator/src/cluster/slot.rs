//! What a cluster's task does with an open slot: asking the store, choosing a member, and so on to the end.

use std::sync::Arc;
use std::time::Duration;

use age::x25519::Recipient;
use backstay_protocol::bus::FailureCode;
use backstay_protocol::{AttemptId, MachineId, SlotId, SnapshotName, machines};
use tokio::time::Instant;
use tracing::{Instrument, info, warn};
use uuid::Uuid;

use super::steps::{self, Looked, StepEnd};
use super::task::{ClusterTask, Stopped};
use crate::attempts::Ended;
use crate::record::{Attempt, ClusterRecord, Slot, SlotEnd};
use crate::storage::ActiveStore;

/// How many more rounds are made among members that did not answer.
const ROUNDS_MAX: u32 = 3;
const ROUND_PAUSE: Duration = Duration::from_secs(3);

impl ClusterTask {
    pub(super) async fn on_looked(
        &mut self,
        slot: Slot,
        looked: Looked,
        active_store: Arc<ActiveStore>,
    ) -> Result<(), Stopped> {
        let mut next = (*self.record).clone();
        match looked {
            Looked::Done(manifest) => self.end_slot(slot.id, SlotEnd::done(&manifest)).await,
            // An attempt that is recorded may well go on where the coordinator cannot see the store.
            Looked::Failed(error) if slot.attempt.is_some() => {
                warn!(cluster = %next.name, %error, "could not ask the store about the running attempt");
                self.asked = slot.attempt.map(|a| a.id);
                Ok(())
            }
            Looked::Failed(error) => self.end_slot(slot.id, SlotEnd::Failed { error }).await,
            Looked::Known(found) => {
                next.adopt(found);
                self.save(next).await
            }
            Looked::Missing(missing) => {
                self.note_missing(&mut next, missing);
                self.save(next).await
            }
            Looked::NotDue(newest) => {
                info!(cluster = %next.name, "another backup was taken in the meantime: nothing is due");
                next.give_slot_back(newest, self.term.clock.now());
                self.rest.forget_backup();
                self.save(next).await
            }
            Looked::Taken => match next.move_name_on() {
                Ok(()) => self.save(next).await,
                Err(error) => self.end_slot(slot.id, SlotEnd::Failed { error: error.to_string() }).await,
            },
            Looked::Free(recipients) => self.begin_attempt(slot, recipients, active_store).await,
        }
    }

    /// The store misses a backup, or has it again: said in the log and in the record.
    pub(super) fn note_missing(&self, next: &mut ClusterRecord, missing: Option<SnapshotName>) {
        next.note_missing(missing, self.term.clock.now());
        match next.missing_text() {
            Some(text) => warn!(cluster = %next.name, "{text}"),
            None => info!(cluster = %next.name, "no backup is missing in the store any more"),
        }
    }

    /// Asks the member that is best now. An attempt that was found in the record is requested again; the agent that
    /// works on it recognises its ID.
    async fn begin_attempt(
        &mut self,
        slot: Slot,
        recipients: Vec<Recipient>,
        active_store: Arc<ActiveStore>,
    ) -> Result<(), Stopped> {
        let attempt = match slot.attempt.clone() {
            Some(attempt) => attempt,
            None => {
                let Some(machine) = self.choose(&slot) else {
                    return self.nobody_left(slot, active_store).await;
                };
                let attempt = Attempt { id: AttemptId(Uuid::new_v4()), machine, started: self.term.clock.now() };
                let mut next = (*self.record).clone();
                next.begin_attempt(attempt.clone());
                // Written down before it is sent: a successor must know whom to wait for.
                self.save(next).await?;
                attempt
            }
        };
        info!(cluster = %self.record.name, attempt = %attempt.id, machine = %attempt.machine, snapshot = %slot.snapshot, "\
            requesting a backup");
        self.asked = Some(attempt.id);
        self.step =
            Some(Box::pin(steps::ask(self.term.clone(), active_store, self.record.clone(), attempt, recipients)));
        Ok(())
    }

    fn choose(&self, slot: &Slot) -> Option<MachineId> {
        steps::choices(&self.term, &self.record).0.into_iter().find(|machine| !slot.tried.contains(machine))
    }

    /// Every member was asked. Those that did not answer are asked again a few times: after an outage of NATS, agents
    /// that still count as connected need a moment until they receive commands again.
    async fn nobody_left(&mut self, slot: Slot, active_store: Arc<ActiveStore>) -> Result<(), Stopped> {
        let silent = std::mem::take(&mut self.silent);
        if silent.is_empty() || self.rounds >= ROUNDS_MAX {
            let error = self.nobody(&slot);
            return self.give_up(slot, error, active_store).await;
        }
        self.rounds += 1;
        let mut next = (*self.record).clone();
        if let Some(slot) = &mut next.slot {
            slot.tried.retain(|machine| !silent.contains(machine));
        }
        self.save(next).await?;
        self.step = Some(Box::pin(async {
            tokio::time::sleep(ROUND_PAUSE).await;
            StepEnd::Rested
        }));
        Ok(())
    }

    /// Why there is no member (left) to ask.
    fn nobody(&self, slot: &Slot) -> String {
        let refused = steps::choices(&self.term, &self.record).1;
        let reasons = refused.into_iter().map(|(machine, reason)| (self.called(machine), reason));
        let earlier = (!slot.error.is_empty()).then(|| slot.error.clone());
        let reasons: Vec<String> = earlier.into_iter().chain(machines::once("machine", reasons)).collect();
        match reasons.is_empty() {
            true => format!("no agent of cluster {:?} is connected", self.record.name.as_str()),
            false => reasons.join("; "),
        }
    }

    /// What people call a machine of this cluster.
    fn called(&self, machine: MachineId) -> String {
        self.term.fleet.names(&self.record.name, machine).called(machine)
    }

    pub(super) async fn on_attempt_failed(
        &mut self,
        slot: &Slot,
        ended: Ended,
        error: &str,
        active_store: Arc<ActiveStore>,
    ) -> Result<(), Stopped> {
        let Some(attempt) = slot.attempt.clone() else { return Ok(()) };
        (self.step, self.confirming) = (None, None);
        let machine = self.called(attempt.machine);
        warn!(cluster = %self.record.name, attempt = %attempt.id, machine = %attempt.machine, %error, "the attempt failed");
        self.term.attempts.count(&self.record.name, ended);
        let mut next = (*self.record).clone();
        next.attempt_failed(attempt.id, &machine, error, self.term.clock.now());
        if ended == Ended::Failed(FailureCode::Disagreement) {
            next.runs.differs(attempt.id);
        }
        if ended == Ended::Failed(FailureCode::NameTaken) {
            // Not the member's fault: it is asked again, under the next name.
            if let Some(slot) = &mut next.slot {
                slot.tried.retain(|m| *m != attempt.machine);
            }
            if next.move_name_on().is_ok() {
                return self.save(next).await;
            }
        }
        let store_failed = ended == Ended::Failed(FailureCode::Store);
        if let Some(slot) = &mut next.slot {
            slot.store_failed |= store_failed;
        }
        self.save(next).await?;
        // One member may be cut off from the store. Where a second one is, too, the schedule tries again after a pause.
        if store_failed && slot.store_failed {
            let error = self.record.slot.as_ref().map(|slot| slot.error.clone()).unwrap_or_default();
            return self.give_up(slot.clone(), error, active_store).await;
        }
        Ok(())
    }

    /// There will be no further attempt: what the earlier ones left in the store is removed before the slot ends.
    async fn give_up(&mut self, slot: Slot, error: String, active_store: Arc<ActiveStore>) -> Result<(), Stopped> {
        if slot.tried.is_empty() && slot.attempt.is_none() {
            return self.end_slot(slot.id, SlotEnd::Failed { error }).await;
        }
        self.step = Some(Box::pin(steps::conclude(active_store, self.record.clone(), slot, error)));
        Ok(())
    }

    pub(super) async fn end_slot(&mut self, id: SlotId, end: SlotEnd) -> Result<(), Stopped> {
        let mut next = (*self.record).clone();
        let done = self.record.slot.clone().filter(|_| matches!(end, SlotEnd::Done { .. }));
        if let Some(slot) = &self.record.slot {
            self.rest.end(slot.trigger, &end, Instant::now());
        }
        match &end {
            SlotEnd::Done { .. } => info!(cluster = %next.name, slot = %id, "the backup is in the store"),
            SlotEnd::Failed { error } => warn!(cluster = %next.name, slot = %id, %error, "the backup failed"),
        }
        next.end_slot(id, end, self.term.clock.now());
        if let (Some(_), Some(active_store)) = (&done, &self.store) {
            next.stored_in = active_store.store.url();
        }
        (self.step, self.confirming) = (None, None);
        self.save(next).await?;
        if done.is_some() {
            self.term.attempts.count(&self.record.name, Ended::Succeeded);
        }
        // In the background: the status does not wait for it, and a later sweep does what it cannot.
        if let (Some(slot), Some(active_store)) = (done, self.store.take()) {
            let tidy = steps::tidy(active_store, self.record.clone(), slot.snapshot);
            self.term.spawn(tidy.in_current_span());
        }
        Ok(())
    }

    /// Tells the agent in the background; nothing waits for its answer.
    pub(super) fn cancel_attempt(&self, slot: &Slot) {
        if let Some(attempt) = slot.attempt.clone() {
            let cancel = steps::cancel(self.term.clone(), self.record.name.clone(), attempt);
            self.term.spawn_to_the_end(cancel.in_current_span());
        }
    }
}
