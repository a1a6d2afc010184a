//! etcd's snapshot file, with no network: what a stream of it must look like to be whole.
//!
//! - [`bolt`]: what stands where in bbolt's pages, read and written;
//! - [`frames`]: the messages of `Maintenance.Snapshot`, put together into a database and its trailer.

pub mod bolt;
pub mod frames;

pub use frames::{FrameError, Frames, TRAILER_BYTES, Trailer};
