//! Names and ids as types. Text is parsed into them once, where it comes in; everywhere else a name is known to be valid.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::time::Timestamp;

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {given:?}: {reason}")]
pub struct NameError {
    /// What it should be, such as `cluster name`.
    pub what: &'static str,
    /// The first 80 characters of the text.
    pub given: String,
    /// What is wrong with it, in words.
    pub reason: String,
}

impl NameError {
    fn new(what: &'static str, given: &str, reason: impl Into<String>) -> Self {
        let given = given.chars().take(80).collect();
        Self { what, given, reason: reason.into() }
    }
}

/// The longest cluster name, in bytes: it must fit into one token of a NATS subject and into one DNS label (RFC 1035).
pub const CLUSTER_NAME_MAX: usize = 63;

/// The name that people give a cluster: 1 to 63 of `A-Z a-z 0-9 - _`, beginning with a letter or a digit.
///
/// # Examples
/// ```
/// use backstay_protocol::ClusterName;
///
/// let name: ClusterName = "talos-default".parse()?;
/// assert_eq!(name.as_str(), "talos-default");
/// assert_eq!("a.b".parse::<ClusterName>().unwrap_err().reason, "'.' is not a letter, a digit, '-' or '_'");
/// # Ok::<(), backstay_protocol::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(String);

impl ClusterName {
    /// The name as it was given: case is kept, and names that differ in case are different names.
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
    /// The id of a cluster in the store, where it names the cluster's folder. Created once, when the cluster is registered;
    /// it stays the same when the cluster is deleted and registered again.
    ///
    /// Like every id here, it is a UUID in the form 8-4-4-4-12, in either case, and not all zeros.
    ///
    /// # Examples
    /// ```
    /// use backstay_protocol::ClusterUuid;
    ///
    /// let uuid: ClusterUuid = "27C16241-96bf-4f17-9579-ea3a6c4a3ca8".parse()?;
    /// assert_eq!(uuid.to_string(), "27c16241-96bf-4f17-9579-ea3a6c4a3ca8");
    /// assert!("27c1624196bf4f179579ea3a6c4a3ca8".parse::<ClusterUuid>().is_err());
    /// # Ok::<(), backstay_protocol::NameError>(())
    /// ```
    ClusterUuid,
    "cluster UUID"
);
uuid_name!(
    /// The id of a control-plane node: from its agent's settings, else from the machine's DMI or `/etc/machine-id`.
    MachineId,
    "machine ID"
);
uuid_name!(
    /// The id of one attempt at one backup.
    AttemptId,
    "attempt ID"
);
uuid_name!(
    /// The id of one backup that is wanted. All attempts at it have the same slot and the same snapshot name.
    SlotId,
    "slot ID"
);
uuid_name!(
    /// The id of one restore of one cluster.
    RestoreId,
    "restore ID"
);
uuid_name!(
    /// The id of one verification of one stored backup.
    VerifyId,
    "verify ID"
);

/// The name of a backup in its cluster's folder: `%016X` of the negated Unix time in seconds, then `.snapshot`, so that
/// names sort newest first. This is Omni's format.
///
/// # Examples
/// ```
/// use backstay_protocol::SnapshotName;
///
/// let name = SnapshotName::from_unix_seconds(1_701_184_522)?;
/// assert_eq!(name.to_string(), "FFFFFFFF9A99FBF6.snapshot");
/// assert_eq!("FFFFFFFF9A99FBF6.snapshot".parse::<SnapshotName>()?.unix_seconds(), 1_701_184_522);
/// assert!(name.next()?.to_string() < name.to_string());
/// # Ok::<(), backstay_protocol::NameError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SnapshotName {
    seconds: i64,
}

/// The latest time that a snapshot name can have: the end of the year 9999.
const SNAPSHOT_SECONDS_MAX: i64 = 253_402_300_799;
const SNAPSHOT_SUFFIX: &str = ".snapshot";

impl SnapshotName {
    /// From a Unix time in seconds.
    ///
    /// # Errors
    /// The time is before 1 or after the end of the year 9999.
    pub fn from_unix_seconds(seconds: i64) -> Result<Self, NameError> {
        if (1..=SNAPSHOT_SECONDS_MAX).contains(&seconds) {
            Ok(Self { seconds })
        } else {
            Err(NameError::new("snapshot time", &seconds.to_string(), "out of range"))
        }
    }

    /// The Unix time in seconds, 1 to the end of the year 9999.
    pub fn unix_seconds(self) -> i64 {
        self.seconds
    }

    /// The same as a [`Timestamp`]: when the backup was begun, or a few seconds later if an earlier name was taken.
    pub fn time(self) -> Timestamp {
        Timestamp::from_seconds(self.unix_seconds())
    }

    /// The name that is one second later; it is tried if this one is taken.
    ///
    /// # Errors
    /// This is the last second of the year 9999.
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
