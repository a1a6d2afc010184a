//! The stand keeps its own promises: each part starts, serves, fails as it is told, and is gone when dropped.

mod daemons;
mod endpoint;
mod etcd;
mod faults;
mod nats;
mod processes;
mod releases;
mod system;
mod wire;

use std::path::Path;
use std::time::Duration;

/// Long enough for anything on a busy machine; no test waits it out.
const SOON: Duration = Duration::from_secs(60);

/// Whether a process of that id runs (or waits to be reaped).
fn runs(id: u32) -> bool {
    Path::new(&format!("/proc/{id}")).exists()
}

/// A text of so many bytes that differs from place to place.
fn bytes(count: usize, seed: u8) -> Vec<u8> {
    (0..count).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed).collect()
}
