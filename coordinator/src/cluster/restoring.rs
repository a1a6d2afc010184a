//! What a cluster's task does with a restore (telling the machines, folding their answers, the way out) and with the
//! proof of a backup.

use backstay_protocol::MachineId;
use backstay_protocol::own::RestorePhase;
use tokio::time::Instant;
use tracing::{error, info};

use super::{ClusterTask, Stopped};
use crate::restore::drive::{self, Driven, Memory};
use crate::restore::state::word;
use crate::storage::View;
use crate::verify::Heard;

impl ClusterTask {
    /// The next round of the restore under way. No backup is under way here, and none begins before it has ended.
    pub(super) async fn next_of_restore(&mut self, view: &View) -> Result<Option<Instant>, Stopped> {
        self.permit = None;
        let mut next = (*self.record).clone();
        if let Some(restore) = &mut next.restore
            && restore.phase == RestorePhase::Waiting
        {
            restore.begin(self.leader.clock.now());
            self.memory = Memory::default();
            info!(cluster = %next.name, restore = %restore.id, snapshot = %restore.source.snapshot, "the restore begins");
            self.save(next).await?;
        }
        let memory = std::mem::take(&mut self.memory);
        let in_force = view.in_force.clone();
        self.step = Some(Box::pin(drive::drive(self.leader.clone(), in_force, self.record.clone(), memory)));
        Ok(None)
    }

    pub(super) async fn on_driven(&mut self, driven: Driven) -> Result<(), Stopped> {
        self.memory = driven.memory;
        if let Some(epoch) = driven.newer_epoch {
            return Err(self.outdated(epoch).await);
        }
        let mut next = (*self.record).clone();
        let Some(restore) = &mut next.restore else { return Ok(()) };
        let before = restore.clone();
        let limits = self.leader.config.settings.restore.limits();
        let compare_at = restore.fold(&driven.round, limits, self.leader.clock.now());
        self.memory.compare(compare_at);
        for (id, machine) in &restore.machines {
            if before.machines.get(id).is_some_and(|b| b.step != machine.step) {
                info!(cluster = %next.name, machine = %id, step = word(machine.step()), "the restore goes on");
            }
        }
        if restore.phase != before.phase {
            match restore.phase {
                RestorePhase::PuttingBack | RestorePhase::Failed => {
                    error!(cluster = %next.name, phase = restore.phase.text(), error = restore.error, "the restore failed");
                }
                phase => info!(cluster = %next.name, phase = phase.text(), "the restore goes on"),
            }
            if restore.phase == RestorePhase::Keeping {
                // It changed because we changed it: nobody needs to be warned.
                next.etcd_cluster_id = restore.new_cluster_id();
            }
        }
        self.save(next).await
    }

    /// A round of a proof.
    pub(super) async fn on_verified(&mut self, machine: Option<MachineId>, heard: Heard) -> Result<(), Stopped> {
        if let Heard::Stale(epoch) = heard {
            return Err(self.outdated(epoch).await);
        }
        let mut next = (*self.record).clone();
        let Some(verification) = next.verification.as_mut().filter(|proof| !proof.has_ended()) else { return Ok(()) };
        let silence = self.leader.config.settings.restore.silence;
        verification.fold(machine, &heard, silence, self.leader.clock.now());
        if verification.has_ended() {
            let (snapshot, error) = (verification.snapshot, verification.error.as_str());
            match error {
                "" => info!(cluster = %self.record.name, %snapshot, found = verification.found, "the backup is proven"),
                error => error!(cluster = %self.record.name, %snapshot, error, "the backup is not proven"),
            }
        }
        self.save(next).await
    }

    /// Machines that did not answer when a restore ended are told its end when they are there again.
    pub(super) fn settle_restore(&self) {
        let Some(restore) = self.record.restore.as_ref().filter(|restore| restore.has_ended()) else { return };
        let id = restore.id.to_string();
        for (machine, agent) in self.leader.fleet.agents(&self.record.name, Instant::now()) {
            let behind = agent.beat.restore.as_ref().is_some_and(|state| state.restore == id && !has_ended(state));
            if behind && restore.machines.contains_key(&machine) {
                self.leader.spawn(drive::settle(self.leader.clone(), self.record.clone(), machine));
            }
        }
    }
}

fn has_ended(state: &backstay_protocol::bus::RestoreState) -> bool {
    use backstay_protocol::bus::RestoreStep::{Kept, Returned};
    matches!(state.step(), Kept | Returned)
}
