//! Several series of one cluster become one: nothing is lost, duplicated or changed.

mod support;

use std::sync::Arc;

use backstay_archive::keys;
use backstay_archive::merge::{self, MergeError};
use backstay_archive::store::{ErrorKind, Key, PART_BYTES};
use backstay_archive::writer::{Limits, Plan, Progress, write};
use backstay_archive::{Manifest, catalog};
use backstay_protocol::{ClusterName, ClusterUuid, SnapshotName};
use support::fixture::{Database, FixedClock, name, noise, plan};
use support::memory::{Fate, MemoryStore, Op};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn uuid(n: u128) -> ClusterUuid {
    ClusterUuid(Uuid::from_u128(n))
}

fn prod() -> ClusterName {
    "prod".parse().expect("a name")
}

async fn backup(store: &MemoryStore, cluster: u128, of: &str, seconds: i64, bytes: usize) -> Manifest {
    let slot = cluster << 64 | seconds as u128;
    let plan = Plan {
        cluster: of.parse().expect("a name"),
        cluster_uuid: uuid(cluster),
        snapshot: name(seconds),
        ..plan(slot, slot, vec![])
    };
    let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
    let mut source = Database::new(&noise(seconds as u64, bytes), 4096);
    let written = write(Arc::new(store.clone()), &plan, &mut source, &progress, &limits, &FixedClock, &cancel).await;
    written.expect("all is well")
}

async fn planned(store: &MemoryStore, sources: &[ClusterUuid]) -> Result<merge::Plan, MergeError> {
    merge::plan(store, &prod(), uuid(1), sources, false, &catalog::Progress::default()).await
}

async fn merged(store: &MemoryStore, into: u128, sources: &[u128]) -> Result<Vec<SnapshotName>, MergeError> {
    let sources: Vec<_> = sources.iter().map(|n| uuid(*n)).collect();
    let plan = merge::plan(store, &prod(), uuid(into), &sources, false, &catalog::Progress::default()).await?;
    let mut names = Vec::new();
    for copy in &plan.copies {
        names.push(merge::copy(store, copy, uuid(into)).await?);
    }
    Ok(names)
}

/// The manifests of a series. Each is verified against its object.
async fn proven(store: &MemoryStore, cluster: u128) -> Vec<Manifest> {
    let mut found = Vec::new();
    for entry in catalog::list(store, uuid(cluster)).await.expect("no faults") {
        match catalog::settle(store, uuid(cluster), entry.snapshot).await.expect("no faults") {
            catalog::Settled::Done(manifest) => found.push(*manifest),
            other => panic!("{other:?}"),
        }
    }
    found
}

#[tokio::test]
async fn every_backup_is_there_once_under_one_uuid() {
    let store = MemoryStore::new();
    backup(&store, 1, "prod", 1_000, 5).await;
    let same_second = backup(&store, 2, "prod", 1_000, 7).await;
    // Large enough for more than one part.
    let large = backup(&store, 2, "prod", 2_000, PART_BYTES + 100).await;
    backup(&store, 3, "prod", 1_001, 9).await;
    backup(&store, 4, "other", 1_002, 9).await;
    assert_eq!(merge::series_of(&store, &prod()).await.expect("no faults"), [uuid(1), uuid(2), uuid(3)]);
    let before: Vec<_> = store.keys().into_iter().filter(|key| !key.starts_with(&uuid(1).to_string())).collect();

    let names = merged(&store, 1, &[2, 3]).await.expect("all is well");
    assert_eq!(names, [name(1_001), name(2_000), name(1_002)], "a name that is taken moves on");
    let found = proven(&store, 1).await;
    assert_eq!(found.len(), 4);
    let copy = found.iter().find(|m| m.attempt == large.attempt).expect("copied");
    assert_eq!((copy.cluster_uuid, copy.sealed_sha256.as_str()), (uuid(1), large.sealed_sha256.as_str()));
    assert_eq!(copy.extra["copied_from"], format!("{}/{}", uuid(2), large.snapshot));
    assert!(found.iter().any(|m| m.attempt == same_second.attempt && m.snapshot == name(1_001)));
    let after: Vec<_> = store.keys().into_iter().filter(|key| !key.starts_with(&uuid(1).to_string())).collect();
    assert_eq!(before, after, "the sources stay as they were");

    assert_eq!(merged(&store, 1, &[2, 3]).await.expect("all is well"), [], "once more is nothing to do");
    let done = planned(&store, &[uuid(2), uuid(3)]).await.expect("no faults").done;
    assert_eq!((done, store.unfinished_count()), (3, 0));
}

