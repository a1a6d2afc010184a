//! Attempts at a backup, at most one at a time.
//!
//! - [`job`]: the request in a command, checked once;
//! - [`backup`]: the pipeline itself, the same for an attempt and for `once`;
//! - [`service`]: accepts, cancels and reports attempts;
//! - [`totals`]: how many attempts ended how, for metrics.

pub mod backup;
pub mod job;
pub mod service;
pub mod totals;

pub use backup::{Backup, BackupFailure, Member, Taking, clock_off};
pub use job::{Address, Job};
pub use service::{Attempts, Running};
