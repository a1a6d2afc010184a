//! The proof of a backup at rest, by one of the cluster's agents: what stands in the record, and asking the agent.
//!
//! The agent is asked again and again until it says that it has ended; one that does not know what it is asked for
//! begins. So nothing is lost when either side dies. A backup that is due goes before: rounds are made in between.

pub mod failed;
pub mod state;

use std::sync::Arc;
use std::time::Duration;

use age::x25519::Identity;
use backstay_archive::{catalog, seal};
use backstay_protocol::bus::{VerifyCommand, VerifyReply, verify_reply::Answer};
use backstay_protocol::hex::from_hex;
use backstay_protocol::subject::Command;
use backstay_protocol::{MachineId, VERSION};
use prost::Message as _;
use tokio::time::Instant;

use crate::cluster::asking::{Told, recipient, request};
use crate::cluster::record::ClusterRecord;
use crate::cluster::steps::StepEnd;
use crate::leader::Leader;
use crate::storage::InForce;
pub use failed::FailedProof;
pub use state::{Heard, Verification};

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(700);

/// One round.
pub async fn drive(leader: Arc<Leader>, in_force: Option<Arc<InForce>>, record: Arc<ClusterRecord>) -> StepEnd {
    tokio::time::sleep(PAUSE).await;
    let Some(verification) = record.verification.as_ref() else { return StepEnd::Rested };
    let agents = leader.fleet.agents(&record.name, Instant::now());
    let Some(machine) = verification.next_machine(agents.keys().copied()) else {
        return StepEnd::Verified(None, Heard::Silent("no agent of the cluster is connected".into()));
    };
    let heard = match command(&leader, in_force.as_deref(), &record, verification, machine).await {
        Ok(command) => ask(&leader, &record, machine, command).await,
        Err(error) => Heard::Silent(error),
    };
    StepEnd::Verified(Some(machine), heard)
}

async fn ask(leader: &Leader, record: &ClusterRecord, machine: MachineId, command: VerifyCommand) -> Heard {
    let answer = request::<VerifyReply>(leader, &record.name, machine, Command::Verify, command.encode_to_vec()).await;
    let said = |answer| match answer {
        Answer::State(state) => Ok(state),
        Answer::Refused(refused) => Err(refused),
    };
    Told::read(leader, answer.map(|reply| reply.answer.map(said)))
}

async fn command(
    leader: &Leader,
    in_force: Option<&InForce>,
    record: &ClusterRecord,
    verification: &Verification,
    machine: MachineId,
) -> Result<VerifyCommand, String> {
    let in_force = in_force.ok_or("backup storage is not configured")?;
    let recipient = recipient(leader, &record.name, machine)?;
    let sealed_identity = match verification.encrypted {
        false => Vec::new(),
        true => {
            let (store, snapshot) = (&*in_force.store, verification.snapshot);
            let identity = leader.keys.identity_of(&leader.kv, store, record.uuid, snapshot).await;
            sealed(&identity.map_err(|e| e.to_string())?, &recipient)?
        }
    };
    Ok(VerifyCommand {
        version: VERSION,
        epoch: leader.epoch,
        verify: verification.id.to_string(),
        cluster: record.name.to_string(),
        machine: machine.to_string(),
        cluster_uuid: record.uuid.to_string(),
        snapshot: verification.snapshot.to_string(),
        store: Some(in_force.for_agent(&recipient).map_err(|e| e.to_string())?),
        sealed_identity: sealed_identity.into(),
        snapshot_sha256: from_hex(&verification.sha256).into(),
        boot: verification.boot,
    })
}

/// A cluster's identity for one agent alone.
pub fn sealed(identity: &Identity, agent: &age::x25519::Recipient) -> Result<Vec<u8>, String> {
    let text = seal::identity_file(identity, "a cluster's key, for one agent");
    seal::seal_bytes(std::slice::from_ref(agent), text.as_bytes()).map_err(|e| e.to_string())
}

/// The backup that is meant: that name, or the newest.
pub async fn find(
    in_force: &InForce,
    record: &ClusterRecord,
    snapshot: &str,
) -> Result<backstay_archive::Manifest, String> {
    let store = &*in_force.store;
    let found = match snapshot {
        "" | "latest" => catalog::newest(store, record.uuid).await.map_err(|e| e.to_string())?,
        name => {
            let name = name.parse().map_err(|e: backstay_protocol::NameError| e.to_string())?;
            catalog::manifest(store, record.uuid, name).await.map_err(|e| e.to_string())?
        }
    };
    found.ok_or_else(|| match snapshot {
        "" | "latest" => format!("cluster {} has no backup", record.name),
        name => format!("cluster {} has no {name} in the store", record.name),
    })
}
