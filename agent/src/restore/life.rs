//! Decides from a series of observations whether an etcd that was started is still alive. Pure.
//!
//! One crash followed by a good start is no reason to undo a restore, since systemd or the kubelet starts etcd again.
//! So an etcd counts as dead if they have given up on it, if it has ended several times in a row, or if no process has
//! its database open for longer than any start takes.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::settings::ControlKind;

/// How many ends of etcd within [`WITHIN`] are enough. A single one may be a race for a port or a file.
const ENDS: usize = 3;
/// If etcd runs longer than this, it does not exit immediately: it may have waited for the other members until its own
/// deadline.
const WITHIN: Duration = Duration::from_secs(120);
/// For how many observations a unit must look stopped: between an end and the next start it may look so for a moment.
const DOWN_LOOKS: u32 = 2;
/// How soon after the start command etcd must have its database open; the settings require that etcd runs when the
/// command ends.
const CLOSED_COMMANDS: Duration = Duration::from_secs(20);
/// The kubelet looks at its manifests every 20 s, and waits up to 5 minutes before it starts a container again.
const CLOSED_POD: Duration = Duration::from_secs(360);

/// What systemd reports about a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    /// `ActiveState`.
    pub active: String,
    /// `Result`: why it ended last.
    pub result: String,
    /// `NRestarts`; `None` if systemd is too old to count.
    pub restarts: Option<u32>,
}

impl Unit {
    /// It runs, or is about to.
    pub fn goes_on(&self) -> bool {
        matches!(self.active.as_str(), "active" | "activating" | "reloading")
    }

    /// It is being stopped, which may take a while; the result is not known yet.
    fn is_stopping(&self) -> bool {
        self.active == "deactivating"
    }
}

/// One observation of an etcd.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// It answers.
    pub serves: bool,
    /// Whether a process has its database open; `None` if that could not be determined.
    pub open: Option<bool>,
    pub unit: Option<Unit>,
    /// How many containers were started since the manifest was put back, according to their logs.
    pub containers: Option<u32>,
}

/// What was observed since etcd was started.
#[derive(Debug, Clone)]
pub struct Life {
    kind: ControlKind,
    ends: VecDeque<Instant>,
    restarts: Option<u32>,
    /// `None` until the first observation, from which the count starts.
    containers: Option<u32>,
    /// Whether its database was open at the last observation.
    was_open: bool,
    closed_since: Instant,
    down_looks: u32,
}

impl Life {
    /// Begins when this process started etcd.
    pub fn started(kind: ControlKind, now: Instant) -> Self {
        Self { containers: Some(0), ..Self::found(kind, now) }
    }

    /// Begins for an etcd that another process started, such as the agent before its own restart: ends before the first
    /// observation are not counted.
    pub fn found(kind: ControlKind, now: Instant) -> Self {
        Self {
            kind,
            ends: VecDeque::new(),
            restarts: None,
            containers: None,
            was_open: false,
            closed_since: now,
            down_looks: 0,
        }
    }

    /// Adds an observation; returns why etcd counts as dead, if it does.
    pub fn note(&mut self, look: &Look, now: Instant) -> Option<String> {
        let open = look.serves || look.open == Some(true);
        let mut ends = self.count(look);
        // Where nobody counts, an end is what lies between two looks.
        let counted = look.unit.is_some() || look.containers.is_some();
        if self.was_open && look.open == Some(false) && !look.serves && !counted {
            ends += 1;
        }
        self.ends.extend(std::iter::repeat_n(now, ends));
        while self.ends.front().is_some_and(|end| now.duration_since(*end) > WITHIN) {
            self.ends.pop_front();
        }
        if open || look.open.is_none() {
            self.closed_since = now;
        }
        self.was_open = open;
        if look.serves {
            self.down_looks = 0;
            return None;
        }
        self.given_up(look).or_else(|| self.too_often(now)).or_else(|| self.closed(now))
    }

