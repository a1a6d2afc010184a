//! The restore of a whole cluster, on real parts: three members of etcd, an agent beside each that stops and starts
//! it, and every way that it can go wrong. It ends as the backup was, or as it was before.
//!
//! The programs must be built first (`cargo build --workspace --bins`); `make test` does.

#[allow(dead_code, reason = "it belongs to the breaker's tests, which use the rest")]
#[path = "../breaker/rig.rs"]
mod rig;

mod command;
mod control;
mod failure;
mod ground;
mod kill;
mod latest;
mod model;
mod states;
mod template;
mod verify;

use std::time::Duration;

/// Long enough for anything on a busy machine; no test waits it out.
const LONG: Duration = Duration::from_secs(90);
