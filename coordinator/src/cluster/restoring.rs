//! What a cluster's task does with a restore (telling the machines, evaluating their answers, ending it) and with the
//! verification of a backup.

use backstay_archive::Manifest;
use backstay_protocol::api::ApiError;
use backstay_protocol::backstay_types::RestorePhase;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::proof_rounds;
use super::restore_rounds::{self, RoundResult, RoundState};
use super::steps::StepEnd;
use super::task::{ClusterTask, Stopped};
use crate::directory::Reply;
use crate::kv::KvError;
use crate::lease;
use crate::record::{self, ClusterRecord};
use crate::restore::Restore;
use crate::restore::model::word;
use crate::restore::unsettled::{self, Laggard, Unsettled};
use crate::storage::View;
use crate::verify::{Heard, Verification};

impl ClusterTask {
    pub(super) async fn on_restore(&mut self, restore: Restore, reply: Reply) -> Result<(), Stopped> {
        let mut next = (*self.record).clone();
        if next.restoring().is_some() {
            let refused = Err(ApiError::invalid(next.under_way()));
            return self.save_and_reply(refused, reply).await;
        }
        next.begin_restore(restore);
        self.save_and_reply(Ok(next), reply).await
    }

    pub(super) async fn on_verify(&mut self, verification: Verification, reply: Reply) -> Result<(), Stopped> {
        let next = (*self.record).clone();
        let next = match next.verification.as_ref().filter(|earlier| !earlier.has_ended()) {
            Some(earlier) => Err(ApiError::invalid(format!("verification {} is running", earlier.id))),
            None => {
                let verification = verification.after(next.verification.as_ref());
                Ok(ClusterRecord { verification: Some(verification), ..next })
            }
        };
        self.save_and_reply(next, reply).await
    }

    /// From now on, a template may restore the cluster.
    pub(super) async fn on_control_planes_deleted(&mut self, reply: Reply) -> Result<(), Stopped> {
        let mut next = (*self.record).clone();
        next.delete_control_planes(self.term.clock.now());
        self.save_and_reply(Ok(next), reply).await
    }

    /// etcd's own cluster id changes when somebody restores the cluster: backups go on, with a warning.
    pub(super) async fn note_origin(&mut self, manifest: &Manifest) -> Result<(), Stopped> {
        let id = u64::from_str_radix(&manifest.origin.etcd_cluster_id, 16).ok();
        let Some(id) = id.filter(|id| Some(*id) != self.record.etcd_cluster_id) else { return Ok(()) };
        if let Some(before) = self.record.etcd_cluster_id {
            warn!(cluster = %self.record.name, "etcd's cluster ID changed from {before:016x} to {id:016x}: the cluster \
                was restored or replaced");
        }
        let mut next = (*self.record).clone();
        next.etcd_cluster_id = Some(id);
        self.save(next).await
    }

    /// An agent has seen a newer leader: lead again, with a higher epoch.
    pub(super) async fn outdated(&mut self, epoch: u64) -> Stopped {
        warn!(cluster = %self.record.name, epoch, ours = self.term.epoch, "an agent has seen a newer epoch: taking the \
            lease again with a higher one");
        if let Err(error) = lease::raise_floor(&self.term.kv, epoch).await {
            warn!(%error, "the newer epoch could not be saved");
        }
        Stopped::NotLeading
    }

    /// The next round of the running restore. No backup runs now, and none begins before the restore has ended.
    pub(super) async fn next_of_restore(&mut self, view: &View) -> Result<Option<Instant>, Stopped> {
        self.permit = None;
        let mut next = (*self.record).clone();
        if let Some(restore) = &mut next.restore
            && restore.phase == RestorePhase::Waiting
        {
            restore.begin(self.term.clock.now());
            self.round_state = RoundState::default();
            info!(cluster = %next.name, restore = %restore.id, snapshot = %restore.source.snapshot, "starting the restore");
            self.save(next).await?;
        }
        let state = std::mem::take(&mut self.round_state);
        let active_store = view.active_store.clone();
        let round = restore_rounds::drive(self.term.clone(), active_store, self.record.clone(), state);
        self.step = Some(Box::pin(async { StepEnd::RestoreRound(Box::new(round.await)) }));
        Ok(None)
    }

