//! Names and ids, parsed once at the edge into types; inside there are no naked strings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::time::Timestamp;

/// Why a text is not the name that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {given:?}: {reason}")]
pub struct NameError {
    pub what: &'static str,
    pub given: String,
    pub reason: String,
}

impl NameError {
    fn new(what: &'static str, given: &str, reason: impl Into<String>) -> Self {
        let given = given.chars().take(80).collect();
        Self { what, given, reason: reason.into() }
    }
}

/// The longest cluster name, in bytes: it must fit one token of a subject and one DNS label.
pub const CLUSTER_NAME_MAX: usize = 63;

/// The name that people give a cluster: 1 to 63 of `A-Z a-z 0-9 - _`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(String);

impl ClusterName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        let error = |reason: String| NameError::new("cluster name", s, reason);
        if s.is_empty() || s.len() > CLUSTER_NAME_MAX {
            return Err(error(format!("must have 1 to {CLUSTER_NAME_MAX} characters")));
        }
        if let Some(c) = s.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))) {
            return Err(error(format!("{c:?} is not a letter, a digit, '-' or '_'")));
        }
        if !s.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(error("must begin with a letter or a digit".into()));
        }
        Ok(Self(s.to_owned()))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! uuid_name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(s: &str) -> Result<Self, NameError> {
                let id = Uuid::try_parse(s).map_err(|e| NameError::new($what, s, e.to_string()))?;
                if id.is_nil() {
                    return Err(NameError::new($what, s, "must not be all zeros"));
                }
                if id.hyphenated().to_string() != s.to_ascii_lowercase() {
                    return Err(NameError::new($what, s, "must have the form 8-4-4-4-12"));
                }
                Ok(Self(id))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_name!(
    /// The id of a cluster that storage uses; made once, at registration.
    ClusterUuid,
    "cluster UUID"
);
uuid_name!(
    /// A control-plane node.
    MachineId,
    "machine ID"
);
uuid_name!(
    /// One try at one backup.
    AttemptId,
    "attempt ID"
);
uuid_name!(
    /// One backup that is wanted: all attempts for it share the slot and its snapshot name.
    SlotId,
    "slot ID"
);
uuid_name!(
    /// One restore of one cluster.
    RestoreId,
    "restore ID"
);
uuid_name!(
    /// One proof of one backup.
    VerifyId,
    "verify ID"
);

/// The name of a backup in its cluster's folder: `%016X` of the negated Unix time in seconds, then
/// `.snapshot`, so that names sort newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SnapshotName {
    seconds: i64,
}

/// Latest time that a snapshot name may stand for: the end of the year 9999.
const SNAPSHOT_SECONDS_MAX: i64 = 253_402_300_799;
const SNAPSHOT_SUFFIX: &str = ".snapshot";

impl SnapshotName {
    /// From a Unix time in seconds, 1 to the end of the year 9999.
    pub fn from_unix_seconds(seconds: i64) -> Result<Self, NameError> {
        if (1..=SNAPSHOT_SECONDS_MAX).contains(&seconds) {
            Ok(Self { seconds })
        } else {
            Err(NameError::new("snapshot time", &seconds.to_string(), "out of range"))
        }
    }

    pub fn unix_seconds(self) -> i64 {
        self.seconds
    }

    /// The time that the backup stands for.
    pub fn time(self) -> Timestamp {
        Timestamp::from_seconds(self.unix_seconds())
    }

    /// The name that is one second later: where a name is taken, the next is tried.
    pub fn next(self) -> Result<Self, NameError> {
        Self::from_unix_seconds(self.seconds + 1)
    }
}

impl FromStr for SnapshotName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        let error = || {
            NameError::new(
                "snapshot name",
                s,
                "must be 16 uppercase hexadecimal digits, followed by \
            .snapshot",
            )
        };
        let digits = s.strip_suffix(SNAPSHOT_SUFFIX).ok_or_else(error)?;
        if digits.len() != 16 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F')) {
            return Err(error());
        }
        let negated = u64::from_str_radix(digits, 16).map_err(|_| error())?;
        Self::from_unix_seconds((negated as i64).wrapping_neg())
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}{SNAPSHOT_SUFFIX}", self.seconds.wrapping_neg() as u64)
    }
}

macro_rules! serde_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

serde_as_text!(ClusterName, ClusterUuid, MachineId, AttemptId, SlotId, RestoreId, VerifyId, SnapshotName);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_snapshot_name_is_the_original_s() {
        let name = SnapshotName::from_unix_seconds(1_701_184_522).expect("in range");
        assert_eq!(name.to_string(), "FFFFFFFF9A99FBF6.snapshot");
    }

    #[test]
    fn wrong_names_say_what_is_wrong() {
        for (given, part) in [("", "1 to 63"), ("a.b", "'.'"), ("-a", "begin"), ("a b", "' '"), ("*", "'*'")] {
            let text = given.parse::<ClusterName>().expect_err(given).to_string();
            assert!(text.contains(part), "{text}");
        }
        assert!("{01234567-0123-4123-8123-0123456789ab}".parse::<MachineId>().is_err());
        assert!("0123456701234123812301234567890a".parse::<MachineId>().is_err());
    }

    proptest! {
        #[test]
        fn snapshot_names_round_trip_and_sort_newest_first(a in 1..SNAPSHOT_SECONDS_MAX, b in 1..SNAPSHOT_SECONDS_MAX) {
            let (x, y) = (SnapshotName::from_unix_seconds(a)?, SnapshotName::from_unix_seconds(b)?);
            prop_assert_eq!(x.to_string().parse::<SnapshotName>()?, x);
            prop_assert_eq!(a.cmp(&b), y.to_string().cmp(&x.to_string()));
        }

        #[test]
        fn any_text_is_a_name_or_an_error(text in ".{0,80}") {
            if let Ok(name) = text.parse::<ClusterName>() { prop_assert_eq!(name.to_string(), text.clone()); }
            if let Ok(name) = text.parse::<SnapshotName>() { prop_assert_eq!(name.to_string(), text); }
        }

        #[test]
        fn cluster_names_round_trip(text in "[A-Za-z0-9][A-Za-z0-9_-]{0,62}") {
            prop_assert_eq!(text.parse::<ClusterName>()?.to_string(), text);
        }

        #[test]
        fn uuids_round_trip(raw in any::<[u8; 16]>().prop_filter("nil", |r| r != &[0; 16])) {
            let id = MachineId(Uuid::from_bytes(raw));
            prop_assert_eq!(id.to_string().parse::<MachineId>()?, id);
        }
    }
}
