//! Requests over NATS.

use async_nats::Client;
use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use async_trait::async_trait;
use backstay_protocol::subject::Subject;
use bytes::Bytes;

use super::{Bus, CallError};

/// A connection.
#[derive(Debug, Clone)]
pub struct Nats(pub Client);

#[async_trait]
impl Bus for Nats {
    async fn request(&self, to: &Subject, body: Bytes) -> Result<Bytes, CallError> {
        // What is sent into a broken connection is delivered later, when nobody waits for it any more.
        if !self.is_connected() {
            return Err(CallError::Disconnected);
        }
        match self.0.request(to.to_string(), body).await {
            Ok(message) => Ok(message.payload),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Err(CallError::Nobody),
            Err(error) => Err(CallError::Failed(error.to_string())),
        }
    }

    fn is_connected(&self) -> bool {
        self.0.connection_state() == State::Connected
    }

    fn max_payload(&self) -> usize {
        self.0.max_payload()
    }
}
