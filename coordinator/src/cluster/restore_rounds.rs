//! Sends the machines of a restore, all at once, the state that they should reach, and collects their answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use age::x25519::Identity;
use backstay_protocol::bus::{
    self, ListedMember, RestoreCommand, RestoreGoal, RestorePlan, RestoreReply, restore_reply::Answer,
};
use backstay_protocol::subject::Command;
use backstay_protocol::{ClusterName, MachineId, RestoreId, VERSION};
use futures::future::join_all;
use prost::Message as _;
use tokio::time::Instant;
use tracing::debug;

use super::agent_call::{digest, recipient, request};
use super::proof_rounds::sealed;
use crate::record::ClusterRecord;
use crate::reply::Reply;
use crate::restore::compare;
use crate::restore::model::{Heard, Machine, Restore, Round};
use crate::storage::ActiveStore;
use crate::term::Term;

/// The pause between two rounds.
pub const PAUSE: Duration = Duration::from_millis(500);
/// How long all members are asked for the same revision while they are compared: twice the time that an agent gives its
/// etcd for the hash, since etcd may have been busy with an earlier one.
const SAME_REVISION: Duration = Duration::from_secs(120);

/// What a coordinator has of a restore only in memory; a successor can find it out again.
#[derive(Debug, Default)]
pub struct RoundState {
    /// When each machine last answered, or was first asked.
    heard: BTreeMap<MachineId, Instant>,
    /// The key of the backup's cluster, once it was read. The inner `None` means that the backup is not encrypted.
    key: Option<Option<Arc<Key>>>,
    compare_at: i64,
    /// When members were first asked for that revision.
    asked: Option<Instant>,
}

/// A cluster's identity that `Debug` does not print.
pub struct Key(Identity);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl RoundState {
    /// The revision for which members are asked: the same until all have answered, or have had the time to.
    pub fn compare(&mut self, restore: &Restore, round: &Round, wish: i64, now: Instant) {
        let had_time = |asked: Instant| now.duration_since(asked) >= SAME_REVISION;
        let over = |asked| had_time(asked) || compare::all_answered(restore, round, self.compare_at);
        // A member that is away for a moment goes on with what it was asked for.
        if wish != 0 && self.asked.is_none_or(over) {
            (self.compare_at, self.asked) = (wish, Some(now));
        }
    }
}

/// The result of a round.
#[derive(Debug)]
pub struct RoundResult {
    pub round: Round,
    pub state: RoundState,
    /// An agent has seen this epoch, which is newer than ours.
    pub newer_epoch: Option<u64>,
}

/// One round: every machine is told, and every answer is awaited.
pub async fn drive(
    term: Arc<Term>,
    active_store: Option<Arc<ActiveStore>>,
    record: Arc<ClusterRecord>,
    mut state: RoundState,
) -> RoundResult {
    tokio::time::sleep(PAUSE).await;
    let mut result = RoundResult { round: Round::new(), state: RoundState::default(), newer_epoch: None };
    let Some(restore) = record.restore.as_ref() else { return result };
    let key = key(&term, active_store.as_deref(), restore, &mut state).await;
    let tell = restore.machines.iter().map(async |(id, machine)| {
        let answer = match &key {
            Ok(key) => {
                tell(&term, active_store.as_deref(), &record.name, restore, (id, machine), key, state.compare_at).await
            }
            Err(error) => Reply::Silent(error.clone()),
        };
        (*id, answer)
    });
    let answers = join_all(tell).await;
    for (id, answer) in answers {
        let now = Instant::now();
        let heard = state.heard.entry(id).or_insert(now);
        let silent = now.duration_since(*heard);
        let heard = match answer {
            Reply::State(state) => {
                *heard = now;
                Heard::State(state)
            }
            Reply::Refused(text) => Heard::Refused(text),
            Reply::Silent(text) => Heard::Silent(silent, text),
            Reply::Stale(epoch) => {
                result.newer_epoch = result.newer_epoch.max(Some(epoch));
                Heard::Silent(silent, "it has seen a newer coordinator".into())
            }
        };
        result.round.insert(id, heard);
    }
    result.state = state;
    result
}

/// Tells one machine that has missed the end of a restore, in the background.
pub async fn settle(term: Arc<Term>, cluster: ClusterName, machine: MachineId, restore: RestoreId, goal: RestoreGoal) {
    match send(&term, &cluster, machine, command(&term, &cluster, machine, restore, goal)).await {
        Reply::State(state) => {
            debug!(%cluster, %machine, %restore, step = ?state.step(), "told the machine that the restore has ended");
        }
        Reply::Refused(error) | Reply::Silent(error) => {
            debug!(%cluster, %machine, %restore, %error, "could not tell the machine that the restore has ended");
        }
        Reply::Stale(_) => {}
    }
}

/// The key of the backup's cluster, while it is needed.
async fn key(
    term: &Term,
    active_store: Option<&ActiveStore>,
    restore: &Restore,
    state: &mut RoundState,
) -> Result<Option<Arc<Key>>, String> {
    if restore.goal() != Some(RestoreGoal::Prepare) {
        return Ok(None);
    }
    if let Some(key) = &state.key {
        return Ok(key.clone());
    }
    let store = &*active_store.ok_or("backup storage is not available")?.store;
    let key = match restore.source.encrypted {
        false => None,
        true => {
            let (uuid, snapshot) = (restore.source.uuid, restore.source.snapshot);
            let identity = term.keys.identity_of(&term.kv, store, uuid, snapshot).await;
            Some(Arc::new(Key(identity.map_err(|e| e.to_string())?)))
        }
    };
    state.key = Some(key.clone());
    Ok(key)
}

