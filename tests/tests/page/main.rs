//! The documentation page, end to end, on real parts: its commands and what they print, what is refused and how,
//! and what must hold of every backup that is listed.
//!
//! The programs must be built first (`cargo build --workspace --bins`); `make test` does.

mod automatic;
mod certificates;
mod clocks;
mod daily;
mod deleting;
mod encryption;
mod habits;
mod hostile;
mod identity;
mod kv;
mod listing;
mod local;
mod manual;
mod once;
mod one_object;
mod opening;
mod operate;
mod outputs;
mod page;
mod refusals;
mod resource;
mod restore;
mod secrets;
mod storage;
mod world;

use backstay_tests::terminal;
