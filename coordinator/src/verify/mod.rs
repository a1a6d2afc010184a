//! The verification of a stored backup in the cluster's record. Pure; the cluster's task asks the agent.

pub mod failed;
pub mod state;

pub use failed::FailedProof;
pub use state::{Heard, Verification};
