//! Protects this process's memory, which contains passwords, keys and tokens.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// A crash writes no core file, and no other process of the same user can read this one's memory.
///
/// What protects is that the process is not dumpable. The limit is in addition, for people who look at `/proc/PID/limits`
/// and for systems whose kernel pipes cores to a program.
///
/// # Errors
/// The kernel refuses one of them.
pub fn no_core_file() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
