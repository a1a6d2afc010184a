//! What a cluster's task does when a step has ended.

use std::time::Duration;

use backstay_archive::Manifest;
use tokio::time::Instant;
use tracing::warn;

use super::steps::{AgentReply, StepEnd, Synced, Unconfirmed};
use super::task::{ClusterTask, Stopped};
use crate::attempts::Ended;
use crate::record::runs::Proven;
use crate::record::{Slot, SlotEnd};

/// The pause after the store did not say which backup is its newest.
const SYNC_PAUSE: Duration = Duration::from_secs(30);

impl ClusterTask {
    pub(super) async fn on_step_end(&mut self, end: StepEnd) -> Result<(), Stopped> {
        self.step = None;
        let end = match end {
            StepEnd::Synced(synced) => return self.on_synced(synced).await,
            StepEnd::RestoreRound(result) => return self.on_restore_round(*result).await,
            StepEnd::Verified(round) => return self.on_verified(round).await,
            other => other,
        };
        let (Some(slot), Some(active_store)) = (self.record.slot.clone(), self.store.clone()) else { return Ok(()) };
        match end {
            StepEnd::Synced(_)
            | StepEnd::RestoreRound(_)
            | StepEnd::Verified(..)
            | StepEnd::Rested
            | StepEnd::AgentReplied(AgentReply::Accepted) => Ok(()),
            StepEnd::Looked(looked, permit) => {
                self.permit = permit;
                self.on_looked(slot, looked, active_store).await
            }
            // The attempt stands in the record: whoever leads next, above that epoch, asks for it again.
            StepEnd::AgentReplied(AgentReply::Stale(epoch)) => Err(self.outdated(epoch).await),
            StepEnd::AgentReplied(AgentReply::Refused(error)) => {
                self.on_attempt_failed(&slot, Ended::Refused, &error, active_store).await
            }
            StepEnd::AgentReplied(AgentReply::NoAnswer(error)) => {
                self.silent.extend(slot.attempt.as_ref().map(|a| a.machine));
                self.cancel_attempt(&slot);
                self.on_attempt_failed(&slot, Ended::Unanswered, &error, active_store).await
            }
            StepEnd::Lost(error) => {
                self.cancel_attempt(&slot);
                self.on_attempt_failed(&slot, Ended::Lost, &error, active_store).await
            }
            StepEnd::Concluded { done, error } => {
                let end = match done {
                    Some(manifest) => SlotEnd::done(&manifest),
                    None => SlotEnd::Failed { error },
                };
                self.end_slot(slot.id, end).await
            }
            StepEnd::Confirmed { visible, report } => self.on_confirmed(slot, visible, report).await,
            StepEnd::Unconfirmed(report, error) => {
                // The report is not acknowledged before: it comes again, to a successor too. Others need the permit more.
                self.permit = None;
                let mut next = (*self.record).clone();
                next.unconfirmed(&error, self.term.clock.now());
                self.save(next).await?;
                // Its credentials may have been corrected meanwhile.
                let now =
                    self.term.storage.now().active_store.filter(|now| now.store.url() == active_store.store.url());
                let active_store = now.unwrap_or(active_store);
                self.store = Some(active_store.clone());
                self.confirm(active_store, slot, report);
                Ok(())
            }
        }
    }

    async fn on_confirmed(
        &mut self,
        slot: Slot,
        visible: Result<Box<Manifest>, String>,
        report: Unconfirmed,
    ) -> Result<(), Stopped> {
        let reported = self.confirming.take();
        match visible {
            Ok(manifest) => {
                self.note_origin(&manifest).await?;
                let (completed, proven) = (report.completed, Some(Proven::of(&manifest)));
                self.end_slot(slot.id, SlotEnd::Done { completed, proven }).await?;
            }
            Err(error) if !report.is_current && slot.attempt.is_some() => {
                warn!(cluster = %self.record.name, %error, "dropped a report of an earlier attempt: its backup is not there");
            }
            Err(error) => {
                // What is there all the same counts for the schedule.
                self.synced = false;
                self.end_slot(slot.id, SlotEnd::Failed { error }).await?;
            }
        }
        if let Some(reported) = reported {
            let _ = reported.send(());
        }
        Ok(())
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
                if let Some(missing) = synced.missing {
                    self.note_missing(&mut next, missing);
                }
                if next.last_backup > self.record.last_backup {
                    self.rest.forget_backup();
                }
            }
            Err(error) => {
                if let Some(told) = self.trouble.note(&error.to_string()) {
                    let lasting = told.lasting;
                    warn!(cluster = %next.name, %error, lasting, "could not ask the store for its newest backup");
                }
                self.sync_at = Instant::now() + SYNC_PAUSE;
            }
        }
        self.save(next).await
    }
}
