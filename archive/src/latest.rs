//! Which backup of a cluster is the latest. A backup's name is a time from some machine's clock. If a name or a
//! revision contradicts the others, nothing is guessed; the error lists the candidates instead.
//!
//! Within one etcd cluster ID revisions only grow, because a restore that changes them also creates a new ID. The
//! exception is an etcd that was created anew under the same ID; its first backup states what it replaces. The time
//! at which the store wrote an object is shown but decides nothing, because copying a bucket changes it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use backstay_protocol::time;
use backstay_protocol::{ClusterUuid, SnapshotName, Timestamp, duration};

use crate::catalog::{self, CatalogError, ListedBackup, Progress, Reading, Skipped, Vouched};
use crate::manifest::Replaced;
use crate::store::{Store, StoreError};
use crate::trust::{Doubt, Trust, Voucher};

/// How many candidates an error shows.
const SHOWN_MAX: usize = 8;

/// The number of a signed backup. Numbers of different keys say nothing about each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// The fingerprint of the key.
    pub key: String,
    /// The number in the manifest, from 1.
    pub number: u64,
}

/// What matters about a backup for deciding which one is the latest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The backup's name.
    pub snapshot: SnapshotName,
    /// etcd's cluster ID in the manifest, 16 hexadecimal digits.
    pub etcd_cluster_id: String,
    /// The revision in the manifest.
    pub revision: i64,
    /// When the object was written, by the store's clock; `None` if the store does not say.
    pub modified: Option<Timestamp>,
    /// The backup that it replaces, if its manifest states one.
    pub replaces: Option<Replaced>,
    /// Its number among the backups that the same key signed; `None` if it has none, or no trusted signer signed it.
    pub number: Option<Numbered>,
}

impl Candidate {
    /// Whether this backup states that `old` no longer counts: it replaces `old`, or a later backup of the same etcd.
    fn takes_place_of(&self, old: &Self) -> bool {
        let Some(replaced) = &self.replaces else { return false };
        let at = |name: SnapshotName| name.unix_seconds();
        let before = at(old.snapshot) < at(self.snapshot);
        let is_it = old.revision == replaced.revision && (old.snapshot == replaced.snapshot || before);
        let is_older = before && at(old.snapshot) < at(replaced.snapshot);
        old.snapshot != self.snapshot && old.etcd_cluster_id == replaced.etcd_cluster_id && (is_it || is_older)
    }

    /// Whether `other` contains everything that this backup contains.
    fn is_contained_in(&self, other: &Self) -> bool {
        self.etcd_cluster_id == other.etcd_cluster_id && self.revision <= other.revision
    }
}

/// What contradicts the newest name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contradiction {
    /// The name is later than the clock of this machine says.
    Ahead {
        /// The backup with the newest name.
        newest: SnapshotName,
        /// The time by this machine's clock.
        now: Timestamp,
    },
    /// Another backup of the same etcd cluster has a higher revision.
    Revision {
        /// The backup with the newest name.
        newest: SnapshotName,
        /// Its revision.
        revision: i64,
        /// The highest revision of the others.
        higher: i64,
    },
}

/// It is uncertain which backup is the latest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ambiguous {
    /// Why it is uncertain.
    pub why: Contradiction,
    /// The backups that may be meant, newest name first; at most 8.
    pub candidates: Vec<Candidate>,
    /// How many further candidates there are.
    pub others: usize,
}

/// Why the latest backup was not found.
#[derive(Debug, thiserror::Error)]
pub enum LatestError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The newest backup cannot be used. An older backup would not be the latest, so it is not returned.
    #[error(transparent)]
    Refused(Box<Refused>),
    /// It is uncertain which backup is the latest.
    #[error(transparent)]
    Ambiguous(Box<Ambiguous>),
}

/// The newest backup by name, or the one that was asked for, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The backup.
    pub snapshot: SnapshotName,
    /// The reason.
    pub why: Doubt,
    /// The newest backup that can be used, if there is one.
    pub good: Option<Candidate>,
}

/// Which backups are considered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only backups that were named for this time or earlier; `None` for all.
    pub until: Option<Timestamp>,
    /// Backups whose order is known, latest first, because one program made them. The first of these that still
    /// exists counts, whatever its name.
    pub own: Vec<SnapshotName>,
    /// Which signers must have signed them.
    pub trust: Trust,
}

/// The latest backup, and what was skipped because its manifest could not be read or no trusted signer signed it.
#[derive(Debug)]
pub struct Latest {
    /// The latest backup; `None` if there is no backup.
    pub found: Option<Vouched>,
    /// Backups that could not be used.
    pub skipped: Skipped,
}

