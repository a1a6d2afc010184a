//! The native restore against real etcd: what `etcdctl snapshot restore` makes of the same backup, how etcd serves
//! from it, and what whoever knew the old cluster sees.
//!
//! With the etcd on the `PATH`, with etcd 3.5, and with another one where `BACKSTAY_TEST_ETCD_DIR` names a folder that
//! holds its `etcd`, `etcdctl` and perhaps `etcdutl`. bbolt's own check looks at what was written: a program of some lines around
//! Debian's package of bbolt, or the one that `BACKSTAY_TEST_BBOLT` names.

mod compared;
mod contents;
mod serve;
mod source;
mod watchers;
