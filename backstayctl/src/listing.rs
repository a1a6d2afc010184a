//! `agents` and `runs`: who is connected, and what became of each attempt, for people.

use backstay_protocol::Timestamp;
use backstay_protocol::api::GetRequest;
use backstay_protocol::backstay_types::{AgentSpec, BackupRunSpec, RunState};
use backstay_protocol::resource::{LABEL_CLUSTER, Resource};
use backstay_protocol::spec::Spec;
use backstay_protocol::types;

use super::api::{Api, Transport};
use super::console::{Console, Failure};
use super::output::{self, Format, table};
use super::units;

/// The connected agents; those of one cluster where it is not empty.
pub async fn agents<T: Transport>(
    api: &Api<T>,
    cluster: &str,
    format: &Format,
    now: Timestamp,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let items = of_cluster::<AgentSpec, T>(api, cluster).await?;
    print::<AgentSpec>(&items, format, |items| agents_table(items, now), console)
}

/// The latest attempts of a cluster, latest first.
pub async fn runs<T: Transport>(
    api: &Api<T>,
    cluster: &str,
    format: &Format,
    now: Timestamp,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let mut items = of_cluster::<BackupRunSpec, T>(api, cluster).await?;
    items.sort_by_key(|item| std::cmp::Reverse(item.typed::<BackupRunSpec>().ok().and_then(|run| run.started)));
    print::<BackupRunSpec>(&items, format, |items| runs_table(items, now), console)
}

/// In a table for people, or as `get` prints them.
fn print<S: Spec>(
    items: &[Resource],
    format: &Format,
    table: impl FnOnce(&[Resource]) -> String,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let text = match format {
        Format::Table => table(items),
        other => output::render(other, S::definition(), items)?,
    };
    Ok(console.print(&text)?)
}

/// The resources of `S` that carry a cluster's label; all where `cluster` is empty.
///
/// # Errors
/// Where there are none, and no such cluster either.
pub async fn of_cluster<S: Spec, T: Transport>(api: &Api<T>, cluster: &str) -> Result<Vec<Resource>, Failure> {
    let selector = if cluster.is_empty() { String::new() } else { format!("{LABEL_CLUSTER}={cluster}") };
    // What is no label value is no cluster's name, but would be another selector.
    if !cluster.is_empty() {
        must_be_name(cluster)?;
    }
    let items = api.get(S::definition(), &GetRequest { selector, ..GetRequest::default() }).await?;
    if items.is_empty() && !cluster.is_empty() && api.find(&types::CLUSTERS, cluster).await?.is_none() {
        return Err(Failure::NoCluster(cluster.to_owned()));
    }
    Ok(items)
}

/// A text that cannot be a cluster's name is refused before anybody is asked.
pub fn must_be_name(cluster: &str) -> Result<(), Failure> {
    cluster.parse::<backstay_protocol::ClusterName>().map(drop).map_err(Failure::Name)
}

/// A resource whose spec this build cannot read is left out of tables; `-o yaml` shows it.
pub fn typed<S: Spec>(items: &[Resource]) -> impl Iterator<Item = (&Resource, S)> {
    items.iter().filter_map(|item| Some((item, item.typed::<S>().ok()?)))
}

fn agents_table(items: &[Resource], now: Timestamp) -> String {
    let heading = ["CLUSTER", "MACHINE", "ROLE", "ETCD", "DB SIZE", "REVISION", "LAST SEEN", "ERROR"];
    let row = |(resource, agent): (&Resource, AgentSpec)| {
        let known = agent.error.is_empty() && !agent.etcdversion.is_empty();
        let of_etcd = |text: String| if known { text } else { String::new() };
        vec![
            agent.cluster,
            resource.metadata.id.clone(),
            agent.role,
            agent.etcdversion,
            of_etcd(units::bytes(agent.dbsize)),
            of_etcd(agent.revision.to_string()),
            agent.lastseen.map(|seen| units::ago(seen, now)).unwrap_or_default(),
            agent.error,
        ]
    };
    table::plain(&heading, typed::<AgentSpec>(items).map(row))
}

fn runs_table(items: &[Resource], now: Timestamp) -> String {
    let heading = ["ATTEMPT", "MACHINE", "TRIGGER", "STATE", "STARTED", "DURATION", "BYTES", "VERDICT", "ERROR"];
    let row = |(resource, run): (&Resource, BackupRunSpec)| {
        vec![
            resource.metadata.id.clone(),
            run.machine.clone(),
            run.trigger.clone(),
            state(run.state).to_owned(),
            run.started.map(Timestamp::rfc3339).unwrap_or_default(),
            run.started.map(|at| units::took(run.ended.unwrap_or(now).since(at))).unwrap_or_default(),
            amount(&run),
            verdict(&run).to_owned(),
            run.error,
        ]
    };
    table::plain(&heading, typed::<BackupRunSpec>(items).map(row))
}

fn state(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Ok => "ok",
        RunState::Failed => "failed",
    }
}

/// A member that is alone agrees with nobody.
fn verdict(run: &BackupRunSpec) -> &str {
    match run.verdict.as_str() {
        "equal" if !run.verdictreason.is_empty() => "no other member",
        verdict => verdict,
    }
}

/// `12.0 MiB`; `4.0 MiB of 12.0 MiB` while it runs; empty where nothing is known.
fn amount(run: &BackupRunSpec) -> String {
    match (run.state, run.bytesread, run.bytestotal) {
        (_, 0, 0) => String::new(),
        (RunState::Running, read, total) if total > 0 => format!("{} of {}", units::bytes(read), units::bytes(total)),
        (_, read, _) => units::bytes(read),
    }
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
