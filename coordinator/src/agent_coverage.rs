//! Which members of a cluster's etcd have a connected agent, and what the machines are called, according to the member
//! identities that the agents report. Pure.

use std::collections::BTreeMap;

use backstay_protocol::bus::{Beat, ListedMember, MemberIdentity};
use backstay_protocol::{MachineId, machines};

/// The names of etcd's members without a connected agent. The list of members comes from an agent whose etcd answers,
/// otherwise from one that saved it; without any list, no member is missing. A member that was added but never started
/// has no name, and a learner has no vote: neither needs an agent.
pub fn absent<'a>(beats: impl Iterator<Item = (MachineId, &'a Beat)>) -> Vec<String> {
    let beats: BTreeMap<MachineId, &Beat> = beats.collect();
    let identities = || beats.values().filter_map(|beat| Some((beat.member.is_some(), beat.seat.as_ref()?)));
    let known = || identities().filter(|(_, identity)| !identity.members.is_empty());
    // An agent of another etcd cluster under the same name does not decide.
    let same =
        |identity: &MemberIdentity| identities().filter(|(_, other)| other.cluster_id == identity.cluster_id).count();
    let list = known().max_by_key(|(answers, identity)| (*answers, same(identity)));
    let Some((_, list)) = list else { return Vec::new() };
    let has = |member: &ListedMember| beats.values().any(|beat| is_of(beat, member));
    // Whose member nobody knows may be any of them.
    let strange = beats.values().filter(|beat| member_id(beat) == 0).count();
    let counts = |member: &&ListedMember| !member.learner && !member.name.is_empty();
    list.members.iter().filter(counts).filter(|member| !has(member)).skip(strange).map(called).collect()
}

/// The name of an agent's own member, as it was last known; empty if it never was.
pub fn own_name(identity: &MemberIdentity) -> String {
    let own = identity.members.iter().find(|member| member.id == identity.member_id);
    own.map(called).unwrap_or_default()
}

/// What people call a machine, from its latest beat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// The name of its etcd member, as it was last known.
    pub member: String,
    pub host: String,
}

impl Names {
    pub fn of(beat: &Beat) -> Self {
        Self { member: beat.seat.as_ref().map(own_name).unwrap_or_default(), host: beat.host.clone() }
    }

    /// One or two words; the beginning of its UUID if no name is known.
    pub fn called(&self, machine: MachineId) -> String {
        machines::called(&self.member, &self.host, &machine.to_string())
    }
}

fn called(member: &ListedMember) -> String {
    match member.name.as_str() {
        "" => format!("{:016x}", member.id),
        name => name.to_owned(),
    }
}

fn member_id(beat: &Beat) -> u64 {
    let told = beat.member.as_ref().map(|member| member.member_id);
    told.or_else(|| beat.seat.as_ref().map(|seat| seat.member_id)).unwrap_or_default()
}

/// By its id, or by its name: a restore gives members new ids, and the agents hear of them one after the other.
fn is_of(beat: &Beat, member: &ListedMember) -> bool {
    let named = || beat.seat.as_ref().is_some_and(|seat| !member.name.is_empty() && own_name(seat) == member.name);
    member_id(beat) == member.id || named()
}

#[cfg(test)]
mod tests {
    use backstay_protocol::bus::Member;
    use uuid::Uuid;

    use super::*;

    /// An agent of member `own` that knows `members`, each by its id.
    fn beat(own: u64, members: &[u64], answers: bool) -> Beat {
        let seat = |id: &u64| ListedMember { id: *id, name: format!("m{}", id % 10), ..ListedMember::default() };
        let seat =
            MemberIdentity { member_id: own, members: members.iter().map(seat).collect(), ..MemberIdentity::default() };
        let member = answers.then(|| Member { member_id: own, ..Member::default() });
        Beat { seat: Some(seat), member, ..Beat::default() }
    }

    fn missed(beats: &[Beat]) -> Vec<String> {
        absent(beats.iter().zip(1..).map(|(beat, n)| (MachineId(Uuid::from_u128(n)), beat)))
    }

    #[test]
    fn a_member_without_an_agent_is_named() {
        let all = [1, 2, 3];
        let of = |own| beat(own, &all, true);
        assert!(missed(&[of(1), of(2), of(3)]).is_empty());
        assert_eq!(missed(&[of(1), of(3)]), ["m2"]);
        assert_eq!(missed(&[beat(2, &all, false)]), ["m1", "m3"], "its etcd is down, and its list is kept");
        assert!(missed(&[beat(1, &[1], true)]).is_empty(), "one member alone");
        assert!(missed(&[]).is_empty() && missed(&[Beat::default()]).is_empty(), "nobody knows the members");
    }

    #[test]
    fn who_has_no_vote_or_never_started_is_not_missed() {
        for changed in [|seat: &mut ListedMember| seat.learner = true, |seat: &mut ListedMember| seat.name.clear()] {
            let mut beat = beat(1, &[1, 2, 3], true);
            changed(&mut beat.seat.as_mut().expect("made").members[2]);
            assert_eq!(missed(&[beat]), ["m2"]);
        }
    }

    #[test]
    fn what_an_agent_does_not_say_is_no_reason_to_miss_a_member() {
        // An agent of an older release says nothing of its member identity; while its etcd answers it says which member it has.
        let old = |member| Beat { seat: None, ..beat(member, &[], true) };
        assert!(missed(&[beat(1, &[1, 2], true), old(2)]).is_empty());
        assert!(missed(&[beat(1, &[1, 2], true), Beat::default()]).is_empty());
        // Of a restore one agent has heard already, the other not yet: ids differ, names do not.
        assert!(missed(&[beat(11, &[11, 12], true), beat(2, &[1, 2], true)]).is_empty());
        // Somebody else's etcd runs under this cluster's name.
        let unrelated = Beat {
            seat: Some(MemberIdentity { cluster_id: 9, ..beat(8, &[8, 9], true).seat.expect("made") }),
            ..beat(8, &[], true)
        };
        assert!(missed(&[beat(1, &[1, 2], true), beat(2, &[1, 2], true), unrelated]).is_empty());
        // A member that was removed is missed by nobody, though its agent kept it in its list.
        assert!(missed(&[beat(3, &[1, 2, 3], false), beat(1, &[1, 2], true), beat(2, &[1, 2], true)]).is_empty());
    }
}
