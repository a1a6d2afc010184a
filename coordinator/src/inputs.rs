//! What agents say: beats into the fleet, reports to the cluster's task.
//!
//! A report is acknowledged only when its cluster's record keeps what it says; until then JetStream sends
//! it again. The fold drops repetitions.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer};
use async_nats::jetstream::{AckKind, Context};
use backstay_daemon::trouble::Trouble;
use backstay_protocol::bus::{self, Beat, Progress, Report};
use backstay_protocol::spec::ClusterSpec;
use backstay_protocol::subject::{self, Subject};
use backstay_protocol::{ClusterName, MachineId};
use futures::StreamExt;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::beats;
use crate::directory::Message;
use crate::fleet::Now;
use crate::kv::KvError;
use crate::kv::nats::REPORTS;
use crate::registry;
use crate::restore::unsettled::has_ended;
use crate::term::Term;

/// The durable consumer; a new leader goes on where the last one stopped.
const CONSUMER: &str = "coordinator";
/// A report that was not folded in this time comes again.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Reports that wait for their cluster at the same time: a slow one holds up no other.
const REPORTS_AT_ONCE: usize = 256;
const PAUSE: Duration = Duration::from_secs(1);

/// Begins to listen.
pub async fn start(term: &Arc<Term>, client: &Client, context: &Context) -> Result<(), KvError> {
    let failed = |cause: String| KvError::Failed { action: "cannot listen to", key: subject::all_beats(), cause };
    let mut beats = client.subscribe(subject::all_beats()).await.map_err(|e| failed(e.to_string()))?;
    let listener = term.clone();
    term.spawn(async move {
        while let Some(message) = beats.next().await {
            on_beat(&listener, &message.subject, &message.payload).await;
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
                warn!(%error, lasting = told.lasting, "cannot take reports; trying again");
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Ok(())
}

async fn on_beat(term: &Arc<Term>, from: &str, payload: &[u8]) {
    let (cluster, machine) = match from.parse() {
        Ok(Subject::Beat { cluster, machine }) => (cluster, machine),
        _ => return,
    };
    let beat: Beat = match bus::decode(payload) {
        Ok(beat) => beat,
        Err(error) => return dropped(term, from, &error.to_string()),
    };
    if beat.cluster != cluster.as_str() || beat.machine != machine.to_string() {
        return dropped(term, from, "it speaks for somebody else");
    }
    term.told.over(from);
    let beat = beats::bounded(beat);
    let version = beat.agent_version.clone();
    let behind = beat.restore.as_ref().is_some_and(|state| !has_ended(state));
    let wall = term.clock.now();
    let now = Now { monotonic: Instant::now(), wall, judge: term.clocks.by_nats(wall) };
    if term.fleet.note(&cluster, machine, beat, now) {
        info!(%cluster, %machine, version, "agent connected");
    }
    if behind && let Some(handle) = term.directory.get(&cluster) {
        // A task that has no room for it hears of the next beat.
        let _ = handle.inbox.try_send(Message::Behind);
    }
    if term.config.settings.auto_register_clusters && !term.directory.contains(&cluster) {
        register(term, cluster);
    }
}

/// The next beat of that machine will hardly be better.
fn dropped(term: &Term, subject: &str, cause: &str) {
    if let Some(told) = term.told.note(subject, cause) {
        warn!(subject, cause, lasting = told.lasting, "dropped a beat");
    }
}

/// For people who watch; what cannot be read is dropped.
fn on_progress(term: &Term, from: &str, payload: &[u8]) {
    if let (Ok(Subject::Progress { cluster, machine }), Ok(mut progress)) =
        (from.parse(), bus::decode::<Progress>(payload))
    {
        beats::progress(&mut progress);
        term.fleet.note_progress(&cluster, machine, progress);
    }
}

/// In the background: the next beats must not wait for the KV.
fn register(term: &Arc<Term>, cluster: ClusterName) {
    let registrar = term.clone();
    term.spawn(async move {
        if let Err(error) = registry::register(&registrar, &cluster, ClusterSpec::default(), None).await
            && let Some(told) = registrar.told.note(cluster.as_str(), &error.to_string())
        {
            warn!(%cluster, %error, lasting = told.lasting, "could not register the cluster; its next beat tries again");
        }
    });
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
                    on_report(term, message).await;
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

async fn on_report(term: &Arc<Term>, message: async_nats::jetstream::Message) {
    let kind = match parse(&message.subject, &message.payload) {
        Ok((cluster, machine, report)) => deliver(term, &cluster, machine, report).await,
        Err(error) => {
            warn!(subject = %message.subject, %error, "dropped a report");
            AckKind::Term
        }
    };
    if let Err(error) = message.ack_with(kind).await {
        debug!(%error, "the report comes again");
    }
}

fn parse(from: &str, payload: &[u8]) -> Result<(ClusterName, MachineId, Report), String> {
    let Ok(Subject::Report { cluster, machine }) = from.parse() else {
        return Err("its subject is not a report's".into());
    };
    let report: Report = bus::decode(payload).map_err(|e| e.to_string())?;
    if report.cluster != cluster.as_str() || report.machine != machine.to_string() {
        return Err("it speaks for another cluster or machine".into());
    }
    Ok((cluster, machine, report))
}

/// Hands a report to its cluster and waits until it is folded.
async fn deliver(term: &Term, cluster: &ClusterName, machine: MachineId, report: Report) -> AckKind {
    let Some(handle) = term.directory.get(cluster) else {
        debug!(%cluster, %machine, "a report of a cluster that is not known yet: it comes again");
        return AckKind::Nak(Some(PAUSE));
    };
    let (done, folded) = oneshot::channel();
    if handle.inbox.send(Message::Report { report: Box::new(report), done }).await.is_err() {
        return AckKind::Nak(Some(PAUSE));
    }
    match tokio::time::timeout(ACK_WAIT, folded).await {
        Ok(Ok(())) => AckKind::Ack,
        _ => AckKind::Nak(Some(PAUSE)),
    }
}
