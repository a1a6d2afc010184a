//! What both daemons and the command line share at the edge: settings, the NATS connection, logs,
//! metrics over HTTP, signals, systemd, the clock and the machine's name, the flags of a bucket, sizes and durations for people.
//!
//! Nothing here knows what a backup is; of the archive it has the settings of a bucket alone.

#![deny(clippy::disallowed_macros)]
#![warn(missing_docs, clippy::missing_errors_doc)]

pub mod bucket;
pub mod clock;
pub mod help;
pub mod host;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod nats;
pub mod secrecy;
pub mod settings;
pub mod stop;
pub mod systemd;
pub mod terminal;
pub mod trouble;
pub mod units;

pub use clock::SystemClock;
