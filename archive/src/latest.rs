//! Which of a cluster's backups is the latest. Names are times that some clock told, so where a name or a revision
//! contradicts the others nothing is guessed: the candidates are said instead.
//!
//! Within one etcd cluster id revisions only rise: a restore that jumps or falls back makes a new id. An etcd that was made
//! anew under the same id is the exception; its first backup says what it takes the place of. When the store
//! itself wrote an object is shown and decides nothing, since copying a bucket changes it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use backstay_protocol::time;
use backstay_protocol::{ClusterUuid, SnapshotName, Timestamp, duration};

use crate::catalog::{self, CatalogError, ListedBackup, Progress, Reading, Skipped};
use crate::manifest::{Manifest, Replaced};
use crate::store::{Store, StoreError};

/// Candidates that an error shows.
const SHOWN_MAX: usize = 8;

/// A backup, as far as it matters for which one is the latest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub snapshot: SnapshotName,
    /// As the manifest has them.
    pub etcd_cluster_id: String,
    pub revision: i64,
    /// When the store wrote the object, by its clock.
    pub modified: Option<Timestamp>,
    /// What it says that it takes the place of.
    pub replaces: Option<Replaced>,
}

impl Candidate {
    /// Whether this one says that `old` does not count any more: it is the one that it takes the place of, or was made
    /// before that by the same etcd.
    fn takes_place_of(&self, old: &Self) -> bool {
        let Some(replaced) = &self.replaces else { return false };
        let at = |name: SnapshotName| name.unix_seconds();
        let before = at(old.snapshot) < at(self.snapshot);
        let is_it = old.revision == replaced.revision && (old.snapshot == replaced.snapshot || before);
        let is_older = before && at(old.snapshot) < at(replaced.snapshot);
        old.snapshot != self.snapshot && old.etcd_cluster_id == replaced.etcd_cluster_id && (is_it || is_older)
    }

    /// Whether `other` holds what this one holds, and more or nothing else.
    fn is_contained_in(&self, other: &Self) -> bool {
        self.etcd_cluster_id == other.etcd_cluster_id && self.revision <= other.revision
    }
}

/// What contradicts the newest name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contradiction {
    /// It lies ahead of the clock here, which says this.
    Ahead { newest: SnapshotName, now: Timestamp },
    /// Another backup of the same etcd cluster has a higher revision.
    Revision { newest: SnapshotName, revision: i64, higher: i64 },
}

/// Nobody can tell which backup is the latest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ambiguous {
    pub why: Contradiction,
    /// Those that may be meant, by their names from the newest on.
    pub candidates: Vec<Candidate>,
    /// How many further ones there are.
    pub others: usize,
}

/// Why the latest backup was not found.
#[derive(Debug, thiserror::Error)]
pub enum LatestError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest of the newest one: an older backup is nobody's idea of the latest one.
    #[error(transparent)]
    Catalog(CatalogError),
    #[error(transparent)]
    Ambiguous(Box<Ambiguous>),
}

impl From<CatalogError> for LatestError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Store(error) => Self::Store(error),
            error => Self::Catalog(error),
        }
    }
}

/// Which backups come into question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only those that stand for this time or an earlier one.
    pub until: Option<Timestamp>,
    /// Those that somebody made and knows the order of, the latest first: of these the first that is there counts,
    /// whatever they are named.
    pub own: Vec<SnapshotName>,
}

/// The latest backup, and what was skipped because its manifest could not be read.
#[derive(Debug)]
pub struct Latest {
    pub manifest: Option<Manifest>,
    pub skipped: Skipped,
}

