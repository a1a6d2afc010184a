//! What is checked before a resource is accepted: functions of the spec, the limits and `now`.
//!
//! ```
//! use backstay_protocol::spec::{ManualBackupSpec, S3ConfigSpec};
//! use backstay_protocol::validate::{self, Invalid};
//! use backstay_protocol::Timestamp;
//!
//! assert_eq!(validate::s3_config(&S3ConfigSpec::default()), Err(Invalid::NoBucket));
//! let now = Timestamp::from_seconds(1_701_184_522);
//! let tomorrow = ManualBackupSpec { backupat: Some(Timestamp::from_seconds(now.seconds + 86_400)) };
//! assert_eq!(validate::manual_backup(&tomorrow, now), Err(Invalid::Future));
//! ```

use std::time::Duration;

use serde_json::Value;

use crate::spec::{ClusterSpec, ManualBackupSpec, S3ConfigSpec};
use crate::time::Timestamp;

pub use crate::invalid::Invalid;

/// How far the time of a manual backup may be in the past or in the future. Omni's page on etcd backups sets the same
/// limit.
pub const MANUAL_WINDOW: Duration = Duration::from_secs(60);

/// How often automatic backups may be made: the default is every minute to every 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntervalBounds {
    /// The shortest interval, itself allowed.
    pub min: Duration,
    /// The longest interval, itself allowed.
    pub max: Duration,
}

impl Default for IntervalBounds {
    fn default() -> Self {
        Self { min: Duration::from_secs(60), max: Duration::from_secs(24 * 3600) }
    }
}

/// Checks what can be checked of an S3 configuration without asking S3.
///
/// # Errors
/// [`Invalid::NoBucket`], [`Invalid::HalfAKey`], [`Invalid::TokenAlone`] or [`Invalid::Endpoint`].
pub fn s3_config(spec: &S3ConfigSpec) -> Result<(), Invalid> {
    if spec.bucket.trim().is_empty() {
        return Err(Invalid::NoBucket);
    }
    if spec.accesskeyid.is_empty() != spec.secretaccesskey.is_empty() {
        return Err(Invalid::HalfAKey);
    }
    if spec.accesskeyid.is_empty() && !spec.sessiontoken.is_empty() {
        return Err(Invalid::TokenAlone);
    }
    let endpoint = &spec.endpoint;
    if !endpoint.is_empty() && !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        return Err(Invalid::Endpoint(endpoint.clone()));
    }
    Ok(())
}

/// The time of a manual backup; exactly one minute off is allowed.
///
/// # Errors
/// [`Invalid::NoBackupTime`], [`Invalid::Nanos`], [`Invalid::Past`] or [`Invalid::Future`].
pub fn manual_backup(spec: &ManualBackupSpec, now: Timestamp) -> Result<Timestamp, Invalid> {
    let at = spec.backupat.ok_or(Invalid::NoBackupTime)?;
    if at.nanos != 0 {
        return Err(Invalid::Nanos);
    }
    let window = MANUAL_WINDOW.as_secs() as i64;
    if at.seconds < now.seconds.saturating_sub(window) {
        return Err(Invalid::Past);
    }
    if at.seconds > now.seconds.saturating_add(window) {
        return Err(Invalid::Future);
    }
    Ok(at)
}

/// Checks a cluster's backup configuration. An interval of zero is valid if automatic backups are not switched on.
///
/// # Errors
/// [`Invalid::IntervalNanos`], [`Invalid::NoInterval`], [`Invalid::IntervalTooShort`] or [`Invalid::IntervalTooLong`].
pub fn cluster(spec: &ClusterSpec, bounds: IntervalBounds) -> Result<(), Invalid> {
    let Some(configuration) = &spec.backupconfiguration else {
        return Ok(());
    };
    let interval = configuration.interval.unwrap_or_default();
    if interval.nanos >= 1_000_000_000 {
        return Err(Invalid::IntervalNanos(interval.nanos));
    }
    let got = interval.as_duration();
    match configuration.enabled {
        Some(false) if got.is_zero() => return Ok(()),
        Some(true) if got.is_zero() => return Err(Invalid::NoInterval),
        None if got.is_zero() => return Ok(()),
        _ => {}
    }
    if got < bounds.min {
        return Err(Invalid::IntervalTooShort { min: bounds.min, got });
    }
    if got > bounds.max {
        return Err(Invalid::IntervalTooLong { max: bounds.max, got });
    }
    Ok(())
}

/// A field that the type does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct UnknownField {
    /// Where it is, e.g. `spec.backupconfiguration.intervall`.
    pub path: String,
    /// The last part of the path.
    pub name: String,
    /// The field that was probably meant; `None` if none is similar.
    pub nearest: Option<String>,
}

impl std::fmt::Display for UnknownField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unknown field {:?} ({})", self.name, self.path)?;
        match &self.nearest {
            Some(nearest) => write!(f, ": did you mean {nearest:?}?"),
            None => Ok(()),
        }
    }
}

