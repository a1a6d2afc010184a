//! Asking one agent: request and reply, and whom to seal for.

use std::time::Duration;

use age::x25519::Recipient;
use backstay_archive::seal;
use backstay_protocol::bus::{self, Versioned};
use backstay_protocol::subject::{Command, Subject};
use backstay_protocol::{ClusterName, MachineId};
use tokio::time::Instant;

use crate::term::Term;

/// How long an agent may take to answer a command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Whom to seal for what is meant for one agent alone.
///
/// # Errors
/// In words.
pub fn recipient(term: &Term, cluster: &ClusterName, machine: MachineId) -> Result<Recipient, String> {
    let agents = term.fleet.agents(cluster, Instant::now());
    let agent = agents.get(&machine).ok_or("its agent is not connected")?;
    seal::parse_recipient(&agent.beat.recipient).map_err(|e| e.to_string())
}

/// Request/reply to one agent; "no responders" is an answer and comes at once.
pub async fn request<M: Versioned>(
    term: &Term,
    cluster: &ClusterName,
    machine: MachineId,
    command: Command,
    body: Vec<u8>,
) -> Result<M, String> {
    let subject = Subject::Agent { cluster: cluster.clone(), machine, command };
    match tokio::time::timeout(ANSWER_TIMEOUT, term.bus.request(&subject, body.into())).await {
        Ok(Ok(answer)) => bus::decode(&answer).map_err(|e| e.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it does not answer within {}s", ANSWER_TIMEOUT.as_secs())),
    }
}
