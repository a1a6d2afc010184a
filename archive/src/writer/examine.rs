//! Inspects the database while it is verified.
//!
//! The writer knows nothing about databases. It lends each byte that came out of the encrypted form to an observer,
//! on the verifying thread, and waits for a verdict before it releases the last part.

use std::pin::Pin;

use crate::manifest::Inspection;

/// Sees the database while it passes. What it finds goes into the verdict of its [`Examination`].
pub trait Observer: Send {
    /// The next bytes of the database, in order, without its trailer. Blocks the pipeline while it runs.
    fn update(&mut self, database: &[u8]);

    /// The database is complete. Not called if the encrypted form could not be decrypted.
    fn finish(self: Box<Self>);
}

/// Becomes the verdict. Polled while the stream runs, and dropped if the attempt ends early. [`Rejected`] fails the
/// attempt.
pub type VerdictFuture = Pin<Box<dyn Future<Output = Result<Inspection, Rejected>> + Send>>;

/// An observer, and the verdict on what it sees.
pub struct Examination {
    /// Sees the bytes, on the verifying thread.
    pub observer: Box<dyn Observer>,
    /// What becomes of what it sees.
    pub verdict: VerdictFuture,
}

/// Why a snapshot is not worth keeping, although all of its bytes arrived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is not an intact database, or ends before the revision that it must contain; the text says which.
    #[error("{0}")]
    Unfit(String),
    /// Another member has different data; the text names both.
    #[error("{0}")]
    Disagreement(String),
}
