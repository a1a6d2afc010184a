//! Whether this machine's clock is right: it is compared with NATS's and the store's again and again, since the names of
//! backups, the schedule and all times that are shown depend on it.

use std::sync::{Mutex, PoisonError};

use backstay_protocol::Timestamp;
use backstay_protocol::time::{CLOCK_TOLERANCE, clock_is_off};

/// How many milliseconds this clock is ahead of others, negative if it is behind; `None` while that is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offsets {
    pub nats: Option<i64>,
    pub store: Option<i64>,
}

impl Offsets {
    pub(super) fn each(self) -> [(Option<i64>, &'static str); 2] {
        [(self.nats, "NATS's"), (self.store, "the store's")]
    }

    /// What is wrong, in words; empty if nothing is known to be.
    pub fn fault(self, host: &str) -> String {
        let each = self.each();
        let off: Vec<String> = each.iter().filter_map(|(ahead, whose)| clock_is_off((*ahead)?, whose)).collect();
        if off.is_empty() {
            return String::new();
        }
        let fine = |(ahead, whose): &(Option<i64>, &'static str)| {
            ahead
                .is_some_and(|ahead| clock_is_off(ahead, whose).is_none())
                .then(|| format!(" (but agrees with {whose})"))
        };
        let agrees: String = each.iter().filter_map(fine).collect();
        format!("the clock of the coordinator's machine {host} is {}{agrees}", off.join(" and "))
    }

    /// Whether this differs from what was logged last: another clock is off, or by another minute.
    pub(super) fn is_news(self, told: Self) -> bool {
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

    /// The time by NATS's clock if that is known, otherwise by this one; and whose clock it is.
    pub fn by_nats(&self, now: Timestamp) -> (Timestamp, &'static str) {
        match self.offsets().nats {
            Some(ahead) => (back(now, ahead), "NATS's"),
            None => (now, "the coordinator's"),
        }
    }

    /// The time by the store's clock if that is known: the age of what the store wrote is measured by it.
    pub fn by_store(&self, now: Timestamp) -> Timestamp {
        back(now, self.offsets().store.unwrap_or(0))
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Offsets)) {
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
            format!("{machine} 1m10s behind NATS's (but agrees with the store's)")
        );
        assert_eq!(
            fault(Some(1), Some(-DAY)),
            format!("{machine} 24h0m0s behind the store's (but agrees with NATS's)")
        );
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
    fn times_are_told_by_the_clock_that_is_trusted() {
        let now = Timestamp::from_seconds(100_000);
        let clocks = Clocks::default();
        assert_eq!((clocks.by_nats(now), clocks.by_store(now)), ((now, "the coordinator's"), now));
        clocks.change(|offsets| *offsets = Offsets { nats: Some(3_000), store: Some(-7_000) });
        assert_eq!(clocks.by_nats(now), (Timestamp::from_seconds(99_997), "NATS's"));
        assert_eq!(clocks.by_store(now), Timestamp::from_seconds(100_007));
    }
}
