//! etcd's snapshot file, with no network: what a stream of it must look like to be whole.
//!
//! - [`bolt`]: what stands where in bbolt's pages, read and written;
//! - [`crc`]: CRC-32C of parts, put together;
//! - [`frames`]: the messages of `Maintenance.Snapshot`, put together into a database and its trailer;
//! - [`inspect`]: one look at a database as it streams by;
//! - [`release`]: which release of etcd starts on whose database;
//! - [`restore`]: the way back, from a database to a data folder that etcd starts from.

#![warn(missing_docs, clippy::missing_errors_doc)]
#![deny(clippy::disallowed_macros)]

pub mod bolt;
pub mod crc;
pub mod frames;
pub mod inspect;
pub mod release;
pub mod restore;

pub use frames::{FrameError, Frames, TRAILER_BYTES, Trailer};
