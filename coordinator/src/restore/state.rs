//! How a restore changes with what its machines report: pure transitions.

use std::time::Duration;

use backstay_protocol::backstay_types::RestorePhase;
use backstay_protocol::bus::{EtcdAfter, RestoreStep};
use backstay_protocol::hex::to_hex;
use backstay_protocol::{MachineId, Timestamp, machines};

use super::compare::{self, Compared};
use super::model::{Heard, Limits, Machine, Restore, Round, capped, ended, left, word};

impl Restore {
    /// The cluster's backup that was under way has ended.
    pub fn begin(&mut self, now: Timestamp) {
        if self.phase == RestorePhase::Waiting {
            self.enter(RestorePhase::Preparing, now);
            self.version += 1;
        }
    }

    /// Evaluates the machines' answers, and decides. Returns the revision at which members should be compared.
    pub fn fold(&mut self, round: &Round, limits: Limits, now: Timestamp) -> i64 {
        let before = self.clone();
        // What is said of another restore is not about this one.
        let id = self.id.to_string();
        let ours = |heard: &Heard| !matches!(heard, Heard::State(state) if state.restore != id);
        let round: Round = round.iter().filter(|(_, heard)| ours(heard)).map(|(id, h)| (*id, h.clone())).collect();
        let round = &round;
        for (machine, heard) in round {
            self.hear(machine, heard);
        }
        let mut compare_at = 0;
        match self.phase {
            RestorePhase::Waiting | RestorePhase::Restored | RestorePhase::Failed => {}
            RestorePhase::Preparing => self.after_preparing(round, limits, now),
            RestorePhase::Switching => compare_at = self.after_switching(round, limits, now),
            RestorePhase::Keeping => self.end_when(RestoreStep::Kept, RestorePhase::Restored, round, limits, now),
            RestorePhase::PuttingBack => {
                self.end_when(RestoreStep::Returned, RestorePhase::Failed, round, limits, now);
            }
        }
        if *self != before {
            self.version += 1;
            self.updated = now;
        }
        compare_at
    }

    fn hear(&mut self, id: &MachineId, heard: &Heard) {
        let Some(machine) = self.machines.get_mut(id) else { return };
        match heard {
            Heard::State(state) => {
                machine.step = state.step;
                machine.error = capped(&state.error);
                if !state.digest.is_empty() {
                    machine.digest = to_hex(&state.digest);
                }
                if state.new_cluster_id != 0 {
                    machine.new_cluster_id = state.new_cluster_id;
                }
                if state.etcd() != EtcdAfter::Unspecified {
                    (machine.etcd, machine.etcd_text) = (state.etcd, capped(&state.etcd_text));
                }
                machine.had_no_data |= state.step() == RestoreStep::Kept && state.aside.is_empty();
                if ended(state) {
                    machine.left = left(state);
                }
            }
            Heard::Refused(text) => machine.error = capped(text),
            // While it is silent, what it said last stands.
            Heard::Silent(..) => {}
        }
    }

    fn after_preparing(&mut self, round: &Round, limits: Limits, now: Timestamp) {
        if let Some(error) = self.trouble(round) {
            return self.put_back(error, now);
        }
        let silent = round.iter().find_map(|(id, heard)| match heard {
            Heard::Silent(time, text) if *time > limits.silence => Some(self.named(id, text)),
            _ => None,
        });
        if let Some(error) = silent {
            return self.put_back(error, now);
        }
        // As all say it now: who was ready earlier may have lost it since.
        let ready = |id| matches!(round.get(id), Some(Heard::State(state)) if state.step() == RestoreStep::Ready);
        if self.machines.keys().all(ready) {
            return match self.same_for_all() {
                true => self.enter(RestorePhase::Switching, now),
                false => self.put_back("the machines prepared different databases".into(), now),
            };
        }
        if now.since(self.phase_since) > limits.prepare {
            let late = self.not_at(RestoreStep::Ready);
            self.put_back(format!("these machines were not ready in time: {late}"), now);
        }
    }

