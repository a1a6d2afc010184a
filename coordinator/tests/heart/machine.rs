//! One machine's part of a restore or of a proof, as an agent would play it: it goes a step towards its goal each time that it is
//! asked, and never from an end to the other.

use backstay_protocol::RestoreId;
use backstay_protocol::bus::{
    EtcdAfter, ListedMember, MemberCheck, RestoreCommand, RestoreGoal, RestoreState, RestoreStep, Verified,
    VerifyCommand, VerifyState,
};

/// Where a machine will not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// It says so instead of this step.
    At(RestoreStep),
    /// It stays at the step before this one, and says nothing of it.
    Hangs(RestoreStep),
    /// Its members never agree.
    Hash,
}

/// How a machine proves a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proving {
    /// It needs to be asked so often.
    Proves(u32),
    /// The backup is at fault.
    Finds(String),
    Refuses(String),
    Silent,
}

/// What a machine has done of restores.
#[derive(Debug, Default)]
pub struct Machine {
    pub restore: Option<RestoreState>,
    /// Both ends were told of one restore.
    pub torn: bool,
    members: Vec<ListedMember>,
    goal: RestoreGoal,
    asked: u32,
    verify: String,
}

impl Machine {
    /// What it answers to a command.
    pub fn restore(&mut self, command: &RestoreCommand, obstacle: Option<Obstacle>, ours: u64) -> RestoreState {
        let (goal, id) = (command.goal(), command.restore.clone());
        if self.restore.as_ref().is_none_or(|state| state.restore != id) {
            self.restore = Some(RestoreState { restore: id.clone(), ..RestoreState::default() });
            self.goal = RestoreGoal::Unspecified;
        }
        if let Some(plan) = &command.plan {
            self.members.clone_from(&plan.members);
        }
        let ends = |goal| matches!(goal, RestoreGoal::PutBack | RestoreGoal::Keep);
        self.torn |= ends(self.goal) && ends(goal) && goal != self.goal;
        if !ends(self.goal) {
            self.goal = goal;
        }
        let state = self.restore.as_mut().expect("it was just set");
        let next = next(state.step(), self.goal);
        match obstacle {
            Some(Obstacle::At(step)) if step == next => state.error = format!("no way to {}", next.as_str_name()),
            Some(Obstacle::Hangs(step)) if step == next => {}
            _ => {
                state.set_step(next);
                state.error = if ends(self.goal) { String::new() } else { std::mem::take(&mut state.error) };
            }
        }
        settle(state, &id);
        let at = command.hash_revision;
        let hash = if obstacle == Some(Obstacle::Hash) { ours as u32 } else { 7 };
        state.check = (state.step() == RestoreStep::Switched).then(|| check(&self.members, state, (at, hash), ours));
        state.clone()
    }

    /// What it answers to a command that asks for a proof; `None`: a refusal or silence.
    pub fn verify(&mut self, command: &VerifyCommand, proving: &Proving) -> Option<VerifyState> {
        if self.verify != command.verify {
            (self.verify, self.asked) = (command.verify.clone(), 0);
        }
        self.asked += 1;
        let begun = VerifyState {
            verify: command.verify.clone(),
            bytes_done: u64::from(self.asked),
            bytes_total: 100,
            ..VerifyState::default()
        };
        match proving {
            Proving::Proves(times) if self.asked < *times => Some(begun),
            Proving::Proves(_) => {
                let verified = Verified { revision: 9, live_keys: 3, ..Verified::default() };
                Some(VerifyState { ended: true, verified: Some(verified), ..begun })
            }
            Proving::Finds(error) => {
                let failure = backstay_protocol::bus::VerifyFailure::Backup.into();
                Some(VerifyState { ended: true, error: error.clone(), failure, ..begun })
            }
            Proving::Refuses(_) | Proving::Silent => None,
        }
    }

    /// etcd's cluster id that its member has now, where a restore changed it.
    pub fn cluster_id(&self) -> Option<u64> {
        let state = self.restore.as_ref()?;
        matches!(state.step(), RestoreStep::Switched | RestoreStep::Kept).then_some(state.new_cluster_id)
    }
}

/// One step nearer to the goal.
fn next(step: RestoreStep, goal: RestoreGoal) -> RestoreStep {
    use RestoreStep::{Kept, Preparing, Ready, Returned, Returning, Starting, Stopping, Switched, Unspecified};
    match (goal, step) {
        (RestoreGoal::Prepare, Unspecified) => Preparing,
        (RestoreGoal::Prepare, Preparing) => Ready,
        (RestoreGoal::Switch, Ready) => Stopping,
        (RestoreGoal::Switch, Stopping) => Starting,
        (RestoreGoal::Switch, Starting) => Switched,
        (RestoreGoal::Keep, Switched) => Kept,
        (RestoreGoal::PutBack, Returned | Returning) => Returned,
        (RestoreGoal::PutBack, _) => Returning,
        (_, step) => step,
    }
}

/// What follows from the step.
fn settle(state: &mut RestoreState, id: &str) {
    if state.step() >= RestoreStep::Ready && state.digest.is_empty() {
        let id: RestoreId = id.parse().expect("an id of ours");
        state.digest = vec![1; 32].into();
        state.new_cluster_id = id.0.as_u64_pair().1;
    }
    if state.step() == RestoreStep::Returned {
        state.set_etcd(EtcdAfter::Serves);
    }
}

fn check(members: &[ListedMember], state: &RestoreState, (at, hash): (i64, u32), ours: u64) -> MemberCheck {
    MemberCheck {
        healthy: true,
        revision: 100,
        cluster_id: state.new_cluster_id,
        member_id: ours,
        members: members.to_vec(),
        hash_revision: at,
        hash,
        ..MemberCheck::default()
    }
}
