//! Which etcd release starts on a database that another release wrote. Pure functions.
//!
//! Once all members of a cluster run 3.6 or later, etcd marks its database with a version (`storageVersion` in the
//! bucket `meta`). A release from 3.6 on refuses a database whose mark is a later minor version than its own:
//! "version 3.7.0 is not supported". Older releases ignore the mark: 3.4.23, 3.5.16 and 3.5.30 serve databases that
//! 3.6.14 and 3.7.1 marked.
//!
//! ```
//! use backstay_snapshot::release::{Fit, Origin, Release};
//!
//! let origin = Origin { etcd: "3.7.1", mark: "3.7.0" };
//! assert_eq!(origin.fits("3.6.14"), Fit::Refuses(Release { major: 3, minor: 7 }));
//! assert_eq!(origin.fits("3.7.1"), Fit::Starts);
//! ```

use std::fmt;

/// The first release that checks the mark, and that counts keys in a different way.
const LOOKS: Release = Release { major: 3, minor: 6 };
/// The first release whose databases can be read.
const FIRST: Release = Release { major: 3, minor: 4 };

/// A release of etcd, without its patch number. Ordered from old to new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// The `3` in `3.6.14`.
    pub major: u32,
    /// The `6` in `3.6.14`.
    pub minor: u32,
}

impl Release {
    /// Reads a version such as `3.6.14`, `3.6`, `v3.6.1` or `3.7.0-rc.1`. `None` if it does not begin with two
    /// numbers.
    pub fn parse(version: &str) -> Option<Self> {
        let mut numbers = version.trim().trim_start_matches('v').split(['.', '-', '+']);
        let mut number = || numbers.next()?.parse().ok();
        Some(Self { major: number()?, minor: number()? })
    }

    /// Whether this release's `snapshot status` counts live user keys (3.6 and later). Older releases count the keys
    /// of all buckets.
    pub fn counts_user_keys(self) -> bool {
        self >= LOOKS
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Which etcd wrote a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin<'a> {
    /// Version of the etcd that the backup was taken from; empty if unknown.
    pub etcd: &'a str,
    /// The version that the database is marked with (`storageVersion`); empty if there is none, or if it is unknown.
    pub mark: &'a str,
}

/// Whether an etcd starts on a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It starts, as far as is known.
    Starts,
    /// It should start, but its minor release is older than that of the etcd that wrote the database.
    Older,
    /// Its minor release is older than that of the etcd that wrote the database. It refuses the database if that is
    /// marked, and whether it is marked is unknown.
    MayRefuse,
    /// It refuses the database, which is marked with this later release.
    Refuses(Release),
    /// One of the versions is unknown or unreadable.
    Unknown,
}

impl Origin<'_> {
    /// Whether an etcd of version `etcd` (such as `3.6.14`) starts on this database.
    pub fn fits(&self, etcd: &str) -> Fit {
        let (Some(etcd), origin, mark) = (Release::parse(etcd), Release::parse(self.etcd), Release::parse(self.mark))
        else {
            return Fit::Unknown;
        };
        match (origin, mark) {
            (_, Some(mark)) if etcd >= LOOKS && mark > etcd => Fit::Refuses(mark),
            (Some(origin), None) if etcd >= LOOKS && origin > etcd => Fit::MayRefuse,
            (Some(origin), _) if origin > etcd => Fit::Older,
            (None, None) => Fit::Unknown,
            (None, Some(mark)) if mark > etcd => Fit::Older,
            _ => Fit::Starts,
        }
    }

    /// If an etcd of version `etcd` would refuse this database: why, and what to do instead, as text for an error
    /// message. `None` if it may start.
    pub fn refusal(&self, etcd: &str) -> Option<String> {
        let Fit::Refuses(mark) = self.fits(etcd) else { return None };
        let of = if self.etcd.is_empty() { String::new() } else { format!(" of etcd {}", self.etcd) };
        Some(format!(
            "its etcd is {etcd}, which cannot start on the backup's database{of}, which is marked {}; update etcd \
             there to {mark} first, or use a backup from before the update",
            self.mark
        ))
    }

    /// Which releases start on this database, as text for people; empty if unknown.
    pub fn starters(&self) -> String {
        let marked = Release::parse(self.mark);
        match (marked.or(Release::parse(self.etcd)), marked) {
            (None, _) => String::new(),
            (Some(newest), _) if newest <= LOOKS => format!("etcd {FIRST} and later can start from it"),
            (Some(newest), Some(_)) => {
                format!(
                    "etcd {newest} and later can start from it, but not {}: its database is marked {}",
                    refusing(newest),
                    self.mark
                )
            }
            (Some(newest), None) => {
                let refusing = refusing(newest);
                format!(
                    "etcd {newest} and later can start from it, but perhaps not {refusing}: it refuses a database that a \
                     later version has marked"
                )
            }
        }
    }
}

