//! Two agents that use one machine UUID, such as those of a cloned machine or of a copied configuration file: told by their
//! beats. Pure.

use std::time::Duration;

use backstay_protocol::MachineId;
use backstay_protocol::bus::Beat;
use tokio::time::Instant;

use crate::agent_coverage::Names;

/// What beats under one machine's UUID have told of other agents.
#[derive(Debug, Clone, Default)]
pub struct Twins {
    /// The process that beat before the present one: its start, what it is called, and when it was heard last.
    before: Option<(Start, Names, Instant)>,
    /// The present one was heard before the other: both run.
    both: bool,
}

/// One process of an agent. A restarted one has another.
type Start = (i64, String);

fn start(beat: &Beat) -> Start {
    (beat.started_at_ms, beat.host.clone())
}

impl Twins {
    /// What is known after `next`, which followed `last`; that one was heard at `seen`. An agent that was restarted beats no
    /// more under its old start. Where a start comes back, both run.
    pub fn after(self, last: &Beat, seen: Instant, next: &Beat) -> Self {
        if start(last) == start(next) {
            return self;
        }
        let comes_back = self.before.as_ref().is_some_and(|(before, ..)| *before == start(next));
        Self { before: Some((start(last), Names::of(last), seen)), both: comes_back }
    }

    /// What to do about it, while the other one was heard within `patience`.
    pub fn text(&self, machine: MachineId, beat: &Beat, now: Instant, patience: Duration) -> Option<String> {
        let (_, other, seen) = self.before.as_ref().filter(|_| self.both)?;
        let mut both = [Names::of(beat).called(machine), other.called(machine)];
        both.sort();
        let [one, two] = &both;
        let whose = if one == two { format!("both on {one}") } else { format!("{one} and {two}") };
        (now.duration_since(*seen) <= patience).then(|| {
            format!(
                "two agents use the machine UUID {machine} ({whose}): set another `machine` in agent.toml on one of them and \
                 restart it"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstay_protocol::bus::{ListedMember, MemberIdentity};
    use uuid::Uuid;

    const SECOND: Duration = Duration::from_secs(1);

    fn beat(started_at_ms: i64, member: &str) -> Beat {
        let members = vec![ListedMember { id: 1, name: member.into(), ..ListedMember::default() }];
        let seat = MemberIdentity { member_id: 1, members, ..MemberIdentity::default() };
        Beat { started_at_ms, host: "vm".into(), seat: Some(seat), ..Beat::default() }
    }

    /// What is told after these beats, a second apart, and a second later.
    fn told(beats: &[(i64, &str)]) -> Option<String> {
        let (begun, machine) = (Instant::now(), MachineId(Uuid::from_u128(7)));
        let mut twins = Twins::default();
        let beats: Vec<Beat> = beats.iter().map(|(start, member)| beat(*start, member)).collect();
        for (n, pair) in (0..).zip(beats.windows(2)) {
            twins = twins.after(&pair[0], begun + n * SECOND, &pair[1]);
        }
        let last = beats.last().expect("there are some");
        twins.text(machine, last, begun + u32::try_from(beats.len()).expect("few") * SECOND, 4 * SECOND)
    }

    #[test]
    fn an_agent_that_was_restarted_has_no_twin() {
        assert_eq!(told(&[(1, "m1")]), None);
        assert_eq!(told(&[(1, "m1"), (1, "m1"), (2, "m1"), (2, "m1"), (3, "m1"), (3, "m1")]), None);
    }

    #[test]
    fn two_that_beat_by_turns_are_named_both() {
        let text = told(&[(1, "m1"), (2, "m2"), (1, "m1")]).expect("the first came back");
        let says =
            "two agents use the machine UUID 00000000-0000-0000-0000-000000000007 (m1 (vm) and m2 (vm)): set another";
        assert!(text.starts_with(says), "{text}");
        assert_eq!(told(&[(1, "m1"), (2, "m2"), (1, "m1"), (2, "m2")]), Some(text.clone()), "the same words each time");
        assert_eq!(told(&[(1, "m1"), (1, "m1"), (2, "m2"), (1, "m1"), (1, "m1")]), Some(text));
        let same = told(&[(1, "m1"), (2, "m1"), (1, "m1")]).expect("two on one machine");
        assert!(same.contains("(both on m1 (vm))"), "{same}");
    }

    #[test]
    fn one_that_is_stopped_is_forgotten() {
        let begin = [(1, "m1"), (2, "m2"), (1, "m1")];
        let on: Vec<(i64, &str)> = begin.into_iter().chain([(1, "m1"); 4]).collect();
        assert_eq!(told(&on), None);
        let again: Vec<(i64, &str)> = begin.into_iter().chain([(3, "m1"), (3, "m1")]).collect();
        assert_eq!(told(&again), None, "it was restarted, and the other one is silent");
    }
}
