//! What a cluster's task does when it receives something: a request, or an agent's report.

use std::sync::Arc;

use backstay_protocol::Timestamp;
use backstay_protocol::api::{ApiError, ErrorCode, check_version};
use backstay_protocol::bus::{FailureCode, Report, report};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::warn;

use super::steps::{self, Unconfirmed};
use super::task::{ClusterTask, Stopped};
use crate::attempts::Ended;
use crate::directory::{Message, Reply};
use crate::forgotten;
use crate::record::runs::Run;
use crate::record::{ClusterRecord, Slot, room};
use crate::storage::ActiveStore;

impl ClusterTask {
    pub(super) async fn on_message(&mut self, message: Message) -> Result<(), Stopped> {
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

    /// When the entry is gone, nobody continues from it; so what is under way is cancelled first.
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

    pub(super) async fn save_and_reply(
        &mut self,
        next: Result<ClusterRecord, ApiError>,
        reply: Reply,
    ) -> Result<(), Stopped> {
        let answer = match next {
            Ok(mut next) => match room::fit(&mut next, self.room()) {
                true => {
                    self.save(next).await?;
                    Ok(self.record.clone())
                }
                false => Err(ApiError::invalid(format!(
                    "it does not fit: the record of cluster {:?} can have at most {} bytes; shorten its labels and \
                     annotations",
                    next.name.as_str(),
                    self.room()
                ))),
            },
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
        let Some(active_store) = self.store.clone() else { return Ok(()) };
        let completed = Timestamp::from_millis(report.at_ms);
        match &report.state {
            Some(report::State::Finished(_)) => self.begin_confirm(active_store, slot, completed, current, done),
            Some(report::State::Failed(failed)) if failed.code() == FailureCode::SlotDone => {
                self.begin_confirm(active_store, slot, completed, current, done);
            }
            Some(report::State::Failed(failed)) if current => {
                self.on_attempt_failed(&slot, Ended::Failed(failed.code()), &failed.text, active_store).await?;
                let _ = done.send(());
            }
            _ => {
                let _ = done.send(());
            }
        }
        Ok(())
    }

    /// The open slot that a report is about, and whether it comes from the attempt under way. A report from another
    /// machine than the attempt's is dropped.
    fn slot_of(&self, report: &Report) -> Option<(Slot, bool)> {
        let slot = self.record.slot.clone()?;
        if slot.id.to_string() != report.slot || self.record.uuid.to_string() != report.cluster_uuid {
            return None;
        }
        let current = slot.attempt.as_ref().is_some_and(|a| a.id.to_string() == report.attempt);
        let from_its_machine = slot.attempt.as_ref().is_some_and(|a| a.machine.to_string() == report.machine);
        if current && !from_its_machine {
            warn!(cluster = %self.record.name, machine = %report.machine, "dropped a report about another machine's \
                attempt");
            return None;
        }
        // An earlier attempt may have made the backup; somebody else's word ends no attempt.
        let mut runs = self.record.runs.latest_first();
        let is_of = |run: &Run| run.id.to_string() == report.attempt && run.machine.to_string() == report.machine;
        if !current && !runs.any(is_of) {
            warn!(cluster = %self.record.name, machine = %report.machine, "dropped a report about an attempt that this \
                machine did not make");
            return None;
        }
        Some((slot, current))
    }

    fn begin_confirm(
        &mut self,
        active_store: Arc<ActiveStore>,
        slot: Slot,
        completed: Timestamp,
        is_current: bool,
        done: oneshot::Sender<()>,
    ) {
        // The same report again does not begin the same check anew.
        if self.confirming.replace(done).is_some() && self.step.is_some() {
            return;
        }
        let reported = Unconfirmed { completed, since: Instant::now(), tries: 0, is_current };
        self.confirm(active_store, slot, reported);
    }

    pub(super) fn confirm(&mut self, active_store: Arc<ActiveStore>, slot: Slot, reported: Unconfirmed) {
        let (term, record) = (self.term.clone(), self.record.clone());
        self.step = Some(Box::pin(steps::confirm(term, active_store, record, slot, reported)));
    }
}
