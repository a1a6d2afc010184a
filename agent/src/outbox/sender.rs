//! Sends what is in the outbox, in order, until it has arrived.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection;
use async_nats::jetstream::{self, message::PublishMessage};
use async_trait::async_trait;
use backstay_archive::blocking::blocking;
use backstay_daemon::trouble::Trouble;
use backstay_protocol::bus::{Report, clipped, report::State};
use bytes::Bytes;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Outbox, Record};

/// The first pause after a failure; it doubles with each that follows.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Bytes of a message in addition to its payload.
const HEADERS: usize = 256;

/// How long the server may take to acknowledge a report.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// Delivers a report. `Ok` means that it is stored at the receiver.
#[async_trait]
pub trait Courier: Send + Sync {
    async fn deliver(&self, record: &Record) -> Result<(), String>;
}

/// The stream of reports on JetStream.
#[derive(Debug, Clone)]
pub struct JetStream {
    client: async_nats::Client,
    context: jetstream::Context,
}

impl JetStream {
    pub fn new(client: async_nats::Client) -> Self {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ACK_TIMEOUT);
        Self { client, context }
    }
}

#[async_trait]
impl Courier for JetStream {
    async fn deliver(&self, record: &Record) -> Result<(), String> {
        // The client would keep it until it is connected, and send it then: once for every try.
        if self.client.connection_state() != connection::State::Connected {
            return Err("not connected to NATS".into());
        }
        let payload = fitting(record, self.client.max_payload());
        let message = PublishMessage::build().payload(payload).message_id(&record.message_id);
        let publish = async {
            let ack = self.context.send_publish(record.subject.clone(), message).await.map_err(|e| e.to_string())?;
            ack.await.map_err(|e| e.to_string())
        };
        match tokio::time::timeout(ACK_TIMEOUT, publish).await {
            Ok(Ok(ack)) => {
                debug!(
                    attempt = record.attempt(),
                    report = record.message_id,
                    duplicate = ack.duplicate,
                    "the report was refused; it is kept"
                );
                Ok(())
            }
            Ok(Err(cause)) => Err(cause),
            Err(_) => Err(format!("no answer within {}s", ACK_TIMEOUT.as_secs())),
        }
    }
}

/// The report as it can be sent. One that is too large for NATS would block all others behind it, so its text is cut.
pub(super) fn fitting(record: &Record, max_payload: usize) -> Bytes {
    if record.payload.len() + HEADERS <= max_payload {
        return record.payload.clone();
    }
    let Ok(mut report) = Report::decode(record.payload.clone()) else { return record.payload.clone() };
    if let Some(State::Failed(failed)) = &mut report.state {
        failed.text = clipped(&failed.text);
    }
    report.encode_to_vec().into()
}

/// Sends until `stop` is cancelled. As soon as `hurry` is cancelled, pauses are short.
pub async fn send(outbox: Arc<Outbox>, courier: &dyn Courier, hurry: &CancellationToken, stop: &CancellationToken) {
    let mut waiting = outbox.waiting();
    let (mut pause, mut trouble) = (PAUSE_MIN, Trouble::default());
    while let Some((number, record)) = next(&outbox, &mut waiting, stop).await {
        let delivered = tokio::select! {
            result = courier.deliver(&record) => result,
            () = stop.cancelled() => return,
        };
        match delivered {
            Ok(()) => {
                info!(attempt = record.attempt(), report = record.message_id, "the report was delivered");
                let outbox = Arc::clone(&outbox);
                blocking(move || outbox.done(number)).await;
                trouble.over();
                pause = PAUSE_MIN;
            }
            Err(cause) => {
                if let Some(told) = trouble.note(&cause) {
                    warn!(
                        attempt = record.attempt(),
                        report = record.message_id,
                        waiting = *outbox.waiting().borrow(),
                        cause,
                        lasting = told.lasting,
                        "the report could not be sent; trying again"
                    );
                }
                if hurry.is_cancelled() {
                    pause = PAUSE_MIN;
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = hurry.cancelled(), if !hurry.is_cancelled() => {}
                    () = stop.cancelled() => return,
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// The oldest report, waited for; `None` when it is time to stop.
async fn next(
    outbox: &Arc<Outbox>,
    waiting: &mut tokio::sync::watch::Receiver<usize>,
    stop: &CancellationToken,
) -> Option<(u64, Record)> {
    let mut trouble = Trouble::default();
    loop {
        waiting.borrow_and_update();
        let outbox = Arc::clone(outbox);
        match blocking(move || outbox.first()).await {
            Ok(Some(found)) => return Some(found),
            Ok(None) => {}
            Err(error) => {
                if let Some(told) = trouble.note(&error.to_string()) {
                    warn!(%error, lasting = told.lasting, "a report cannot be read from the outbox; trying again");
                }
                tokio::select! {
                    () = tokio::time::sleep(PAUSE_MAX) => continue,
                    () = stop.cancelled() => return None,
                }
            }
        }
        tokio::select! {
            changed = waiting.changed() => changed.ok()?,
            () = stop.cancelled() => return None,
        }
    }
}
