//! The whole system, broken on purpose: processes killed at chosen moments, NATS and S3 away or lying, members
//! stuck, two coordinators, two agents for one slot. After each: exactly the backups that were asked for, every
//! one of them proven, and nothing left over.
//!
//! The programs must be built first (`cargo build --workspace --bins`); `make test` does.

mod bucket;
mod faults;
mod forged;
mod kill;
mod limit;
mod members;
mod nats;
mod queue;
mod raw_commands;
mod replicas;
mod restart;
mod rig;
mod slots;
mod standby;
mod stop;
mod stuck;
mod takeover;

use std::time::Duration;

/// Long enough for anything on a busy machine; no test waits it out.
const LONG: Duration = Duration::from_secs(90);
