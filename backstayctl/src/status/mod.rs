//! `status`: every cluster in one word, worst first; the exit code is for monitoring.

mod advice;
pub mod assess;
pub mod facts;
pub mod watch;

use std::collections::HashMap;
use std::time::Duration;

use backstay_daemon::terminal;
use backstay_daemon::units;
use backstay_protocol::api::GetRequest;
use backstay_protocol::backstay_types::{AgentSpec, CoordinatorStatusSpec, RestoreSpec, VerificationSpec};
use backstay_protocol::bus::FIRST_BEATS;
use backstay_protocol::spec::{BackupStatusSpec, ClusterSpec, OverallStatusSpec, Spec};
use backstay_protocol::time::clock_is_off;
use backstay_protocol::{Timestamp, machines};
use serde_json::{Value, json};

use super::api::{Api, Transport, known};
use super::arguments::operate::Form;
use super::cluster_restore::show;
use super::console::{Console, Failure};
use super::listing;
use super::output::table::Layout;
use super::output::{json, yaml};
use super::verify;
use assess::{Down, Facts, Health, Schedule, Word};

/// What to show.
#[derive(Debug, Clone)]
pub struct Query {
    /// Empty: all.
    pub clusters: Vec<String>,
    /// How much older than its interval a backup may be; `None`: see [`assess::grace`].
    pub grace: Option<Duration>,
    pub form: Form,
    /// Whether tables have a heading.
    pub headings: bool,
    /// Whether tables are made to fit a terminal, as in [`View::fits`](super::output::View::fits).
    pub fits: bool,
}

impl Default for Query {
    fn default() -> Self {
        Self { clusters: Vec::new(), grace: None, form: Form::default(), headings: true, fits: true }
    }
}

/// The state at one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub listed: Vec<Health>,
    /// What is shown besides it.
    pub notes: Vec<String>,
    /// Whether all is well.
    pub is_fine: bool,
}

impl Report {
    /// The clusters in the selected form.
    pub fn text(&self, query: &Query, now: Timestamp, colour: bool) -> String {
        render(&self.listed, query, now, colour)
    }
}

/// Prints the state of each cluster.
///
/// # Errors
/// [`Failure::No`] where not every cluster is ok, or there is none.
pub async fn run<T: Transport>(
    api: &Api<T>,
    query: &Query,
    now: Timestamp,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let report = look(api, query, now).await?;
    console.print(&report.text(query, now, console.colour))?;
    report.notes.iter().try_for_each(|note| console.remark(&format!("Note: {note}")))?;
    if report.is_fine { Ok(()) } else { Err(Failure::No) }
}

/// Queries the state of each cluster.
///
/// # Errors
/// Nobody answers, or a cluster that was named is not known.
pub async fn look<T: Transport>(api: &Api<T>, query: &Query, now: Timestamp) -> Result<Report, Failure> {
    query.clusters.iter().try_for_each(|name| listing::must_be_name(name))?;
    let storage: Vec<OverallStatusSpec> = all(api).await?.into_values().collect();
    let broken = storage.iter().map(|overall| overall.configurationerror.as_str()).find(|error| !error.is_empty());
    let leading = all::<CoordinatorStatusSpec, T>(api).await?.into_values().next();
    let settling = leading.as_ref().is_some_and(has_just_begun);
    let facts = facts(api, &query.clusters, broken.unwrap_or_default(), settling).await?;
    let listed = assess::all(facts, query.grace, now);
    let mut notes = Vec::new();
    for overall in &storage {
        if !overall.configurationerror.is_empty() {
            let (name, error) = (&overall.configurationname, &overall.configurationerror);
            notes.push(format!("storage {name}: {error}"));
        }
    }
    if settling && listed.iter().any(|health| health.agents == 0) {
        notes.push(
            "this coordinator became the leader only a few seconds ago and may not have heard from all agents yet"
                .to_owned(),
        );
    }
    let wrong = wrong(api, leading, &query.clusters, now).await?;
    let is_fine = !listed.is_empty() && wrong.is_empty() && listed.iter().all(|health| health.word.is_fine());
    notes.extend(wrong);
    if listed.is_empty() {
        notes.push("there are no clusters".to_owned());
    }
    Ok(Report { listed, notes, is_fine })
}

/// Whether it may not have heard every agent yet.
fn has_just_begun(coordinator: &CoordinatorStatusSpec) -> bool {
    let times = coordinator.started.zip(coordinator.now).filter(|(started, now)| started <= now);
    times.is_some_and(|(started, now)| now.since(started) < FIRST_BEATS)
}