    pub(super) async fn on_restore_round(&mut self, result: RoundResult) -> Result<(), Stopped> {
        self.round_state = result.state;
        if let Some(epoch) = result.newer_epoch {
            return Err(self.outdated(epoch).await);
        }
        let mut next = (*self.record).clone();
        let Some(restore) = &mut next.restore else { return Ok(()) };
        let before = restore.clone();
        let limits = self.term.config.settings.restore.limits();
        let compare_at = restore.fold(&result.round, limits, self.term.clock.now());
        self.round_state.compare(restore, &result.round, compare_at, Instant::now());
        for (id, machine) in &restore.machines {
            if before.machines.get(id).is_some_and(|b| b.step != machine.step) {
                info!(cluster = %next.name, machine = %id, step = word(machine.step()), "the restore continues");
            }
        }
        if restore.phase != before.phase {
            match restore.phase {
                RestorePhase::PuttingBack | RestorePhase::Failed => {
                    error!(cluster = %next.name, phase = restore.phase.text(), error = restore.error, "the restore failed");
                }
                phase => info!(cluster = %next.name, phase = phase.text(), "the restore continues"),
            }
            if restore.phase == RestorePhase::Keeping {
                // It changed because we changed it: nobody needs to be warned.
                next.etcd_cluster_id = restore.new_cluster_id();
            }
        }
        self.save(next).await
    }

    /// A round of a verification.
    pub(super) async fn on_verified(&mut self, round: proof_rounds::Round) -> Result<(), Stopped> {
        let proof_rounds::Round { machine, heard } = round;
        if let Heard::Stale(epoch) = heard {
            return Err(self.outdated(epoch).await);
        }
        let mut next = (*self.record).clone();
        let Some(verification) = next.verification.as_mut().filter(|proof| !proof.has_ended()) else { return Ok(()) };
        let (before, limits) = (verification.clone(), self.term.config.settings.restore.limits());
        verification.fold(machine, &heard, limits, self.term.clock.now());
        if !verification.is_news(&before) {
            return Ok(());
        }
        if verification.has_ended() {
            let (snapshot, error) = (verification.snapshot, verification.error.as_str());
            match error {
                "" => info!(cluster = %self.record.name, %snapshot, found = verification.found, "the backup is \
                    verified"),
                error => error!(cluster = %self.record.name, %snapshot, error, "the backup failed verification"),
            }
        }
        self.save(next).await
    }

    /// Machines that did not answer when a restore ended are told its end when they are back.
    pub(super) fn settle_restore(&mut self) {
        let record = self.record.clone();
        for (machine, agent) in self.term.fleet.agents(&record.name, Instant::now()) {
            let Some(state) = &agent.beat.restore else { continue };
            match unsettled::behind(record.restore.as_ref(), &record.unsettled, machine, state) {
                Laggard::No => {}
                Laggard::Tell(id, goal) => {
                    self.term.spawn(restore_rounds::settle(self.term.clone(), record.name.clone(), machine, id, goal));
                }
                Laggard::Unknown if !self.lost.insert(machine) => {}
                Laggard::Unknown => {
                    warn!(cluster = %record.name, %machine, restore = state.restore, step = word(state.step()), "the outcome of this machine's restore is unknown");
                }
            }
        }
    }

    /// The record is deleted; machines that missed the end of a restore are remembered for the next cluster of this
    /// name.
    pub(super) async fn keep_late(&mut self) -> Result<(), KvError> {
        let late = self.record.late();
        if late.is_empty() {
            return Ok(());
        }
        let key = record::late_entry(&self.record.name);
        match self.term.kv.get::<Unsettled>(&key).await? {
            Some(found) => self.term.kv.update(&key, &late, found.revision).await,
            None => self.term.kv.create(&key, &late).await,
        }?;
        Ok(())
    }
}
