//! Failed verifications of a cluster's backups, for as long as they count. Pure.
//!
//! If a verification could not be carried out, that counts until any verification succeeds. If it found damage, that
//! counts until this backup or a later one passes: success with an older one says nothing about it. And a backup is
//! remembered as damaged for as long as it has not passed itself.

use backstay_protocol::{SnapshotName, Timestamp};
use serde::{Deserialize, Serialize};

/// How many are kept; those that no longer count are dropped first.
const FAILED_MAX: usize = 16;

/// A verification that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedProof {
    pub at: Timestamp,
    pub snapshot: SnapshotName,
    pub error: String,
    /// Whether the backup itself is at fault. Otherwise it could not be tried, or that is not known.
    pub damaged: bool,
    /// Whether a later backup has passed since.
    #[serde(default)]
    pub settled: bool,
}

/// All that are known, ordered by time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FailedProofs(Vec<FailedProof>);

impl FailedProofs {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a failure. For each backup, the latest damage is kept; of verifications that could not be carried out, only
    /// the latest.
    pub fn note(&mut self, failed: FailedProof) {
        let replaced = |before: &FailedProof| match failed.damaged {
            true => before.damaged && before.snapshot == failed.snapshot,
            false => !before.damaged,
        };
        self.0.retain(|before| !replaced(before));
        self.0.push(failed);
        while self.0.len() > FAILED_MAX {
            self.forget_one();
        }
    }

    /// Drops the oldest of those that no longer count, otherwise the oldest; `false` if only one is left.
    pub fn forget_one(&mut self) -> bool {
        let is_many = self.0.len() > 1;
        if is_many {
            self.0.remove(self.0.iter().position(|failed| failed.settled).unwrap_or(0));
        }
        is_many
    }

    /// Shortens each error with `cut`.
    pub fn shorten(&mut self, cut: impl Fn(&mut String)) {
        self.0.iter_mut().for_each(|failed| cut(&mut failed.error));
    }

    /// A backup has passed.
    pub fn proven(&mut self, snapshot: SnapshotName) {
        self.0.retain(|failed| failed.damaged && failed.snapshot != snapshot);
        for failed in &mut self.0 {
            failed.settled |= failed.snapshot.unix_seconds() < snapshot.unix_seconds();
        }
    }

    /// The failure that people must know about: damage takes precedence, then the latest.
    pub fn standing(&self) -> Option<&FailedProof> {
        self.0.iter().rev().filter(|failed| !failed.settled).max_by_key(|failed| (failed.damaged, failed.at))
    }

    /// What a verification found wrong with a backup.
    pub fn damage(&self, snapshot: SnapshotName) -> Option<&FailedProof> {
        self.0.iter().find(|failed| failed.damaged && failed.snapshot == snapshot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(seconds: i64) -> SnapshotName {
        SnapshotName::from_unix_seconds(seconds).expect("in range")
    }

    fn failed(at: i64, snapshot: i64, damaged: bool) -> FailedProof {
        let (at, snapshot) = (Timestamp::from_seconds(at), name(snapshot));
        FailedProof { at, snapshot, error: "why".into(), damaged, settled: false }
    }

    #[test]
    fn damage_stands_until_that_backup_or_a_later_one_is_proven() {
        for (proven, stands) in [(4, true), (5, false), (6, false)] {
            let mut all = FailedProofs::default();
            all.note(failed(100, 5, true));
            all.proven(name(proven));
            assert_eq!(all.standing().is_some(), stands, "{proven}");
            assert_eq!(all.damage(name(5)).is_some(), proven != 5, "it is damaged until it is itself proven");
        }
    }

    #[test]
    fn what_was_in_the_way_is_over_with_any_proof_and_hides_no_damage() {
        let mut all = FailedProofs::default();
        all.note(failed(100, 5, true));
        all.note(failed(200, 5, false));
        all.note(failed(300, 6, false));
        assert_eq!(all.0.len(), 2, "the latest of them");
        assert_eq!(all.standing(), Some(&failed(100, 5, true)));
        all.proven(name(4));
        assert_eq!(all.0, [failed(100, 5, true)]);
        all.note(failed(400, 5, true));
        assert_eq!(all.0, [failed(400, 5, true)]);
    }

    proptest! {
        #[test]
        fn their_number_is_bounded_and_a_standing_one_outlives_those_that_do_not_stand(
            steps in prop::collection::vec((1_i64..40, any::<bool>(), any::<bool>()), 0..60),
        ) {
            let mut all = FailedProofs::default();
            for (at, (snapshot, fails, damaged)) in steps.into_iter().enumerate() {
                let standing = all.standing().is_some();
                match fails {
                    true => all.note(failed(at as i64, snapshot, damaged)),
                    false => all.proven(name(snapshot)),
                }
                prop_assert!(all.0.len() <= FAILED_MAX);
                prop_assert!(!fails || all.standing().is_some(), "what failed stands");
                prop_assert!(fails || standing || all.standing().is_none(), "a success makes none");
            }
        }
    }
}