/// What is wrong beside the clusters: what the coordinator warns of, and clocks, the coordinator's, this machine's, those
/// of agents. By them the times above were told.
async fn wrong<T: Transport>(
    api: &Api<T>,
    coordinator: Option<CoordinatorStatusSpec>,
    clusters: &[String],
    now: Timestamp,
) -> Result<Vec<String>, Failure> {
    let mut wrong = Vec::new();
    if let Some(coordinator) = coordinator {
        let ahead_ms = coordinator.now.map_or(0, |theirs| now.as_millis().saturating_sub(theirs.as_millis()));
        wrong.extend(
            clock_is_off(ahead_ms, "the coordinator's")
                .map(|off| format!("this machine's clock is {off}, which runs on host {}", coordinator.host)),
        );
        wrong.extend(Some(coordinator.clock).filter(|clock| !clock.is_empty()));
        wrong.extend(coordinator.warnings);
    }
    let mut agents: Vec<(String, AgentSpec)> = all::<AgentSpec, T>(api).await?.into_iter().collect();
    agents.retain(|(_, agent)| !agent.clock.is_empty() && (clusters.is_empty() || clusters.contains(&agent.cluster)));
    agents.sort_by(|a, b| (&a.1.cluster, &a.0).cmp(&(&b.1.cluster, &b.0)));
    let said = |(id, agent): (String, AgentSpec)| {
        let machine = machines::called(&agent.member, &agent.host, &id);
        format!("the clock of machine {machine} of cluster {} is {}", agent.cluster, agent.clock)
    };
    wrong.extend(agents.into_iter().map(said));
    Ok(wrong)
}

/// Every resource of a type that can be read, by id. There is none where the coordinator is of a build without the type.
async fn all<S: Spec, T: Transport>(api: &Api<T>) -> Result<HashMap<String, S>, Failure> {
    let items = known(api.get(S::definition(), &GetRequest::default()).await)?.unwrap_or_default();
    Ok(listing::typed::<S>(&items).map(|(item, spec)| (item.metadata.id.clone(), spec)).collect())
}

async fn facts<T: Transport>(
    api: &Api<T>,
    wanted: &[String],
    storage: &str,
    settling: bool,
) -> Result<Vec<Facts>, Failure> {
    let clusters = all::<ClusterSpec, T>(api).await?;
    if let Some(missing) = wanted.iter().find(|name| !clusters.contains_key(*name)) {
        return Err(Failure::no_cluster(missing, clusters.keys().map(String::as_str)));
    }
    let mut statuses = all::<BackupStatusSpec, T>(api).await?;
    let mut proofs = all::<VerificationSpec, T>(api).await?;
    let mut restores = all::<RestoreSpec, T>(api).await?;
    restores.retain(|_, restore| !restore.phase.has_ended());
    let mut agents: HashMap<String, Agents> = HashMap::new();
    for (machine, agent) in all::<AgentSpec, T>(api).await? {
        agents.entry(agent.cluster.clone()).or_default().add(machine, agent);
    }
    let wanted = clusters.into_iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name));
    let facts = wanted.map(|(cluster, spec)| {
        let Agents { connected, mut down, absent, twins } = agents.remove(&cluster).unwrap_or_default();
        down.sort_by(|a, b| a.machine.cmp(&b.machine));
        Facts {
            schedule: schedule(&spec),
            status: statuses.remove(&cluster).unwrap_or_default(),
            agents: connected,
            down,
            absent,
            twins,
            settling,
            storage: storage.to_owned(),
            restoring: restores.get(&cluster).map(show::line).unwrap_or_default(),
            verification: proofs.remove(&cluster).unwrap_or_default(),
            cluster,
        }
    });
    Ok(facts.collect())
}

fn schedule(spec: &ClusterSpec) -> Schedule {
    let said = spec.backupconfiguration.as_ref().and_then(|configuration| configuration.enabled);
    match (spec.backup_interval(), said) {
        (Some(interval), _) => Schedule::Every(interval),
        (None, Some(false)) => Schedule::Off,
        (None, _) => Schedule::None,
    }
}

/// The agents of one cluster that are connected.
#[derive(Debug, Default)]
struct Agents {
    connected: usize,
    down: Vec<Down>,
    absent: Vec<String>,
    twins: Vec<String>,
}

impl Agents {
    fn add(&mut self, machine: String, agent: AgentSpec) {
        self.connected += 1;
        // Without both, etcd was not asked yet.
        if agent.role.is_empty() && !agent.error.is_empty() && agent.twin.is_empty() {
            let machine = machines::called(&agent.member, &agent.host, &machine);
            self.down.push(Down { machine, error: agent.error });
        }
        self.absent = agent.absent;
        self.twins.extend(Some(agent.twin).filter(|twin| !twin.is_empty()));
    }
}

