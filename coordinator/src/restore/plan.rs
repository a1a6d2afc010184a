//! From a request, the backup's manifest and what the agents report to a restore that can begin, or to all reasons why it
//! cannot. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backstay_archive::Manifest;
use backstay_archive::manifest::{NO_OTHER_MEMBER, Verdict};
use backstay_archive::release::{Fit, Origin};
use backstay_protocol::backstay_types::{RESTORE_BUMP, RestorePhase, RestoreSpec};
use backstay_protocol::bus::{ListedMember, MemberIdentity};
use backstay_protocol::machines::{self, called, once};
use backstay_protocol::{ClusterName, ClusterUuid, MachineId, RestoreId, Timestamp};

use super::model::{Machine, Restore, Source};

/// Room in addition to the database: etcd's log, and what it writes while it starts.
const ROOM_BYTES: u64 = 128 * 1024 * 1024;
/// An older plan may no longer be right.
const PLAN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The plan may come from another coordinator, whose clock is a little ahead.
const PLAN_AHEAD: Duration = Duration::from_secs(5 * 60);

/// A connected agent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Present {
    pub identity: MemberIdentity,
    /// Whether its etcd answers now: then its member list counts more than one that was only saved.
    pub answers: bool,
    /// The version of its etcd, or the last that was known; empty: never known.
    pub etcd_version: String,
    /// Why it cannot be told from another agent; empty: it can.
    pub twin: String,
    /// The restore that has not ended there; empty: none.
    pub unfinished: String,
}

/// The cluster to restore, as the coordinator knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub cluster: ClusterName,
    pub uuid: ClusterUuid,
    /// etcd's own cluster id in the last good backup.
    pub etcd_cluster_id: Option<u64>,
    pub agents: BTreeMap<MachineId, Present>,
}

/// An agent with the cluster's name whose etcd belongs to another cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("machine {machine} is left out: its etcd belongs to cluster {theirs:016x}, not to {ours:016x}")]
pub struct UnrelatedMember {
    machine: MachineId,
    theirs: u64,
    ours: u64,
}

impl Target {
    /// Separates agents whose etcd belongs to another cluster than that of most others, or than the known one.
    ///
    /// # Errors
    /// It is not clear which of them belong to the cluster.
    pub fn part_unrelated(&mut self) -> Result<Vec<UnrelatedMember>, String> {
        let mut votes: BTreeMap<u64, Vec<MachineId>> = BTreeMap::new();
        for (machine, agent) in self.agents.iter().filter(|(_, agent)| agent.identity.cluster_id != 0) {
            votes.entry(agent.identity.cluster_id).or_default().push(*machine);
        }
        let most = votes.values().map(Vec::len).max().unwrap_or_default();
        let mut favourites = votes.iter().filter(|(_, machines)| machines.len() == most).map(|(id, _)| *id);
        let known = self.etcd_cluster_id.filter(|id| votes.contains_key(id));
        let ours = match (known, favourites.next(), favourites.next()) {
            (Some(ours), _, _) | (None, Some(ours), None) => ours,
            (None, None, _) => return Ok(Vec::new()),
            (None, Some(_), Some(_)) => {
                let all =
                    votes.iter().flat_map(|(id, machines)| machines.iter().map(move |m| format!("{m} of {id:016x}")));
                let all = all.collect::<Vec<_>>().join(", ");
                return Err(format!(
                    "the agents' etcds belong to different clusters ({all}): stop those that do not belong here"
                ));
            }
        };
        let unrelated: Vec<UnrelatedMember> = votes
            .into_iter()
            .filter(|(theirs, _)| *theirs != ours)
            .flat_map(|(theirs, machines)| {
                machines.into_iter().map(move |machine| UnrelatedMember { machine, theirs, ours })
            })
            .collect();
        unrelated.iter().for_each(|unrelated| drop(self.agents.remove(&unrelated.machine)));
        Ok(unrelated)
    }
}

/// Makes the plan.
///
/// # Errors
/// Every reason against it, in one text.
pub fn plan(
    target: &Target,
    request: &RestoreSpec,
    id: RestoreId,
    manifest: &Manifest,
    now: Timestamp,
) -> Result<Restore, String> {
    refuse_foreign(target, request, manifest)?;
    if target.agents.is_empty() {
        return Err(format!("no agent of cluster {:?} is connected", target.cluster.as_str()));
    }
    let members = members(&target.agents)?;
    let source = source(manifest);
    let machines = machines(target, &members, &source)?;
    Ok(Restore {
        id,
        version: 1,
        updated: now,
        source,
        phase: RestorePhase::Waiting,
        phase_since: now,
        started: now,
        ended: None,
        error: String::new(),
        bump: request.bump.unwrap_or(RESTORE_BUMP),
        aside_suffix: aside_suffix(request.started, now)?,
        by_template: false,
        machines,
    })
}

