//! Where the bytes of a backup come from, and what they must be.

use async_trait::async_trait;
use bytes::Bytes;

use super::examine::Examination;
use crate::manifest::Origin;

/// A database that arrives in pieces. The writer asks for each.
#[async_trait]
pub trait Source: Send {
    /// The next bytes of the database, without a trailer; `None` at its end. The future is dropped if the attempt
    /// ends early.
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError>;

    /// Called after `None`: what the whole database must be, and where it comes from.
    async fn proof(&mut self) -> Result<Proof, SourceError>;

    /// Called once, before the first bytes: an inspection of the database, if one is wanted.
    fn examination(&mut self) -> Option<Examination> {
        None
    }
}

/// What the source states about the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// SHA-256 of the database, from etcd's trailer.
    pub sha256: [u8; 32],
    /// Size of the database in bytes, without the trailer.
    pub bytes: u64,
    /// The etcd that it comes from.
    pub origin: Origin,
}

/// Why a source failed, as text.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);
