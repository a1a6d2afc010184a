//! Sizes, ages and durations in texts for people. Pure.
//!
//! ```
//! use backstay_daemon::units;
//! use std::time::Duration;
//!
//! assert_eq!(units::bytes(13_107_200), "12.5 MiB");
//! assert_eq!(units::span(Duration::from_secs(7500)), "2h5m");
//! assert_eq!(units::took(Duration::from_millis(1340)), "1.3s");
//! ```

use std::time::Duration;

use backstay_protocol::Timestamp;

const BINARY: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A size in binary units with one digit after the point: `0 B`, `1023 B`, `1.0 KiB`, `12.5 MiB`.
pub fn bytes(count: u64) -> String {
    let mut amount = count as f64;
    let mut unit = "B";
    for larger in BINARY {
        // What would be printed as 1024.0 of a unit is 1.0 of the next.
        if amount < if unit == "B" { 1024.0 } else { 1023.95 } {
            break;
        }
        (amount, unit) = (amount / 1024.0, larger);
    }
    if unit == "B" { format!("{count} B") } else { format!("{amount:.1} {unit}") }
}

/// The two largest units that are not zero, down to seconds: `45s`, `3m20s`, `2h5m`, `4d3h`. Rounds down.
pub fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let parts = [("d", seconds / 86_400), ("h", seconds / 3600 % 24), ("m", seconds / 60 % 60), ("s", seconds % 60)];
    let first = parts.iter().position(|(_, n)| *n > 0).unwrap_or(3);
    let shown = parts[first..].iter().take(2).enumerate().filter(|(at, (_, n))| *at == 0 || *n > 0);
    shown.map(|(_, (unit, n))| format!("{n}{unit}")).collect()
}

/// How long something took: with one digit after the point below ten seconds, otherwise as [`span`].
pub fn took(length: Duration) -> String {
    // 9.95 s would be printed as 10.0s.
    if length < Duration::from_millis(9_950) { format!("{:.1}s", length.as_secs_f64()) } else { span(length) }
}

/// `5s ago`; `0s ago` if `then` is after `now`.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(now.since(then)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        let mebibyte = 1024 * 1024;
        let shown = [0, 1, 1023, 1024, 1536, mebibyte - 1, mebibyte, 12 * mebibyte + mebibyte / 2, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "1 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 MiB", "12.5 MiB", "16.0 EiB"]);
    }

    #[test]
    fn spans() {
        let shown =
            [0, 59, 60, 61, 3600, 3661, 7500, 86_400, 90_000, 100_000_000].map(|s| span(Duration::from_secs(s)));
        assert_eq!(shown, ["0s", "59s", "1m", "1m1s", "1h", "1h1m", "2h5m", "1d", "1d1h", "1157d9h"]);
        let shown = [0, 49, 1_250, 9_949, 9_950, 61_000].map(|ms| took(Duration::from_millis(ms)));
        assert_eq!(shown, ["0.0s", "0.0s", "1.2s", "9.9s", "9s", "1m1s"]);
    }

    #[test]
    fn a_clock_that_is_ahead_makes_no_negative_age() {
        let (now, later) = (Timestamp::from_seconds(100), Timestamp::from_seconds(103));
        assert_eq!((ago(now, later), ago(later, now)), ("3s ago".into(), "0s ago".into()));
    }

    proptest! {
        #[test]
        fn sizes_are_short_and_near(count in any::<u64>()) {
            let text = bytes(count);
            prop_assert!(text.chars().count() <= 10, "{}", text);
            let (number, unit) = text.split_once(' ').expect("two words");
            let scale = 1024_f64.powi(BINARY.iter().position(|u| *u == unit).map_or(0, |at| at as i32 + 1));
            let near = number.parse::<f64>().expect("a number") * scale;
            prop_assert!((near - count as f64).abs() <= scale * 0.06, "{}", text);
        }

        #[test]
        fn spans_are_never_longer_than_what_they_stand_for(seconds in any::<u32>()) {
            let text = span(Duration::from_secs(seconds.into()));
            let (mut total, mut number) = (0_u64, String::new());
            for c in text.chars() {
                if c.is_ascii_digit() { number.push(c); continue }
                let scale = match c { 'd' => 86_400, 'h' => 3600, 'm' => 60, _ => 1 };
                total += std::mem::take(&mut number).parse::<u64>().expect("a number") * scale;
            }
            prop_assert!(total <= u64::from(seconds) && u64::from(seconds) - total < 3600.max(u64::from(seconds) / 24), "{}", text);
        }
    }
}
