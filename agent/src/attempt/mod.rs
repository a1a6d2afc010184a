//! Attempts: one try at one backup, at most one at a time.
//!
//! - [`job`]: what a command asks for, checked once;
//! - [`backup`]: the pipeline itself, the same for an attempt and for `once`;
//! - [`service`]: who accepts, cancels and reports attempts;
//! - [`totals`]: what they have come to, for metrics.

pub mod backup;
pub mod job;
pub mod service;
pub mod totals;

pub use backup::{Backup, BackupFailure, Member, Taking, clock_off};
pub use job::{Address, Job};
pub use service::{Attempts, Running};
