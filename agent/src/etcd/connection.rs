//! A connection to one member: its status, hashes of its keys, and a linearizable read.

use std::time::Duration;

use backstay_protocol::bus::{ListedMember, Member};
use etcd_client::{AuthClient, Client, GetOptions, StatusResponse};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout};
use tonic::Streaming;
use tonic::transport::Channel;

use super::endpoint::{Words, advice};
use super::error::{EtcdError, describe, is_election, is_unavailable, too_long};
use super::stream::{self, Frame};

/// How long a member may take for a simple call.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a member may take to read all its keys.
pub(super) const HASH_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a linearizable read may take: an election takes less.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause before a read is repeated that failed because of an election.
const ELECTION_PAUSE: Duration = Duration::from_millis(200);

/// A voting member in the member list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    pub id: u64,
    pub client_urls: Vec<String>,
}

/// Why a member does not return its HashKV.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashKvError {
    #[error("it has not reached the revision yet")]
    Future,
    #[error(
        "it has compacted the revision (etcd before 3.4.27 and 3.5.10 computes HashKV only for revisions after the \
         last compaction)"
    )]
    Compacted,
    #[error("failed to get its HashKV: {0}")]
    Call(String),
}

impl HashKvError {
    /// etcd distinguishes the two only by their texts.
    fn of(error: &etcd_client::Error) -> Self {
        let text = describe(error);
        if text.contains("is a future revision") {
            Self::Future
        } else if text.contains("has been compacted") {
            Self::Compacted
        } else {
            Self::Call(text)
        }
    }
}

/// A connection to one member.
pub struct Connection {
    pub(super) client: Client,
    /// The same connection, for the call that `client` would make with one more copy of the data.
    pub(super) channel: Channel,
    /// If authentication is on, who logs in for that call.
    pub(super) login: Option<Login>,
    pub(super) endpoint: String,
    /// Whether it shows a client certificate.
    pub(super) certificate: bool,
    pub(super) words: Words,
}

pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: SecretString,
}

impl Connection {
    /// The status of the member. Asks this member only: neither raft nor the disk is involved, so it answers without a
    /// quorum, too.
    ///
    /// # Errors
    /// [`EtcdError::Call`] if etcd refuses the call or does not answer in time.
    pub async fn member(&mut self) -> Result<Member, EtcdError> {
        let answer = timeout(CALL_TIMEOUT, self.client.status()).await;
        let status = match answer {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(self.failed("ask for the status", describe(&error))),
            Err(_) => return Err(self.failed("ask for the status", too_long(CALL_TIMEOUT))),
        };
        describe_member(&status).ok_or_else(|| self.failed("ask for the status", "the answer has no header".into()))
    }

    /// The revision of a linearizable read: the whole cluster has at least this revision.
    ///
    /// # Errors
    /// [`EtcdError::NoQuorum`] if there is no answer in time; [`EtcdError::Call`] if etcd refuses.
    pub async fn revision(&mut self) -> Result<i64, EtcdError> {
        // A count of one key that nobody has: the cheapest question that needs a quorum.
        let options = || Some(GetOptions::new().with_count_only());
        let begun = Instant::now();
        // etcd itself gives up earlier than we do.
        let no_quorum = |cause| EtcdError::NoQuorum { after: begun.elapsed(), cause };
        let read = async {
            loop {
                match self.client.get("\0", options()).await {
                    // The new leader can answer.
                    Err(error) if is_election(&error) => tokio::time::sleep(ELECTION_PAUSE).await,
                    answer => return answer,
                }
            }
        };
        match timeout(READ_TIMEOUT, read).await {
            Err(_) => Err(no_quorum("no answer".into())),
            Ok(Err(error)) if is_unavailable(&error) && self.advice(&describe(&error)).is_empty() => {
                Err(no_quorum(describe(&error)))
            }
            Ok(Err(error)) => Err(self.failed("read the revision", describe(&error))),
            Ok(Ok(answer)) => match answer.header() {
                Some(header) => Ok(header.revision()),
                None => Err(self.failed("read the revision", "the answer has no header".into())),
            },
        }
    }

    /// The member list. From etcd 3.5 on this needs a quorum.
    ///
    /// # Errors
    /// [`EtcdError::Call`] if etcd refuses the call or does not answer in time.
    pub async fn members(&mut self) -> Result<Vec<ListedMember>, EtcdError> {
        match timeout(CALL_TIMEOUT, self.client.member_list()).await {
            Ok(Ok(answer)) => Ok(listed_members(answer.members())),
            Ok(Err(error)) => Err(self.failed("ask for the member list", describe(&error))),
            Err(_) => Err(self.failed("ask for the member list", too_long(CALL_TIMEOUT))),
        }
    }

    /// This member's own hash of all keys up to a revision. If exactly that revision is compacted (as after a restore
    /// without a write since; older releases refuse it then), the hash of all keys instead.
    ///
    /// # Errors
    /// [`EtcdError::Call`] if etcd refuses the call or does not answer in time.
    pub async fn hash_at(&mut self, revision: i64) -> Result<HashKv, EtcdError> {
        match timeout(HASH_TIMEOUT, self.client.hash_kv(revision)).await {
            Ok(Ok(answer)) => Ok(HashKv::of(&answer, revision)),
            Ok(Err(error)) if error.to_string().contains("compacted") => {
                match timeout(HASH_TIMEOUT, self.client.hash_kv(0)).await {
                    Ok(Ok(answer)) => Ok(HashKv::of(&answer, answer.header().map_or(0, |header| header.revision()))),
                    Ok(Err(error)) => Err(self.failed("ask for HashKV", describe(&error))),
                    Err(_) => Err(self.failed("ask for HashKV", too_long(HASH_TIMEOUT))),
                }
            }
            Ok(Err(error)) => Err(self.failed("ask for HashKV", describe(&error))),
            Err(_) => Err(self.failed("ask for HashKV", too_long(HASH_TIMEOUT))),
        }
    }

