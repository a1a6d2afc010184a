//! The agent on NATS: answers commands, sends beats and progress. Reports are sent by the outbox.
//!
//! NATS may be unreachable at any time. Only what needs it waits for it.

pub mod beat;
pub mod commands;
