//! backstay-agent: one machine's etcd, one attempt at a time.
//!
//! - [`agent`]: the daemon, assembled from its parts, and how it stops;
//! - [`attempt`]: accepting, running and reporting attempts; the pipeline itself;
//! - [`once`]: one backup without NATS or coordinator, through the same pipeline;
//! - [`restore`]: this machine's part in the restore of its cluster;
//! - [`verify`]: verifying a stored backup; [`stored_backup`]: finding the backup for a verification or a restore;
//! - [`etcd`]: the member: status, linearizable read, snapshot stream;
//! - [`bus`]: commands, beats and progress; [`outbox`]: reports that must arrive;
//! - [`state`], [`identity`], [`machine`]: what the agent remembers, and which machine it is on;
//! - [`proof`]: the inspection of each snapshot, and the comparison with another member;
//! - [`settings`], [`cli`]: settings and command line.
//!
//! The coordinator decides when a backup is made. The crate `archive` knows what stored backups look like.

#![deny(clippy::disallowed_macros)]
#![warn(clippy::missing_errors_doc)]

pub mod agent;
pub mod attempt;
pub mod bus;
pub mod cli;
pub mod etcd;
pub mod identity;
pub mod machine;
pub mod metrics;
pub mod once;
pub mod outbox;
pub mod proof;
pub mod restore;
pub mod settings;
pub mod state;
pub mod stored_backup;
pub mod verify;
mod version;

pub use agent::Agent;
pub use settings::Settings;
pub use version::VERSION;
