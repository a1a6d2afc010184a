//! The API on NATS as other programs meet it: the service's own answers, content types, errors for whatever is
//! malformed, the requests that its documentation shows, and a client in Python.
//!
//! The programs must be built first (`cargo build --workspace --bins`); `make test` does.

mod document;
mod entries;
mod errors;
mod jetstream;
mod payload;
mod python;
mod service;
#[allow(dead_code, reason = "what other tests ask a stand; these need some of it")]
#[path = "../page/world.rs"]
mod world;

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::{Client, HeaderMap, Message};
use backstay_protocol::codec::CONTENT_TYPE;
use serde_json::Value;
use tokio::time::timeout;

/// A request may wait for the store; silence is what no test waits for.
const ANSWER: Duration = Duration::from_secs(30);

/// Sends a body as it is; whatever comes back.
async fn ask(client: &Client, subject: &str, content_type: &str, body: Vec<u8>) -> Result<Message> {
    let mut headers = HeaderMap::new();
    if !content_type.is_empty() {
        headers.insert(CONTENT_TYPE, content_type);
    }
    let answer = client.request_with_headers(subject.to_owned(), headers, body.into());
    timeout(ANSWER, answer).await.with_context(|| format!("silence on {subject}"))?.context("no answer")
}

fn json(message: &Message) -> Result<Value> {
    serde_json::from_slice(&message.payload).with_context(|| format!("no JSON: {message:?}"))
}

fn header(message: &Message, name: &str) -> Option<String> {
    message.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned())
}
