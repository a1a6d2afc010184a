//! Listening on NATS: subscriptions for beats and progress, a durable consumer for reports.
//!
//! A report is acknowledged only when its cluster's record contains it; until then JetStream delivers it again. A
//! report that arrives twice changes nothing.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer};
use async_nats::jetstream::{AckKind, Context};
use backstay_daemon::trouble::Trouble;
use backstay_protocol::subject;
use futures::StreamExt;
use tracing::{debug, warn};

use crate::inputs::{ACK_WAIT, Taken, on_beat, on_progress, on_report};
use crate::kv::KvError;
use crate::kv::nats::REPORTS;
use crate::term::Term;

/// The durable consumer; a new leader continues where the last one stopped.
const CONSUMER: &str = "coordinator";
/// How many reports wait for their cluster at the same time, so that a slow cluster does not delay others.
const REPORTS_AT_ONCE: usize = 256;
/// The pause after the stream could not be read, and before a report is delivered again.
const PAUSE: Duration = Duration::from_secs(1);

/// Subscribes to beats, progress and reports, until the coordinator no longer leads.
///
/// # Errors
/// NATS or JetStream does not accept a subscription.
pub async fn start(term: &Arc<Term>, client: &Client, context: &Context) -> Result<(), KvError> {
    let failed = |cause: String| KvError::Failed { action: "cannot listen to", key: subject::all_beats(), cause };
    let mut beats = client.subscribe(subject::all_beats()).await.map_err(|e| failed(e.to_string()))?;
    let listener = term.clone();
    term.spawn(async move {
        while let Some(message) = beats.next().await {
            on_beat(&listener, &message.subject, &message.payload);
        }
    });
    let mut progress = client.subscribe(subject::all_progress()).await.map_err(|e| failed(e.to_string()))?;
    let listener = term.clone();
    term.spawn(async move {
        while let Some(message) = progress.next().await {
            on_progress(&listener, &message.subject, &message.payload);
        }
    });
    let (listener, context) = (term.clone(), context.clone());
    term.spawn(async move {
        let mut trouble = Trouble::default();
        loop {
            if let Err(error) = take_reports(&listener, &context, &mut trouble).await
                && let Some(told) = trouble.note(&error)
            {
                warn!(%error, lasting = told.lasting, "cannot receive reports; trying again");
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Ok(())
}

async fn take_reports(term: &Arc<Term>, context: &Context, trouble: &mut Trouble) -> Result<(), String> {
    let stream = context.get_stream(REPORTS).await.map_err(|e| e.to_string())?;
    let config = pull::Config {
        durable_name: Some(CONSUMER.into()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_ack_pending: REPORTS_AT_ONCE as i64,
        ..pull::Config::default()
    };
    let consumer: PullConsumer = stream.get_or_create_consumer(CONSUMER, config).await.map_err(|e| e.to_string())?;
    let messages = consumer.messages().await.map_err(|e| e.to_string())?;
    trouble.over();
    let mut folded = messages
        .map(|message| async move {
            match message {
                Ok(message) => {
                    take(term, message).await;
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            }
        })
        .buffer_unordered(REPORTS_AT_ONCE);
    while let Some(result) = folded.next().await {
        result?;
    }
    Err("the stream of reports ended".into())
}

async fn take(term: &Arc<Term>, message: async_nats::jetstream::Message) {
    let kind = match on_report(term, &message.subject, &message.payload).await {
        Taken::Folded => AckKind::Ack,
        Taken::NotYet => AckKind::Nak(Some(PAUSE)),
        Taken::Dropped => AckKind::Term,
    };
    if let Err(error) = message.ack_with(kind).await {
        debug!(%error, "the report will be delivered again");
    }
}
