//! The words of Backstay: ids, subjects, messages, resources, validation, codecs.
//!
//! No IO and no clock live here: everything is a value or a function of values, so both ends of the
//! bus, the command line and the tests share one meaning of each word.

#![deny(clippy::disallowed_macros)]

pub mod api;
pub mod backstay_types;
pub mod bus;
pub mod certificates;
pub mod codec;
pub mod duration;
pub mod fields;
pub mod hex;
mod invalid;
pub mod limits;
pub mod machines;
pub mod names;
pub mod resource;
pub mod selector;
pub mod spec;
pub mod subject;
pub mod time;
pub mod types;
pub mod validate;

pub use names::{AttemptId, ClusterName, ClusterUuid, MachineId, NameError, RestoreId, SlotId, SnapshotName, VerifyId};
pub use time::{Clock, Timestamp};

/// The version of the bus's messages that this build speaks.
pub const VERSION: u32 = 1;
