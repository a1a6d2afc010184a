//! The backups of a cluster as one series of one etcd: which of them is the newest, and whether the etcd that runs
//! now can be the one that was backed up.
//!
//! Neither names nor times decide, because clocks may be wrong. Within one etcd revisions only grow, so the highest
//! is the newest. An etcd that was restored or created anew starts at another revision; its first backup states which
//! backup it replaces. Only a backup that a coordinator made does not state this; then its name shows with which etcd
//! the series continued.

use backstay_protocol::{SnapshotName, Timestamp, time};
use backstay_trust::Signers;

use crate::catalog::{ListedBackup, Progress, Reading, Vouched};
use crate::manifest::{Manifest, Replaced};
use crate::store::{Store, StoreError};

/// How many backups are read: this many of the newest by name, and this many of those whose names are in the future
/// because of a wrong clock.
const LOOKED_AT: usize = 32;

/// The newest backup of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Newest {
    /// The newest backup by revision.
    pub manifest: Manifest,
    /// The newest backup by name, unless that name is in the future or another backup replaces it.
    pub named: Option<Manifest>,
}

/// Reads the manifests of a cluster's backups, as [`catalog::list`](crate::catalog::list) returned them, and picks
/// the newest. `None` if no manifest can be read. At most 32 backups are read, and 32 more whose names are later than
/// `now`. `signed` is the newest that one of `signers` signed, as [`newest_signed`](crate::catalog::newest_signed)
/// returned it: if there is one, only signed backups count.
///
/// # Errors
/// [`StoreError`] if the store does not answer. A single manifest that cannot be read is skipped with a warning.
pub async fn newest(
    store: &dyn Store,
    entries: Vec<ListedBackup>,
    now: Timestamp,
    signers: &Signers,
    signed: Option<&Vouched>,
) -> Result<Option<Newest>, StoreError> {
    let (future, past): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| is_ahead(entry.snapshot, now));
    let looked_at = future.into_iter().take(LOOKED_AT).chain(past.into_iter().take(LOOKED_AT)).collect();
    let (progress, mut backups) = (Progress::default(), Vec::<Vouched>::new());
    let mut reading = Reading::new(store, &progress).trusting(signers.clone());
    reading.each(looked_at, |_, found| backups.push(found)).await?;
    reading.end();
    if let Some(signed) = signed {
        // It may be older than all that were read, if somebody put many others beside it.
        backups.retain(Vouched::is_signed);
        backups.push(signed.clone());
    }
    Ok(newest_of(backups.into_iter().map(|backup| backup.manifest).collect(), now))
}

fn is_ahead(name: SnapshotName, now: Timestamp) -> bool {
    time::is_ahead(name.time(), now)
}

/// Of the backups that no other replaces, the one with the highest revision; `None` if there are none.
pub fn newest_of(manifests: Vec<Manifest>, now: Timestamp) -> Option<Newest> {
    let is_replaced = |old: &Manifest| {
        let others = manifests.iter().filter(|new| new.attempt != old.attempt);
        others.filter_map(|new| new.replaces.as_ref()).any(|replaced| takes_place(replaced, old))
    };
    let replaced: Vec<bool> = manifests.iter().map(is_replaced).collect();
    // If an old etcd came back exactly as it was, each replaces the other.
    let all = replaced.iter().all(|replaced| *replaced);
    let true_names = manifests.iter().zip(&replaced).filter(|(manifest, _)| !is_ahead(manifest.snapshot, now));
    let named = true_names.max_by_key(|(manifest, _)| manifest.snapshot.unix_seconds());
    let named = named.filter(|(_, replaced)| !**replaced).map(|(manifest, _)| manifest.clone());
    let counted = manifests.into_iter().zip(replaced).filter(|(_, replaced)| all || !replaced);
    let newest = counted.map(|(manifest, _)| manifest).max_by_key(|manifest| {
        let revision = manifest.origin.revision;
        (if all { 0 } else { revision }, manifest.created_at, revision)
    });
    newest.map(|manifest| Newest { manifest, named })
}

fn takes_place(replaced: &Replaced, of: &Manifest) -> bool {
    of.origin.etcd_cluster_id == replaced.etcd_cluster_id && of.origin.revision <= replaced.revision
}

/// Why an etcd cannot be the one that was backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// It has another cluster ID.
    Other,
    /// Its revision is lower than that of the backup: it lost data, or it is another etcd with the same members and
    /// token.
    Behind,
}

