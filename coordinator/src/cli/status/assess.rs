//! How one cluster's backups stand, in one word. Pure: resources and the time in, words out.

use std::cmp::Reverse;
use std::time::Duration;

use backstay_protocol::own::VerificationSpec;
use backstay_protocol::spec::{BackupState, BackupStatusSpec};
use backstay_protocol::time::clock_is_off;
use backstay_protocol::{Timestamp, duration};

use crate::cli::units;

/// The word, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    NoAgent,
    Never,
    Failing,
    /// Its last backup lies in the future.
    Clock,
    Stale,
    Ok,
}

impl Word {
    pub fn text(self) -> &'static str {
        match self {
            Self::NoAgent => "no agent",
            Self::Never => "never",
            Self::Failing => "failing",
            Self::Clock => "clock",
            Self::Stale => "stale",
            Self::Ok => "ok",
        }
    }
}

/// What is known of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    pub cluster: String,
    /// `None`: no automatic backups.
    pub interval: Option<Duration>,
    pub status: BackupStatusSpec,
    /// How many agents are connected.
    pub agents: usize,
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
    let Facts { cluster, interval, status, agents, verification } = facts;
    let ahead = status.lastbackuptime.and_then(|at| from_the_future(at, now));
    let age = status.lastbackuptime.map(|at| units::since(at, now));
    let (word, reason) = match judge(&status, interval, age, agents, given_grace) {
        (word, _) if word > Word::Clock && ahead.is_some() => (Word::Clock, ahead.clone().unwrap_or_default()),
        judged => judged,
    };
    // Nobody knows how old a backup from the future is.
    let age = age.filter(|_| ahead.is_none());
    Health { cluster, word, last: status.lastbackuptime, age, interval, agents, verification, reason }
}

/// What to say of a last backup that lies ahead of the clock here.
fn from_the_future(last: Timestamp, now: Timestamp) -> Option<String> {
    let ahead_ms = last.as_millis().saturating_sub(now.as_millis()).max(0);
    let off = clock_is_off(ahead_ms, "this machine's clock")?;
    let last = last.rfc3339();
    Some(format!(
        "its last backup's time, {last}, is {off}: check the clocks of the coordinator, the agents and this machine"
    ))
}

fn judge(
    status: &BackupStatusSpec,
    interval: Option<Duration>,
    age: Option<Duration>,
    agents: usize,
    given_grace: Option<Duration>,
) -> (Word, String) {
    let running = status.status == BackupState::Running;
    // A backup that runs keeps the error of what came before it.
    let failing = status.status == BackupState::Error || (running && !status.error.is_empty());
    let Some(age) = age else {
        return match (agents, failing, running) {
            (0, _, _) => (Word::NoAgent, "no agent is connected".into()),
            (_, true, _) => (Word::Never, status.error.clone()),
            (_, false, true) => (Word::Never, "the first backup is running".into()),
            (_, false, false) => (Word::Never, "there is no backup".into()),
        };
    };
    if agents == 0 {
        return (Word::NoAgent, "no agent is connected".into());
    }
    if failing {
        return (Word::Failing, status.error.clone());
    }
    match interval.map(|interval| (interval, grace(given_grace, interval))) {
        Some((interval, grace)) if age > interval.saturating_add(grace) => {
            let (interval, grace) = (duration::format(interval), duration::format(grace));
            (Word::Stale, format!("older than the interval of {interval} and a grace of {grace}"))
        }
        _ => (Word::Ok, String::new()),
    }
}

#[cfg(test)]
#[path = "assess_tests.rs"]
mod tests;
