//! How one cluster's backups stand, in a word or two. Pure: resources and the time in, words out.

use std::cmp::Reverse;
use std::time::Duration;

use backstay_protocol::own::VerificationSpec;
use backstay_protocol::spec::{BackupState, BackupStatusSpec};
use backstay_protocol::time::clock_is_off;
use backstay_protocol::{Timestamp, duration};

use crate::units;

/// The word, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    NoStorage,
    NoAgent,
    /// A proof found a backup damaged.
    Damaged,
    Never,
    Failing,
    /// Its last backup lies in the future.
    Clock,
    Stale,
    /// A restore of it is under way: members that do not answer are part of that.
    Restoring,
    /// An agent is connected, and its etcd does not answer.
    MemberDown,
    /// etcd has more members than there are agents.
    FewAgents {
        connected: usize,
        members: usize,
    },
    /// A proof was asked for and could not be tried.
    Unproven,
    NoSchedule,
    /// Without a schedule, and somebody said so: that is as it should be.
    NotScheduled,
    Ok,
}

impl Word {
    pub fn text(self) -> String {
        match self {
            Self::NoStorage => "no storage".into(),
            Self::NoAgent => "no agent".into(),
            Self::Damaged => "damaged".into(),
            Self::Never => "never".into(),
            Self::Failing => "failing".into(),
            Self::Clock => "clock".into(),
            Self::Stale => "stale".into(),
            Self::Restoring => "restoring".into(),
            Self::MemberDown => "member down".into(),
            Self::FewAgents { connected, members } => format!("{connected}/{members} agents"),
            Self::Unproven => "unproven".into(),
            Self::NoSchedule | Self::NotScheduled => "no schedule".into(),
            Self::Ok => "ok".into(),
        }
    }

    /// Whether there is nothing to be done.
    pub fn is_fine(self) -> bool {
        matches!(self, Self::Ok | Self::NotScheduled)
    }
}

/// When backups are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Schedule {
    Every(Duration),
    /// Nobody said anything.
    #[default]
    None,
    /// By hand alone, as was said: `enabled: false`.
    Off,
}

impl Schedule {
    pub fn interval(self) -> Option<Duration> {
        match self {
            Self::Every(interval) => Some(interval),
            Self::None | Self::Off => None,
        }
    }
}

/// An agent whose etcd does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Down {
    /// Empty where that was never known.
    pub member: String,
    pub machine: String,
    pub error: String,
}

/// What is known of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    pub cluster: String,
    pub schedule: Schedule,
    pub status: BackupStatusSpec,
    /// How many agents are connected.
    pub agents: usize,
    pub down: Vec<Down>,
    /// The members of which no agent is connected.
    pub absent: Vec<String>,
    /// The coordinator may not have heard every agent yet: none is missed.
    pub settling: bool,
    /// Why backups have nowhere to go; empty where they have.
    pub storage: String,
    /// How far the restore is that is under way; empty: none is.
    pub restoring: String,
    /// The latest proof of a backup at rest.
    pub verification: VerificationSpec,
}

/// How a cluster stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub cluster: String,
    pub word: Word,
    pub last: Option<Timestamp>,
    pub age: Option<Duration>,
    pub interval: Option<Duration>,
    pub agents: usize,
    pub verification: VerificationSpec,
    /// Why it is not ok; empty where it is.
    pub reason: String,
    /// The command to run next; empty where there is nothing to be done.
    pub next: String,
}

/// A backup takes its time, and a retry its pause: so much later than the interval it is not stale yet.
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

/// One cluster. Where several words hold, the worst is taken.
pub fn assess(facts: Facts, given_grace: Option<Duration>, now: Timestamp) -> Health {
    // Nobody knows how old a backup from the future is.
    let age = facts.status.lastbackuptime.filter(|at| ahead(*at, now).is_none()).map(|at| units::since(at, now));
    let (word, reason) = judge(&facts, age, given_grace, now);
    let next = super::advice::next(word, &facts);
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
    (!why.is_empty()).then(|| (Word::NoStorage, format!("backups have nowhere to go: {why}")))
}

