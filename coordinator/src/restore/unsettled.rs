//! Machines that did not take part in the end of a restore, and what each must be told; also for a restore that is no
//! longer in the cluster's record. Pure.

use std::collections::BTreeMap;

use backstay_protocol::backstay_types::RestorePhase;
use backstay_protocol::bus::{RestoreGoal, RestoreState, RestoreStep};
use backstay_protocol::{MachineId, RestoreId};
use serde::{Deserialize, Serialize};

use super::model::Restore;

/// The end of a restore that a machine missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub restore: RestoreId,
    /// Whether the new data was kept; otherwise the old data was put back.
    pub restored: bool,
}

impl End {
    fn goal(self) -> RestoreGoal {
        if self.restored { RestoreGoal::Keep } else { RestoreGoal::PutBack }
    }
}

/// The machines that missed an end, each with that end.
pub type Unsettled = BTreeMap<MachineId, End>;

/// What to do about a machine that reports a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Laggard {
    /// There is nothing to tell it: its restore has ended as it should, or is running.
    No,
    Tell(RestoreId, RestoreGoal),
    /// Its etcd was touched, and it is not known how that restore ended.
    Unknown,
}

/// Whether the restore has ended on a machine.
pub fn has_ended(state: &RestoreState) -> bool {
    matches!(state.step(), RestoreStep::Kept | RestoreStep::Returned)
}

/// Whether a machine missed the end of a restore.
pub fn is_late(ended: &Restore, machine: MachineId) -> bool {
    let at_end = |step| matches!(step, RestoreStep::Kept | RestoreStep::Returned);
    ended.machines.get(&machine).is_some_and(|machine| !at_end(machine.step()))
}

/// Remembers the machines that missed the end when the record of a restore is replaced or deleted.
pub fn note(unsettled: &mut Unsettled, ended: &Restore) {
    let restored = ended.phase == RestorePhase::Restored;
    for id in ended.machines.keys() {
        match is_late(ended, *id) {
            true => unsettled.insert(*id, End { restore: ended.id, restored }),
            false => unsettled.remove(id),
        };
    }
}

/// What to tell a machine whose restore has not ended.
pub fn behind(latest: Option<&Restore>, unsettled: &Unsettled, machine: MachineId, state: &RestoreState) -> Laggard {
    let Ok(id) = state.restore.parse::<RestoreId>() else { return Laggard::No };
    if has_ended(state) {
        return Laggard::No;
    }
    if let Some(latest) = latest.filter(|latest| latest.id == id) {
        return match latest.goal().filter(|_| latest.has_ended()) {
            Some(goal) => Laggard::Tell(id, goal),
            None => Laggard::No,
        };
    }
    match (unsettled.get(&machine), state.step()) {
        (Some(end), _) if end.restore == id => Laggard::Tell(id, end.goal()),
        // Its etcd has not been touched: nothing but the room that it takes can be lost.
        (_, RestoreStep::Unspecified | RestoreStep::Preparing | RestoreStep::Ready) => {
            Laggard::Tell(id, RestoreGoal::PutBack)
        }
        _ => Laggard::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{id, restore};
    use super::*;
    use uuid::Uuid;

    fn says(restore: RestoreId, step: RestoreStep) -> RestoreState {
        RestoreState { restore: restore.to_string(), step: step.into(), ..RestoreState::default() }
    }

    fn ended(phase: RestorePhase, steps: [RestoreStep; 2]) -> Restore {
        let mut restore = restore();
        restore.phase = phase;
        restore.machines.values_mut().zip(steps).for_each(|(machine, step)| machine.step = step.into());
        restore
    }

    #[test]
    fn who_missed_an_end_is_told_it_after_the_next_restore_too() {
        for (phase, end, goal) in [
            (RestorePhase::Restored, RestoreStep::Kept, RestoreGoal::Keep),
            (RestorePhase::Failed, RestoreStep::Returned, RestoreGoal::PutBack),
        ] {
            let first = ended(phase, [end, RestoreStep::Switched]);
            let behind_at = |latest: Option<&Restore>, unsettled: &Unsettled, n, step| {
                behind(latest, unsettled, id(n), &says(first.id, step))
            };
            let mut unsettled = Unsettled::new();
            assert_eq!(behind_at(Some(&first), &unsettled, 2, RestoreStep::Switched), Laggard::Tell(first.id, goal));
            note(&mut unsettled, &first);
            let next = Restore { id: RestoreId(Uuid::from_u128(77)), ..restore() };
            for latest in [Some(&next), None] {
                assert_eq!(behind_at(latest, &unsettled, 2, RestoreStep::Switched), Laggard::Tell(first.id, goal));
                assert_eq!(behind_at(latest, &unsettled, 2, end), Laggard::No);
                assert_eq!(behind_at(latest, &unsettled, 1, RestoreStep::Moving), Laggard::Unknown, "it had ended");
            }
            note(&mut unsettled, &Restore { id: next.id, ..ended(phase, [end, end]) });
            assert!(unsettled.is_empty(), "{unsettled:?}");
        }
    }

    #[test]
    fn of_a_restore_that_nobody_knows_only_what_touched_nothing_is_undone() {
        let unknown = RestoreId(Uuid::from_u128(77));
        let at = |step| behind(None, &Unsettled::new(), id(1), &says(unknown, step));
        for step in [RestoreStep::Preparing, RestoreStep::Ready] {
            assert_eq!(at(step), Laggard::Tell(unknown, RestoreGoal::PutBack));
        }
        for step in [RestoreStep::Stopping, RestoreStep::Starting, RestoreStep::Switched, RestoreStep::Returning] {
            assert_eq!(at(step), Laggard::Unknown, "{step:?}");
        }
    }

    #[test]
    fn a_restore_under_way_is_not_told_its_end() {
        let restore = restore();
        let state = says(restore.id, RestoreStep::Ready);
        assert_eq!(behind(Some(&restore), &Unsettled::new(), id(1), &state), Laggard::No);
    }
}
