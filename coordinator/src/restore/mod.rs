//! The restore of a cluster by its agents, in two phases, as the cluster's record keeps it.
//!
//! ```text
//!  Waiting ──► Preparing ──► Switching ──► Keeping ──► Restored
//! (a backup        │             │
//!  is drained)     └─────────────┴──────► PuttingBack ──► Failed
//! ```
//!
//! A phase is what the machines are told: PREPARE, SWITCH, KEEP, PUT BACK. It is written into the record, by one
//! compare-and-set, before the first machine hears it. Every machine is told again and again until it says that it is
//! there, so a coordinator that dies loses nothing: its successor tells the same. Nothing leads from PuttingBack or
//! Keeping to anything but their ends, so whatever comes late, twice or never, the cluster ends as the backup was or as
//! it was before.
//!
//! - [`model`]: the record, and how people see it;
//! - [`state`]: how it changes: pure;
//! - [`compare`]: whether the members of the new cluster agree: pure;
//! - [`plan`]: from a request, a manifest and what agents know of themselves to a restore that can begin: pure;
//! - [`unsettled`]: machines that missed the end of a restore: pure.
//!
//! Telling the machines is the cluster's task's: `cluster::restore_rounds`.

pub mod compare;
pub mod model;
pub mod plan;
pub mod state;
pub mod unsettled;

pub use model::{Limits, Restore};