async fn tell(
    term: &Term,
    active_store: Option<&ActiveStore>,
    cluster: &ClusterName,
    restore: &Restore,
    (id, machine): (&MachineId, &Machine),
    key: &Option<Arc<Key>>,
    compare_at: i64,
) -> Reply<bus::RestoreState> {
    let Some(goal) = restore.goal() else { return Reply::Silent("the restore could not be started".into()) };
    let plan = match goal {
        RestoreGoal::Prepare => match plan(term, active_store, cluster, restore, (id, machine), key) {
            Ok(plan) => Some(plan),
            Err(error) => return Reply::Silent(error),
        },
        _ => None,
    };
    let command = RestoreCommand { plan, hash_revision: compare_at, ..command(term, cluster, *id, restore.id, goal) };
    send(term, cluster, *id, command).await
}

/// What a machine is told, without a plan.
fn command(
    term: &Term,
    cluster: &ClusterName,
    machine: MachineId,
    restore: RestoreId,
    goal: RestoreGoal,
) -> RestoreCommand {
    RestoreCommand {
        version: VERSION,
        epoch: term.epoch,
        restore: restore.to_string(),
        cluster: cluster.to_string(),
        machine: machine.to_string(),
        goal: goal.into(),
        plan: None,
        hash_revision: 0,
    }
}

async fn send(
    term: &Term,
    cluster: &ClusterName,
    machine: MachineId,
    command: RestoreCommand,
) -> Reply<bus::RestoreState> {
    let answer = request::<RestoreReply>(term, cluster, machine, Command::Restore, command.encode_to_vec()).await;
    let said = |answer| match answer {
        Answer::State(state) => Ok(state),
        Answer::Refused(refused) => Err(refused),
    };
    Reply::read(term.epoch, answer.map(|reply| reply.answer.map(said)))
}

fn plan(
    term: &Term,
    active_store: Option<&ActiveStore>,
    cluster: &ClusterName,
    restore: &Restore,
    (id, machine): (&MachineId, &Machine),
    key: &Option<Arc<Key>>,
) -> Result<RestorePlan, String> {
    let active_store = active_store.ok_or("backup storage is not available")?;
    let recipient = recipient(term, cluster, *id)?;
    let sealed_identity = match key {
        None => Vec::new(),
        Some(key) => sealed(&key.0, &recipient)?,
    };
    let seat = |machine: &Machine| ListedMember {
        name: machine.member.clone(),
        peer_urls: machine.peer_urls.clone(),
        ..ListedMember::default()
    };
    let source = &restore.source;
    Ok(RestorePlan {
        cluster_uuid: source.uuid.to_string(),
        snapshot: source.snapshot.to_string(),
        store: Some(active_store.for_agent(&recipient).map_err(|e| e.to_string())?),
        sealed_identity: sealed_identity.into(),
        snapshot_sha256: digest(&source.sha256)?,
        snapshot_bytes: source.bytes,
        members: restore.machines.values().map(seat).collect(),
        member_name: machine.member.clone(),
        token: restore.id.to_string(),
        bump: restore.bump,
        aside_suffix: restore.aside_suffix.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::state::tests::{both, id, restore, says};
    use backstay_protocol::bus::{MemberCheck, RestoreStep};

    /// The first member has answered for revision 100, the second says what it says.
    fn round(change: impl FnOnce(&mut MemberCheck)) -> Round {
        let set = |state: &mut bus::RestoreState, change: &mut dyn FnMut(&mut MemberCheck)| {
            state.check.as_mut().into_iter().for_each(change);
        };
        let mut change = Some(change);
        let mut round = both(RestoreStep::Switched, |state| {
            set(state, &mut |check| change.take().into_iter().for_each(|change| change(check)));
        });
        round.insert(id(1), says(RestoreStep::Switched, |state| set(state, &mut |check| check.hash_revision = 100)));
        round
    }

    #[test]
    fn members_are_asked_for_one_revision_until_all_have_answered_or_had_time() {
        let (restore, start) = (restore(), Instant::now());
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut state = RoundState::default();
        let mut ask = |round: &Round, wish, seconds| {
            state.compare(&restore, round, wish, later(seconds));
            state.compare_at
        };
        let hashing = round(|check| check.hash_revision = 0);
        assert_eq!(ask(&hashing, 100, 0), 100);
        assert_eq!(ask(&hashing, 160, 59), 100, "it counts for a minute");
        assert_eq!(ask(&hashing, 0, 60), 100, "one was away for a moment");
        assert_eq!(ask(&round(|check| check.hash_revision = 99), 170, 61), 100, "for an earlier question");
        assert_eq!(ask(&round(|check| check.hash_revision = 100), 180, 62), 180, "all have answered, not the same");
        assert_eq!(ask(&hashing, 300, 181), 180);
        assert_eq!(ask(&hashing, 300, 182), 300, "it had its time");
        assert_eq!(ask(&Round::new(), 400, 183), 300);
    }

    #[test]
    fn an_error_is_an_answer() {
        let (restore, now) = (restore(), Instant::now());
        let mut state = RoundState::default();
        let failed = round(|check| (check.hash_revision, check.error) = (0, "no".into()));
        for wish in [100, 120] {
            state.compare(&restore, &failed, wish, now);
        }
        assert_eq!(state.compare_at, 120);
    }
}
