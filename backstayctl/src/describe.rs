//! `describe`: everything about one resource, for people; for a cluster, also the state of its backups.

mod fields;

use backstay_daemon::units;
use backstay_protocol::api::GetRequest;
use backstay_protocol::backstay_types::{AgentSpec, VerificationSpec};
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::{BackupStatusSpec, ClusterSpec};
use backstay_protocol::types::{self, TypeDefinition};
use backstay_protocol::{Timestamp, duration, validate};

use super::api::{Api, Transport, known};
use super::console::{Console, Failure};
use super::output::View;
use super::{listing, verify};

/// How many of a cluster's latest attempts are shown.
const RUNS: usize = 5;

/// Prints one resource, or all of its type if `id` is empty.
///
/// # Errors
/// There is no such resource; NATS or the coordinator does not answer, or the coordinator refuses the request.
pub async fn run<T: Transport>(
    api: &Api<T>,
    definition: &TypeDefinition,
    id: &str,
    now: Timestamp,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    for (at, resource) in found(api, definition, id).await?.iter().enumerate() {
        let mut text = if at > 0 { "\n".to_owned() } else { String::new() };
        text.push_str(&fields::text(definition, resource, now));
        if definition == &types::CLUSTERS {
            let view = View { fits: console.screen, ..View::default() };
            text.push_str(&cluster(api, resource, &view, now).await?);
        }
        console.print(&text)?;
    }
    Ok(())
}

/// The resource with this id, or all; an agent also by the name of its member or its host.
async fn found<T: Transport>(api: &Api<T>, definition: &TypeDefinition, id: &str) -> Result<Vec<Resource>, Failure> {
    let request = GetRequest { id: id.to_owned(), ..GetRequest::default() };
    let cause = match api.get(definition, &request).await {
        Err(cause) if cause.is_not_found() => cause,
        found => return Ok(found?),
    };
    let all = api.get(definition, &GetRequest::default()).await.unwrap_or_default();
    let mut named = all.clone();
    named.retain(|item| definition == &types::AGENTS && names(item).iter().any(|name| name == id));
    if !named.is_empty() {
        return Ok(named);
    }
    let known = all.iter().flat_map(|item| match definition == &types::AGENTS {
        true => names(item),
        false => vec![item.metadata.id.clone()],
    });
    let known: Vec<String> = known.filter(|name| !name.is_empty()).collect();
    let hint = match validate::nearest(id, known.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean {meant}?"),
        None if definition == &types::AGENTS => "see `backstayctl agents -o wide`".into(),
        None => format!("see `backstayctl get {}`", definition.plural()),
    };
    Err(Failure::NoResource { cause, hint })
}

/// What an agent is called: its machine's UUID, its member, its host.
fn names(agent: &Resource) -> Vec<String> {
    let AgentSpec { member, host, .. } = agent.typed().unwrap_or_default();
    vec![agent.metadata.id.clone(), member, host]
}

/// How a cluster's backups stand.
async fn cluster<T: Transport>(
    api: &Api<T>,
    resource: &Resource,
    view: &View,
    now: Timestamp,
) -> Result<String, Failure> {
    let name = resource.metadata.id.as_str();
    let spec: ClusterSpec = resource.typed().unwrap_or_default();
    let status = api.find(&types::ETCD_BACKUP_STATUSES, name).await?.and_then(|found| found.typed().ok());
    let proof = known(api.find(&types::VERIFICATIONS, name).await)?.flatten().and_then(|found| found.typed().ok());
    let rows = [
        ("Schedule", schedule(&spec)),
        ("Last backup", last_backup(status.as_ref(), now)),
        ("Backup error", status.map(|status: BackupStatusSpec| status.error).unwrap_or_default()),
        ("Last verified", last_verified(proof.as_ref(), now)),
        ("Verify error", verify_error(proof.as_ref(), now)),
    ];
    let mut text = "Backups:\n".to_owned();
    text.push_str(&fields::lines(rows.iter().map(|(name, value)| (*name, value.as_str()))));
    let agents = listing::of_cluster::<AgentSpec, T>(api, name).await?;
    text.push_str(&part("Agents", agents.len(), &listing::agents_table(&agents, view, now)));
    let runs: Vec<Resource> = listing::latest_runs(api, name).await?.into_iter().take(RUNS).collect();
    text.push_str(&part("Last runs", runs.len(), &listing::runs_table(&runs, false, view, now)));
    Ok(text)
}

/// A table below its name; `-` if it has no rows.
fn part(name: &str, count: usize, table: &str) -> String {
    let indent = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") };
    match count {
        0 => format!("{name}:\n  -\n"),
        _ => format!("{name}:\n{}", table.lines().map(indent).collect::<String>()),
    }
}

fn schedule(spec: &ClusterSpec) -> String {
    let enabled = spec.backupconfiguration.as_ref().and_then(|configuration| configuration.enabled);
    match (spec.backup_interval(), enabled) {
        (Some(interval), _) => format!("every {}", duration::format(interval)),
        (None, Some(false)) => "off".into(),
        (None, _) => "none: no interval is set".into(),
    }
}

fn last_backup(status: Option<&BackupStatusSpec>, now: Timestamp) -> String {
    let last = status.and_then(|status| status.lastbackuptime);
    last.map_or_else(|| "none".into(), |at| format!("{} ({})", at.rfc3339(), units::ago(at, now)))
}

fn last_verified(proof: Option<&VerificationSpec>, now: Timestamp) -> String {
    let proven = proof.filter(|proof| proof.lastproven.is_some());
    proven.map_or_else(|| "never".into(), |proof| format!("{} ({})", proof.provensnapshot, verify::last(proof, now)))
}

fn verify_error(proof: Option<&VerificationSpec>, now: Timestamp) -> String {
    let failed = proof.and_then(|proof| proof.standing());
    let when = |at: Option<Timestamp>| at.map(|at| format!(" ({})", units::ago(at, now))).unwrap_or_default();
    failed.map(|failed| format!("{}{}: {}", failed.snapshot, when(failed.at), failed.error)).unwrap_or_default()
}

#[cfg(test)]
#[path = "describe/tests.rs"]
mod tests;
