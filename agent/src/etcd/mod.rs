//! The machine's own etcd member: connecting to it, what it says of itself, and a linearizable read.
//!
//! - `endpoint`: settings, TLS and the HTTP/2 connection;
//! - [`source`]: the snapshot stream as a source of a backup;
//! - `stream`: its frames on the wire;
//! - [`poll`]: the member as beats show it;
//! - [`sample`]: keys read back, for a proof.
//!
//! What a backup is, and when one is taken, is not decided here.

use std::time::Duration;

use backstay_protocol::bus::{Member, MemberSeat};
use backstay_snapshot::FrameError;
use etcd_client::{AuthClient, Client, GetOptions, StatusResponse};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout};
use tonic::Streaming;
use tonic::transport::Channel;

use self::stream::Frame;

use crate::proof::settings::InspectionSettings;

mod endpoint;
pub mod poll;
pub mod sample;
pub mod source;
mod stream;

pub use endpoint::{EtcdSettings, Words};

/// How long a member may take to answer a small question.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a member may take to walk all its keys.
const HASH_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a linearizable read may take: an election takes less.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Before a read that an election cut short is made again.
const ELECTION_PAUSE: Duration = Duration::from_millis(200);

/// Why etcd could not be asked, or what is wrong with its answer.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    #[error("{0}")]
    Settings(String),
    #[error("cannot use the etcd {what} {path}: {cause}")]
    File { what: &'static str, path: String, cause: String },
    #[error("no etcd answers at {endpoints}: {cause}")]
    Unreachable { endpoints: String, cause: String },
    #[error("failed to {call} of etcd at {endpoint}: {cause}")]
    Call { call: &'static str, endpoint: String, cause: String },
    #[error(
        "no linearizable read after {:.1}s: the member has no quorum or is cut off from its leader ({cause})",
        .after.as_secs_f32()
    )]
    NoQuorum { after: Duration, cause: String },
    #[error("{0}")]
    Unfit(String),
    #[error("the snapshot stream is stuck: no byte for {seconds}s, after {read} bytes of {total}")]
    Stalled { seconds: u64, read: u64, total: String },
    #[error("{0}")]
    Frames(#[from] FrameError),
}

/// Where the member is, checked and with its password at hand.
#[derive(Clone)]
pub struct Etcd {
    settings: EtcdSettings,
    password: Option<String>,
    inspection: InspectionSettings,
}

impl Etcd {
    /// # Errors
    /// The settings contradict each other, or the password's file cannot be read.
    pub fn new(settings: EtcdSettings) -> Result<Self, EtcdError> {
        let password = settings.check()?;
        Ok(Self { settings, password, inspection: InspectionSettings::default() })
    }

    /// With snapshots looked into as `inspection` says.
    pub fn with_inspection(self, inspection: InspectionSettings) -> Self {
        Self { inspection, ..self }
    }

    /// How snapshots are looked into.
    pub fn inspection(&self) -> &InspectionSettings {
        &self.inspection
    }

    /// Another member of the same cluster, with the same certificates and user.
    ///
    /// # Errors
    /// The settings do not fit its URLs.
    pub fn at(&self, client_urls: &[String]) -> Result<Self, EtcdError> {
        let settings = EtcdSettings { endpoints: client_urls.to_vec(), ..self.settings.clone() };
        Ok(Self::new(settings)?.with_inspection(self.inspection.clone()))
    }

    /// Connects to the first endpoint that answers.
    pub async fn connect(&self) -> Result<Connection, EtcdError> {
        endpoint::connect(&self.settings, self.password.as_deref()).await
    }
}

/// A voting member, as the member list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    pub id: u64,
    pub client_urls: Vec<String>,
}

/// Why a member does not say its HashKV.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashKvError {
    #[error("it has not caught up with the revision")]
    Future,
    #[error(
        "it has compacted the revision (etcd before 3.4.27 and 3.5.10 says HashKV only for later ones than that of a compaction)"
    )]
    Compacted,
    #[error("failed to ask for HashKV: {0}")]
    Call(String),
}

impl HashKvError {
    /// etcd tells the two apart by their texts alone.
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
    client: Client,
    /// The same connection, for the call that `client` makes too costly.
    channel: Channel,
    /// Where authentication is on: who logs in for that call.
    login: Option<Login>,
    endpoint: String,
    /// Whether it shows a client certificate.
    certificate: bool,
    words: Words,
}

struct Login {
    user: String,
    password: SecretString,
}

impl Connection {
    /// What the member says of itself. Asks this member alone: neither raft nor the disk is involved, so
    /// it answers without a quorum, too.
    pub async fn member(&mut self) -> Result<Member, EtcdError> {
        let answer = timeout(CALL_TIMEOUT, self.client.status()).await;
        let status = match answer {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(self.failed("ask for the status", describe(&error))),
            Err(_) => return Err(self.failed("ask for the status", too_long(CALL_TIMEOUT))),
        };
        describe_member(&status).ok_or_else(|| self.failed("ask for the status", "the answer has no header".into()))
    }

