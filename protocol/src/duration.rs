//! Durations as Go writes them (`1h0m0s`, `90m`, `1.5s`): for templates, settings and errors.

use std::time::Duration;

/// A text that is not a Go duration. Holds its first 80 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration {0:?}: must be a number with a unit, such as 30s, 90m or 1h30m")]
pub struct DurationError(pub String);

const UNITS: [(&str, u128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a Go duration of zero or more, up to 2^63-1 nanoseconds (about 292 years), which is Go's own limit.
///
/// # Errors
/// The text has no unit, another unit than `ns`, `us`, `µs`, `ms`, `s`, `m` or `h`, a sign, or is out of range.
///
/// # Examples
/// ```
/// use backstay_protocol::duration;
/// use std::time::Duration;
///
/// assert_eq!(duration::parse("1h30m")?, Duration::from_secs(5400));
/// assert_eq!(duration::format(Duration::from_secs(5400)), "1h30m0s");
/// assert!(duration::parse("1d").is_err() && duration::parse("90").is_err());
/// # Ok::<(), duration::DurationError>(())
/// ```
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError(text.chars().take(80).collect());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (amount, tail) = rest.split_at(number);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let scale = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?.1;
        nanos = scaled(amount, scale).and_then(|n| nanos.checked_add(n)).ok_or_else(error)?;
        rest = tail;
    }
    if text.is_empty() || nanos > i64::MAX as u128 {
        return Err(error());
    }
    Ok(Duration::from_nanos(nanos as u64))
}

/// `amount` (`12`, `1.5`, `.5`) times `scale`; `None` if it is not a number or too large.
fn scaled(amount: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || fraction.len() > 18 {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(scale)?;
    if !fraction.is_empty() {
        let numerator: u128 = fraction.parse().ok()?;
        nanos = nanos.checked_add(numerator.checked_mul(scale)? / 10_u128.pow(fraction.len() as u32))?;
    }
    Some(nanos)
}

/// Writes a duration as Go does: `1h0m0s`, `1m30s`, `1.5s`, `250ms`, `0s`.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".into();
    }
    if nanos < 1_000_000_000 {
        let (unit, scale) = match nanos {
            1_000_000.. => ("ms", 1_000_000),
            1_000.. => ("µs", 1_000),
            _ => ("ns", 1),
        };
        return format!("{}{unit}", with_fraction(nanos, scale));
    }
    let minutes = nanos / 60_000_000_000;
    let seconds = with_fraction(nanos % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, m) => format!("{m}m{seconds}s"),
        (h, m) => format!("{h}h{m}m{seconds}s"),
    }
}

fn with_fraction(nanos: u128, scale: u128) -> String {
    let digits = scale.ilog10() as usize;
    let text = format!("{}.{:0digits$}", nanos / scale, nanos % scale);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_go_does() {
        for (text, ms) in
            [("1h", 3_600_000), ("90m", 5_400_000), ("1h0m0s", 3_600_000), ("1.5s", 1_500), (".5s", 500), ("0", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for (ms, text) in [
            (60_000, "1m0s"),
            (30_000, "30s"),
            (86_400_000, "24h0m0s"),
            (250, "250ms"),
            (1_500, "1.5s"),
            (600_000, "10m0s"),
        ] {
            assert_eq!(format(Duration::from_millis(ms)), text);
        }
        for text in ["", "1", "h", "-1h", "1x", "1h 2m", "1..5s", ".s", "999999999999999h", "1d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn durations_round_trip(nanos in 0..i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration))?, duration);
        }

        #[test]
        fn any_text_is_a_duration_or_an_error(text in ".{0,30}") {
            let _ = parse(&text);
        }
    }
}