/// The latest by name of those that no other takes the place of; `None` where there is none.
///
/// # Errors
/// Its name lies in the future, or another one of the same etcd cluster has a higher revision.
pub fn choose(candidates: &[Candidate], now: Timestamp) -> Result<Option<&Candidate>, Box<Ambiguous>> {
    let candidates = counted(candidates);
    let Some(newest) = candidates.iter().copied().max_by_key(|candidate| candidate.snapshot.unix_seconds()) else {
        return Ok(None);
    };
    let higher = candidates.iter().filter(|other| newest.is_contained_in(other)).map(|other| other.revision).max();
    let why = match higher.filter(|higher| *higher > newest.revision) {
        _ if is_ahead(newest, now) => Contradiction::Ahead { newest: newest.snapshot, now },
        Some(higher) => Contradiction::Revision { newest: newest.snapshot, revision: newest.revision, higher },
        None => return Ok(Some(newest)),
    };
    let candidates_shown = shown(newest, &candidates, now);
    let others = candidates.len() - candidates_shown.len();
    Err(Box::new(Ambiguous { why, candidates: candidates_shown, others }))
}

/// Those that no other takes the place of; all, where each says so of another.
fn counted(candidates: &[Candidate]) -> Vec<&Candidate> {
    let new: Vec<&Candidate> = candidates.iter().filter(|candidate| candidate.replaces.is_some()).collect();
    let counts = |old: &&Candidate| !new.iter().any(|new| new.takes_place_of(old));
    let counted: Vec<&Candidate> = candidates.iter().filter(counts).collect();
    if counted.is_empty() { candidates.iter().collect() } else { counted }
}

fn is_ahead(candidate: &Candidate, now: Timestamp) -> bool {
    time::is_ahead(candidate.snapshot.time(), now)
}

/// The newest by name, the newest whose name can be true, and the furthest of each etcd cluster; then whatever is
/// further than the newest. So many as fit, by their names from the newest on.
fn shown(newest: &Candidate, candidates: &[&Candidate], now: Timestamp) -> Vec<Candidate> {
    let by_name = |candidate: &&Candidate| candidate.snapshot.unix_seconds();
    let true_ones = candidates.iter().copied().filter(|candidate| !is_ahead(candidate, now));
    let mut picked = vec![newest];
    picked.extend(true_ones.max_by_key(by_name));
    let mut furthest: BTreeMap<&str, &Candidate> = BTreeMap::new();
    for &one in candidates {
        let best = furthest.entry(&one.etcd_cluster_id).or_insert(one);
        if (one.revision, by_name(&one)) > (best.revision, by_name(best)) {
            *best = one;
        }
    }
    let mut further: Vec<&Candidate> = furthest.into_values().collect();
    further.sort_by_key(|candidate| std::cmp::Reverse(by_name(candidate)));
    let mut rest: Vec<&Candidate> =
        candidates.iter().copied().filter(|other| newest.is_contained_in(other) || is_ahead(other, now)).collect();
    rest.sort_by_key(|candidate| std::cmp::Reverse((candidate.revision, by_name(candidate))));
    let mut unique: Vec<&Candidate> = Vec::new();
    for candidate in picked.into_iter().chain(further).chain(rest) {
        if unique.len() < SHOWN_MAX && !unique.contains(&candidate) {
            unique.push(candidate);
        }
    }
    unique.sort_by_key(|candidate| std::cmp::Reverse(by_name(candidate)));
    unique.into_iter().cloned().collect()
}

/// Those that come into question beside the one that its maker calls the latest: named later, not the maker's own, and
/// not contained in it.
pub fn rivals(own: &Candidate, scope: &Scope, candidates: Vec<Candidate>) -> Vec<Candidate> {
    let is_rival = |other: &Candidate| {
        let later = other.snapshot.unix_seconds() > own.snapshot.unix_seconds();
        later && !scope.own.contains(&other.snapshot) && !other.is_contained_in(own)
    };
    candidates.into_iter().filter(is_rival).collect()
}

