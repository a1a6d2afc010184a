//! etcd's snapshot file, with no network: what a stream of it must look like to be whole.
//!
//! - [`bolt`]: what stands where in bbolt's pages, read and written;
//! - [`frames`]: the messages of `Maintenance.Snapshot`, put together into a database and its trailer;
//! - [`restore`]: the way back, from a database to a data folder that etcd starts from.

pub mod bolt;
pub mod frames;
pub mod restore;

pub use frames::{FrameError, Frames, TRAILER_BYTES, Trailer};
