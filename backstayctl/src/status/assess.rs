//! The state of one cluster's backups in a word or two. Pure: resources and the time in, words out.

use std::cmp::Reverse;
use std::time::Duration;

use backstay_daemon::units;
use backstay_protocol::backstay_types::VerificationSpec;
use backstay_protocol::spec::BackupState;
use backstay_protocol::time::clock_is_off;
use backstay_protocol::{Timestamp, duration, machines};

use super::advice;
pub use super::facts::{Down, Facts, Schedule, Word};

/// The state of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub cluster: String,
    pub word: Word,
    pub last: Option<Timestamp>,
    pub age: Option<Duration>,
    pub interval: Option<Duration>,
    pub agents: usize,
    pub verification: VerificationSpec,
    /// Why it is not ok; empty if it is.
    pub reason: String,
    /// The command to run next; empty if there is nothing to do.
    pub next: String,
}

/// How much later than the interval a backup may be without being stale, since a backup takes time, and so does a
/// retry.
const GRACE_MIN: Duration = Duration::from_secs(300);

/// How much older than its interval a backup may be.
pub fn grace(given: Option<Duration>, interval: Duration) -> Duration {
    given.unwrap_or_else(|| (interval / 10).max(GRACE_MIN))
}

/// All clusters, worst first; within one word the oldest backup first, then by name.
pub fn all(facts: Vec<Facts>, given_grace: Option<Duration>, now: Timestamp) -> Vec<Health> {
    let mut all: Vec<Health> = facts.into_iter().map(|facts| assess(facts, given_grace, now)).collect();
    all.sort_by(|a, b| (a.word, Reverse(a.age), &a.cluster).cmp(&(b.word, Reverse(b.age), &b.cluster)));
    all
}

/// One cluster. If several words are true, the worst is taken.
pub fn assess(facts: Facts, given_grace: Option<Duration>, now: Timestamp) -> Health {
    // Nobody knows how old a backup from the future is.
    let age = facts.status.lastbackuptime.filter(|at| ahead(*at, now).is_none()).map(|at| now.since(at));
    let (word, reason) = judge(&facts, age, given_grace, now);
    let next = advice::next(word, &facts);
    let Facts { cluster, schedule, status, agents, verification, .. } = facts;
    let (last, interval) = (status.lastbackuptime, schedule.interval());
    Health { cluster, word, last, age, interval, agents, verification, reason, next }
}

fn judge(facts: &Facts, age: Option<Duration>, grace: Option<Duration>, now: Timestamp) -> (Word, String) {
    let found = [
        no_storage(facts),
        no_agent(facts),
        damaged(facts, now),
        never(facts),
        failing(facts),
        from_the_future(facts, now),
        stale(facts, age, grace),
        restoring(facts),
        member_down(facts),
        few_agents(facts),
        no_schedule(facts),
    ];
    let worst = found.into_iter().flatten().min_by_key(|(word, _)| *word);
    worst.unwrap_or((Word::Ok, String::new()))
}

type Found = Option<(Word, String)>;

fn no_storage(facts: &Facts) -> Found {
    let why = facts.storage.as_str();
    (!why.is_empty()).then(|| (Word::NoStorage, format!("backup storage is not available: {why}")))
}

fn no_agent(facts: &Facts) -> Found {
    (facts.agents == 0 && !facts.settling).then(|| (Word::NoAgent, "no agent is connected".into()))
}

fn damaged(facts: &Facts, now: Timestamp) -> Found {
    let failed = facts.verification.standing()?;
    let (snapshot, error) = (failed.snapshot, failed.error);
    let when = failed.at.map(|at| format!(" {}", units::ago(at, now))).unwrap_or_default();
    Some(match failed.damaged {
        true => (Word::Damaged, format!("the verification of {snapshot} failed{when}: {error}")),
        false => (Word::Unproven, format!("the verification of {snapshot} could not be run{when}: {error}")),
    })
}

fn is_running(facts: &Facts) -> bool {
    facts.status.status == BackupState::Running
}

/// Whether the last backup that ended has failed; while another one is running, the status keeps its error.
fn has_failed(facts: &Facts) -> bool {
    facts.status.status == BackupState::Error || (is_running(facts) && !facts.status.error.is_empty())
}

/// Why the last backup failed. What it says of agents and of the store held then, and may not hold now.
fn failure(facts: &Facts) -> String {
    format!("the last backup failed: {}", facts.status.error)
}

fn never(facts: &Facts) -> Found {
    if facts.status.lastbackuptime.is_some() {
        return None;
    }
    let reason = match (has_failed(facts), is_running(facts)) {
        (true, _) => failure(facts),
        (false, true) => "the first backup is running".into(),
        (false, false) => "there is no backup".into(),
    };
    Some((Word::Never, reason))
}

fn failing(facts: &Facts) -> Found {
    has_failed(facts).then(|| (Word::Failing, failure(facts)))
}

/// How far a time is ahead of this machine's clock, in words; `None` if it is not.
fn ahead(at: Timestamp, now: Timestamp) -> Option<String> {
    clock_is_off(at.as_millis().saturating_sub(now.as_millis()).max(0), "this machine's clock")
}

fn from_the_future(facts: &Facts, now: Timestamp) -> Found {
    let last = facts.status.lastbackuptime?;
    let (off, last) = (ahead(last, now)?, last.rfc3339());
    let reason = format!(
        "the time of the last backup, {last}, is {off}: check the clocks of the coordinator, the agents and this \
         machine"
    );
    Some((Word::Clock, reason))
}

fn stale(facts: &Facts, age: Option<Duration>, given: Option<Duration>) -> Found {
    let (interval, age) = (facts.schedule.interval()?, age?);
    let grace = grace(given, interval);
    (age > interval.saturating_add(grace)).then(|| {
        let (interval, grace) = (duration::format(interval), duration::format(grace));
        (Word::Stale, format!("older than the interval of {interval} plus a grace period of {grace}"))
    })
}

fn restoring(facts: &Facts) -> Found {
    let how_far = facts.restoring.as_str();
    (!how_far.is_empty()).then(|| (Word::Restoring, format!("a restore is running: {how_far}")))
}

fn member_down(facts: &Facts) -> Found {
    let one = |down: &Down| (down.machine.clone(), format!("etcd does not answer: {}", down.error));
    let all = machines::once("machine", facts.down.iter().map(one));
    (!all.is_empty()).then(|| (Word::MemberDown, all.join("; ")))
}

fn few_agents(facts: &Facts) -> Found {
    let (connected, absent) = (facts.agents, facts.absent.len());
    // Where two agents are taken for one, that is why one is missed.
    if !facts.twins.is_empty() {
        let word = Word::FewAgents { connected, members: connected + absent.max(facts.twins.len()) };
        return Some((word, facts.twins.join("; ")));
    }
    let word = Word::FewAgents { connected, members: connected + absent };
    let reason = || {
        let members = if absent == 1 { "member" } else { "members" };
        format!(
            "no agent is connected for etcd {members} {}: a restore needs one for every member",
            facts.absent.join(", ")
        )
    };
    (absent > 0 && connected > 0 && !facts.settling).then(|| (word, reason()))
}

fn no_schedule(facts: &Facts) -> Found {
    match facts.schedule {
        Schedule::Every(_) => None,
        Schedule::None => {
            let reason =
                "no interval is set: backups are made only on request (if this is intended, set the schedule to off)";
            Some((Word::NoSchedule, reason.into()))
        }
        Schedule::Off => Some((Word::NotScheduled, String::new())),
    }
}

#[cfg(test)]
#[path = "assess_tests.rs"]
mod tests;
