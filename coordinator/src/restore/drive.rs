//! Telling the machines of a restore where it goes, all at once, and what they answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use age::x25519::Identity;
use backstay_archive::seal;
use backstay_protocol::bus::{
    self, MemberSeat, RefusalCode, RestoreCommand, RestoreGoal, RestorePlan, RestoreReply, restore_reply::Answer,
};
use backstay_protocol::hex::from_hex;
use backstay_protocol::subject::Command;
use backstay_protocol::{ClusterName, MachineId, RestoreId, VERSION};
use futures::future::join_all;
use prost::Message as _;
use tokio::time::Instant;
use tracing::debug;

use super::state::{Heard, Machine, Restore, Round};
use crate::cluster::record::ClusterRecord;
use crate::cluster::steps::{StepEnd, request};
use crate::leader::Leader;
use crate::storage::InForce;
use crate::verify::sealed;

/// Between two rounds.
pub const PAUSE: Duration = Duration::from_millis(500);
/// While members are compared, so many rounds ask for the same revision: each answers when it got there.
const SAME_REVISION_ROUNDS: u32 = 8;

/// What a coordinator keeps of a restore only in memory: a successor finds it out again.
#[derive(Debug, Default)]
pub struct Memory {
    /// When each machine was last heard, or first asked.
    heard: BTreeMap<MachineId, Instant>,
    /// The key of the backup's cluster, once it was read. The inner `None`: it is not encrypted.
    key: Option<Option<Arc<Key>>>,
    compare_at: i64,
    compared: u32,
}

/// A cluster's identity that is not printed.
pub struct Key(Identity);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Memory {
    /// Which revision members are asked for: the same until all had time to answer for it.
    pub fn compare(&mut self, wish: i64) {
        self.compared += 1;
        if wish == 0 || self.compare_at == 0 || self.compared >= SAME_REVISION_ROUNDS {
            (self.compare_at, self.compared) = (wish, 0);
        }
    }
}

/// What a round answered.
#[derive(Debug)]
pub struct Driven {
    pub round: Round,
    pub memory: Memory,
    /// An agent has seen this epoch, which is newer than ours.
    pub newer_epoch: Option<u64>,
}

/// One round: every machine is told, every answer heard.
pub async fn drive(
    leader: Arc<Leader>,
    in_force: Option<Arc<InForce>>,
    record: Arc<ClusterRecord>,
    mut memory: Memory,
) -> StepEnd {
    tokio::time::sleep(PAUSE).await;
    let mut driven = Driven { round: Round::new(), memory: Memory::default(), newer_epoch: None };
    let Some(restore) = record.restore.as_ref() else { return StepEnd::Driven(Box::new(driven)) };
    let key = key(&leader, in_force.as_deref(), restore, &mut memory).await;
    let tell = restore.machines.iter().map(async |(id, machine)| {
        let answer = match &key {
            Ok(key) => {
                tell(&leader, in_force.as_deref(), &record.name, restore, (id, machine), key, memory.compare_at).await
            }
            Err(error) => Told::Nothing(error.clone()),
        };
        (*id, answer)
    });
    let answers = join_all(tell).await;
    for (id, answer) in answers {
        let now = Instant::now();
        let heard = memory.heard.entry(id).or_insert(now);
        let silent = now.duration_since(*heard);
        let heard = match answer {
            Told::State(state) => {
                *heard = now;
                Heard::State(state)
            }
            Told::Refused(text) => Heard::Refused(text),
            Told::Nothing(text) => Heard::Silent(silent, text),
            Told::Stale(epoch) => {
                driven.newer_epoch = driven.newer_epoch.max(Some(epoch));
                Heard::Silent(silent, "it has seen a newer coordinator".into())
            }
        };
        driven.round.insert(id, heard);
    }
    driven.memory = memory;
    StepEnd::Driven(Box::new(driven))
}

/// Tells one machine that is behind the end of a restore, in the background.
pub async fn settle(
    leader: Arc<Leader>,
    cluster: ClusterName,
    machine: MachineId,
    restore: RestoreId,
    goal: RestoreGoal,
) {
    match send(&leader, &cluster, machine, command(&leader, &cluster, machine, restore, goal)).await {
        Told::State(state) => {
            debug!(%cluster, %machine, %restore, step = ?state.step(), "told the end of the restore");
        }
        Told::Refused(error) | Told::Nothing(error) => {
            debug!(%cluster, %machine, %restore, %error, "could not be told the end of the restore");
        }
        Told::Stale(_) => {}
    }
}

enum Told {
    State(Box<bus::RestoreState>),
    Refused(String),
    Stale(u64),
    Nothing(String),
}