#[tokio::test]
async fn another_cluster_s_backups_are_refused() {
    let store = MemoryStore::new();
    backup(&store, 1, "prod", 1_000, 5).await;
    backup(&store, 2, "other", 2_000, 5).await;
    for (into, source) in [(1, 2), (2, 1), (1, 9)] {
        let error = merged(&store, into, &[source]).await.expect_err("another's");
        assert!(matches!(error, MergeError::Foreign { .. }), "{error}");
    }
    assert_eq!(store.keys().len(), 4);
}

#[tokio::test]
async fn what_is_not_what_its_manifest_says_is_not_copied() {
    let store = MemoryStore::new();
    backup(&store, 1, "prod", 1_000, 5).await;
    let damaged = backup(&store, 2, "prod", 2_000, 50).await;
    let key = Key::snapshot(uuid(2), damaged.snapshot);
    let good = store.body(&key).to_vec();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for wrong in [flipped, good[1..].to_vec(), Vec::new()] {
        store.plant(key.as_str(), wrong);
        let error = merged(&store, 1, &[2]).await.expect_err("damaged");
        assert!(matches!(&error, MergeError::Damaged { .. }) && error.to_string().contains(key.as_str()), "{error}");
        assert_eq!((proven(&store, 1).await.len(), store.unfinished_count()), (1, 0));
        assert!(!store.keys().iter().any(|key| key.contains("intents")), "{:?}", store.keys());
    }
}

#[tokio::test]
async fn interrupted_anywhere_it_can_be_begun_again() {
    for at in 0..60 {
        let store = MemoryStore::new();
        backup(&store, 1, "prod", 1_000, 5).await;
        backup(&store, 2, "prod", 1_000, 50).await;
        backup(&store, 2, "prod", 2_000, 50).await;
        let mut calls = 0;
        store.on_call(move |_| {
            calls += 1;
            if calls == at { Fate::FailAfter(ErrorKind::Unavailable) } else { Fate::Pass }
        });
        let first = merged(&store, 1, &[2]).await;
        store.no_faults();
        merged(&store, 1, &[2]).await.expect("all is well");
        let found = proven(&store, 1).await;
        assert_eq!(found.len(), 3, "call {at}: {first:?}");
        let attempts: std::collections::HashSet<_> = found.iter().map(|manifest| manifest.attempt).collect();
        assert_eq!((attempts.len(), objects(&store)), (3, 3), "call {at}: {found:?}");
    }
}

#[tokio::test]
async fn the_keys_go_along_and_none_is_lost_unsaid() {
    let store = MemoryStore::new();
    backup(&store, 1, "prod", 1_000, 5).await;
    backup(&store, 2, "prod", 2_000, 5).await;
    store.plant(Key::cluster_key(uuid(2)).as_str(), "sealed key of 2");
    for _ in 0..2 {
        let problems = merge::copy_keys(&store, uuid(2), uuid(1)).await.expect("no faults");
        assert!(problems.is_empty(), "{problems:?}");
    }
    let key_of_2 = (uuid(2).to_string(), "sealed key of 2".into());
    assert_eq!(keys::copied_keys(&store, uuid(1)).await.expect("no faults"), std::slice::from_ref(&key_of_2));
    // When it is merged again, its keys are copied, too.
    backup(&store, 3, "prod", 3_000, 5).await;
    assert!(merge::copy_keys(&store, uuid(1), uuid(3)).await.expect("no faults").is_empty());
    assert_eq!(keys::copied_keys(&store, uuid(3)).await.expect("no faults").len(), 1);

    store.plant(Key::cluster_key(uuid(2)).as_str(), "another key of 2");
    let problems = merge::copy_keys(&store, uuid(2), uuid(1)).await.expect("no faults");
    assert!(matches!(problems[..], [MergeError::OtherKey { .. }]), "{problems:?}");
    assert_eq!(
        keys::copied_keys(&store, uuid(1)).await.expect("no faults"),
        std::slice::from_ref(&key_of_2),
        "nothing is overwritten"
    );
    // One that cannot be read does not hide the others.
    store.plant(&format!("{}/keys/damaged.age", uuid(1)), vec![0; 100_000]);
    assert_eq!(keys::copied_keys(&store, uuid(1)).await.expect("no faults"), [key_of_2]);
    let problems = merge::copy_keys(&store, uuid(1), uuid(3)).await.expect("no faults");
    assert!(matches!(problems[..], [MergeError::UnreadKey { .. }]), "{problems:?}");
}