    /// The members that vote and have client URLs.
    ///
    /// # Errors
    /// [`EtcdError::Call`] if etcd refuses the call or does not answer in time.
    pub async fn voters(&mut self) -> Result<Vec<Voter>, EtcdError> {
        let answer = match timeout(CALL_TIMEOUT, self.client.member_list()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.failed("list the members", describe(&error))),
            Err(_) => return Err(self.failed("list the members", too_long(CALL_TIMEOUT))),
        };
        let voters = answer.members().iter().filter(|m| !m.is_learner() && !m.client_urls().is_empty());
        Ok(voters.map(|m| Voter { id: m.id(), client_urls: m.client_urls().to_vec() }).collect())
    }

    /// HashKV at a revision, and the compact revision that belongs to it (-1: never compacted). etcd reads all keys for
    /// it, so the caller must set a deadline.
    ///
    /// # Errors
    /// [`HashKvError`]: the revision is compacted or still to come, or etcd refuses the call.
    pub async fn hash_kv(&mut self, at: i64) -> Result<(u32, i64), HashKvError> {
        match self.client.hash_kv(at).await {
            Ok(answer) => Ok((answer.hash(), answer.compact_version())),
            Err(error) => Err(HashKvError::of(&error)),
        }
    }

    pub(super) async fn snapshot(&mut self, patience: Duration) -> Result<Streaming<Frame>, EtcdError> {
        let open = async {
            let token = match &self.login {
                Some(login) => Some(login.token(self.client.auth_client()).await?),
                None => None,
            };
            Ok(stream::open(self.channel.clone(), token.as_deref()).await?)
        };
        match timeout(patience, open).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.failed("open the snapshot stream", describe(&error))),
            Err(_) => Err(self.failed("open the snapshot stream", too_long(patience))),
        }
    }

    fn advice(&self, cause: &str) -> String {
        advice(&self.endpoint, cause, self.certificate, self.words)
    }

    /// An error, with what is probably wrong about the connection.
    pub(super) fn failed(&self, call: &'static str, cause: String) -> EtcdError {
        self.said(call, format!("{cause}{}", self.advice(&cause)))
    }

    pub(super) fn said(&self, call: &'static str, cause: String) -> EtcdError {
        EtcdError::Call { call, endpoint: self.endpoint.clone(), cause }
    }
}

/// A hash of all keys up to a revision, and what it leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKv {
    pub revision: i64,
    pub hash: u32,
    pub compact_revision: i64,
}

impl HashKv {
    fn of(answer: &etcd_client::HashKvResponse, revision: i64) -> Self {
        Self { revision, hash: answer.hash(), compact_revision: answer.compact_version() }
    }
}

/// The members of etcd's answer, as messages carry them.
fn listed_members(members: &[etcd_client::Member]) -> Vec<ListedMember> {
    let listed = |member: &etcd_client::Member| ListedMember {
        id: member.id(),
        name: member.name().to_owned(),
        peer_urls: member.peer_urls().to_vec(),
        learner: member.is_learner(),
    };
    members.iter().map(listed).collect()
}

impl Login {
    /// A new token, since that of the client is not accessible.
    async fn token(&self, mut client: AuthClient) -> Result<String, etcd_client::Error> {
        let password = self.password.expose_secret().to_owned();
        Ok(client.authenticate(self.user.clone(), password).await?.token().to_owned())
    }
}

fn describe_member(status: &StatusResponse) -> Option<Member> {
    let header = status.header()?;
    Some(Member {
        cluster_id: header.cluster_id(),
        member_id: header.member_id(),
        leader_id: status.leader(),
        learner: status.is_learner(),
        etcd_version: status.version().to_owned(),
        db_size: status.db_size(),
        revision: header.revision(),
        raft_index: status.raft_index(),
        raft_applied_index: status.raft_applied_index(),
        alarms: status.errors().iter().filter_map(|text| alarm(text, header.member_id())).collect(),
    })
}

/// The name of an alarm of `member` in one of the errors that a status carries, such as `memberID:10276657743932975437
/// alarm:NOSPACE`. An alarm without a member counts for every member.
///
/// Asking for the alarms themselves would go through raft: a write for every beat, and no answer without
/// a quorum.
fn alarm(text: &str, member: u64) -> Option<String> {
    let value = |key: &str| text.split_whitespace().find_map(|word| word.strip_prefix(key));
    let name = value("alarm:")?;
    let whose = value("memberID:").map_or(0, |id| id.parse().unwrap_or(0));
    (whose == 0 || whose == member).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_read_from_the_errors_of_a_status() {
        assert_eq!(alarm("memberID:7 alarm:NOSPACE ", 7).as_deref(), Some("NOSPACE"));
        assert_eq!(alarm("alarm:CORRUPT ", 7).as_deref(), Some("CORRUPT"), "nobody's alarm is everybody's");
        assert_eq!(alarm("memberID:8 alarm:CORRUPT", 7), None, "another member's");
        assert_eq!(alarm("etcdserver: no leader", 7), None);
    }
}
