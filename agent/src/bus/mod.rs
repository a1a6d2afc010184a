//! The agent on the bus: commands are answered, beats and progress sent. Reports go by the outbox.
//!
//! NATS may be away at any time: whoever needs it waits for it, and nothing else does.

pub mod beat;
pub mod commands;