#[tokio::test]
async fn a_backup_of_two_sources_is_copied_once() {
    let store = MemoryStore::new();
    for cluster in 1..=3 {
        backup(&store, cluster, "prod", 1_000 * cluster as i64, 5).await;
    }
    merged(&store, 2, &[3]).await.expect("all is well");
    assert_eq!(merged(&store, 1, &[2, 3]).await.expect("all is well").len(), 2);
    assert_eq!(proven(&store, 1).await.len(), 3);
}

#[tokio::test]
async fn a_manifest_of_another_place_is_not_copied() {
    let store = MemoryStore::new();
    backup(&store, 1, "prod", 1_000, 5).await;
    let moved = backup(&store, 2, "prod", 2_000, 5).await;
    backup(&store, 2, "prod", 3_000, 5).await;
    store
        .plant(Key::snapshot(uuid(2), name(1_500)).as_str(), store.body(&Key::snapshot(uuid(2), name(2_000))).to_vec());
    store.plant(Key::manifest(uuid(2), name(1_500)).as_str(), moved.to_json());
    let plan = planned(&store, &[uuid(2)]).await.expect("no faults");
    assert_eq!((plan.copies.len(), plan.problems.count()), (2, 1), "{:?}", plan.problems);
}

/// The objects of series 1, whether or not they are backups.
fn objects(store: &MemoryStore) -> usize {
    let folder = format!("{}/", uuid(1));
    store.keys().iter().filter(|key| key.starts_with(&folder) && key.ends_with(".snapshot")).count()
}

#[tokio::test]
async fn a_completion_whose_answer_is_lost_is_looked_up() {
    let lost = [ErrorKind::Unavailable, ErrorKind::Invalid, ErrorKind::NotFound, ErrorKind::AlreadyExists];
    for kind in lost {
        let store = MemoryStore::new();
        backup(&store, 1, "prod", 1_000, 5).await;
        backup(&store, 2, "prod", 2_000, PART_BYTES + 50).await;
        store.on_call(move |call| if call.op == Op::Complete { Fate::FailAfter(kind) } else { Fate::Pass });
        assert_eq!(merged(&store, 1, &[2]).await.expect("it is there"), [name(2_000)], "{kind:?}");
        assert_eq!((proven(&store, 1).await.len(), objects(&store), store.unfinished_count()), (2, 2, 0), "{kind:?}");
        assert!(!store.keys().iter().any(|key| key.contains("intents")), "{:?}", store.keys());
    }
}

#[tokio::test]
async fn where_it_cannot_be_looked_up_the_next_try_makes_a_backup_of_it() {
    for silent in [Op::Abort, Op::Head, Op::Read] {
        for lost in [true, false] {
            let store = MemoryStore::new();
            backup(&store, 1, "prod", 1_000, 5).await;
            backup(&store, 2, "prod", 2_000, 50).await;
            let mut completed = false;
            store.on_call(move |call| {
                completed |= call.op == Op::Complete;
                match call.op {
                    Op::Complete if lost => Fate::FailAfter(ErrorKind::Unavailable),
                    Op::Complete => Fate::Fail(ErrorKind::Unavailable),
                    op if completed && op == silent => Fate::Fail(ErrorKind::Unavailable),
                    _ => Fate::Pass,
                }
            });
            merged(&store, 1, &[2]).await.expect_err("nobody knows");
            store.no_faults();
            merged(&store, 1, &[2]).await.expect("all is well");
            let what = format!("{silent:?}, lost: {lost}");
            assert_eq!((proven(&store, 1).await.len(), objects(&store)), (2, 2), "{what}: nothing twice, no orphan");
            assert!(!store.keys().iter().any(|key| key.contains("intents")), "{what}: {:?}", store.keys());
        }
    }
}

