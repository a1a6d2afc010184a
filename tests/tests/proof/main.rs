//! What inspection says of snapshots of real members: the same as `snapshot status` of etcd's own tool and as their HashKV.

mod backup;
mod booted;
mod corpus;
mod coverage;
mod flips;
mod hash;
mod learners;
mod look;
mod shapes;
mod system;

/// The bytes that a stream is fed in: not a multiple of the page size, so that pages are cut.
const PIECE: usize = 100_003;
