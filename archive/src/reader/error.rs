//! Why a backup could not be read.

use std::io;

use crate::store::StoreError;

/// Why a backup could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the backup is encrypted with {0:?}, which this version does not support: update Backstay")]
    UnknownSeal(String),
    #[error("the backup is encrypted for {recipients}: an identity is required")]
    NoIdentity { recipients: String },
    #[error("the stored object cannot be decrypted or decompressed: {0}")]
    Open(String),
    #[error("{what} has {got}, but its manifest says {expected}")]
    Mismatch { what: &'static str, expected: String, got: String },
    #[error("failed to write the snapshot: {0}")]
    Write(#[source] io::Error),
    /// Who took what was opened wants no more of it, and knows why.
    #[error("the receiver of the decrypted data has stopped")]
    Closed,
    #[error("internal error: {0}")]
    Internal(String),
}

impl ReadError {
    /// What age says has two lines now and then; an error has one.
    pub(super) fn unopened(cause: &impl std::fmt::Display) -> Self {
        Self::Open(cause.to_string().replace('\n', " "))
    }
}

pub(super) fn size(bytes: u64) -> String {
    format!("{bytes} bytes")
}

pub(super) fn mismatch(what: &'static str, expected: String, got: String) -> ReadError {
    ReadError::Mismatch { what, expected, got }
}