fn no_agent(facts: &Facts) -> Found {
    (facts.agents == 0 && !facts.settling).then(|| (Word::NoAgent, "no agent is connected".into()))
}

fn damaged(facts: &Facts, now: Timestamp) -> Found {
    let failed = facts.verification.standing()?;
    let (snapshot, error) = (failed.snapshot, failed.error);
    let when = failed.at.map(|at| format!(" {}", units::ago(at, now))).unwrap_or_default();
    Some(match failed.damaged {
        true => (Word::Damaged, format!("the proof of {snapshot} failed{when}: {error}")),
        false => (Word::Unproven, format!("the proof of {snapshot} could not be tried{when}: {error}")),
    })
}

fn is_running(facts: &Facts) -> bool {
    facts.status.status == BackupState::Running
}

/// A backup that runs keeps the error of what came before it.
fn has_failed(facts: &Facts) -> bool {
    facts.status.status == BackupState::Error || (is_running(facts) && !facts.status.error.is_empty())
}

fn never(facts: &Facts) -> Found {
    if facts.status.lastbackuptime.is_some() {
        return None;
    }
    let reason = match (has_failed(facts), is_running(facts)) {
        (true, _) => facts.status.error.clone(),
        (false, true) => "the first backup is running".into(),
        (false, false) => "there is no backup".into(),
    };
    Some((Word::Never, reason))
}

fn failing(facts: &Facts) -> Found {
    has_failed(facts).then(|| (Word::Failing, facts.status.error.clone()))
}

/// How far a time lies ahead of the clock here, in words; `None` where it does not.
fn ahead(at: Timestamp, now: Timestamp) -> Option<String> {
    clock_is_off(at.as_millis().saturating_sub(now.as_millis()).max(0), "this machine's clock")
}

fn from_the_future(facts: &Facts, now: Timestamp) -> Found {
    let last = facts.status.lastbackuptime?;
    let (off, last) = (ahead(last, now)?, last.rfc3339());
    let reason = format!(
        "its last backup's time, {last}, is {off}: check the clocks of the coordinator, the agents and this machine"
    );
    Some((Word::Clock, reason))
}

fn stale(facts: &Facts, age: Option<Duration>, given: Option<Duration>) -> Found {
    let (interval, age) = (facts.schedule.interval()?, age?);
    let grace = grace(given, interval);
    (age > interval.saturating_add(grace)).then(|| {
        let (interval, grace) = (duration::format(interval), duration::format(grace));
        (Word::Stale, format!("older than the interval of {interval} and a grace of {grace}"))
    })
}

fn restoring(facts: &Facts) -> Found {
    let how_far = facts.restoring.as_str();
    (!how_far.is_empty()).then(|| (Word::Restoring, format!("a restore is under way: {how_far}")))
}

fn member_down(facts: &Facts) -> Found {
    let down = |down: &Down| match down.member.as_str() {
        "" => format!("etcd on machine {} does not answer: {}", down.machine, down.error),
        member => format!("etcd member {member} (machine {}) does not answer: {}", down.machine, down.error),
    };
    let all: Vec<String> = facts.down.iter().map(down).collect();
    (!all.is_empty()).then(|| (Word::MemberDown, all.join("; ")))
}

fn few_agents(facts: &Facts) -> Found {
    let (connected, absent) = (facts.agents, facts.absent.len());
    let word = Word::FewAgents { connected, members: connected + absent };
    let reason = || {
        let members = if absent == 1 { "member" } else { "members" };
        format!("no agent of {members} {} is connected: a restore needs one of each", facts.absent.join(", "))
    };
    (absent > 0 && connected > 0 && !facts.settling).then(|| (word, reason()))
}

fn no_schedule(facts: &Facts) -> Found {
    match facts.schedule {
        Schedule::Every(_) => None,
        Schedule::None => {
            let reason =
                "no interval is set: backups are taken by hand alone (`enabled: false` says that this is meant)";
            Some((Word::NoSchedule, reason.into()))
        }
        Schedule::Off => Some((Word::NotScheduled, String::new())),
    }
}

#[cfg(test)]
#[path = "assess_tests.rs"]
mod tests;
