//! Backstay's own types: agents from their beats, attempts from the records, and the coordinator itself.

use backstay_daemon::host;
use backstay_protocol::backstay_types::{
    AgentSpec, BackupRunSpec, COORDINATOR_STATUS_ID, CoordinatorStatusSpec, RunState,
};
use backstay_protocol::bus::{FIRST_BEATS, Member, RestoreState};
use backstay_protocol::resource::Resource;
use backstay_protocol::{ClusterName, MachineId};
use tokio::time::Instant;

use crate::agent_coverage::{self, Names};
use crate::fleet::Agent;
use crate::record::ClusterRecord;
use crate::record::runs::{self, Run};
use crate::restore::model::word;
use crate::restore::unsettled::{self, Laggard};
use crate::term::Term;

/// The coordinator that leads: this one.
pub fn coordinator(term: &Term) -> Resource {
    let active_store = term.storage.now().active_store;
    let (host, offsets) = (host::name(), term.clocks.offsets());
    let spec = CoordinatorStatusSpec {
        natsoffsetms: offsets.nats,
        storeoffsetms: offsets.store,
        clock: offsets.fault(&host),
        holder: term.holder.to_string(),
        epoch: term.epoch,
        host,
        version: env!("CARGO_PKG_VERSION").into(),
        started: Some(term.since_at),
        now: Some(term.clock.now()),
        storage: active_store.map(|active_store| active_store.facts()).unwrap_or_default(),
        warnings: term.directory.records().iter().filter_map(|record| record.missing_text()).collect(),
    };
    Resource::of(COORDINATOR_STATUS_ID, &spec)
}

/// The connected agents, by cluster and machine.
pub fn agents(term: &Term) -> Vec<Resource> {
    let now = Instant::now();
    let everybody = term.fleet.everybody(now);
    let mut resources = Vec::with_capacity(everybody.len());
    for of_cluster in everybody.chunk_by(|(one, ..), (other, ..)| one == other) {
        // Who was not heard yet may be connected all the same.
        let absent = match now < term.since + FIRST_BEATS {
            true => Vec::new(),
            false => agent_coverage::absent(of_cluster.iter().map(|(_, machine, agent)| (*machine, &agent.beat))),
        };
        for (cluster, machine, agent) in of_cluster {
            let record = term.directory.get(cluster).map(|handle| handle.record.borrow().clone());
            let lost = record.and_then(|record| lost(&record, *machine, agent.beat.restore.as_ref()?));
            resources.push(agent_resource(cluster, *machine, agent, lost, absent.clone()));
        }
    }
    resources
}

/// What only a person can end: a restore that has touched a machine and that no record contains any more.
fn lost(record: &ClusterRecord, machine: MachineId, state: &RestoreState) -> Option<String> {
    let behind = unsettled::behind(record.restore.as_ref(), &record.unsettled, machine, state);
    let text = || {
        format!(
            "it is {} in restore {}, which never ended as far as the coordinator knows",
            word(state.step()),
            state.restore
        )
    };
    (behind == Laggard::Unknown).then(text)
}

fn agent_resource(
    cluster: &ClusterName,
    machine: MachineId,
    agent: &Agent,
    lost: Option<String>,
    absent: Vec<String>,
) -> Resource {
    let (beat, twin) = (&agent.beat, agent.twin(machine, Instant::now()));
    let Names { member: name, host } = Names::of(beat);
    let member = beat.member.clone().unwrap_or_default();
    let spec = AgentSpec {
        cluster: cluster.to_string(),
        agentversion: beat.agent_version.clone(),
        role: beat.member.as_ref().map(role).unwrap_or_default().into(),
        etcdversion: member.etcd_version,
        dbsize: u64::try_from(member.db_size).unwrap_or(0),
        revision: u64::try_from(member.revision).unwrap_or(0),
        attempt: beat.attempt.clone(),
        error: twin.clone().or(lost).unwrap_or_else(|| beat.etcd_error.clone()),
        twin: twin.unwrap_or_default(),
        clock: agent.clock.clone().unwrap_or_default(),
        lastseen: Some(agent.seen_at),
        member: name,
        host,
        absent,
    };
    Resource::of(machine.to_string(), &spec).in_cluster(cluster.as_str())
}

fn role(member: &Member) -> &'static str {
    match member {
        member if member.learner => "learner",
        member if member.leader_id == member.member_id => "leader",
        _ => "follower",
    }
}

/// The backup status of every cluster that has one.
pub fn statuses(term: &Term) -> Vec<Resource> {
    let records = term.directory.records();
    records.iter().filter_map(|record| Some(record.status.as_ref()?.resource(record.name.as_str()))).collect()
}

/// The latest attempts of every cluster, each cluster's latest first.
pub fn runs(term: &Term) -> Vec<Resource> {
    let records = term.directory.records();
    let all = records.iter().flat_map(|record| record.runs.latest_first().map(move |run| (record, run)));
    all.map(|(record, run)| runs::resource(run.id, &with_progress(term, record, run))).collect()
}

/// A running attempt, with the progress that its agent reports.
fn with_progress(term: &Term, record: &ClusterRecord, run: &Run) -> BackupRunSpec {
    let Names { member, host } = term.fleet.names(&record.name, run.machine);
    let spec = BackupRunSpec { member, host, ..run.spec(&record.name) };
    let agent = term.fleet.last(&record.name, run.machine);
    let progress =
        agent.and_then(|agent| agent.beat.progress).filter(|progress| progress.attempt == run.id.to_string());
    match progress {
        Some(progress) if spec.state == RunState::Running => BackupRunSpec {
            bytesread: progress.bytes_read,
            bytestotal: progress.bytes_total,
            bytesstored: progress.bytes_stored,
            partsretried: progress.parts_retried,
            ..spec
        },
        _ => spec,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_one_role() {
        let member = |leader_id, learner| Member { member_id: 7, leader_id, learner, ..Member::default() };
        assert_eq!(role(&member(7, false)), "leader");
        assert_eq!(role(&member(8, false)), "follower");
        assert_eq!(role(&member(8, true)), "learner");
    }
}
