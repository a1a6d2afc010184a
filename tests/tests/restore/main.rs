//! The native restore against real etcd: what `etcdctl snapshot restore` makes of the same backup, how etcd serves
//! from it, and what whoever knew the old cluster sees.
//!
//! With the etcd on the `PATH`, and with another one where `BACKSTAY_TEST_ETCD_DIR` names a folder that holds its
//! `etcd`, `etcdctl` and perhaps `etcdutl`. `BACKSTAY_TEST_BBOLT` names bbolt's own program, which then checks what
//! was written.

mod compared;
mod contents;
mod serve;
mod source;
mod watchers;
