//! Whether the members of the restored cluster agree with each other and with the plan. Pure.

use backstay_protocol::bus::{ListedMember, MemberCheck, RestoreStep};
use backstay_protocol::{MachineId, machines};

use super::model::{Heard, Machine, Restore, Round};

/// The result of comparing all members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// They serve, list each other and have the same keys.
    Equal,
    /// Why not (yet), and the revision at which to ask each for its hash; 0: none.
    NotYet { reason: String, ask: i64 },
}

/// Compares what the members reported.
pub fn members(restore: &Restore, round: &Round) -> Compared {
    let mut checks = Vec::new();
    for (id, machine) in &restore.machines {
        match checked(restore, id, machine, round) {
            Ok(check) => checks.push((machine, check)),
            Err(reason) => {
                let reason = format!("machine {}: {reason}", machines::called(&machine.member, "", &id.to_string()));
                return Compared::NotYet { reason, ask: 0 };
            }
        }
    }
    hashes(&checks)
}

/// One member's check, if everything in it is right and only the comparison is missing.
fn checked<'r>(
    restore: &Restore,
    id: &MachineId,
    machine: &Machine,
    round: &'r Round,
) -> Result<&'r MemberCheck, String> {
    let state = match round.get(id) {
        Some(Heard::State(state)) => state,
        Some(Heard::Silent(_, text) | Heard::Refused(text)) => return Err(text.clone()),
        None => return Err("it was not asked yet".into()),
    };
    if state.step() != RestoreStep::Switched {
        return Err(format!("it is {}", super::model::word(state.step())));
    }
    let check = state.check.as_ref().ok_or("etcd was not asked yet")?;
    if !check.healthy {
        return Err(format!("etcd is not serving: {}", check.error));
    }
    if check.cluster_id != machine.new_cluster_id {
        return Err(format!(
            "etcd belongs to cluster {:016x}, not to {:016x}",
            check.cluster_id, machine.new_cluster_id
        ));
    }
    if !same_members(restore, &check.members) {
        return Err("its member list differs from the restored one".into());
    }
    Ok(check)
}

fn same_members(restore: &Restore, listed: &[ListedMember]) -> bool {
    let sorted = |urls: &[String]| {
        let mut urls = urls.to_vec();
        urls.sort();
        urls
    };
    let mut wanted: Vec<_> = restore.machines.values().map(|m| (m.member.clone(), sorted(&m.peer_urls))).collect();
    let mut listed: Vec<_> = listed.iter().map(|m| (m.name.clone(), sorted(&m.peer_urls))).collect();
    wanted.sort();
    listed.sort();
    wanted == listed
}

/// Whether every member has reported its hash at that revision, or that it cannot.
pub fn all_answered(restore: &Restore, round: &Round, revision: i64) -> bool {
    let answered = |check: &MemberCheck| check.hash_revision >= revision || !check.error.is_empty();
    restore.machines.keys().all(|id| match round.get(id) {
        Some(Heard::State(state)) => state.check.as_ref().is_some_and(answered),
        _ => false,
    })
}

fn hashes(checks: &[(&Machine, &MemberCheck)]) -> Compared {
    let lowest = checks.iter().map(|(_, check)| check.revision).min().unwrap_or(0);
    let Some((first, one)) = checks.first() else {
        return Compared::NotYet { reason: "there are no members".into(), ask: 0 };
    };
    if checks.iter().any(|(_, check)| check.hash_revision == 0) {
        let error = checks.iter().find(|(_, check)| !check.error.is_empty());
        let reason =
            error.map_or("the hashes have not been compared yet".into(), |(m, c)| format!("{}: {}", m.member, c.error));
        return Compared::NotYet { reason, ask: lowest };
    }
    let key = |check: &MemberCheck| (check.hash_revision, check.compact_revision, check.hash);
    match checks.iter().find(|(_, check)| key(check) != key(one)) {
        None => Compared::Equal,
        Some((other, check)) => Compared::NotYet {
            reason: format!(
                "the members disagree: {} has HashKV {:08x} at revision {} (compacted {}), {} has {:08x} at {} ({})",
                first.member,
                one.hash,
                one.hash_revision,
                one.compact_revision,
                other.member,
                check.hash,
                check.hash_revision,
                check.compact_revision
            ),
            // A writer moves on, a compaction may be under way: the next look is at another moment.
            ask: lowest,
        },
    }
}
