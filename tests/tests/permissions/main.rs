//! Who may do what: each "may not" of `deploy/nats/backstay.conf`, tried with a plain client; a whole backup with
//! those users; and each way of saying to NATS who one is.
//!
//! The programs must be built first (`cargo build --workspace --bins`); `make test` does.

mod agents;
mod logins;
mod people;
mod raw;
mod replies;
mod system;
#[allow(dead_code, reason = "what other tests ask a stand; these need some of it")]
#[path = "../page/world.rs"]
mod world;
