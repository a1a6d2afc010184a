//! The rounds in which one of the cluster's agents verifies a stored backup.
//!
//! The agent is asked again and again until it reports the end; an agent that does not know the verification begins it. So
//! nothing is lost if either side dies. A backup that is due has precedence: it is made between two rounds.

use std::sync::Arc;
use std::time::Duration;

use age::x25519::Identity;
use backstay_archive::seal;
use backstay_protocol::bus::{VerifyCommand, VerifyReply, verify_reply::Answer};
use backstay_protocol::subject::Command;
use backstay_protocol::{MachineId, VERSION};
use prost::Message as _;
use tokio::time::Instant;

use super::agent_call::{digest, recipient, request};
use crate::record::ClusterRecord;
use crate::reply::Reply;
use crate::storage::ActiveStore;
use crate::term::Term;
use crate::verify::{Heard, Verification};

/// The pause between two rounds.
const PAUSE: Duration = Duration::from_millis(700);

/// The result of a round.
#[derive(Debug)]
pub struct Round {
    pub machine: Option<MachineId>,
    pub heard: Heard,
}

/// One round; `None` if there is nothing to ask.
pub async fn drive(
    term: Arc<Term>,
    active_store: Option<Arc<ActiveStore>>,
    record: Arc<ClusterRecord>,
) -> Option<Round> {
    tokio::time::sleep(PAUSE).await;
    let verification = record.verification.as_ref()?;
    let agents = term.fleet.agents(&record.name, Instant::now());
    let Some(machine) = verification.next_machine(agents.keys().copied()) else {
        let heard = Heard::Silent("no agent of the cluster is connected".into());
        return Some(Round { machine: None, heard });
    };
    let heard = match command(&term, active_store.as_deref(), &record, verification, machine).await {
        Ok(command) => ask(&term, &record, machine, command).await,
        Err(error) => Heard::Silent(error),
    };
    Some(Round { machine: Some(machine), heard })
}

async fn ask(term: &Term, record: &ClusterRecord, machine: MachineId, command: VerifyCommand) -> Heard {
    let answer = request::<VerifyReply>(term, &record.name, machine, Command::Verify, command.encode_to_vec()).await;
    let said = |answer| match answer {
        Answer::State(state) => Ok(state),
        Answer::Refused(refused) => Err(refused),
    };
    Reply::read(term.epoch, answer.map(|reply| reply.answer.map(said)))
}

async fn command(
    term: &Term,
    active_store: Option<&ActiveStore>,
    record: &ClusterRecord,
    verification: &Verification,
    machine: MachineId,
) -> Result<VerifyCommand, String> {
    let active_store = active_store.ok_or("backup storage is not available")?;
    let recipient = recipient(term, &record.name, machine)?;
    let sealed_identity = match verification.encrypted {
        false => Vec::new(),
        true => {
            let (store, snapshot) = (&*active_store.store, verification.snapshot);
            let identity = term.keys.identity_of(&term.kv, store, record.uuid, snapshot).await;
            sealed(&identity.map_err(|e| e.to_string())?, &recipient)?
        }
    };
    Ok(VerifyCommand {
        version: VERSION,
        epoch: term.epoch,
        verify: verification.id.to_string(),
        cluster: record.name.to_string(),
        machine: machine.to_string(),
        cluster_uuid: record.uuid.to_string(),
        snapshot: verification.snapshot.to_string(),
        store: Some(active_store.for_agent(&recipient).map_err(|e| e.to_string())?),
        sealed_identity: sealed_identity.into(),
        snapshot_sha256: digest(&verification.sha256)?,
        boot: verification.boot,
    })
}

/// A cluster's identity, encrypted to one agent.
pub fn sealed(identity: &Identity, agent: &age::x25519::Recipient) -> Result<Vec<u8>, String> {
    let text = seal::identity_file(identity, "a cluster's key, for one agent");
    seal::seal_bytes(std::slice::from_ref(agent), text.as_bytes()).map_err(|e| e.to_string())
}
