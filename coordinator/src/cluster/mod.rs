//! Everything asynchronous for one cluster: its task, and the steps, calls and rounds for which the task waits.
//! Clusters do not wait for each other, so the trouble of one does not affect the others.

mod agent_call;
mod messages;
mod proof_rounds;
mod rest;
mod restore_rounds;
mod restoring;
mod slot;
mod step_ends;
mod steps;
mod task;

pub use task::{ClusterTask, task};
