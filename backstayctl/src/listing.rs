//! `agents` and `runs`: who is connected, and how each attempt ended, for people.

use backstay_daemon::terminal;
use backstay_daemon::units;
use backstay_protocol::api::GetRequest;
use backstay_protocol::backstay_types::{AgentSpec, BackupRunSpec, RunState};
use backstay_protocol::resource::{LABEL_CLUSTER, Resource};
use backstay_protocol::spec::Spec;
use backstay_protocol::{Timestamp, machines, types};

use super::api::{Api, Transport};
use super::console::{Console, Failure};
use super::meant;
use super::output::table::Layout;
use super::output::{self, Format, View};

/// The most characters in a line of the table of agents, and in those of runs and backups ([`WIDTH`]), if the names
/// that cannot be cut are short enough.
const AGENTS_WIDTH: usize = 80;
pub const WIDTH: usize = 120;

/// Prints the connected agents; only those of one cluster if it is not empty.
///
/// # Errors
/// The cluster does not exist; NATS or the coordinator does not answer, or the coordinator refuses the request.
pub async fn agents<T: Transport>(
    api: &Api<T>,
    cluster: &str,
    view: &View,
    now: Timestamp,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let items = of_cluster::<AgentSpec, T>(api, cluster).await?;
    print::<AgentSpec>(&items, view, |items| agents_table(items, view, now), console)
}

/// Prints the latest attempts of a cluster, or of all clusters if it is empty, latest first.
///
/// # Errors
/// As [`agents`].
pub async fn runs<T: Transport>(
    api: &Api<T>,
    cluster: &str,
    view: &View,
    now: Timestamp,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let items = latest_runs(api, cluster).await?;
    print::<BackupRunSpec>(&items, view, |items| runs_table(items, cluster.is_empty(), view, now), console)
}

/// The latest attempts of a cluster, or of all clusters if it is empty, latest first.
///
/// # Errors
/// The cluster does not exist, or NATS or the coordinator does not answer, or the coordinator refuses the request.
pub async fn latest_runs<T: Transport>(api: &Api<T>, cluster: &str) -> Result<Vec<Resource>, Failure> {
    let mut items = of_cluster::<BackupRunSpec, T>(api, cluster).await?;
    items.sort_by_key(|item| std::cmp::Reverse(item.typed::<BackupRunSpec>().ok().and_then(|run| run.started)));
    Ok(items)
}

/// Prints a table for people, or what `get` prints.
///
/// # Errors
/// A JSONPath is not found.
pub fn print<S: Spec>(
    items: &[Resource],
    view: &View,
    table: impl FnOnce(&[Resource]) -> String,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let text = match view.format {
        Format::Table | Format::Wide => table(items),
        _ => output::render(view, S::definition(), items)?,
    };
    Ok(console.print(&text)?)
}

/// The resources of type `S` with the cluster's label; all if `cluster` is empty.
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
        return Err(meant::no_cluster(api, cluster).await);
    }
    Ok(items)
}

/// Checks a cluster's name before a request is sent.
///
/// # Errors
/// It cannot be the name of a cluster.
pub fn must_be_name(cluster: &str) -> Result<(), Failure> {
    cluster.parse::<backstay_protocol::ClusterName>().map(drop).map_err(Failure::Name)
}

/// The resources with their specs. One whose spec this version cannot read is left out; `-o yaml` shows it.
pub fn typed<S: Spec>(items: &[Resource]) -> impl Iterator<Item = (&Resource, S)> {
    items.iter().filter_map(|item| Some((item, item.typed::<S>().ok()?)))
}

