//! The native restore against real etcd: what etcd's own `snapshot restore` makes of the same backup, how etcd serves
//! from it, and what whoever knew the old cluster sees.
//!
//! bbolt's own check looks at what was written: a program of some lines around Debian's package of bbolt, or the one
//! that `BACKSTAY_TEST_BBOLT` names.

mod compared;
mod contents;
mod serve;
mod source;
mod watchers;
