//! Which member is asked for a backup: a function of the agents' latest beats.

use backstay_protocol::MachineId;
use backstay_protocol::bus::Member;

/// A connected agent, according to its latest beat.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub machine: MachineId,
    /// The attempt that it is working on; an agent works on one at a time.
    pub busy: bool,
    /// Why it cannot be told from another agent.
    pub twin: Option<String>,
    /// Its etcd member, or why that does not answer.
    pub member: Result<Member, String>,
}

/// A member that is this many raft entries behind the newest one has not caught up.
const LAG_MAX: u64 = 10_000;

/// The agents to ask, best first, and why each of the others is not asked.
///
/// Followers come before the leader, since a snapshot is work for the member. A learner or a member with a CORRUPT
/// alarm is never asked. `etcd_cluster` is etcd's own cluster id if it is known: members of another cluster with the
/// same name are not asked.
pub fn choose(candidates: &[Candidate], etcd_cluster: Option<u64>) -> (Vec<MachineId>, Vec<(MachineId, String)>) {
    let (mut fit, mut good, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for candidate in candidates {
        match usable(candidate, etcd_cluster) {
            Ok(member) => fit.push((candidate, member)),
            Err(reason) => refused.push((candidate.machine, reason)),
        }
    }
    // Only members that count can leave others behind.
    let newest = fit.iter().map(|(_, member)| member.raft_applied_index).max().unwrap_or(0);
    for (candidate, member) in fit {
        match newest.saturating_sub(member.raft_applied_index) > LAG_MAX {
            true => refused.push((candidate.machine, "its etcd member has not caught up".into())),
            false => good.push((rank(candidate, member), candidate.machine)),
        }
    }
    good.sort_unstable();
    (good.into_iter().map(|(_, machine)| machine).collect(), refused)
}

fn usable(candidate: &Candidate, etcd_cluster: Option<u64>) -> Result<&Member, String> {
    if let Some(twin) = &candidate.twin {
        return Err(twin.clone());
    }
    let member = candidate.member.as_ref().map_err(|e| format!("its etcd does not answer: {e}"))?;
    if etcd_cluster.is_some_and(|id| id != member.cluster_id) {
        return Err(format!("its etcd belongs to another cluster ({:016x})", member.cluster_id));
    }
    if member.learner {
        return Err("its etcd member is a learner".into());
    }
    if member.alarms.iter().any(|a| a.contains("CORRUPT")) {
        return Err("its etcd member raised a CORRUPT alarm".into());
    }
    Ok(member)
}

/// Lower is better. The machine's id decides between equals, so that the choice is the same each time.
fn rank(candidate: &Candidate, member: &Member) -> (bool, bool) {
    let leader = member.leader_id == member.member_id;
    (candidate.busy, leader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn candidate(n: u128, change: impl FnOnce(&mut Member)) -> Candidate {
        let mut member = Member {
            cluster_id: 1,
            member_id: n as u64,
            leader_id: 1,
            raft_applied_index: 50_000,
            ..Member::default()
        };
        change(&mut member);
        Candidate { machine: MachineId(Uuid::from_u128(n)), busy: false, twin: None, member: Ok(member) }
    }

    fn chosen(candidates: &[Candidate]) -> Vec<u128> {
        choose(candidates, Some(1)).0.into_iter().map(|m| m.0.as_u128()).collect()
    }

    #[test]
    fn followers_come_before_the_leader() {
        assert_eq!(chosen(&[candidate(1, |_| ()), candidate(3, |_| ()), candidate(2, |_| ())]), [2, 3, 1]);
    }

    #[test]
    fn unfit_members_are_left_out_with_the_reason() {
        let unfit = [
            candidate(2, |m| m.learner = true),
            candidate(3, |m| m.alarms.push("CORRUPT".into())),
            candidate(4, |m| m.raft_applied_index = 1),
            candidate(5, |m| m.cluster_id = 9),
            Candidate { member: Err("connection refused".into()), ..candidate(6, |_| ()) },
            Candidate { twin: Some("two agents use its UUID".into()), ..candidate(7, |_| ()) },
            candidate(1, |_| ()),
        ];
        assert_eq!(chosen(&unfit), [1]);
        assert_eq!(choose(&unfit, Some(1)).1.len(), 6);
    }

    #[test]
    fn a_stray_member_with_a_higher_index_leaves_nobody_behind() {
        let stray = candidate(9, |m| (m.cluster_id, m.raft_applied_index) = (7, 900_000));
        assert_eq!(chosen(&[candidate(2, |_| ()), stray]), [2]);
    }

    proptest! {
        #[test]
        fn every_agent_is_either_chosen_or_refused(flags in prop::collection::vec((any::<bool>(), any::<bool>(), 0_u64..100_000), 0..7)) {
            let candidates: Vec<_> = flags.iter().enumerate().map(|(i, (learner, busy, index))| {
                let mut c = candidate(i as u128 + 1, |m| { m.learner = *learner; m.raft_applied_index = *index; });
                c.busy = *busy;
                c
            }).collect();
            let (good, refused) = choose(&candidates, None);
            prop_assert_eq!(good.len() + refused.len(), candidates.len());
            for machine in good {
                prop_assert!(!flags[machine.0.as_u128() as usize - 1].0, "a learner was chosen");
            }
        }
    }
}