/// One agent on each line; below the table what is wrong, each cause once. A wide table has everything in the line.
pub fn agents_table(items: &[Resource], view: &View, now: Timestamp) -> String {
    let wide = view.is_wide();
    let heading: &[&str] = match wide {
        true => &[
            "CLUSTER",
            "MACHINE",
            "MEMBER",
            "HOST",
            "ROLE",
            "ETCD",
            "DB SIZE",
            "REVISION",
            "AGENT",
            "LAST SEEN",
            "ERROR",
        ],
        false => &["CLUSTER", "MACHINE", "ROLE", "ETCD", "DB SIZE", "LAST SEEN"],
    };
    let mut errors = Vec::new();
    let rows = typed::<AgentSpec>(items).map(|(resource, agent)| {
        let id = &resource.metadata.id;
        let known = agent.error.is_empty() && !agent.etcdversion.is_empty();
        let of_etcd = |text: String| if known { text } else { String::new() };
        let size = of_etcd(units::bytes(agent.dbsize));
        let seen = agent.lastseen.map(|seen| units::ago(seen, now)).unwrap_or_default();
        if wide {
            let revision = of_etcd(agent.revision.to_string());
            let names = [agent.cluster, id.clone(), agent.member, agent.host, agent.role, agent.etcdversion];
            return [names.to_vec(), vec![size, revision, agent.agentversion, seen, agent.error]].concat();
        }
        let name = machines::called(&agent.member, &agent.host, id);
        if !agent.error.is_empty() {
            errors.push((name.clone(), agent.error));
        }
        vec![agent.cluster, name, agent.role, agent.etcdversion, size, seen]
    });
    let table = Layout::of(view, AGENTS_WIDTH, "MACHINE").table(heading, rows);
    table + &notes("machine", errors)
}

/// One attempt on each line; below the table why they failed, each cause once.
pub fn runs_table(items: &[Resource], of_all: bool, view: &View, now: Timestamp) -> String {
    let wide = view.is_wide();
    let heading: &[&str] = match wide {
        true => &[
            "ATTEMPT", "MACHINE", "MEMBER", "HOST", "TRIGGER", "STATE", "STARTED", "DURATION", "BYTES", "SNAPSHOT",
            "VERDICT", "ERROR",
        ],
        false => &["ATTEMPT", "MACHINE", "TRIGGER", "STATE", "STARTED", "DURATION", "BYTES", "VERDICT"],
    };
    let heading: Vec<&str> = of_all.then_some("CLUSTER").into_iter().chain(heading.iter().copied()).collect();
    let mut errors = Vec::new();
    let rows = typed::<BackupRunSpec>(items).map(|(resource, run)| {
        let id = &resource.metadata.id;
        let first = of_all.then(|| run.cluster.clone()).into_iter();
        let duration = run.started.map(|at| units::took(run.ended.unwrap_or(now).since(at))).unwrap_or_default();
        let (size, verdict, state) = (amount(&run), verdict(&run).to_owned(), state(run.state).to_owned());
        if wide {
            let started = run.started.map(Timestamp::rfc3339).unwrap_or_default();
            let names = [id.clone(), run.machine, run.member, run.host, run.trigger, state];
            let rest = vec![started, duration, size, run.snapshot, verdict, run.error];
            return first.chain(names).chain(rest).collect();
        }
        let short = machines::short(id).to_owned();
        if !run.error.is_empty() {
            errors.push((short.clone(), run.error.clone()));
        }
        let started = run.started.map(|at| units::ago(at, now)).unwrap_or_default();
        let name = machines::called(&run.member, &run.host, &run.machine);
        first.chain([short, name, run.trigger, state, started, duration, size, verdict]).collect()
    });
    let table = Layout::of(view, WIDTH, "MACHINE").table(&heading, rows);
    table + &notes("attempt", errors)
}

/// What stands behind a table: a line for each cause.
fn notes(noun: &str, errors: Vec<(String, String)>) -> String {
    let lines: String = machines::once(noun, errors).iter().map(|line| format!("{}\n", terminal::line(line))).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

fn state(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Ok => "ok",
        RunState::Failed => "failed",
    }
}

/// The verdict in one word. A member that is alone has nobody to agree with.
fn verdict(run: &BackupRunSpec) -> &str {
    match run.verdict.as_str() {
        "equal" if !run.verdictreason.is_empty() => "no other member",
        verdict => verdict,
    }
}

/// `12.0 MiB`; `33% of 12.0 MiB` while it runs; empty if nothing is known.
fn amount(run: &BackupRunSpec) -> String {
    match (run.state, run.bytesread, run.bytestotal) {
        (_, 0, 0) => String::new(),
        (RunState::Running, read, total) if total > 0 => {
            format!("{}% of {}", u128::from(read) * 100 / u128::from(total), units::bytes(total))
        }
        (_, read, _) => units::bytes(read),
    }
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
