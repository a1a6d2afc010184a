//! backstay-agent: one machine's etcd, one attempt at a time.
//!
//! - [`agent`]: the daemon, assembled from its collaborators, and how it stops;
//! - [`attempt`]: accepting, running and reporting attempts; the pipeline itself;
//! - [`once`]: one backup without NATS or coordinator, through the same pipeline;
//! - [`restore`]: this machine's part in the restore of its cluster;
//! - [`verify`]: proving a backup at rest; [`stored_backup`]: the backup that it, or a restore, reads;
//! - [`etcd`]: the member: status, linearizable read, snapshot stream;
//! - [`bus`]: commands, beats and progress; [`outbox`]: reports that must arrive;
//! - [`state`], [`identity`], [`machine`]: what the agent is and remembers;
//! - [`proof`]: the look into each snapshot, and whether another member holds the same;
//! - [`settings`], [`cli`]: what it is told.
//!
//! Deciding when to back up what is the coordinator's; bytes at rest are the archive crate's.

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
