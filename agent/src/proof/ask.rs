//! Asks another voting member for HashKV at the revision of the linearizable read, while the stream runs.

use std::sync::Arc;
use std::time::Duration;

use backstay_archive::manifest::Origin;
use tokio::time::{Instant, sleep, timeout};

use crate::etcd::{Connection, Etcd, EtcdError, HashKvError, Voter};

/// The pause between two calls to a member that is behind, or has compacted less than the snapshot.
const PAUSE: Duration = Duration::from_millis(250);

/// How long a member may take to catch up.
const BEHIND_MAX: Duration = Duration::from_secs(10);

/// How many members are asked, one after the other, until one answers.
const MEMBERS_MAX: usize = 4;

/// What a member said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub member: u64,
    pub hash: u32,
    /// Its compact revision when it answered; -1: never compacted.
    pub compact: i64,
}

/// Why there is no answer.
enum Silence {
    /// The member accepted the call and did not answer in time.
    Walking(String),
    No(String),
}

/// What to ask, and whom.
pub struct Question {
    etcd: Arc<Etcd>,
    /// The member that is read, and its cluster, in hexadecimal.
    member: String,
    cluster: String,
    at: i64,
    patience: Duration,
}

impl Question {
    /// A member may take as long as `patience` for its answer.
    pub fn new(etcd: Arc<Etcd>, patience: Duration, origin: &Origin) -> Self {
        let (member, cluster) = (origin.member_id.clone(), origin.etcd_cluster_id.clone());
        Self { etcd, member, cluster, at: origin.revision, patience }
    }

    /// Asks one member after the other.
    ///
    /// # Errors
    /// No member answers; and why, in words.
    pub async fn ask(&self) -> Result<Answer, String> {
        let voters = self.voters().await?;
        let mut reasons = Vec::new();
        for voter in voters.iter().take(MEMBERS_MAX) {
            let (reason, stop) = match self.ask_one(voter).await {
                Ok(answer) => return Ok(answer),
                // It may walk over its keys still: a second one would be held up, too.
                Err(Silence::Walking(reason)) => (reason, true),
                Err(Silence::No(reason)) => (reason, false),
            };
            reasons.push(format!("member {:016x}: {reason}", voter.id));
            if stop {
                break;
            }
        }
        Err(reasons.join("; "))
    }

    /// The other voting members, beginning with the next higher id, the leader last, since HashKV delays its writes.
    /// The member itself if it is the only one.
    async fn voters(&self) -> Result<Vec<Voter>, String> {
        let own = u64::from_str_radix(&self.member, 16).map_err(|e| format!("member id {:?}: {e}", self.member))?;
        let mut connection = self.etcd.connect().await.map_err(text)?;
        let leader = connection.member().await.map_err(text)?.leader_id;
        let mut voters = connection.voters().await.map_err(text)?;
        let alone = voters.iter().all(|voter| voter.id == own);
        voters.retain(|voter| alone || voter.id != own);
        voters.sort_by_key(|voter| (voter.id == leader, voter.id < own, voter.id));
        if voters.is_empty() { Err("the cluster has no voting member".into()) } else { Ok(voters) }
    }

    async fn ask_one(&self, voter: &Voter) -> Result<Answer, Silence> {
        let mut connection = self.connect(voter).await.map_err(Silence::No)?;
        let patience = self.patience();
        let begun = Instant::now();
        loop {
            let answer = timeout(patience, connection.hash_kv(self.at)).await;
            let late = |_| Silence::Walking(format!("no HashKV after {}s", patience.as_secs_f32()));
            match answer.map_err(late)? {
                Ok((hash, compact)) => return Ok(Answer { member: voter.id, hash, compact }),
                Err(HashKvError::Future) if begun.elapsed() < BEHIND_MAX => sleep(PAUSE).await,
                Err(error) => return Err(Silence::No(error.to_string())),
            }
        }
    }

    /// How long a member may take.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Connects, and checks that it is the right member. A simple call comes first, so that a member that does not
    /// answer at all costs little time.
    async fn connect(&self, voter: &Voter) -> Result<Connection, String> {
        let own = format!("{:016x}", voter.id) == self.member;
        let etcd = if own { (*self.etcd).clone() } else { self.etcd.at(&voter.client_urls).map_err(text)? };
        let mut connection = etcd.connect().await.map_err(text)?;
        let says = connection.member().await.map_err(text)?;
        let (cluster, id) = (format!("{:016x}", says.cluster_id), says.member_id);
        if cluster != self.cluster || id != voter.id {
            return Err(format!("member {id:016x} of cluster {cluster} answers at its URLs"));
        }
        Ok(connection)
    }

    /// Asks the same member again, a little later.
    ///
    /// # Errors
    /// Why it does not answer, in words.
    pub async fn again(&self, before: &Answer) -> Result<Answer, String> {
        sleep(PAUSE).await;
        let voters = self.voters().await?;
        let voter = voters.iter().find(|voter| voter.id == before.member).ok_or("it is no longer a member")?;
        self.ask_one(voter).await.map_err(|silence| match silence {
            Silence::Walking(reason) | Silence::No(reason) => reason,
        })
    }
}

fn text(error: EtcdError) -> String {
    error.to_string()
}