/// Finds the latest backup of a cluster.
///
/// Every manifest in question is read: the revision stands nowhere else, and a backup that a wrong clock named may stand
/// anywhere. When the store wrote an object cannot spare a look at it: on one machine, or one site, that clock is wrong
/// in the same way.
pub async fn find(
    store: &dyn Store,
    cluster: ClusterUuid,
    scope: &Scope,
    now: Timestamp,
    progress: &Progress,
) -> Result<Latest, LatestError> {
    let mut entries = catalog::list(store, cluster).await?;
    entries.retain(|entry| scope.until.is_none_or(|until| entry.snapshot.unix_seconds() <= until.seconds));
    let own = scope.own.iter().find_map(|own| entries.iter().find(|entry| entry.snapshot == *own)).cloned();
    // Without somebody who knows better, each is a candidate.
    let (must, others) = match &own {
        Some(own) => {
            entries.retain(|entry| entry.snapshot.unix_seconds() > own.snapshot.unix_seconds());
            entries.retain(|entry| !scope.own.contains(&entry.snapshot));
            (own.clone(), entries)
        }
        None if entries.is_empty() => return Ok(Latest { manifest: None, skipped: Skipped::default() }),
        None => (entries.remove(0), entries),
    };
    let first = candidate(&must, &catalog::listed_manifest(store, cluster, must.snapshot).await?);
    let (mut reading, mut candidates) = (Reading::new(store, progress), Vec::new());
    reading.each(others, |entry, manifest| candidates.push(candidate(&entry, &manifest))).await?;
    let candidates = if own.is_some() { rivals(&first, scope, candidates) } else { candidates };
    let alone = own.is_some() && candidates.is_empty();
    let candidates: Vec<Candidate> = std::iter::once(first.clone()).chain(candidates).collect();
    let chosen = match alone {
        true => first.snapshot,
        false => choose(&candidates, now).map_err(LatestError::Ambiguous)?.map_or(first.snapshot, |c| c.snapshot),
    };
    let manifest = catalog::listed_manifest(store, cluster, chosen).await?;
    Ok(Latest { manifest: Some(manifest), skipped: reading.end() })
}

fn candidate(entry: &ListedBackup, manifest: &Manifest) -> Candidate {
    Candidate {
        snapshot: entry.snapshot,
        etcd_cluster_id: manifest.origin.etcd_cluster_id.clone(),
        revision: manifest.origin.revision,
        modified: entry.modified,
        replaces: manifest.replaces.clone(),
    }
}

impl std::error::Error for Ambiguous {}

impl fmt::Display for Ambiguous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot determine which backup is the latest: {}. Choose one by its name:", self.why)?;
        for candidate in &self.candidates {
            write!(f, "\n  {candidate}")?;
        }
        match self.others {
            0 => Ok(()),
            1 => write!(f, "\n  (and one more; see `backstayctl list`)"),
            others => write!(f, "\n  (and {others} more; see `backstayctl list`)"),
        }
    }
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ahead { newest, now } => {
                let named = newest.time();
                let ahead = Duration::from_secs(named.seconds.abs_diff(now.seconds));
                let (named, now, ahead) = (named.rfc3339(), now.rfc3339(), duration::format(ahead));
                write!(
                    f,
                    "{newest} is named for {named}, which is {ahead} in the future (it is now {now}): either this \
                     machine's clock is wrong, or the clock that named the backup was"
                )
            }
            Self::Revision { newest, revision, higher } => write!(
                f,
                "{newest} is the newest by its name and has revision {revision}, but another backup of the same etcd \
                 cluster has revision {higher}: either a clock was wrong, or etcd was restored with its old cluster ID"
            ),
        }
    }
}

/// The flag that chooses it, then what a person may choose by.
impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a manifest says is nobody's promise: an id has 16 digits.
        let id: String = self.etcd_cluster_id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        let stored = self.modified.map_or_else(|| "at an unknown time".into(), Timestamp::rfc3339);
        let Self { snapshot, revision, .. } = self;
        let named = self.snapshot.time().rfc3339();
        write!(f, "--snapshot {snapshot}   {named}   revision {revision}   etcd cluster {id}   stored {stored}")
    }
}

#[cfg(test)]
#[path = "latest_tests.rs"]
mod tests;
