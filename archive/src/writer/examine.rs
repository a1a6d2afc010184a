//! A look into the database while it is verified: who looks, and what it comes to.
//!
//! The writer knows nothing of databases. It lends each byte that came out of the sealed form to an observer, on the
//! verifying thread, and waits for a verdict before it releases the last part.

use std::pin::Pin;

use crate::manifest::Inspection;

/// Sees the database go by. What it finds goes to its examination's verdict.
pub trait Observer: Send {
    /// The next bytes of the database, without its trailer.
    fn update(&mut self, database: &[u8]);

    /// All of it has come. Not called where the sealed form did not open.
    fn finish(self: Box<Self>);
}

/// The verdict, once there is one. Polled while the stream runs; dropped where the attempt ends early.
pub type VerdictFuture = Pin<Box<dyn Future<Output = Result<Inspection, Rejected>> + Send>>;

/// An observer, and what becomes of what it sees.
pub struct Examination {
    pub observer: Box<dyn Observer>,
    pub verdict: VerdictFuture,
}

/// Why a snapshot is not worth keeping, though all of its bytes arrived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is no whole database, or an older one than it must be.
    #[error("{0}")]
    Unfit(String),
    /// Another member holds other data.
    #[error("{0}")]
    Disagreement(String),
}