#[tokio::test]
async fn a_name_that_somebody_else_takes_meanwhile_is_theirs() {
    let store = MemoryStore::new();
    backup(&store, 1, "prod", 1_000, 5).await;
    let copied = backup(&store, 2, "prod", 2_000, 50).await;
    let (other, key) = (store.clone(), Key::snapshot(uuid(1), name(2_000)));
    let theirs = vec![7; copied.sealed_bytes as usize];
    let (planted, at) = (theirs.clone(), key.clone());
    store.on_call(move |call| {
        if call.op == Op::Complete && call.key == at.as_str() {
            // As long as ours, with an unknown owner.
            other.plant(at.as_str(), planted.clone());
        }
        Fate::Pass
    });
    assert_eq!(merged(&store, 1, &[2]).await.expect("all is well"), [name(2_001)]);
    assert_eq!(store.body(&key), theirs, "it is left alone");
    assert_eq!((proven(&store, 1).await.len(), store.unfinished_count()), (2, 0));
    assert!(!store.keys().iter().any(|key| key.contains("intents")), "{:?}", store.keys());
}

#[tokio::test]
async fn a_copy_that_did_not_arrive_as_it_was_sent_is_removed_also_by_the_next_try() {
    for silent in [false, true] {
        let store = MemoryStore::new();
        backup(&store, 1, "prod", 1_000, 5).await;
        backup(&store, 2, "prod", 2_000, 50).await;
        let (damaged, key, mut reads) = (store.clone(), Key::snapshot(uuid(1), name(2_000)), 0);
        store.on_call(move |call| {
            if call.op != Op::Read || call.key != key.as_str() {
                return Fate::Pass;
            }
            reads += 1;
            if reads == 1 {
                damaged.damage(&key, |body| body[7] ^= 1);
            }
            // The first check fails, so the next try has to find it.
            if silent && reads == 1 { Fate::Fail(ErrorKind::Unavailable) } else { Fate::Pass }
        });
        if silent {
            let error = merged(&store, 1, &[2]).await.expect_err("nobody knows");
            assert!(matches!(error, MergeError::Store(_)), "{error}");
        }
        let error = merged(&store, 1, &[2]).await.expect_err("it is not what was sent");
        assert!(matches!(error, MergeError::Changed { .. }), "{error}");
        assert_eq!((proven(&store, 1).await.len(), objects(&store)), (1, 1));
        assert!(!store.keys().iter().any(|key| key.contains("intents")), "{:?}", store.keys());
        assert_eq!(merged(&store, 1, &[2]).await.expect("all is well now"), [name(2_000)]);
    }
}

#[tokio::test]
async fn a_signed_backup_is_no_copy_unless_that_is_wanted() {
    let store = MemoryStore::new();
    backup(&store, 1, "prod", 1_000, 5_000).await;
    let signed = backup(&store, 2, "prod", 2_000, 5_000).await;
    backup(&store, 2, "prod", 3_000, 5_000).await;
    store.plant(Key::signature(uuid(2), signed.snapshot).as_str(), "a signature");
    let plan = planned(&store, &[uuid(2)]).await.expect("a plan");
    assert_eq!((plan.copies.len(), plan.problems.count()), (1, 1));
    let problem = plan.problems.lines().next().expect("one");
    assert!(problem.contains("is signed") && problem.contains("--allow-unsigned"), "{problem}");
    let plan = merge::plan(&store, &prod(), uuid(1), &[uuid(2)], true, &catalog::Progress::default()).await;
    let plan = plan.expect("a plan");
    assert_eq!((plan.copies.len(), plan.problems.count()), (2, 0));
    for copy in &plan.copies {
        merge::copy(&store, copy, uuid(1)).await.expect("all is well");
    }
    // What was copied once is no problem any more.
    let plan = planned(&store, &[uuid(2)]).await.expect("a plan");
    assert_eq!((plan.copies.len(), plan.done, plan.problems.count()), (0, 2, 0));
}
