//! Which backup is selected: by name, the latest, or the latest before a time. For all commands that need a backup.

use backstay_protocol::{NameError, SnapshotName, Timestamp, validate};

/// The name by which a request selects the latest one.
pub const LATEST: &str = "latest";

/// What a snapshot's name ends with.
pub const SUFFIX: &str = ".snapshot";

/// Which backup of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotSelector {
    Latest,
    Named(SnapshotName),
    /// The latest one of this time or an earlier one.
    Before(Timestamp),
}

impl SnapshotSelector {
    /// From `--snapshot` and `--before`, of which at most one is given; without both, the latest.
    ///
    /// # Errors
    /// The name is invalid.
    pub fn of(snapshot: Option<&str>, before: Option<&Self>) -> Result<Self, NameError> {
        let named = snapshot.map(Self::parse_snapshot).transpose()?;
        Ok(named.or_else(|| before.cloned()).unwrap_or(Self::Latest))
    }

    /// From `latest` or a snapshot's name.
    ///
    /// # Errors
    /// The name is invalid.
    pub fn parse_snapshot(text: &str) -> Result<Self, NameError> {
        match text {
            LATEST => Ok(Self::Latest),
            name => parse_name(name).map(Self::Named),
        }
    }

    /// From a time such as `2026-11-22T10:00:00Z`.
    ///
    /// # Errors
    /// What a time must look like, in words.
    pub fn parse_time(text: &str) -> Result<Self, String> {
        let time = Timestamp::parse_rfc3339(text).map(Self::Before);
        time.ok_or_else(|| "must be a time with a time zone, such as 2026-11-22T10:00:00Z".into())
    }

    /// As a request has it; the coordinator finds out which backup that is.
    pub fn asked_for(&self) -> (String, Option<Timestamp>) {
        match self {
            Self::Latest => (LATEST.into(), None),
            Self::Named(name) => (name.to_string(), None),
            Self::Before(time) => (LATEST.into(), Some(*time)),
        }
    }
}

/// A snapshot's name as people type it: the suffix is optional, and lower case is accepted.
fn parse_name(text: &str) -> Result<SnapshotName, NameError> {
    let digits = text.strip_suffix(SUFFIX).unwrap_or(text).to_ascii_uppercase();
    format!("{digits}{SUFFIX}").parse().map_err(|_| {
        let meant = validate::nearest(text, [LATEST].into_iter());
        let hint = meant.map(|meant| format!(": did you mean {meant}?")).unwrap_or_default();
        let given = text.chars().take(80).collect();
        let reason = format!("must be latest, or 16 hexadecimal digits with or without {SUFFIX}{hint}");
        NameError { what: "snapshot name", given, reason }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_be_typed_without_its_suffix_and_in_small_letters() {
        let name = SnapshotName::from_unix_seconds(1_701_184_522).expect("in range");
        for text in [name.to_string(), name.to_string().replace(SUFFIX, ""), name.to_string().to_lowercase()] {
            assert_eq!(SnapshotSelector::parse_snapshot(&text), Ok(SnapshotSelector::Named(name)), "{text}");
        }
    }

    #[test]
    fn a_slip_in_latest_is_noticed() {
        for text in ["lastest", "Latest", "last", "lates"] {
            let error = SnapshotSelector::parse_snapshot(text).expect_err(text).to_string();
            assert!(error.ends_with(": did you mean latest?"), "{error}");
        }
        let error = SnapshotSelector::parse_snapshot("FFFFFFFF9A8AF98").expect_err("15 digits").to_string();
        let said = "must be latest, or 16 hexadecimal digits with or without .snapshot";
        assert_eq!(error, format!("invalid snapshot name \"FFFFFFFF9A8AF98\": {said}"));
    }
}