/// The releases that check the mark and are older than it, as text.
fn refusing(mark: Release) -> String {
    let last = Release { minor: mark.minor.saturating_sub(1), ..mark };
    if last.major == LOOKS.major && last <= LOOKS { format!("etcd {LOOKS}") } else { format!("etcd {LOOKS} to {last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_etcd_writes_them() {
        for (text, expected) in
            [("3.6.14", Some((3, 6))), ("3.7.0-rc.1", Some((3, 7))), ("v3.5", Some((3, 5))), ("", None), ("3", None)]
        {
            assert_eq!(Release::parse(text).map(|r| (r.major, r.minor)), expected, "{text}");
        }
    }

    #[test]
    fn releases_are_compared_as_numbers_and_count_keys_in_two_ways() {
        let release = |text| Release::parse(text).expect("a version");
        assert!(release("3.10.1") > release("3.9.30") && release("3.5.1") == release("3.5.30"));
        for (version, counts) in
            [("3.4.23", false), ("3.5.30", false), ("3.6.14", true), ("3.7.1", true), ("4.0.0-rc.1", true)]
        {
            assert_eq!(release(version).counts_user_keys(), counts, "{version}");
        }
    }

    #[test]
    fn only_what_is_known_not_to_start_is_refused() {
        let mark = |minor| Release { major: 3, minor };
        for (etcd, origin, marked, expected) in [
            ("3.6.14", "3.7.1", "3.7.0", Fit::Refuses(mark(7))),
            ("3.7.2", "3.8.0", "3.8.0", Fit::Refuses(mark(8))),
            ("3.6.14", "", "3.7.0", Fit::Refuses(mark(7))),
            ("3.6.14", "4.0.0", "4.0.0", Fit::Refuses(Release { major: 4, minor: 0 })),
            // In the middle of an update: the members are 3.7, and the database is not marked yet.
            ("3.6.14", "3.7.1", "3.6.0", Fit::Older),
            ("3.6.14", "3.7.1", "", Fit::MayRefuse),
            // Tested on the corpus: these releases ignore the mark.
            ("3.5.30", "3.7.1", "3.7.0", Fit::Older),
            ("3.4.23", "3.6.14", "3.6.0", Fit::Older),
            ("3.4.23", "3.5.1", "", Fit::Older),
            ("3.4.23", "", "3.6.0", Fit::Older),
            ("3.5.1", "3.5.30", "", Fit::Starts),
            ("3.6.14", "3.6.1", "3.6.0", Fit::Starts),
            ("3.7.1", "3.5.30", "", Fit::Starts),
            ("3.7.1", "", "3.7.0", Fit::Starts),
            ("3.7.1", "", "", Fit::Unknown),
            ("", "3.7.1", "3.7.0", Fit::Unknown),
        ] {
            assert_eq!(Origin { etcd: origin, mark: marked }.fits(etcd), expected, "{etcd} on {origin} ({marked})");
        }
    }

    #[test]
    fn a_refusal_names_the_versions_and_the_next_step() {
        let origin = Origin { etcd: "3.7.1", mark: "3.7.0" };
        let text = origin.refusal("3.6.14").expect("refused");
        for part in ["3.6.14", "etcd 3.7.1", "marked 3.7.0", "update etcd there to 3.7"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!((origin.refusal("3.5.30"), origin.refusal("3.7.0"), origin.refusal("")), (None, None, None));
    }

    #[test]
    fn who_starts_on_it_is_said_where_nobody_knows_who_will() {
        let said = |etcd, mark| Origin { etcd, mark }.starters();
        assert_eq!(said("3.5.30", ""), "etcd 3.4 and later can start from it");
        assert_eq!(said("3.6.14", "3.6.0"), "etcd 3.4 and later can start from it");
        assert!(said("3.7.1", "3.7.0").contains("etcd 3.7 and later can start from it, but not etcd 3.6"));
        assert!(said("3.8.1", "3.8.0").contains("but not etcd 3.6 to 3.7"));
        assert!(said("3.7.1", "").contains("but perhaps not etcd 3.6"));
        assert_eq!(said("", ""), "");
    }
}
