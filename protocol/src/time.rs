//! Points in time as resources show them, and the clock from which pure code gets the time.
//!
//! ```
//! use backstay_protocol::Timestamp;
//! use std::time::Duration;
//!
//! let taken = Timestamp::parse_rfc3339("2023-11-28T16:15:22+01:00").expect("a time");
//! assert_eq!(taken.rfc3339(), "2023-11-28T15:15:22Z");
//! assert_eq!(Timestamp::from_seconds(taken.seconds + 90).since(taken), Duration::from_secs(90));
//! assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration;

/// A point in time: seconds since the Unix epoch and nanoseconds within that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp {
    /// Since 1970-01-01T00:00:00Z; negative before it.
    pub seconds: i64,
    /// 0 to 999,999,999, later than `seconds`; 0 if a message leaves it out.
    #[serde(default)]
    pub nanos: i32,
}

impl Timestamp {
    /// From a Unix time in seconds.
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

    /// How long after `earlier` this is, in whole milliseconds; zero if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.as_millis().saturating_sub(earlier.as_millis())).unwrap_or(0))
    }

    /// From a text such as `2026-11-22T10:00:00Z`, or with another offset; `None` if the text is not such a time.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(Self { seconds: time.as_second(), nanos: time.subsec_nanosecond() })
    }

    /// `2026-11-22T10:00:00Z`, seconds only. Seconds that are outside the years -9999 to 9999 are printed as a number.
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_second(self.seconds) {
            Ok(time) => time.to_string(),
            Err(_) => self.seconds.to_string(),
        }
    }
}

/// How far clocks may differ. A time that is further ahead comes from a clock that is wrong, or was.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// The latest time that something in the past can have: `now` and [`CLOCK_TOLERANCE`].
pub fn latest_true(now: Timestamp) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_add(CLOCK_TOLERANCE.as_millis() as i64))
}

/// Whether a stored time of something in the past cannot be true.
pub fn is_ahead(at: Timestamp, now: Timestamp) -> bool {
    at > latest_true(now)
}

/// Compares a clock with another one, for people: `24h0m0s ahead of NATS's`, `2m0s behind NATS's`. `ahead_ms` is in
/// milliseconds, negative if it is behind. `None` if they differ by [`CLOCK_TOLERANCE`] at most.
pub fn clock_is_off(ahead_ms: i64, other: &str) -> Option<String> {
    let off = Duration::from_millis(ahead_ms.unsigned_abs());
    let way = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let seconds = Duration::from_secs(off.as_secs());
    (off > CLOCK_TOLERANCE).then(|| format!("{} {way} {other}", duration::format(seconds)))
}

/// Where the daemons and the command line get the time from; pure functions take the time as an argument.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The current time.
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
