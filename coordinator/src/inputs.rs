//! What agents send: beats go to the fleet, reports to the cluster's task.

use std::sync::Arc;
use std::time::Duration;

use backstay_protocol::bus::{self, Beat, Progress, Report};
use backstay_protocol::spec::ClusterSpec;
use backstay_protocol::subject::Subject;
use backstay_protocol::{ClusterName, MachineId};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::beats;
use crate::directory::Message;
use crate::fleet::Now;
use crate::registry;
use crate::restore::unsettled::has_ended;
use crate::term::Term;

/// A report that is not in the record within this time is delivered again.
pub const ACK_WAIT: Duration = Duration::from_secs(30);

/// What was done with a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Its cluster's record contains what it says.
    Folded,
    /// It must be delivered again.
    NotYet,
    /// No cluster needs it.
    Dropped,
}

/// Handles a beat, whose subject is `from`.
pub fn on_beat(term: &Arc<Term>, from: &str, payload: &[u8]) {
    let (cluster, machine) = match from.parse() {
        Ok(Subject::Beat { cluster, machine }) => (cluster, machine),
        _ => return,
    };
    let beat: Beat = match bus::decode(payload) {
        Ok(beat) => beat,
        Err(error) => return dropped(term, from, &error.to_string()),
    };
    if beat.cluster != cluster.as_str() || beat.machine != machine.to_string() {
        return dropped(term, from, "its subject belongs to another agent");
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

/// Logs a beat that cannot be used, rarely, since the next one of that machine will hardly be better.
fn dropped(term: &Term, subject: &str, cause: &str) {
    if let Some(told) = term.told.note(subject, cause) {
        warn!(subject, cause, lasting = told.lasting, "dropped a heartbeat");
    }
}

/// Progress is only for people who watch; what cannot be read is dropped.
pub fn on_progress(term: &Term, from: &str, payload: &[u8]) {
    if let (Ok(Subject::Progress { cluster, machine }), Ok(mut progress)) =
        (from.parse(), bus::decode::<Progress>(payload))
    {
        beats::progress(&mut progress);
        term.fleet.note_progress(&cluster, machine, progress);
    }
}

/// Registers in the background, since the next beats must not wait for the KV.
fn register(term: &Arc<Term>, cluster: ClusterName) {
    let registrar = term.clone();
    term.spawn(async move {
        if let Err(error) = registry::register(&registrar, &cluster, ClusterSpec::default(), None).await
            && let Some(told) = registrar.told.note(cluster.as_str(), &error.to_string())
        {
            warn!(%cluster, %error, lasting = told.lasting, "could not register the cluster; trying again at the next \
                heartbeat");
        }
    });
}

fn parse(from: &str, payload: &[u8]) -> Result<(ClusterName, MachineId, Report), String> {
    let Ok(Subject::Report { cluster, machine }) = from.parse() else {
        return Err("its subject is not that of a report".into());
    };
    let report: Report = bus::decode(payload).map_err(|e| e.to_string())?;
    if report.cluster != cluster.as_str() || report.machine != machine.to_string() {
        return Err("it is about another cluster or machine".into());
    }
    Ok((cluster, machine, report))
}

/// Hands a report to its cluster's task and waits until the record contains it. `from` is its subject.
pub async fn on_report(term: &Term, from: &str, payload: &[u8]) -> Taken {
    let (cluster, machine, report) = match parse(from, payload) {
        Ok(report) => report,
        Err(error) => {
            warn!(subject = from, %error, "dropped a report");
            return Taken::Dropped;
        }
    };
    let Some(handle) = term.directory.get(&cluster) else {
        debug!(%cluster, %machine, "a report from a cluster that is not known yet: it will be delivered again");
        return Taken::NotYet;
    };
    let (done, folded) = oneshot::channel();
    if handle.inbox.send(Message::Report { report: Box::new(report), done }).await.is_err() {
        return Taken::NotYet;
    }
    match tokio::time::timeout(ACK_WAIT, folded).await {
        Ok(Ok(())) => Taken::Folded,
        _ => Taken::NotYet,
    }
}
