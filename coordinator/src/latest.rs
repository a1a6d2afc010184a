//! Which backup of a cluster is the latest, as far as the coordinator knows: it knows the order in which it made its own,
//! whatever clock named them.

use std::time::Duration;

use backstay_archive::catalog::Progress;
use backstay_archive::latest::{self, LatestError, Scope};
use backstay_archive::{Manifest, catalog};
use backstay_protocol::backstay_types::RunState;
use backstay_protocol::{ClusterUuid, NameError, SnapshotName, Timestamp};

use crate::record::ClusterRecord;
use crate::storage::ActiveStore;
use crate::term::Term;

/// How long the store may take for one manifest, and for all that are needed to find the latest.
const ONE_TIMEOUT: Duration = Duration::from_secs(15);
const ALL_TIMEOUT: Duration = Duration::from_secs(75);

/// Which backup is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotSelector {
    Named(SnapshotName),
    /// The latest one, or the latest of this time or an earlier one.
    Latest {
        until: Option<Timestamp>,
    },
}

impl SnapshotSelector {
    /// A snapshot's name, or `latest`; empty means `latest` if there is a time.
    ///
    /// # Errors
    /// The name is invalid, or there are both a name and a time.
    pub fn parse(text: &str, until: Option<Timestamp>) -> Result<Self, SelectorError> {
        match (text, until) {
            ("latest", until) => Ok(Self::Latest { until }),
            ("", Some(_)) => Ok(Self::Latest { until }),
            (name, None) => Ok(Self::Named(name.parse()?)),
            (name, Some(_)) => Err(SelectorError::NameAndTime(name.parse()?)),
        }
    }
}

/// Why a request does not select a backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("snapshot names {0}, but before asks for the newest backup at or before a time: omit one of them")]
    NameAndTime(SnapshotName),
}

/// Why there is no such backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// It does not exist, or it is not clear which one it is.
    #[error("failed to get backup: {0}")]
    None(String),
    /// The store does not answer.
    #[error("failed to get backup: {0}")]
    Unknown(String),
}

/// The manifest of the selected backup.
///
/// # Errors
/// [`NotFound`].
pub async fn find(
    term: &Term,
    active_store: &ActiveStore,
    cluster: ClusterUuid,
    selector: SnapshotSelector,
) -> Result<Manifest, NotFound> {
    match selector {
        SnapshotSelector::Named(name) => {
            let found = catalog::own_manifest(&*active_store.store, cluster, name);
            let seconds = ONE_TIMEOUT.as_secs();
            let silent = |_| NotFound::Unknown(format!("the store did not answer within {seconds} s"));
            let found = tokio::time::timeout(ONE_TIMEOUT, found).await.map_err(silent)?;
            let found = found.map_err(|error| NotFound::Unknown(error.to_string()))?;
            found.ok_or_else(|| NotFound::None(format!("cluster {cluster} has no {name} in the store")))
        }
        SnapshotSelector::Latest { until } => {
            let record = term.directory.records().into_iter().find(|record| record.uuid == cluster);
            let own = record.as_deref().map(own).unwrap_or_default();
            let scope = Scope { until, own, ..Scope::default() };
            let progress = Progress::default();
            let found = latest::find(&*active_store.store, cluster, &scope, term.clock.now(), &progress);
            let late = |_| NotFound::Unknown(not_in_time(progress.done(), progress.total()));
            let found = tokio::time::timeout(ALL_TIMEOUT, found).await.map_err(late)?;
            let found = found.map_err(|error| match error {
                LatestError::Store(error) => NotFound::Unknown(error.to_string()),
                error => NotFound::None(error.to_string()),
            })?;
            let name = record.map_or_else(|| cluster.to_string(), |record| record.name.to_string());
            found.found.map(|found| found.manifest).ok_or_else(|| NotFound::None(none(&name, until)))
        }
    }
}

