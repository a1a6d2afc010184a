//! Reads, checks and restores the snapshot file that etcd's `Maintenance.Snapshot` sends. No network.
//!
//! - [`bolt`]: the layout of bbolt's pages, for reading and writing;
//! - [`crc`]: computes the CRC-32C of a whole from the CRCs of its parts;
//! - [`frames`]: turns the messages of `Maintenance.Snapshot` into a database and its trailer;
//! - [`inspect`]: checks a database while it streams by, and computes HashKV;
//! - [`release`]: which etcd release can start on a given database;
//! - [`restore`]: turns a database into a data directory that etcd can start from.

#![warn(missing_docs, clippy::missing_errors_doc)]
#![deny(clippy::disallowed_macros)]

pub mod bolt;
pub mod crc;
pub mod frames;
pub mod inspect;
pub mod release;
pub mod restore;

pub use frames::{FrameError, Frames, TRAILER_BYTES, Trailer};
