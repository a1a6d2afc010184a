//! What a cluster's task does with an open slot: from what the store says, over the choice of a member, to the end.

use age::x25519::Recipient;
use backstay_protocol::bus::FailureCode;
use backstay_protocol::{AttemptId, MachineId, SlotId};
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use super::record::{Attempt, Slot, SlotEnd};
use super::steps::{self, Looked};
use super::{ClusterTask, Stopped};
use crate::storage::View;
use crate::{fleet, member};

impl ClusterTask {
    pub(super) async fn on_looked(&mut self, slot: Slot, looked: Looked, view: &View) -> Result<(), Stopped> {
        let mut next = (*self.record).clone();
        match looked {
            Looked::Done(manifest) => self.end_slot(slot.id, SlotEnd::Done { completed: manifest.created_at }).await,
            Looked::Failed(error) => self.end_slot(slot.id, SlotEnd::Failed { error }).await,
            Looked::NotDue(newest) => {
                info!(cluster = %next.name, "a backup that was taken meanwhile counts: nothing is due");
                next.give_slot_back(newest, self.leader.clock.now());
                self.save(next).await
            }
            Looked::Taken => match next.move_name_on() {
                Ok(()) => self.save(next).await,
                Err(error) => self.end_slot(slot.id, SlotEnd::Failed { error: error.to_string() }).await,
            },
            Looked::Free(recipients) => self.begin_attempt(slot, recipients, view).await,
        }
    }

    /// Asks the member that is best now; an attempt that was found in the record is asked for again, which an
    /// agent that works on it takes for what it is.
    async fn begin_attempt(&mut self, slot: Slot, recipients: Vec<Recipient>, view: &View) -> Result<(), Stopped> {
        let Some(in_force) = view.in_force.clone() else { return Ok(()) };
        let attempt = match slot.attempt.clone() {
            Some(attempt) => attempt,
            None => {
                let Some(machine) = self.choose(&slot) else {
                    let error = self.nobody(&slot);
                    return self.give_up(slot, error, view).await;
                };
                let attempt = Attempt { id: AttemptId(Uuid::new_v4()), machine, started: self.leader.clock.now() };
                let mut next = (*self.record).clone();
                next.begin_attempt(attempt.clone());
                // Written down before it is sent: a successor must know whom to wait for.
                self.save(next).await?;
                attempt
            }
        };
        info!(cluster = %self.record.name, attempt = %attempt.id, machine = %attempt.machine, snapshot = %slot.snapshot, "asking for a backup");
        self.asked = Some(attempt.id);
        self.step = Some(Box::pin(steps::ask(self.leader.clone(), in_force, self.record.clone(), attempt, recipients)));
        Ok(())
    }

    fn choose(&self, slot: &Slot) -> Option<MachineId> {
        self.choices().0.into_iter().find(|machine| !slot.tried.contains(machine))
    }

    fn choices(&self) -> (Vec<MachineId>, Vec<(MachineId, String)>) {
        let now = Instant::now();
        let agents = &self.leader.fleet;
        let known = fleet::established_cluster_id(&agents.agents(&self.record.name, now));
        member::choose(&agents.candidates(&self.record.name, now), known)
    }

    /// Why there is nobody (left) to ask.
    fn nobody(&self, slot: &Slot) -> String {
        let refused = self.choices().1;
        let reasons = refused.iter().map(|(machine, reason)| format!("machine {machine}: {reason}"));
        let reasons: Vec<String> =
            (!slot.error.is_empty()).then(|| slot.error.clone()).into_iter().chain(reasons).collect();
        match reasons.is_empty() {
            true => format!("no agent of cluster {:?} is connected", self.record.name.as_str()),
            false => reasons.join("; "),
        }
    }

    pub(super) async fn on_attempt_failed(
        &mut self,
        slot: &Slot,
        code: FailureCode,
        error: &str,
        view: &View,
    ) -> Result<(), Stopped> {
        let Some(attempt) = slot.attempt.clone() else { return Ok(()) };
        self.step = None;
        let error = format!("machine {}: {error}", attempt.machine);
        warn!(cluster = %self.record.name, attempt = %attempt.id, %error, "the attempt failed");
        let mut next = (*self.record).clone();
        next.attempt_failed(attempt.id, &error, self.leader.clock.now());
        if code == FailureCode::NameTaken {
            // Not the member's fault: it is asked again, under the next name.
            if let Some(slot) = &mut next.slot {
                slot.tried.retain(|m| *m != attempt.machine);
            }
            if next.move_name_on().is_ok() {
                return self.save(next).await;
            }
        }
        self.save(next).await?;
        // The store is the same for every member: the schedule tries again after a pause.
        if code == FailureCode::Store {
            return self.give_up(slot.clone(), error, view).await;
        }
        Ok(())
    }

    /// No further attempt is made: what the earlier ones left is removed before the slot ends.
    async fn give_up(&mut self, slot: Slot, error: String, view: &View) -> Result<(), Stopped> {
        match view.in_force.clone() {
            Some(in_force) if !slot.tried.is_empty() || slot.attempt.is_some() => {
                self.step = Some(Box::pin(steps::conclude(in_force, self.record.clone(), slot, error)));
                Ok(())
            }
            _ => self.end_slot(slot.id, SlotEnd::Failed { error }).await,
        }
    }

    pub(super) async fn end_slot(&mut self, id: SlotId, end: SlotEnd) -> Result<(), Stopped> {
        let mut next = (*self.record).clone();
        let done = self.record.slot.clone().filter(|_| matches!(end, SlotEnd::Done { .. }));
        match &end {
            SlotEnd::Done { .. } => info!(cluster = %next.name, slot = %id, "the backup is in the store"),
            SlotEnd::Failed { error } => warn!(cluster = %next.name, slot = %id, %error, "the backup failed"),
        }
        next.end_slot(id, end, self.leader.clock.now());
        self.step = None;
        self.save(next).await?;
        // In the background: the status does not wait for it, and a later sweep does what it cannot.
        if let (Some(slot), Some(in_force)) = (done, self.leader.storage.now().in_force) {
            self.leader.spawn(steps::tidy(in_force, self.record.clone(), slot.snapshot));
        }
        Ok(())
    }

    /// Tells the agent in the background: nothing waits for its answer.
    pub(super) fn cancel_attempt(&self, slot: &Slot) {
        if let Some(attempt) = slot.attempt.clone() {
            self.leader.tasks.spawn(steps::cancel(self.leader.clone(), self.record.name.clone(), attempt));
        }
    }
}
