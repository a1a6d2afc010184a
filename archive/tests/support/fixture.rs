//! Plans, databases and sources for tests of the writer.

use async_trait::async_trait;
use backstay_protocol::{AttemptId, Clock, ClusterUuid, SlotId, SnapshotName, Timestamp};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::archive::manifest::{Origin, Trigger};
use super::archive::seal::{Identity, Recipient};
use super::archive::writer::{Plan, Proof, Source, SourceError};

pub const NOW: Timestamp = Timestamp { seconds: 1_701_184_523, nanos: 250_000_000 };

#[derive(Debug)]
pub struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        NOW
    }
}

pub fn cluster() -> ClusterUuid {
    ClusterUuid(Uuid::from_u128(0xc1))
}

pub fn name(seconds: i64) -> SnapshotName {
    SnapshotName::from_unix_seconds(seconds).expect("in range")
}

/// A plan of one slot and one attempt, each given as a small number.
pub fn plan(slot: u128, attempt: u128, recipients: Vec<Recipient>) -> Plan {
    Plan {
        cluster: "talos-default".parse().expect("a good name"),
        cluster_uuid: cluster(),
        machine: None,
        attempt: AttemptId(Uuid::from_u128(attempt)),
        slot: SlotId(Uuid::from_u128(slot)),
        snapshot: name(1_701_184_522),
        trigger: Trigger::Manual,
        recipients,
        agent_version: "0.1.0".into(),
        replaces: None,
    }
}

pub fn sealed_plan() -> (Plan, Identity) {
    let identity = Identity::generate();
    (plan(1, 1, vec![identity.to_public()]), identity)
}

/// Bytes that cannot be compressed, reproducible by the seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    out.truncate(len);
    out
}

pub fn proof_of(data: &[u8]) -> Proof {
    let origin = Origin {
        etcd_cluster_id: "cdf818194e3a8c32".into(),
        member_id: "8e9e05c52164694d".into(),
        etcd_version: "3.4.23".into(),
        revision: 7,
    };
    Proof { sha256: Sha256::digest(data).into(), bytes: data.len() as u64, origin }
}

/// The snapshot file in a backup of `data`: the database and its trailer.
pub fn file_of(data: &[u8]) -> Vec<u8> {
    [data, &proof_of(data).sha256].concat()
}

/// How a [`Database`] ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Whole,
    /// Ends as if it were complete.
    Cut,
    Fails,
    Hangs,
}

/// A database in memory, in frames of a given size.
pub struct Database {
    pub data: Bytes,
    pub at: usize,
    pub frame: usize,
    pub stop_at: usize,
    pub end: End,
    pub proof: Result<Proof, SourceError>,
    /// Whether the request for the proof is never answered.
    pub proof_hangs: bool,
}

impl Database {
    pub fn new(data: &[u8], frame: usize) -> Self {
        let (data, proof) = (Bytes::copy_from_slice(data), Ok(proof_of(data)));
        Self { stop_at: data.len(), data, at: 0, frame, end: End::Whole, proof, proof_hangs: false }
    }

    /// A database that ends after `at` bytes.
    pub fn ending(data: &[u8], frame: usize, at: usize, end: End) -> Self {
        Self { stop_at: at, end, ..Self::new(data, frame) }
    }
}

#[async_trait]
impl Source for Database {
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        tokio::task::yield_now().await;
        if self.at < self.stop_at {
            let end = (self.at + self.frame).min(self.stop_at);
            let data = self.data.slice(self.at..end);
            self.at = end;
            return Ok(Some(data));
        }
        match self.end {
            End::Whole | End::Cut => Ok(None),
            End::Fails => Err(SourceError("the member went away".into())),
            End::Hangs => std::future::pending().await,
        }
    }

    async fn proof(&mut self) -> Result<Proof, SourceError> {
        if self.proof_hangs {
            return std::future::pending().await;
        }
        self.proof.clone()
    }
}

/// For property tests, which are not async themselves.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}
