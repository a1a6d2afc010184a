//! Whether this machine's clock is right: it is held against NATS's and against the store's, again and again. Names of
//! backups, the schedule and the page's times all hang on it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backstay_daemon::host;
use backstay_protocol::Timestamp;
use backstay_protocol::time::{CLOCK_TOLERANCE, clock_is_off};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::leader::Leader;
use crate::lease;
use crate::storage::InForce;

/// Between two looks at NATS's clock.
const LOOK: Duration = Duration::from_secs(10);
/// Between two looks at the store's: each is a request.
const STORE_LOOK: Duration = Duration::from_secs(600);
/// A clock that moved by more than this against another was set.
const MOVED: u64 = 5_000;
/// An answer that takes longer says nothing of the time.
const ANSWER: Duration = Duration::from_secs(15);

/// How many milliseconds this clock is ahead of others; `None` while that is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offsets {
    pub nats: Option<i64>,
    pub store: Option<i64>,
}

impl Offsets {
    fn each(self) -> [(Option<i64>, &'static str); 2] {
        [(self.nats, "NATS's"), (self.store, "the store's")]
    }

    /// What is wrong, in words; empty where nothing is known to be.
    pub fn fault(self, host: &str) -> String {
        let each = self.each();
        let off: Vec<String> = each.iter().filter_map(|(ahead, whose)| clock_is_off((*ahead)?, whose)).collect();
        if off.is_empty() {
            return String::new();
        }
        let fine = |(ahead, whose): &(Option<i64>, &'static str)| {
            ahead
                .is_some_and(|ahead| clock_is_off(ahead, whose).is_none())
                .then(|| format!(" (it agrees with {whose})"))
        };
        let agrees: String = each.iter().filter_map(fine).collect();
        format!("the clock of the coordinator's machine {host} is {}{agrees}", off.join(" and "))
    }

    /// Whether this says something else than what was told last: other clocks differ, or by another minute.
    fn is_news(self, told: Self) -> bool {
        let off = |ahead: Option<i64>| ahead.filter(|ahead| clock_is_off(*ahead, "").is_some());
        let differs = |(now, before): (Option<i64>, Option<i64>)| match (off(now), off(before)) {
            (Some(now), Some(before)) => now.abs_diff(before) > CLOCK_TOLERANCE.as_millis() as u64,
            (now, before) => now.is_some() != before.is_some(),
        };
        differs((self.nats, told.nats)) || differs((self.store, told.store))
    }
}

/// What is known now.
#[derive(Debug, Default)]
pub struct Clocks(Mutex<Offsets>);

impl Clocks {
    pub fn offsets(&self) -> Offsets {
        *self.lock()
    }

    /// The time by NATS's clock where that is known, and whose time it is.
    pub fn by_nats(&self, now: Timestamp) -> (Timestamp, &'static str) {
        match self.offsets().nats {
            Some(ahead) => (back(now, ahead), "NATS's"),
            None => (now, "the coordinator's"),
        }
    }

    /// The time by the store's clock, as far as it is known: what the store wrote is as old as the store says.
    pub fn by_store(&self, now: Timestamp) -> Timestamp {
        back(now, self.offsets().store.unwrap_or(0))
    }

