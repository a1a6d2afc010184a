//! The coordinator's heart in one process: its tasks, its API and its lease over entries, a bus and a store in memory, with agents
//! that are played, on a time that passes only while nobody works.

#![allow(clippy::disallowed_methods, reason = "what plays in a world ends with the runtime of its test")]

use backstay_archive as archive;

mod agent;
mod door;
mod entries;
mod failover;
mod lease;
mod machine;
#[allow(dead_code, reason = "what other tests ask of a store in memory")]
#[path = "../../../archive/tests/support/memory.rs"]
mod memory;
mod people;
mod proofs;
mod records;
mod requests;
mod restores;
mod settings;
mod slots;
mod stage;
mod trouble;
mod world;
