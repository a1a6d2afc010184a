//! What keeps this process's memory to itself: it holds passwords, keys and tokens.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// A crash leaves no core file behind, and no other process of the same user can look into this one's memory.
///
/// The limit is for people who look at `/proc/PID/limits`, and for systems whose kernel hands cores to a program that
/// asks for it; what counts is that the process cannot be dumped.
pub fn no_core_file() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
