//! Why a backup could not be read.

use std::io;

use crate::store::StoreError;

/// Why a backup could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store fails, or the object is not there.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The manifest names a compression or an encryption, which this is, that this version does not know.
    #[error("the backup is encrypted with {0:?}, which this version does not support: update Backstay")]
    UnknownSeal(String),
    /// The backup is encrypted and no identity was given.
    #[error("the backup is encrypted for {recipients}: an identity is required")]
    NoIdentity {
        /// The recipients in the manifest, separated by commas.
        recipients: String,
    },
    /// The object is damaged, or encrypted for another identity; the text says what is wrong.
    #[error("the stored object cannot be decrypted or decompressed: {0}")]
    Open(String),
    /// The object or its content is not what the manifest describes.
    #[error("{what} has {got}, but its manifest says {expected}")]
    Mismatch {
        /// What was compared, such as `the sealed object`.
        what: &'static str,
        /// The length or digest in the manifest.
        expected: String,
        /// The length or digest found.
        got: String,
    },
    /// The output refused the data.
    #[error("failed to write the snapshot: {0}")]
    Write(#[source] io::Error),
    /// A receiver of the decrypted data stopped reading; it knows why.
    #[error("the receiver of the decrypted data has stopped")]
    Closed,
    /// A thread panicked.
    #[error("internal error: {0}")]
    Internal(String),
}

impl ReadError {
    /// age's messages sometimes have two lines; an error has one.
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