    fn after_switching(&mut self, round: &Round, limits: Limits, now: Timestamp) -> i64 {
        if let Some(error) = self.trouble(round) {
            self.put_back(error, now);
            return 0;
        }
        let (reason, ask) = match compare::members(self, round) {
            Compared::Equal => {
                self.enter(RestorePhase::Keeping, now);
                return 0;
            }
            Compared::NotYet { reason, ask } => (reason, ask),
        };
        if let Some(error) = self.last_is_silent(round, limits.silence) {
            self.put_back(error, now);
            return 0;
        }
        if now.since(self.phase_since) > limits.switch {
            self.put_back(format!("the restored cluster did not come up in time: {reason}"), now);
            return 0;
        }
        ask
    }

    /// The error of a machine that has been silent for too long while all others have switched. They serve clients,
    /// whose writes would be undone, too; so it is not given more time than that.
    fn last_is_silent(&self, round: &Round, silence: Duration) -> Option<String> {
        let mut error = None;
        for id in self.machines.keys() {
            match round.get(id) {
                Some(Heard::State(state)) if state.step() == RestoreStep::Switched => {}
                Some(Heard::Silent(time, text)) if *time > silence => error = Some(self.named(id, text)),
                _ => return None,
            }
        }
        error
    }

    /// Why a machine will not continue.
    fn trouble(&self, round: &Round) -> Option<String> {
        round.iter().find_map(|(id, heard)| match heard {
            Heard::State(state) if !state.error.is_empty() => Some(self.named(id, &state.error)),
            Heard::State(state) if state.step() >= RestoreStep::Returning => {
                Some(self.named(id, "it is not in the state in which this restore left it"))
            }
            Heard::Refused(text) => Some(self.named(id, text)),
            _ => None,
        })
    }

    /// The decision is final. A machine that cannot follow in time is told again later; the end does not wait for it.
    fn end_when(&mut self, step: RestoreStep, end: RestorePhase, round: &Round, limits: Limits, now: Timestamp) {
        let late = || self.machines.iter().filter(|(_, m)| m.step() != step);
        if late().next().is_none() {
            self.enter(end, now);
            self.ended = Some(now);
        } else if now.since(self.phase_since) > limits.switch {
            let Some(stuck) = late().map(|(id, m)| stuck(id, m, round.get(id))).collect::<Option<Vec<_>>>() else {
                return;
            };
            let text = format!("{}; the coordinator will keep telling it", machines::once("machine", stuck).join("; "));
            self.error = capped(&if self.error.is_empty() { text } else { format!("{}; {text}", self.error) });
            self.enter(end, now);
            self.ended = Some(now);
        }
    }

    fn same_for_all(&self) -> bool {
        let mut prepared = self.machines.values().map(|m| (&m.digest, m.new_cluster_id));
        let first = prepared.next();
        first.is_some_and(|(digest, id)| !digest.is_empty() && id != 0) && prepared.all(|other| Some(other) == first)
    }

    fn put_back(&mut self, error: String, now: Timestamp) {
        self.error = capped(&error);
        self.enter(RestorePhase::PuttingBack, now);
    }

    fn enter(&mut self, phase: RestorePhase, now: Timestamp) {
        (self.phase, self.phase_since, self.updated) = (phase, now, now);
    }

    fn named(&self, id: &MachineId, text: &str) -> String {
        format!("machine {}: {text}", self.called(id))
    }

    fn called(&self, id: &MachineId) -> String {
        let member = self.machines.get(id).map(|m| m.member.as_str()).unwrap_or_default();
        machines::called(member, "", &id.to_string())
    }

    fn not_at(&self, step: RestoreStep) -> String {
        let late = self.machines.iter().filter(|(_, m)| m.step() != step);
        late.map(|(id, m)| format!("machine {} ({})", self.called(id), word(m.step()))).collect::<Vec<_>>().join(", ")
    }
}

/// Why a machine does not finish; `None` if it is about to.
fn stuck(id: &MachineId, machine: &Machine, heard: Option<&Heard>) -> Option<(String, String)> {
    let why = match heard {
        Some(Heard::State(state)) if state.error.is_empty() => return None,
        Some(Heard::State(state)) => state.error.as_str(),
        Some(Heard::Refused(text)) => text.as_str(),
        Some(Heard::Silent(..)) | None => "it did not answer",
    };
    let name = machines::called(&machine.member, "", &id.to_string());
    Some((name, format!("it is {}: {why}", word(machine.step()))))
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(crate) mod tests;