    fn change(&self, change: impl FnOnce(&mut Offsets)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Offsets> {
        // Nothing that can panic runs while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn back(now: Timestamp, ahead_ms: i64) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_sub(ahead_ms))
}

/// Whether the store's clock is to be looked at again.
fn store_is_due(since: Option<Duration>, moved: u64, offsets: Offsets) -> bool {
    let off = offsets.each().iter().any(|(ahead, _)| ahead.is_some_and(|ahead| clock_is_off(ahead, "").is_some()));
    since.is_none_or(|since| since >= if off { STORE_LOOK / 10 } else { STORE_LOOK }) || moved > MOVED
}

/// Looks for as long as this coordinator leads, and tells what is wrong once.
pub async fn watch(leader: Arc<Leader>) {
    let host = host::name();
    let mut storage = leader.storage.subscribe();
    let (mut told, mut looked, mut nats_then) = (Offsets::default(), None::<Instant>, None::<i64>);
    loop {
        let nats = against_nats(&leader).await;
        leader.clocks.change(|offsets| offsets.nats = nats.or(offsets.nats));
        let offsets = leader.clocks.offsets();
        let moved = offsets.nats.zip(nats_then).map_or(0, |(now, then)| now.abs_diff(then));
        nats_then = offsets.nats;
        if storage.has_changed().unwrap_or(false) {
            looked = None;
        }
        if store_is_due(looked.map(|at| at.elapsed()), moved, offsets) {
            let in_force = storage.borrow_and_update().in_force.clone();
            let store = match &in_force {
                Some(in_force) => against_store(&leader, in_force).await,
                None => None,
            };
            leader.clocks.change(|offsets| offsets.store = store);
            looked = Some(Instant::now());
        }
        let offsets = leader.clocks.offsets();
        if offsets.is_news(told) {
            tell(&offsets.fault(&host));
            told = offsets;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn tell(fault: &str) {
    match fault {
        "" => info!("the clock of the coordinator's machine agrees with the others again"),
        fault => warn!("{fault}: backups are named and due by it; set the clock that is wrong"),
    }
}

/// The lease holds our own time, and the server's of when it took it.
async fn against_nats(leader: &Leader) -> Option<i64> {
    let asked = lease::clock_ahead_ms(&leader.kv, leader.holder, leader.epoch, leader.config.settings.lease.ttl);
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(ahead)) => ahead,
        Ok(Err(error)) => {
            debug!(%error, "NATS was not asked for its time");
            None
        }
        Err(_) => None,
    }
}

/// The answer's time lies somewhere between question and answer, and has whole seconds at S3.
async fn against_store(leader: &Leader, in_force: &InForce) -> Option<i64> {
    let before = leader.clock.now().as_millis();
    match tokio::time::timeout(ANSWER, in_force.store.time()).await {
        Ok(Ok(time)) => {
            let after = leader.clock.now().as_millis();
            Some(before.midpoint(after).saturating_sub(time?.as_millis()))
        }
        Ok(Err(error)) => {
            debug!(%error, "the store was not asked for its time");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn fault(nats: Option<i64>, store: Option<i64>) -> String {
        Offsets { nats, store }.fault("ctl-1")
    }

    #[test]
    fn what_is_wrong_names_the_machine_how_far_and_against_whom() {
        for fine in [(None, None), (Some(60_000), None), (Some(-3), Some(60_000))] {
            assert_eq!(fault(fine.0, fine.1), "");
        }
        let machine = "the clock of the coordinator's machine ctl-1 is";
        assert_eq!(fault(Some(DAY), None), format!("{machine} 24h0m0s ahead of NATS's"));
        assert_eq!(
            fault(Some(DAY), Some(DAY + 999)),
            format!("{machine} 24h0m0s ahead of NATS's and 24h0m0s ahead of the store's")
        );
        assert_eq!(
            fault(Some(-70_000), Some(0)),
            format!("{machine} 1m10s behind NATS's (it agrees with the store's)")
        );
        assert_eq!(fault(Some(1), Some(-DAY)), format!("{machine} 24h0m0s behind the store's (it agrees with NATS's)"));
    }

    #[test]
    fn it_is_told_once_and_again_when_it_changes() {
        let at = |nats, store| Offsets { nats, store };
        let cases = [
            (at(None, None), at(Some(3), None), false),
            (at(None, None), at(Some(DAY), None), true),
            (at(Some(DAY), None), at(Some(DAY + 50_000), None), false),
            (at(Some(DAY), None), at(Some(DAY + 70_000), None), true),
            (at(Some(DAY), None), at(Some(DAY), Some(DAY)), true),
            (at(Some(DAY), None), at(Some(0), None), true),
            (at(Some(0), None), at(Some(1), Some(2)), false),
        ];
        for (told, now, news) in cases {
            assert_eq!(now.is_news(told), news, "{told:?} then {now:?}");
        }
    }

    #[test]
    fn the_store_is_asked_at_once_then_rarely_and_whenever_the_clock_was_set() {
        let (fine, off) = (Offsets { nats: Some(5), store: Some(5) }, Offsets { nats: Some(DAY), store: None });
        let minutes = |n: u64| Some(Duration::from_secs(60 * n));
        assert!(store_is_due(None, 0, fine) && store_is_due(minutes(10), 0, fine));
        assert!(!store_is_due(minutes(9), 5_000, fine) && store_is_due(minutes(0), 5_001, fine));
        assert!(store_is_due(minutes(1), 0, off) && !store_is_due(minutes(0), 0, off));
    }

    #[test]
    fn times_are_told_by_the_clock_that_is_trusted() {
        let now = Timestamp::from_seconds(100_000);
        let clocks = Clocks::default();
        assert_eq!((clocks.by_nats(now), clocks.by_store(now)), ((now, "the coordinator's"), now));
        clocks.change(|offsets| *offsets = Offsets { nats: Some(3_000), store: Some(-7_000) });
        assert_eq!(clocks.by_nats(now), (Timestamp::from_seconds(99_997), "NATS's"));
        assert_eq!(clocks.by_store(now), Timestamp::from_seconds(100_007));
    }
}