/// What the old folders' names end with: the time, or that of the plan that was confirmed.
fn aside_suffix(planned: Option<Timestamp>, now: Timestamp) -> Result<String, String> {
    let time = planned.unwrap_or(now);
    let (since, ahead) = (now.since(time), time.since(now));
    if since > PLAN_MAX || ahead > PLAN_AHEAD {
        return Err(format!(
            "the plan was made at {} (`started`), and now it is {}: request a new plan, or omit `started`",
            time.rfc3339(),
            now.rfc3339()
        ));
    }
    Ok(format!(".before-restore-{}", time.rfc3339().replace([':', '-'], "")))
}

/// The time of the plan that a request refers to. The time of a restore that has begun, such as the cluster's latest,
/// is not one: it is in the output of `get -o yaml`, and applying that again requests a new restore.
pub fn planned_at(request: &RestoreSpec, latest: Option<Timestamp>) -> Option<Timestamp> {
    let told = request.phase != RestorePhase::Waiting || request.ended.is_some() || request.started == latest;
    request.started.filter(|_| !told)
}

/// What a person should know about the different versions of etcd in a restore.
pub fn version_notes(restore: &Restore) -> Vec<String> {
    let source = &restore.source;
    let origin = Origin { etcd: &source.etcd_version, mark: &source.storage_version };
    let note = |(id, machine): (&MachineId, &Machine)| {
        let (member, etcd, from) = (&machine.member, &machine.etcd_version, &source.etcd_version);
        let text = match origin.fits(etcd) {
            Fit::Starts | Fit::Unknown => return None,
            Fit::Older => format!(
                "etcd {etcd} there is older than etcd {from}, from which the backup was taken; as far as is known, it \
                 can start on the backup"
            ),
            Fit::MayRefuse => format!(
                "etcd {etcd} there cannot start on the database if etcd {from} has marked it. The manifest does not \
                 say whether it has; each machine checks before anything is stopped"
            ),
            Fit::Refuses(mark) => format!(
                "etcd {etcd}, last seen there, cannot start on the database, which is marked {}: install etcd {mark} \
                 or later there",
                source.storage_version
            ),
        };
        Some((machines::called(member, "", &id.to_string()), text))
    };
    machines::once("machine", restore.machines.iter().filter_map(note))
}

/// Refuses to replace this cluster's data with another cluster's, unless the request says so.
fn refuse_foreign(target: &Target, request: &RestoreSpec, manifest: &Manifest) -> Result<(), String> {
    let (theirs, ours) = (&manifest.cluster, &target.cluster);
    let said = request.dataofanothercluster.as_str();
    match (manifest.cluster_uuid == target.uuid, said) {
        (true, "") => Ok(()),
        (true, said) => Err(format!("the backup is from cluster {ours} itself, not from another cluster {said}")),
        (false, said) if said == theirs.as_str() => Ok(()),
        (false, "") => Err(format!(
            "the backup is from another cluster, {theirs} ({}), whose data would replace all data of {ours}; if that \
             is intended, use `backstayctl restore {ours} --data-of-another-cluster {theirs}`",
            manifest.cluster_uuid
        )),
        (false, said) => Err(format!("the backup is from cluster {theirs}, not from {said}")),
    }
}

fn source(manifest: &Manifest) -> Source {
    Source {
        cluster: manifest.cluster.clone(),
        uuid: manifest.cluster_uuid,
        snapshot: manifest.snapshot,
        taken: manifest.created_at,
        revision: manifest.origin.revision,
        bytes: manifest.snapshot_bytes,
        sealed_bytes: manifest.sealed_bytes,
        sha256: manifest.snapshot_sha256.clone(),
        encrypted: manifest.seal.encryption != "none",
        proof: proof(manifest),
        etcd_version: manifest.origin.etcd_version.clone(),
        storage_version: storage_version(manifest).unwrap_or_default().to_owned(),
        etcd_cluster_id: manifest.origin.etcd_cluster_id.clone(),
    }
}

/// The version that the database is marked with, if the inspection found it.
fn storage_version(manifest: &Manifest) -> Option<&str> {
    manifest.inspection.as_ref()?.contents.as_ref()?.storage_version.as_deref()
}

/// What is known about a backup besides its digests, in words.
pub fn proof(manifest: &Manifest) -> String {
    let digest = "sha256 matches etcd's own";
    let Some(inspection) = &manifest.inspection else { return digest.to_owned() };
    let pages = if inspection.contents.is_some() { "all pages intact" } else { "pages only partly inspected" };
    let with = inspection.compared_with.as_deref().unwrap_or("?");
    let compared = match inspection.verdict {
        Verdict::Equal if inspection.is_own(&manifest.origin) => NO_OTHER_MEMBER.to_owned(),
        Verdict::Equal => format!("HashKV matches member {with}"),
        Verdict::Differs => format!("HashKV DIFFERS from member {with}"),
        Verdict::Unknown => format!("not compared ({})", inspection.reason.as_deref().unwrap_or("no reason given")),
    };
    format!("{digest}; {pages}; {compared}")
}