/// Picks the latest backup of those that no other replaces; `None` if there is none. Among the backups
/// that one key signed it is the one with the highest number, unless one without a number was made later; between keys, and
/// otherwise, the latest by name. `now` is the time
/// by this machine's clock.
///
/// # Errors
/// [`Ambiguous`] if its name is in the future, or another backup of the same etcd cluster has a higher revision.
pub fn choose(candidates: &[Candidate], now: Timestamp) -> Result<Option<&Candidate>, Box<Ambiguous>> {
    let mut best: BTreeMap<&str, &Candidate> = BTreeMap::new();
    let place = |one: &Candidate| (one.number.as_ref().map(|numbered| numbered.number), one.snapshot.unix_seconds());
    for one in candidates {
        if let Some(Numbered { key, .. }) = &one.number {
            let best = best.entry(key).or_insert(one);
            if place(one) > place(best) {
                *best = one;
            }
        }
    }
    let numbered: Vec<Candidate> = best.into_values().cloned().collect();
    let named =
        |chosen: Option<&Candidate>| candidates.iter().find(|one| Some(one.snapshot) == chosen.map(|one| one.snapshot));
    match (choose_by_name(candidates, now), &numbered[..]) {
        (Ok(Some(named)), [_, ..]) if named.number.is_none() => Ok(Some(named)),
        (by_name, []) => by_name,
        (_, [only]) => Ok(named(Some(only))),
        // Of several keys, each one's latest.
        (_, several) => Ok(named(choose_by_name(several, now)?)),
    }
}

fn choose_by_name(candidates: &[Candidate], now: Timestamp) -> Result<Option<&Candidate>, Box<Ambiguous>> {
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

/// The candidates that no other replaces; all of them if each is replaced by another.
fn counted(candidates: &[Candidate]) -> Vec<&Candidate> {
    let new: Vec<&Candidate> = candidates.iter().filter(|candidate| candidate.replaces.is_some()).collect();
    let counts = |old: &&Candidate| !new.iter().any(|new| new.takes_place_of(old));
    let counted: Vec<&Candidate> = candidates.iter().filter(counts).collect();
    if counted.is_empty() { candidates.iter().collect() } else { counted }
}

fn is_ahead(candidate: &Candidate, now: Timestamp) -> bool {
    time::is_ahead(candidate.snapshot.time(), now)
}

/// Picks the candidates to show: the newest by name, the newest whose name is not in the future, the one with the
/// highest revision of each etcd cluster, then everything with a higher revision than the newest, until the limit is
/// reached. Sorted by name, newest first.
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

/// The backups that compete with `own`, the one that its maker says is the latest: they are named later, are not
/// among [`Scope::own`], and contain something that `own` does not.
pub fn rivals(own: &Candidate, scope: &Scope, candidates: Vec<Candidate>) -> Vec<Candidate> {
    let is_rival = |other: &Candidate| {
        let later = other.snapshot.unix_seconds() > own.snapshot.unix_seconds();
        later && !scope.own.contains(&other.snapshot) && !other.is_contained_in(own)
    };
    candidates.into_iter().filter(is_rival).collect()
}

/// Finds the latest backup of a cluster. `now` is the time by this machine's clock; `progress` is updated meanwhile.
///
/// The manifest of every backup in question is read, because only manifests contain revisions, and a backup that was
/// named by a wrong clock may have any name. The time at which the store wrote an object does not help: on one
/// machine, or one site, that clock is wrong in the same way.
///
/// # Errors
/// [`LatestError`] if the store fails, the newest backup cannot be used, or it is uncertain which backup is the latest.
/// Other backups that cannot be used are skipped.
pub async fn find(
    store: &dyn Store,
    cluster: ClusterUuid,
    scope: &Scope,
    now: Timestamp,
    progress: &Progress,
) -> Result<Latest, LatestError> {
    let mut entries = catalog::list(store, cluster).await?;
    entries.retain(|entry| scope.until.is_none_or(|until| entry.snapshot.unix_seconds() <= until.seconds));
    let is_own = |own: &&SnapshotName| entries.iter().any(|entry| entry.snapshot == **own);
    let own = scope.own.iter().find(is_own).copied();
    // If no program knows the order, each backup is a candidate.
    if let Some(own) = own {
        entries.retain(|entry| entry.snapshot == own || entry.snapshot.unix_seconds() > own.unix_seconds());
        entries.retain(|entry| entry.snapshot == own || !scope.own.contains(&entry.snapshot));
    }
    let mut reading = Reading::new(store, progress).trusting(scope.trust.signers.clone());
    let mut read = Read::default();
    reading.each_result(entries, |entry, found, skipped| read.take(&scope.trust, &entry, found, skipped)).await?;
    let Read { candidates, refused } = read;
    let skipped = reading.end();
    let chosen = decide(own, scope, &candidates, now).map_err(LatestError::Ambiguous)?;
    // What its maker does not know and cannot be read may be anything; what nobody vouches for is not passed over.
    if let Some((snapshot, why)) = refused
        && chosen.is_none_or(|good| snapshot.unix_seconds() > good.snapshot.unix_seconds())
        && (own.is_none() || own == Some(snapshot) || scope.trust.asks())
    {
        return Err(LatestError::Refused(Box::new(Refused { snapshot, why, good: chosen.cloned() })));
    }
    let Some(chosen) = chosen else { return Ok(Latest { found: None, skipped }) };
    Ok(Latest { found: Some(usable(store, cluster, chosen.snapshot, &scope.trust).await?), skipped })
}

/// What was read of a cluster's backups.
#[derive(Default)]
struct Read {
    candidates: Vec<Candidate>,
    /// The newest that cannot be used, and why.
    refused: Option<(SnapshotName, Doubt)>,
}

impl Read {
    /// Backups come from the newest on.
    fn take(
        &mut self,
        trust: &Trust,
        entry: &ListedBackup,
        found: Result<Vouched, CatalogError>,
        skipped: &mut Skipped,
    ) {
        let doubt = match found {
            Ok(found) => match trust.doubt(found.voucher.as_ref()) {
                None => return self.candidates.push(candidate(entry, &found)),
                Some(doubt) => {
                    let (cluster, snapshot) = (entry.cluster, entry.snapshot);
                    skipped.note(CatalogError::Unvouched { cluster, snapshot, why: doubt.clone() });
                    doubt
                }
            },
            Err(error) => {
                let doubt = Doubt::Unreadable(error.to_string());
                skipped.note(error);
                doubt
            }
        };
        self.refused.get_or_insert((entry.snapshot, doubt));
    }
}

/// Which of them is the latest: its maker's word counts unless another contradicts it.
fn decide<'a>(
    own: Option<SnapshotName>,
    scope: &Scope,
    candidates: &'a [Candidate],
    now: Timestamp,
) -> Result<Option<&'a Candidate>, Box<Ambiguous>> {
    let Some(own) = candidates.iter().find(|candidate| Some(candidate.snapshot) == own) else {
        return choose(candidates, now);
    };
    let mut rivals = rivals(own, scope, candidates.to_vec());
    if rivals.is_empty() {
        return Ok(Some(own));
    }
    rivals.push(own.clone());
    let chosen = choose(&rivals, now)?.map(|chosen| chosen.snapshot);
    Ok(candidates.iter().find(|candidate| Some(candidate.snapshot) == chosen))
}

