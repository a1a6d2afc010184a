//! Where the bytes of a backup come from, and what vouches for them.

use async_trait::async_trait;
use bytes::Bytes;

use super::examine::Examination;
use crate::manifest::Origin;

/// A database as it arrives. Pulled by the writer.
#[async_trait]
pub trait Source: Send {
    /// The next bytes of the database, without any trailer; `None` at its end. Dropped in mid-wait when
    /// the attempt ends early.
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError>;

    /// After `None`: what the source says the whole must be, and where it came from.
    async fn proof(&mut self) -> Result<Proof, SourceError>;

    /// Asked once, before the first bytes: a look into the database on its way, where one is wanted.
    fn examination(&mut self) -> Option<Examination> {
        None
    }
}

/// What a source vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// sha256 of the database: etcd's trailer.
    pub sha256: [u8; 32],
    /// Bytes of the database, without the trailer.
    pub bytes: u64,
    pub origin: Origin,
}

/// Why a source could not go on, in words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);
