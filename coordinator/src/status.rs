//! The overall status: a function of the storage configuration and every cluster's latest attempt.

use backstay_protocol::spec::{BackupStatusSpec, OverallStatusSpec};

/// The state of the storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageState {
    Ready,
    /// The backend is selected and not yet configured.
    NotInitialized,
    Broken(String),
}

impl StorageState {
    /// Why nothing can be asked of the store, as requests are answered and backups fail.
    pub fn unavailable(&self) -> String {
        match self {
            Self::Ready | Self::NotInitialized => {
                "backup storage is not configured yet: apply its configuration (`backstayctl apply -f FILE`)".into()
            }
            Self::Broken(error) => format!("backup storage is not available: {error}"),
        }
    }

    /// The text of CONFIGURATION ERROR.
    pub fn error(&self) -> &str {
        match self {
            Self::Ready => "",
            Self::NotInitialized => "not initialized",
            Self::Broken(error) => error,
        }
    }
}

/// The storage's part of the overall status.
pub fn with_storage(spec: &OverallStatusSpec, name: &str, state: &StorageState) -> OverallStatusSpec {
    OverallStatusSpec { configurationname: name.into(), configurationerror: state.error().into(), ..spec.clone() }
}

/// One more attempt to apply a storage configuration.
pub fn count_attempt(spec: &OverallStatusSpec) -> OverallStatusSpec {
    let attempts = spec.configurationattempt.unwrap_or(0).saturating_add(1);
    OverallStatusSpec { configurationattempt: Some(attempts), ..spec.clone() }
}

/// The most recent attempt in any cluster: the one that started or ended last.
pub fn with_clusters<'a>(
    spec: &OverallStatusSpec,
    clusters: impl Iterator<Item = &'a BackupStatusSpec>,
) -> OverallStatusSpec {
    let latest =
        clusters.filter(|s| s.lastbackupattempt.is_some()).max_by_key(|s| (s.lastbackupattempt, s.status.number()));
    OverallStatusSpec { lastbackupstatus: latest.cloned(), ..spec.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstay_protocol::Timestamp;
    use backstay_protocol::spec::BackupState;
    use proptest::prelude::*;

    fn status(seconds: i64, state: BackupState) -> BackupStatusSpec {
        BackupStatusSpec {
            status: state,
            lastbackupattempt: Some(Timestamp::from_seconds(seconds)),
            ..BackupStatusSpec::default()
        }
    }

    #[test]
    fn before_and_after_a_configuration() {
        let fresh = with_storage(&OverallStatusSpec::default(), "s3", &StorageState::NotInitialized);
        assert_eq!((fresh.configurationname.as_str(), fresh.configurationerror.as_str()), ("s3", "not initialized"));
        assert_eq!((fresh.configurationattempt, &fresh.lastbackupstatus), (None, &None));
        let good = with_storage(&count_attempt(&fresh), "s3", &StorageState::Ready);
        assert_eq!((good.configurationerror.as_str(), good.configurationattempt), ("", Some(1)));
    }

    proptest! {
        #[test]
        fn the_most_recent_attempt_wins_in_whatever_order_clusters_come(times in prop::collection::vec(0_i64..1000, 1..20), turn in any::<prop::sample::Index>()) {
            let mut all: Vec<_> = times.iter().map(|t| status(*t, BackupState::Ok)).collect();
            let folded = with_clusters(&OverallStatusSpec::default(), all.iter());
            all.rotate_left(turn.index(times.len()));
            prop_assert_eq!(&folded, &with_clusters(&OverallStatusSpec::default(), all.iter()));
            let newest = folded.lastbackupstatus.and_then(|s| s.lastbackupattempt).map(|t| t.seconds);
            prop_assert_eq!(newest, times.iter().max().copied());
        }
    }
}