/// Reads a backup that was chosen by its name or as the latest.
///
/// # Errors
/// [`LatestError::Store`] if the store fails; [`LatestError::Refused`] if the manifest cannot be read, is gone, or no
/// trusted signer signed it.
pub async fn usable(
    store: &dyn Store,
    cluster: ClusterUuid,
    snapshot: SnapshotName,
    trust: &Trust,
) -> Result<Vouched, LatestError> {
    let refused = |why| LatestError::Refused(Box::new(Refused { snapshot, why, good: None }));
    let found = match catalog::listed_backup(store, cluster, snapshot, &trust.signers).await {
        Err(CatalogError::Store(error)) => return Err(error.into()),
        Err(error) => return Err(refused(Doubt::Unreadable(error.to_string()))),
        Ok(found) => found,
    };
    match trust.doubt(found.voucher.as_ref()) {
        None => Ok(found),
        Some(why) => Err(refused(why)),
    }
}

fn candidate(entry: &ListedBackup, found: &Vouched) -> Candidate {
    let manifest = &found.manifest;
    let number = match (&found.voucher, &manifest.sequence) {
        (Some(Voucher::Signed(by)), Some(place)) => Some(Numbered { key: by.fingerprint(), number: place.number }),
        _ => None,
    };
    Candidate {
        snapshot: entry.snapshot,
        etcd_cluster_id: manifest.origin.etcd_cluster_id.clone(),
        revision: manifest.origin.revision,
        modified: entry.modified,
        replaces: manifest.replaces.clone(),
        number,
    }
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { snapshot, why, good } = self;
        write!(f, "the backup {snapshot} cannot be used: {why}")?;
        match good {
            Some(good) => write!(f, ". The newest one that can be used:\n  {good}"),
            None => Ok(()),
        }
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

/// The flag that selects this backup, then what a person may choose by.
impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A manifest may contain anything; an ID has 16 digits.
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
