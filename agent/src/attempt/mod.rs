//! Attempts: one try at one backup, at most one at a time.
//!
//! - [`job`]: what a command asks for, checked once;
//! - [`backup`]: the pipeline itself, the same for an attempt and for `once`;
//! - [`desk`]: who accepts, cancels and reports attempts;
//! - [`tally`]: what they have come to, for metrics.

pub mod backup;
pub mod desk;
pub mod job;
pub mod tally;

pub use backup::{Backup, Failure, Member, Taking, clock_off};
pub use desk::{Attempts, Running};
pub use job::{Address, Job};