/// Looks for a field of `given` that is not in `known`, which is a value with every field present. `path` is the path
/// of `given`, empty at the top. The items of a list are compared with the first item in `known`; below a null,
/// anything is known.
///
/// # Errors
/// The first unknown field.
pub fn unknown_fields(given: &Value, known: &Value, path: &str) -> Result<(), UnknownField> {
    if let (Value::Array(given), Value::Array(known)) = (given, known) {
        let known = known.first().unwrap_or(&Value::Null);
        return given.iter().enumerate().try_for_each(|(n, item)| unknown_fields(item, known, &format!("{path}[{n}]")));
    }
    let (Value::Object(given), Value::Object(known)) = (given, known) else {
        return Ok(());
    };
    for (name, value) in given {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match known.get(name) {
            Some(known) => unknown_fields(value, known, &path)?,
            None => {
                return Err(UnknownField {
                    path,
                    name: name.clone(),
                    nearest: nearest(name, known.keys().map(String::as_str)),
                });
            }
        }
    }
    Ok(())
}

/// The candidate that is most similar to `name`, in any case; `None` if none has a Jaro-Winkler similarity above 0.8.
///
/// # Examples
/// ```
/// use backstay_protocol::validate::nearest;
///
/// assert_eq!(nearest("lastest", ["latest", "newest"].into_iter()).as_deref(), Some("latest"));
/// assert_eq!(nearest("x", ["latest", "newest"].into_iter()), None);
/// ```
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    candidates
        .map(|c| (strsim::jaro_winkler(&lower, &c.to_ascii_lowercase()), c))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{BackupConfiguration, Interval, Spec};
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanos: 3 };

    fn manual(seconds: i64, nanos: i32) -> Result<Timestamp, Invalid> {
        manual_backup(&ManualBackupSpec { backupat: Some(Timestamp { seconds, nanos }) }, NOW)
    }

    fn with_interval(seconds: u64, enabled: Option<bool>) -> Result<(), Invalid> {
        let interval = Some(Interval { seconds, nanos: 0 });
        let spec = ClusterSpec {
            backupconfiguration: Some(BackupConfiguration { interval, enabled }),
            ..ClusterSpec::default()
        };
        cluster(&spec, IntervalBounds::default())
    }

    #[test]
    fn manual_times_are_at_most_a_minute_off() {
        assert!(manual(NOW.seconds - 60, 0).is_ok() && manual(NOW.seconds + 60, 0).is_ok());
        assert_eq!(manual(NOW.seconds - 61, 0), Err(Invalid::Past));
        assert_eq!(manual(NOW.seconds + 61, 0), Err(Invalid::Future));
        assert_eq!(manual(NOW.seconds, 1), Err(Invalid::Nanos));
        assert_eq!(manual(i64::MIN, 0), Err(Invalid::Past));
        assert_eq!(manual(i64::MAX, 0), Err(Invalid::Future));
    }

    #[test]
    fn intervals_have_bounds_with_the_documented_text() {
        let text = with_interval(30, None).expect_err("too short").to_string();
        assert_eq!(text, "backup interval must be at least 1m0s, got 30s");
        let text = with_interval(90_000, None).expect_err("too long").to_string();
        assert_eq!(text, "backup interval must be at most 24h0m0s, got 25h0m0s");
        assert!(with_interval(60, None).is_ok() && with_interval(86_400, None).is_ok());
        assert_eq!(with_interval(0, Some(true)), Err(Invalid::NoInterval));
        assert!(with_interval(0, Some(false)).is_ok() && with_interval(0, None).is_ok());
    }

    #[test]
    fn half_a_key_is_refused() {
        let spec = |bucket: &str, key: &str, secret: &str, token: &str| S3ConfigSpec {
            bucket: bucket.into(),
            accesskeyid: key.into(),
            secretaccesskey: secret.into(),
            sessiontoken: token.into(),
            ..Default::default()
        };
        assert_eq!(s3_config(&spec("", "a", "b", "")), Err(Invalid::NoBucket));
        assert_eq!(s3_config(&spec("b", "a", "", "")), Err(Invalid::HalfAKey));
        assert_eq!(s3_config(&spec("b", "", "s", "")), Err(Invalid::HalfAKey));
        assert_eq!(s3_config(&spec("b", "", "", "t")), Err(Invalid::TokenAlone));
        assert!(s3_config(&spec("b", "", "", "")).is_ok());
    }

    #[test]
    fn a_misspelt_field_names_the_nearest() {
        let given = serde_json::json!({"bucket": "b", "accessKeyID": "x"});
        let error = unknown_fields(&given, &S3ConfigSpec::every_field(), "spec").expect_err("misspelt");
        assert_eq!(error.to_string(), r#"unknown field "accessKeyID" (spec.accessKeyID): did you mean "accesskeyid"?"#);
    }

    proptest! {
        #[test]
        fn validation_never_panics(seconds in any::<i64>(), nanos in any::<i32>(), interval in any::<u64>(), n in any::<u32>(), now in any::<i64>()) {
            let spec = ManualBackupSpec { backupat: Some(Timestamp { seconds, nanos }) };
            let _ = manual_backup(&spec, Timestamp::from_seconds(now));
            let interval = Some(Interval { seconds: interval, nanos: n });
            let spec = ClusterSpec { backupconfiguration: Some(BackupConfiguration { interval, enabled: None }), ..ClusterSpec::default() };
            let _ = cluster(&spec, IntervalBounds::default());
        }
    }
}