    /// Ends since the last observation.
    fn count(&mut self, look: &Look) -> usize {
        let mut ends = 0;
        if let Some(restarts) = look.unit.as_ref().and_then(|unit| unit.restarts) {
            ends += restarts.saturating_sub(self.restarts.unwrap_or(restarts));
            self.restarts = Some(restarts);
        }
        if let Some(containers) = look.containers {
            let before = self.containers.unwrap_or(containers);
            // The first of them is the start itself.
            ends += containers.saturating_sub(before.max(1));
            self.containers = Some(containers.max(before));
        }
        ends as usize
    }

    fn given_up(&mut self, look: &Look) -> Option<String> {
        let unit = look.unit.as_ref()?;
        if unit.goes_on() {
            self.down_looks = 0;
            return None;
        }
        if unit.is_stopping() {
            return None;
        }
        self.down_looks += 1;
        let why = if unit.result.is_empty() { String::new() } else { format!(" ({})", unit.result) };
        (self.down_looks >= DOWN_LOOKS).then(|| format!("etcd has exited: its unit is {}{why}", unit.active))
    }

    fn too_often(&self, now: Instant) -> Option<String> {
        let first = self.ends.front().filter(|_| self.ends.len() >= ENDS)?;
        let seconds = now.duration_since(*first).as_secs().max(1);
        Some(format!("etcd has exited {} times within {seconds}s", self.ends.len()))
    }