/// etcd's members: from agents whose etcd answers, otherwise as they were last known.
fn members(agents: &BTreeMap<MachineId, Present>) -> Result<Vec<ListedMember>, String> {
    let known = |answers: bool| -> BTreeSet<Vec<(u64, String, Vec<String>)>> {
        let identities = agents.values().filter(|a| (!answers || a.answers) && !a.identity.members.is_empty());
        identities.map(|agent| key(&agent.identity.members)).collect()
    };
    let now = known(true);
    let lists = if now.is_empty() { known(false) } else { now };
    let list = match lists.len() {
        0 => return Err("no connected agent knows the members of etcd".into()),
        1 => lists.into_iter().next().unwrap_or_default(),
        _ => return Err(different_lists(agents, &lists)),
    };
    let of = agents.values().find(|agent| key(&agent.identity.members) == list);
    let members = of.map(|agent| agent.identity.members.clone()).unwrap_or_default();
    for member in &members {
        if member.name.is_empty() {
            let id = member.id;
            return Err(format!("member {id:016x} was added and has never started: remove it first"));
        }
        if member.learner {
            return Err(format!("member {} is a learner: promote or remove it first", member.name));
        }
    }
    Ok(members)
}

/// Says which machine has which list: if one was saved by an agent whose etcd is dead, only a person can correct it.
fn different_lists(agents: &BTreeMap<MachineId, Present>, lists: &BTreeSet<Vec<(u64, String, Vec<String>)>>) -> String {
    let text = |list: &Vec<(u64, String, Vec<String>)>| {
        let whose = agents.iter().filter(|(_, agent)| key(&agent.identity.members) == *list);
        let whose: Vec<String> = whose.map(|(id, _)| id.to_string()).collect();
        let names: Vec<String> = list.iter().map(|(id, name, _)| format!("{name} {id:016x}")).collect();
        format!("{} has [{}]", whose.join(" and "), names.join(", "))
    };
    let lists: Vec<String> = lists.iter().map(text).collect();
    format!(
        "the agents report different lists of etcd members ({}): wait until they agree, or start one etcd whose list \
         is right",
        lists.join("; ")
    )
}

fn key(members: &[ListedMember]) -> Vec<(u64, String, Vec<String>)> {
    let mut key: Vec<_> = members.iter().map(|m| (m.id, m.name.clone(), m.peer_urls.clone())).collect();
    key.sort();
    key
}

/// One machine for each member.
fn machines(
    target: &Target,
    members: &[ListedMember],
    source: &Source,
) -> Result<BTreeMap<MachineId, Machine>, String> {
    let (mut machines, mut problems, mut of_machines) = (BTreeMap::new(), Vec::new(), Vec::new());
    for member in members {
        let mut seated = target.agents.iter().filter(|(_, agent)| agent.identity.member_id == member.id);
        match (seated.next(), seated.next()) {
            (None, _) => problems.push(format!("no agent is connected for member {}", member.name)),
            (Some((one, _)), Some((two, _))) => {
                problems.push(format!("machines {one} and {two} both report member {}", member.name));
            }
            (Some((id, agent)), None) => match machine(member, agent, source) {
                Ok(machine) => {
                    machines.insert(*id, machine);
                }
                Err(problem) => of_machines.push((called(&member.name, "", &id.to_string()), problem)),
            },
        }
    }
    problems.extend(once("machine", of_machines));
    if problems.is_empty() { Ok(machines) } else { Err(problems.join("; ")) }
}

fn machine(member: &ListedMember, agent: &Present, source: &Source) -> Result<Machine, String> {
    let identity = &agent.identity;
    if !agent.twin.is_empty() {
        return Err(agent.twin.clone());
    }
    if !agent.unfinished.is_empty() {
        return Err(format!("it is still finishing restore {}", agent.unfinished));
    }
    if identity.control.is_empty() || !identity.error.is_empty() {
        let error = if identity.error.is_empty() { "its agent cannot restore" } else { identity.error.as_str() };
        return Err(error.to_owned());
    }
    // What was only known of an etcd that is dead may be another one by now: it is told, and nothing is stopped there.
    let origin = Origin { etcd: &source.etcd_version, mark: &source.storage_version };
    if let Some(refusal) = origin.refusal(&agent.etcd_version).filter(|_| agent.answers) {
        return Err(refusal);
    }
    let wanted = source.bytes.saturating_add(ROOM_BYTES);
    if identity.free_bytes < wanted {
        return Err(format!(
            "{wanted} bytes are needed next to {}, but {} are free",
            identity.folder, identity.free_bytes
        ));
    }
    Ok(Machine {
        member: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        control: identity.control.clone(),
        folder: identity.folder.clone(),
        etcd_version: agent.etcd_version.clone(),
        ..Machine::default()
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