/// Whether an etcd with this cluster ID (16 hexadecimal digits) and current revision differs from the etcd of the
/// newest backup. `None` if it can be the same.
pub fn difference(newest: &Newest, etcd_cluster_id: &str, revision: i64) -> Option<Difference> {
    let origin = &newest.manifest.origin;
    if origin.etcd_cluster_id != etcd_cluster_id {
        // A coordinator has continued with this etcd, which was created anew with lower revisions.
        let goes_on =
            |named: &Manifest| named.origin.etcd_cluster_id == etcd_cluster_id && named.origin.revision <= revision;
        return (!newest.named.as_ref().is_some_and(goes_on)).then_some(Difference::Other);
    }
    (revision < origin.revision).then_some(Difference::Behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstay_protocol::AttemptId;
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanos: 0 };

    const GOLDEN: &[u8] = include_bytes!("../tests/golden/manifest.json");

    /// A backup of etcd `id` at a revision, named and made at `seconds`.
    fn backup(id: &str, revision: i64, seconds: i64) -> Manifest {
        let mut manifest = Manifest::from_json(GOLDEN).expect("readable");
        manifest.origin.etcd_cluster_id = id.into();
        manifest.origin.revision = revision;
        manifest.snapshot = backstay_protocol::SnapshotName::from_unix_seconds(seconds).expect("in range");
        manifest.created_at = Timestamp::from_seconds(seconds);
        manifest.attempt = AttemptId(Uuid::from_u128(seconds as u128));
        manifest
    }

    fn after(old: &Manifest, id: &str, revision: i64, seconds: i64) -> Manifest {
        Manifest { replaces: Some(old.into()), ..backup(id, revision, seconds) }
    }

    fn newest(manifests: &[&Manifest]) -> (String, i64) {
        // Their order decides nothing.
        let all = |reversed: bool| {
            let mut all: Vec<Manifest> = manifests.iter().map(|m| (*m).clone()).collect();
            if reversed {
                all.reverse();
            }
            newest_of(all, NOW)
                .map(|n| n.manifest)
                .map(|m| (m.origin.etcd_cluster_id, m.origin.revision))
                .expect("there are some")
        };
        assert_eq!(all(false), all(true));
        all(false)
    }

    #[test]
    fn the_highest_revision_is_the_newest_whatever_the_clocks_said() {
        let (low, high) = (backup("x", 5, 9_000_000), backup("x", 7, 1_000));
        assert_eq!(newest(&[&low, &high]), ("x".into(), 7));
        assert_eq!(newest_of(Vec::new(), NOW), None);
    }

    #[test]
    fn what_takes_the_place_of_another_counts_from_then_on() {
        let old = backup("x", 100, 9_000_000);
        for id in ["x", "y"] {
            let first = after(&old, id, 5, 2_000);
            assert_eq!(newest(&[&backup("x", 90, 1_000), &old, &first]), (id.into(), 5));
            // With the same ID, revisions that the old etcd had reached count as replaced. So the first backup stays
            // the newest until later ones go beyond them.
            let (second, later) = (backup(id, 6, 3_000), backup(id, 101, 4_000));
            let expected = if id == "x" { 5 } else { 6 };
            assert_eq!(newest(&[&old, &first, &second]), (id.into(), expected));
            assert_eq!(newest(&[&old, &first, &second, &later]), (id.into(), 101));
        }
    }

    #[test]
    fn an_etcd_that_comes_back_counts_again() {
        let old = backup("x", 100, 1_000);
        let other = after(&old, "y", 5, 2_000);
        let back = after(&other, "x", 120, 3_000);
        assert_eq!(newest(&[&old, &other, &back]), ("x".into(), 120));
        let same = after(&other, "x", 100, 3_000);
        assert_eq!(newest(&[&old, &other, &same]), ("x".into(), 100));
    }

    #[test]
    fn neither_the_id_nor_the_revision_alone_is_an_identity() {
        let newest = newest_of(vec![backup("x", 100, 1_000)], NOW).expect("there is one");
        assert_eq!(difference(&newest, "x", 100), None);
        assert_eq!(difference(&newest, "x", 99), Some(Difference::Behind));
        assert_eq!(difference(&newest, "y", 1_000), Some(Difference::Other));
    }

    #[test]
    fn an_etcd_with_which_a_coordinator_went_on_is_no_other() {
        let differs = |manifests: &[&Manifest], id: &str, revision| {
            let manifests = manifests.iter().map(|m| (*m).clone()).collect();
            difference(&newest_of(manifests, NOW).expect("there are some"), id, revision)
        };
        let (old, new) = (backup("x", 100, 1_000), backup("y", 6, 2_000));
        assert_eq!(differs(&[&old, &new], "y", 6), None);
        assert_eq!(differs(&[&old, &new], "y", 5), Some(Difference::Other), "it has lost what that holds");
        assert_eq!(differs(&[&old, &new], "z", 7), Some(Difference::Other));
        assert_eq!(differs(&[&old, &backup("y", 6, 500)], "y", 7), Some(Difference::Other), "an older one");
        assert_eq!(differs(&[&old, &backup("y", 6, NOW.seconds + 3_600)], "y", 7), Some(Difference::Other), "ahead");
        // What was stated as replaced stays so, whatever its name.
        let first = after(&old, "y", 6, 500);
        assert_eq!(differs(&[&old, &first], "x", 100), Some(Difference::Other));
    }
}
