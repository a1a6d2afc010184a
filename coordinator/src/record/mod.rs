//! What is stored of a cluster, and how it changes: pure transitions.

pub mod cluster;
pub mod kept;
mod missing;
pub mod newest;
pub mod room;
pub mod runs;
pub mod slot;
pub mod slots;
pub mod stored;

pub use cluster::{ClusterRecord, FORMAT, entry, late_entry};
pub use kept::{Kept, Meta};
pub use slot::{Attempt, Slot, Trigger};
pub use slots::{PENDING_MAX, SlotEnd, TooManyPending};

#[cfg(test)]
mod tests;
