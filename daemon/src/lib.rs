//! What the daemons and the command line share around their actual work: settings, the NATS connection, logs, metrics over
//! HTTP, signals, systemd, the clock, the host name, the flags of a bucket, and texts of sizes and durations.
//!
//! Nothing here knows what a backup is; of the archive, only the settings of a bucket are used.

#![deny(clippy::disallowed_macros)]
#![warn(missing_docs, clippy::missing_errors_doc)]

pub mod bucket;
pub mod clock;
pub mod help;
pub mod host;
pub mod http;
pub mod key_file;
pub mod logs;
pub mod metrics;
pub mod nats;
pub mod secrecy;
pub mod settings;
pub mod signers;
pub mod stop;
pub mod systemd;
pub mod terminal;
pub mod tips;
pub mod trouble;
pub mod units;

pub use clock::SystemClock;