/// The most characters in a line of the table, without the reasons.
const WIDTH: usize = 80;

fn render(listed: &[Health], query: &Query, now: Timestamp, colour: bool) -> String {
    let values = || listed.iter().map(value).collect::<Vec<_>>();
    match query.form {
        Form::Table => {
            let table = coloured(&rows(listed, query, now), query.headings, listed, colour);
            table + &reasons(listed)
        }
        Form::Wide => coloured(&wide_rows(listed, query.headings, now), query.headings, listed, colour),
        Form::Yaml => yaml::document(&Value::Array(values())),
        Form::Json => json::stream(&values()),
    }
}

fn rows(listed: &[Health], query: &Query, now: Timestamp) -> String {
    let heading = ["CLUSTER", "STATUS", "LAST BACKUP", "INTERVAL", "AGENTS", "LAST VERIFIED"];
    let row = |health: &Health| {
        let ago = |span| format!("{} ago", units::span(span));
        vec![
            health.cluster.clone(),
            health.word.text(),
            health.age.map(ago).or(health.last.map(Timestamp::rfc3339)).unwrap_or_default(),
            health.interval.map(units::span).unwrap_or_default(),
            health.agents.to_string(),
            health.verification.lastproven.map(|at| units::ago(at, now)).unwrap_or_default(),
        ]
    };
    let fit = query.fits.then_some((WIDTH, "CLUSTER"));
    Layout { headings: query.headings, fit }.table(&heading, listed.iter().map(row))
}

fn wide_rows(listed: &[Health], headings: bool, now: Timestamp) -> String {
    let heading = ["CLUSTER", "STATUS", "LAST BACKUP", "AGE", "INTERVAL", "AGENTS", "LAST VERIFIED", "NEXT", "REASON"];
    let row = |health: &Health| {
        vec![
            health.cluster.clone(),
            health.word.text(),
            health.last.map(Timestamp::rfc3339).unwrap_or_default(),
            health.age.map(units::span).unwrap_or_default(),
            health.interval.map(units::span).unwrap_or_default(),
            health.agents.to_string(),
            verify::last(&health.verification, now),
            health.next.clone(),
            health.reason.clone(),
        ]
    };
    Layout { headings, fit: None }.table(&heading, listed.iter().map(row))
}

/// Below the table: why a cluster is not ok, each reason once, and the commands to run next.
fn reasons(listed: &[Health]) -> String {
    let mut told: Vec<(&str, Vec<&Health>)> = Vec::new();
    for health in listed.iter().filter(|health| !health.reason.is_empty()) {
        match told.iter_mut().find(|(reason, _)| *reason == health.reason) {
            Some((_, clusters)) => clusters.push(health),
            None => told.push((&health.reason, vec![health])),
        }
    }
    let paragraph = |(reason, clusters): &(&str, Vec<&Health>)| {
        let names: Vec<String> = clusters.iter().map(|health| health.cluster.clone()).collect();
        let who = if names.len() == 1 { names.concat() } else { machines::group("cluster", &names) };
        let mut commands: Vec<&str> =
            clusters.iter().map(|health| health.next.as_str()).filter(|next| !next.is_empty()).collect();
        commands.dedup();
        let next: String = commands.iter().map(|command| format!("  {command}\n")).collect();
        format!("\n{}\n{next}", terminal::line(&format!("{who}: {reason}")))
    };
    told.iter().map(paragraph).collect()
}

/// Whole lines are coloured, so that columns keep their widths.
fn coloured(table: &str, headings: bool, listed: &[Health], colour: bool) -> String {
    const RESET: &str = "\u{1b}[0m";
    if !colour {
        return table.to_owned();
    }
    let mut lines = table.lines();
    let heading = if headings { lines.next().map(|line| format!("{line}\n")) } else { None };
    let paint = |(line, health): (&str, &Health)| match health.word {
        word if word.is_fine() => format!("\u{1b}[32m{line}{RESET}\n"),
        word if word >= Word::Stale => format!("\u{1b}[33m{line}{RESET}\n"),
        _ => format!("\u{1b}[31m{line}{RESET}\n"),
    };
    heading.into_iter().chain(lines.zip(listed).map(paint)).collect()
}

fn value(health: &Health) -> Value {
    json!({
        "cluster": health.cluster,
        "status": health.word.text(),
        "lastbackuptime": health.last,
        "ageseconds": health.age.map(|age| age.as_secs()),
        "intervalseconds": health.interval.map(|interval| interval.as_secs()),
        "agents": health.agents,
        "lastproven": health.verification.lastproven,
        "provenhow": health.verification.provenhow,
        "reason": health.reason,
        "next": health.next,
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
