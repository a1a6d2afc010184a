//! Attacks on trust, performed as an attacker would: by somebody who can write the store, and has no key.
//!
//! The programs must be built first (`cargo build --workspace --bins`); `make test` does.

mod without_coordinator;
