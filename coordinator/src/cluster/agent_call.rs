//! Calling one agent: request, reply, and to which recipient secrets are encrypted.

use std::time::Duration;

use age::x25519::Recipient;
use backstay_archive::seal;
use backstay_protocol::bus::{self, Versioned};
use backstay_protocol::hex::from_hex;
use backstay_protocol::subject::{Command, Subject};
use backstay_protocol::{ClusterName, MachineId};
use bytes::Bytes;
use tokio::time::Instant;

use crate::term::Term;

/// How long an agent may take to answer a command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The recipient for secrets that only one agent may read.
///
/// # Errors
/// Why not, in words.
pub fn recipient(term: &Term, cluster: &ClusterName, machine: MachineId) -> Result<Recipient, String> {
    let agents = term.fleet.agents(cluster, Instant::now());
    let agent = agents.get(&machine).ok_or("its agent is not connected")?;
    seal::parse_recipient(&agent.beat.recipient).map_err(|e| e.to_string())
}

/// A backup's sha256 as commands contain it.
///
/// # Errors
/// Why not, in words.
pub fn digest(sha256: &str) -> Result<Bytes, String> {
    let digest = from_hex(sha256);
    let advice = "the backup's manifest is damaged, so it cannot be restored: choose another backup";
    digest.map(Bytes::from).map_err(|error| format!("the backup's sha256 {sha256:?} is invalid ({error}): {advice}"))
}

/// Calls one agent. "No responders" is an answer, too, and arrives immediately.
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
        Err(_) => Err(format!("it did not answer within {}s", ANSWER_TIMEOUT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_that_cannot_be_read_is_never_sent_as_none() {
        assert_eq!(digest("ab0F"), Ok(Bytes::from_static(&[0xab, 0x0f])));
        for text in ["abc", "xy", "ab "] {
            let error = digest(text).expect_err(text);
            assert!(error.contains(&format!("{text:?}")) && error.contains("manifest is damaged"), "{error}");
        }
    }
}
