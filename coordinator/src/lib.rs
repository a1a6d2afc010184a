//! The coordinator: schedule, dispatch and status of all clusters' backups.
//!
//! The bytes of a backup never pass through here. See [`coordinator`] and [`leader`] for how the parts work together.

#![deny(clippy::disallowed_macros)]
#![warn(clippy::missing_errors_doc)]

pub mod agent_coverage;
pub mod api;
pub mod arguments;
pub mod attempts;
pub mod beats;
pub mod bus;
pub mod clocks;
pub mod clockwatch;
pub mod cluster;
pub mod config;
pub mod coordinator;
pub mod directory;
pub mod fleet;
mod forgotten;
pub mod init;
pub mod inputs;
pub mod keys;
pub mod kv;
pub mod latest;
pub mod leader;
pub mod lease;
pub mod listen;
pub mod member;
pub mod metrics;
pub mod overall;
pub mod record;
pub mod registry;
pub mod reply;
pub mod restore;
pub mod schedule;
pub mod status;
pub mod storage;
pub mod term;
pub mod twins;
pub mod upkeep;
pub mod verify;
