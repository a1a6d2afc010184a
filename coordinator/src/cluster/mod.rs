//! All that awaits for one cluster: its task, and the steps, calls and rounds that the task waits for. One cluster's trouble is
//! its own: nothing here waits for another.

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