/// The key of the backup's cluster, while it is needed.
async fn key(
    leader: &Leader,
    in_force: Option<&InForce>,
    restore: &Restore,
    memory: &mut Memory,
) -> Result<Option<Arc<Key>>, String> {
    if restore.goal() != Some(RestoreGoal::Prepare) {
        return Ok(None);
    }
    if let Some(key) = &memory.key {
        return Ok(key.clone());
    }
    let store = &*in_force.ok_or("backup storage is not configured")?.store;
    let key = match restore.source.encrypted {
        false => None,
        true => {
            let identity = leader.keys.existing_identity(&leader.kv, store, restore.source.uuid).await;
            Some(Arc::new(Key(identity.map_err(|e| e.to_string())?)))
        }
    };
    memory.key = Some(key.clone());
    Ok(key)
}

async fn tell(
    leader: &Leader,
    in_force: Option<&InForce>,
    cluster: &ClusterName,
    restore: &Restore,
    (id, machine): (&MachineId, &Machine),
    key: &Option<Arc<Key>>,
    compare_at: i64,
) -> Told {
    let Some(goal) = restore.goal() else { return Told::Nothing("the restore has not begun".into()) };
    let plan = match goal {
        RestoreGoal::Prepare => match plan(leader, in_force, cluster, restore, (id, machine), key) {
            Ok(plan) => Some(plan),
            Err(error) => return Told::Nothing(error),
        },
        _ => None,
    };
    let command = RestoreCommand { plan, hash_revision: compare_at, ..command(leader, cluster, *id, restore.id, goal) };
    send(leader, cluster, *id, command).await
}

/// What a machine is told, without a plan.
fn command(
    leader: &Leader,
    cluster: &ClusterName,
    machine: MachineId,
    restore: RestoreId,
    goal: RestoreGoal,
) -> RestoreCommand {
    RestoreCommand {
        version: VERSION,
        epoch: leader.epoch,
        restore: restore.to_string(),
        cluster: cluster.to_string(),
        machine: machine.to_string(),
        goal: goal.into(),
        plan: None,
        hash_revision: 0,
    }
}

async fn send(leader: &Leader, cluster: &ClusterName, machine: MachineId, command: RestoreCommand) -> Told {
    let answer = request::<RestoreReply>(leader, cluster, machine, Command::Restore, command.encode_to_vec()).await;
    match answer.map(|reply| reply.answer) {
        Ok(Some(Answer::State(state))) => Told::State(Box::new(state)),
        Ok(Some(Answer::Refused(refused))) if refused.newest_epoch > leader.epoch => Told::Stale(refused.newest_epoch),
        // What keeps it busy ends by itself.
        Ok(Some(Answer::Refused(refused))) if refused.code() == RefusalCode::Busy => Told::Nothing(refused.text),
        Ok(Some(Answer::Refused(refused))) => Told::Refused(refused.text),
        Ok(None) => Told::Nothing("its answer says neither yes nor no".into()),
        Err(error) => Told::Nothing(error),
    }
}

fn plan(
    leader: &Leader,
    in_force: Option<&InForce>,
    cluster: &ClusterName,
    restore: &Restore,
    (id, machine): (&MachineId, &Machine),
    key: &Option<Arc<Key>>,
) -> Result<RestorePlan, String> {
    let in_force = in_force.ok_or("backup storage is not configured")?;
    let agents = leader.fleet.agents(cluster, Instant::now());
    let agent = agents.get(id).ok_or("its agent is not connected")?;
    let recipient = seal::parse_recipient(&agent.beat.recipient).map_err(|e| e.to_string())?;
    let sealed_identity = match key {
        None => Vec::new(),
        Some(key) => sealed(&key.0, &recipient)?,
    };
    let seat = |machine: &Machine| MemberSeat {
        name: machine.member.clone(),
        peer_urls: machine.peer_urls.clone(),
        ..MemberSeat::default()
    };
    let source = &restore.source;
    Ok(RestorePlan {
        cluster_uuid: source.uuid.to_string(),
        snapshot: source.snapshot.to_string(),
        store: Some(in_force.for_agent(&recipient).map_err(|e| e.to_string())?),
        sealed_identity: sealed_identity.into(),
        snapshot_sha256: from_hex(&source.sha256).into(),
        snapshot_bytes: source.bytes,
        members: restore.machines.values().map(seat).collect(),
        member_name: machine.member.clone(),
        token: restore.id.to_string(),
        bump: restore.bump,
        aside_suffix: restore.aside_suffix.clone(),
    })
}
