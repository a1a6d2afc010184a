//! The way to the agents: a command is a request, and the agent replies.
//!
//! In a coordinator this is NATS ([`nats`]), in a test of one process it is memory ([`memory`]).

pub mod memory;
pub mod nats;

use async_trait::async_trait;
use backstay_protocol::subject::Subject;
use bytes::Bytes;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent.
    #[error("the coordinator has no connection to NATS")]
    Disconnected,
    /// Nobody listens at that subject.
    #[error("no agent is running there: check backstay-agent on that machine")]
    Nobody,
    #[error("it does not answer: {0}")]
    Failed(String),
}

/// Requests, and the state of the connection.
#[async_trait]
pub trait Bus: Send + Sync + std::fmt::Debug {
    /// Sends a request and waits for its answer; the caller limits the time.
    ///
    /// # Errors
    /// There will be no answer.
    async fn request(&self, to: &Subject, body: Bytes) -> Result<Bytes, CallError>;

    fn is_connected(&self) -> bool;

    /// The most bytes that a message may have.
    fn max_payload(&self) -> usize;
}
