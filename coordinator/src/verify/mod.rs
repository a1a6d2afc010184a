//! The proof of a backup at rest, as the cluster's record keeps it. Pure; asking the agent is the cluster's task's.

pub mod failed;
pub mod state;

pub use failed::FailedProof;
pub use state::{Heard, Verification};
