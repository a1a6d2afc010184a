//! Points in time as the resources show them, and the clock that shells hand to pure cores.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration;

/// A point in time: seconds since the Unix epoch and nanoseconds within that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp {
    pub seconds: i64,
    #[serde(default)]
    pub nanos: i32,
}

impl Timestamp {
    pub fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }

    /// From milliseconds since the Unix epoch.
    pub fn from_millis(millis: i64) -> Self {
        let nanos = (millis.rem_euclid(1000) * 1_000_000) as i32;
        Self { seconds: millis.div_euclid(1000), nanos }
    }

    /// Milliseconds since the Unix epoch, rounded down; saturates at the ends of `i64`.
    pub fn as_millis(self) -> i64 {
        self.seconds.saturating_mul(1000).saturating_add(i64::from(self.nanos) / 1_000_000)
    }

    /// How long after `earlier` this is; nothing where it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.as_millis().saturating_sub(earlier.as_millis())).unwrap_or(0))
    }

    /// From a text such as `2026-11-22T10:00:00Z` or with another offset; `None` where it is none.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(Self { seconds: time.as_second(), nanos: time.subsec_nanosecond() })
    }

    /// `2026-11-22T10:00:00Z`, seconds only; a time that no calendar holds is printed as a number.
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_second(self.seconds) {
            Ok(time) => time.to_string(),
            Err(_) => self.seconds.to_string(),
        }
    }
}

/// Clocks may differ by this much: a time that is further ahead was told by a clock that is, or was, wrong.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// The latest time that something that has happened can bear.
pub fn latest_true(now: Timestamp) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_add(CLOCK_TOLERANCE.as_millis() as i64))
}

/// Whether a stored time cannot be true.
pub fn is_ahead(at: Timestamp, now: Timestamp) -> bool {
    at > latest_true(now)
}

/// A clock that is so many milliseconds ahead of another, in words: `24h0m0s ahead of NATS's`, `2m0s behind NATS's`.
/// `None` where they agree.
pub fn clock_is_off(ahead_ms: i64, other: &str) -> Option<String> {
    let off = Duration::from_millis(ahead_ms.unsigned_abs());
    let way = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let seconds = Duration::from_secs(off.as_secs());
    (off > CLOCK_TOLERANCE).then(|| format!("{} {way} {other}", duration::format(seconds)))
}

/// Where a shell gets the time from; pure functions take the time as an argument instead.
pub trait Clock: Send + Sync + std::fmt::Debug {
    fn now(&self) -> Timestamp;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn milliseconds_round_trip(ms in -4_000_000_000_000_i64..4_000_000_000_000) {
            prop_assert_eq!(Timestamp::from_millis(ms).as_millis(), ms);
        }
    }

    #[test]
    fn clocks_agree_or_one_is_ahead_or_behind() {
        let said = [0, 60_000, -60_000, 60_001, -120_000, 86_400_900].map(|ms| clock_is_off(ms, "NATS's"));
        let off = |text: &str| Some(text.to_owned());
        let expected =
            [None, None, None, off("1m0s ahead of NATS's"), off("2m0s behind NATS's"), off("24h0m0s ahead of NATS's")];
        assert_eq!(said, expected);
        assert!(clock_is_off(i64::MIN, "NATS's").is_some());
    }

    #[test]
    fn rfc3339_has_seconds_only() {
        assert_eq!(Timestamp { seconds: 1_702_166_400, nanos: 5 }.rfc3339(), "2023-12-10T00:00:00Z");
    }
}