    /// The revision of a linearizable read: the cluster as a whole is at least here.
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
    pub async fn members(&mut self) -> Result<Vec<MemberSeat>, EtcdError> {
        match timeout(CALL_TIMEOUT, self.client.member_list()).await {
            Ok(Ok(answer)) => Ok(seats(answer.members())),
            Ok(Err(error)) => Err(self.failed("ask for the member list", describe(&error))),
            Err(_) => Err(self.failed("ask for the member list", too_long(CALL_TIMEOUT))),
        }
    }

    /// This member's own hash of all keys up to a revision. Where just that revision is compacted, as after a restore
    /// that nobody has written to since (older releases refuse it then), of all that there is.
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

    /// The members that vote and can be asked.
    pub async fn voters(&mut self) -> Result<Vec<Voter>, EtcdError> {
        let answer = match timeout(CALL_TIMEOUT, self.client.member_list()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.failed("list the members", describe(&error))),
            Err(_) => return Err(self.failed("list the members", too_long(CALL_TIMEOUT))),
        };
        let voters = answer.members().iter().filter(|m| !m.is_learner() && !m.client_urls().is_empty());
        Ok(voters.map(|m| Voter { id: m.id(), client_urls: m.client_urls().to_vec() }).collect())
    }

    /// HashKV at a revision, and the compact revision for which it is said (-1: never compacted). Walks over all keys;
    /// has no deadline of its own.
    pub async fn hash_kv(&mut self, at: i64) -> Result<(u32, i64), HashKvError> {
        match self.client.hash_kv(at).await {
            Ok(answer) => Ok((answer.hash(), answer.compact_version())),
            Err(error) => Err(HashKvError::of(&error)),
        }
    }

    async fn snapshot(&mut self, patience: Duration) -> Result<Streaming<Frame>, EtcdError> {
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
        endpoint::advice(&self.endpoint, cause, self.certificate, self.words)
    }

    /// With what is probably wrong about the connection.
    fn failed(&self, call: &'static str, cause: String) -> EtcdError {
        self.said(call, format!("{cause}{}", self.advice(&cause)))
    }

    fn said(&self, call: &'static str, cause: String) -> EtcdError {
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

/// The seats of a member list.
fn seats(members: &[etcd_client::Member]) -> Vec<MemberSeat> {
    let seat = |member: &etcd_client::Member| MemberSeat {
        id: member.id(),
        name: member.name().to_owned(),
        peer_urls: member.peer_urls().to_vec(),
        learner: member.is_learner(),
    };
    members.iter().map(seat).collect()
}

impl Login {
    /// A new token: the one that the client holds is its own.
    async fn token(&self, mut client: AuthClient) -> Result<String, etcd_client::Error> {
        let password = self.password.expose_secret().to_owned();
        Ok(client.authenticate(self.user.clone(), password).await?.token().to_owned())
    }
}

fn too_long(patience: Duration) -> String {
    format!("no answer within {}s", patience.as_secs_f32())
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

/// The name of an alarm of `member` in one of the errors that a status carries, such as
/// `memberID:10276657743932975437 alarm:NOSPACE`. An alarm that names no member counts for each.
///
/// Asking for the alarms themselves would go through raft: a write for every beat, and no answer without
/// a quorum.
fn alarm(text: &str, member: u64) -> Option<String> {
    let value = |key: &str| text.split_whitespace().find_map(|word| word.strip_prefix(key));
    let name = value("alarm:")?;
    let whose = value("memberID:").map_or(0, |id| id.parse().unwrap_or(0));
    (whose == 0 || whose == member).then(|| name.to_owned())
}

fn is_unavailable(error: &etcd_client::Error) -> bool {
    use tonic::Code::{Cancelled, DeadlineExceeded, Unavailable};
    matches!(error, etcd_client::Error::GRpcStatus(s) if matches!(s.code(), Unavailable | DeadlineExceeded | Cancelled))
}

/// The leader changed while it was asked.
fn is_election(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message() == "etcdserver: leader changed")
}

/// An error of the client in one line, down to its last cause.
fn describe(error: &etcd_client::Error) -> String {
    match error {
        etcd_client::Error::GRpcStatus(status) => {
            let mut text = match status.message() {
                "" => status.code().description().to_owned(),
                message => message.to_owned(),
            };
            if status.code() == tonic::Code::PermissionDenied || text.contains("user name is empty") {
                text.push_str(" (authentication is on: a user with the root role is needed)");
            }
            with_causes(text, std::error::Error::source(status))
        }
        etcd_client::Error::TransportError(error) => with_causes(error.to_string(), std::error::Error::source(error)),
        other => other.to_string(),
    }
}

fn with_causes(mut text: String, mut cause: Option<&dyn std::error::Error>) -> String {
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text.replace('\n', " ")
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