/// Why the latest was not found in time, after reading this many manifests, and what to do.
fn not_in_time(done: usize, total: usize) -> String {
    let seconds = ALL_TIMEOUT.as_secs();
    let why = match total {
        0 => format!("the store did not list the cluster's backups within {seconds} s"),
        _ => format!(
            "only {done} of {total} manifests could be read within {seconds} s, and any of them may be the \
            latest"
        ),
    };
    format!("{why}; name a backup with --snapshot NAME, so that only that one is read (`backstayctl list` shows them)")
}

fn none(cluster: &str, until: Option<Timestamp>) -> String {
    match until {
        Some(until) => format!("cluster {cluster} has no backup taken at or before {}", until.rfc3339()),
        None => format!("cluster {cluster} has no backup"),
    }
}

/// Its latest attempts that succeeded, latest first.
fn own(record: &ClusterRecord) -> Vec<SnapshotName> {
    record.runs.latest_first().filter(|run| run.state == RunState::Ok).map(|run| run.snapshot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Attempt, SlotEnd, Trigger};
    use backstay_protocol::spec::ClusterSpec;
    use backstay_protocol::{AttemptId, MachineId, SlotId};
    use uuid::Uuid;

    #[test]
    fn its_own_are_in_the_order_in_which_they_were_made() {
        let at = Timestamp::from_seconds;
        let uuid = ClusterUuid(Uuid::from_u128(1));
        let mut record = ClusterRecord::new("one".parse().expect("a name"), uuid, ClusterSpec::default(), at(1_000));
        for (n, now, good) in [(1, 2_000, true), (2, 90_000, true), (3, 3_000, true), (4, 4_000, false)] {
            record.open_slot(Trigger::Interval, SlotId(Uuid::from_u128(n)), at(now)).expect("a name");
            let machine = MachineId(Uuid::from_u128(9));
            record.begin_attempt(Attempt { id: AttemptId(Uuid::from_u128(n)), machine, started: at(now) });
            let end = match good {
                true => SlotEnd::Done { completed: at(now), proven: None },
                false => SlotEnd::Failed { error: "no".into() },
            };
            record.end_slot(SlotId(Uuid::from_u128(n)), end, at(now));
        }
        let seconds: Vec<i64> = own(&record).iter().map(|name| name.unix_seconds()).collect();
        assert_eq!(seconds, [3_000, 90_000, 2_000]);
    }

    #[test]
    fn what_takes_too_long_is_said_with_how_far_it_came_and_what_to_do() {
        for (done, total, why) in [
            (0, 0, "the store did not list the cluster's backups within 75 s"),
            (70_000, 100_000, "only 70000 of 100000 manifests could be read within 75 s"),
        ] {
            let text = not_in_time(done, total);
            assert!(text.starts_with(why) && text.contains("--snapshot NAME") && !text.contains("answer"), "{text}");
        }
    }

    #[test]
    fn a_name_and_a_time_say_which_one_is_meant() {
        let until = Some(Timestamp::from_seconds(5));
        let name = SnapshotName::from_unix_seconds(7).expect("in range");
        assert_eq!(SnapshotSelector::parse("latest", None), Ok(SnapshotSelector::Latest { until: None }));
        assert_eq!(SnapshotSelector::parse("latest", until), Ok(SnapshotSelector::Latest { until }));
        assert_eq!(SnapshotSelector::parse("", until), Ok(SnapshotSelector::Latest { until }));
        assert_eq!(SnapshotSelector::parse(&name.to_string(), None), Ok(SnapshotSelector::Named(name)));
        assert!(SnapshotSelector::parse("", None).is_err() && SnapshotSelector::parse("newest", None).is_err());
        assert!(matches!(SnapshotSelector::parse("newest", until), Err(SelectorError::Name(_))));
        let both = SnapshotSelector::parse(&name.to_string(), until).expect_err("two things");
        assert!(both.to_string().contains(&name.to_string()) && both.to_string().contains("omit one"), "{both}");
    }
}