    fn closed(&self, now: Instant) -> Option<String> {
        let patience = match self.kind {
            // systemd says it itself.
            ControlKind::Systemd => return None,
            ControlKind::Commands => CLOSED_COMMANDS,
            ControlKind::StaticPod => CLOSED_POD,
        };
        let closed = now.duration_since(self.closed_since);
        (closed >= patience)
            .then(|| format!("etcd is not running: no process has had its database open for {}s", closed.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds observations, one second apart; returns when and why etcd counts as dead.
    fn dead(kind: ControlKind, looks: impl IntoIterator<Item = Look>) -> Option<(usize, String)> {
        let start = Instant::now();
        dead_of(Life::started(kind, start), start, looks)
    }

    fn dead_of(mut life: Life, start: Instant, looks: impl IntoIterator<Item = Look>) -> Option<(usize, String)> {
        let at = |n: usize| start + Duration::from_secs(n as u64 + 1);
        looks.into_iter().enumerate().find_map(|(n, look)| Some((n, life.note(&look, at(n))?)))
    }

    fn unit(active: &str, restarts: u32) -> Look {
        let unit = Unit { active: active.into(), result: "exit-code".into(), restarts: Some(restarts) };
        Look { open: Some(false), unit: Some(unit), ..Look::default() }
    }

    fn open(open: bool) -> Look {
        Look { open: Some(open), ..Look::default() }
    }

    fn repeat(look: Look, count: usize) -> Vec<Look> {
        vec![look; count]
    }

    #[test]
    fn a_unit_that_systemd_gave_up_is_dead_at_the_second_look() {
        for state in ["failed", "inactive"] {
            let (at, why) = dead(ControlKind::Systemd, repeat(unit(state, 0), 5)).expect("dead");
            assert_eq!((at, why), (1, format!("etcd has exited: its unit is {state} (exit-code)")));
        }
        // A slow stop is no end, and what comes of it is.
        let stops = [repeat(unit("deactivating", 0), 90), vec![unit("active", 0)]].concat();
        assert_eq!(dead(ControlKind::Systemd, stops), None);
        let ends = [repeat(unit("deactivating", 0), 9), repeat(unit("failed", 0), 2)].concat();
        assert_eq!(dead(ControlKind::Systemd, ends).expect("dead").0, 10);
        // Only for a moment, between an end and the next start.
        assert_eq!(dead(ControlKind::Systemd, [unit("failed", 0), unit("activating", 0), unit("failed", 0)]), None);
    }

    #[test]
    fn a_unit_that_is_started_again_and_again_is_dead_at_the_third_end() {
        let looks = (0..9).map(|n| unit("activating", n / 2));
        let (at, why) = dead(ControlKind::Systemd, looks).expect("dead");
        assert_eq!((at, why.as_str()), (6, "etcd has exited 3 times within 4s"));
        // One crash and a good start, or one every minute.
        let once = [vec![unit("activating", 0)], repeat(unit("active", 1), 300)].concat();
        assert_eq!(dead(ControlKind::Systemd, once), None);
        assert_eq!(dead(ControlKind::Systemd, (0..600).map(|n| unit("activating", n / 90))), None);
        // What was counted before this process looked is not counted.
        assert_eq!(dead(ControlKind::Systemd, repeat(unit("activating", 7), 300)), None);
    }

    #[test]
    fn a_container_that_is_started_again_and_again_is_dead_at_the_third_end() {
        let look = |containers| Look { containers: Some(containers), ..open(false) };
        let started = [0, 0, 1, 1, 2, 2, 3, 3, 4];
        let (at, why) = dead(ControlKind::StaticPod, started.map(look)).expect("dead");
        assert_eq!((at, why.as_str()), (8, "etcd has exited 3 times within 4s"));
        let once = [vec![look(1)], repeat(Look { open: Some(true), ..look(2) }, 300)].concat();
        assert_eq!(dead(ControlKind::StaticPod, once), None);
        let (at, why) = dead(ControlKind::StaticPod, repeat(look(0), 600)).expect("the kubelet does nothing");
        assert_eq!(dead(ControlKind::StaticPod, repeat(look(1), 300)), None, "the kubelet waits up to 300s");
        assert!(at == 359 && why.contains("for 360s"), "{at} {why}");
    }

    #[test]
    fn of_an_etcd_that_another_process_started_only_what_is_seen_counts() {
        let look = |containers| Look { containers: Some(containers), ..open(false) };
        let start = Instant::now();
        let found = || Life::found(ControlKind::StaticPod, start);
        // Its pod's logs go back to long before the restore.
        assert_eq!(dead_of(found(), start, repeat(look(6), 300)), None);
        let (at, why) = dead_of(found(), start, [6, 7, 8, 9].map(look)).expect("dead");
        assert_eq!((at, why.as_str()), (3, "etcd has exited 3 times within 2s"));
        // It is looked at before the kubelet starts it.
        assert_eq!(dead_of(found(), start, [0, 1, 2, 3].map(look)), None);
        let found = Life::found(ControlKind::Systemd, start);
        assert_eq!(dead_of(found, start, repeat(unit("activating", 7), 300)), None);
    }

    #[test]
    fn what_a_command_started_is_dead_where_its_database_stays_closed() {
        let (at, why) = dead(ControlKind::Commands, repeat(open(false), 60)).expect("dead");
        assert!(at == 19 && why.contains("no process has had its database open for 20s"), "{at} {why}");
        let slow = [repeat(open(false), 18), repeat(open(true), 300)].concat();
        assert_eq!(dead(ControlKind::Commands, slow), None);
        let restarted = [repeat(open(true), 3), repeat(open(false), 12), repeat(open(true), 300)].concat();
        assert_eq!(dead(ControlKind::Commands, restarted), None);
        let crashing = (0..30).map(|n| open(n % 2 == 0));
        assert_eq!(dead(ControlKind::Commands, crashing).expect("dead").0, 5);
        assert_eq!(dead(ControlKind::Commands, repeat(Look::default(), 300)), None, "it cannot be seen");
    }

    #[test]
    fn what_serves_is_alive_whatever_else_is_seen() {
        for kind in [ControlKind::Systemd, ControlKind::StaticPod, ControlKind::Commands] {
            let look = Look { serves: true, containers: Some(9), ..unit("failed", 9) };
            assert_eq!(dead(kind, repeat(look, 300)), None, "{kind:?}");
        }
    }
}
