//! What a store contains: listing, finding, settling, sweeping.

mod support;

use std::sync::Arc;

use backstay_archive::catalog::{self, CatalogError, Settled};
use backstay_archive::manifest::Manifest;
use backstay_archive::store::{ErrorKind, Key, Store};
use backstay_archive::writer::{Limits, Plan, Progress, write};
use backstay_protocol::{AttemptId, ClusterName, ClusterUuid, Timestamp};
use support::fixture::{Database, FixedClock, NOW, cluster, name, plan};
use support::memory::{Fate, MemoryStore, Op};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

async fn backup(store: &MemoryStore, plan: &Plan) -> Manifest {
    let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
    let mut source = Database::new(b"a database", 3);
    let written = write(Arc::new(store.clone()), plan, &mut source, &progress, &limits, &FixedClock, &cancel).await;
    written.expect("all is well")
}

fn plan_of(cluster: u128, name_of: &str, seconds: i64) -> Plan {
    Plan {
        cluster: name_of.parse().expect("a name"),
        cluster_uuid: ClusterUuid(Uuid::from_u128(cluster)),
        snapshot: name(seconds),
        ..plan(1, 1, vec![])
    }
}

#[tokio::test]
async fn the_list_is_newest_first_over_all_pages_and_needs_both_halves() {
    let store = MemoryStore::new();
    for n in 0..2_500_i64 {
        // Out of order, so that the names decide.
        let seconds = 1_700_000_000 + (n * 1_009) % 2_500;
        store.plant(Key::snapshot(cluster(), name(seconds)).as_str(), vec![0; 3]);
        store.plant(Key::manifest(cluster(), name(seconds)).as_str(), "{}");
    }
    store.plant(Key::snapshot(cluster(), name(1_800_000_000)).as_str(), "no manifest");
    store.plant(Key::manifest(cluster(), name(1_800_000_001)).as_str(), "no object");
    let attempt = AttemptId(Uuid::from_u128(9));
    store.plant(Key::intent(cluster(), name(1_800_000_002), attempt).as_str(), "an intent");
    for stray in ["key.age", "notes.txt", "ffffffff9a99fbf6.snapshot", "FFFFFFFF9A99FBF6.snapshot.bak", "x/y"] {
        store.plant(&format!("{}/{stray}", cluster()), "stray");
    }
    let entries = catalog::list(&store, cluster()).await.expect("no faults");
    let seconds: Vec<i64> = entries.iter().map(|entry| entry.snapshot.unix_seconds()).collect();
    let expected: Vec<i64> = (1_700_000_000..1_700_002_500).rev().collect();
    assert_eq!(seconds, expected);
    assert!(entries.iter().all(|entry| entry.size == 3 && entry.cluster == cluster()));
    let other = catalog::list(&store, ClusterUuid(Uuid::from_u128(5))).await.expect("no faults");
    assert!(other.is_empty());
}

#[tokio::test]
async fn a_listing_that_fails_is_an_error_and_no_short_list() {
    let store = MemoryStore::new();
    backup(&store, &plan(1, 1, vec![])).await;
    store.on_call(|call| if call.op == Op::List { Fate::Fail(ErrorKind::Unavailable) } else { Fate::Pass });
    assert!(catalog::list(&store, cluster()).await.is_err());
    assert!(catalog::find_by_name(&store, &"talos-default".parse().expect("a name"), NOW).await.is_err());
}

#[tokio::test]
async fn clusters_are_found_by_name_from_their_newest_manifest() {
    let store = MemoryStore::new();
    backup(&store, &plan_of(1, "alpha", 1_000)).await;
    backup(&store, &plan_of(2, "alpha", 5_000)).await;
    backup(&store, &plan_of(3, "beta", 9_000)).await;
    // First alpha, now gamma.
    backup(&store, &plan_of(4, "alpha", 6_000)).await;
    backup(&store, &plan_of(4, "gamma", 7_000)).await;
    // Its newest manifest cannot be read; the one before it can.
    backup(&store, &plan_of(5, "delta", 3_000)).await;
    let broken = plan_of(5, "delta", 4_000);
    store.plant(Key::snapshot(broken.cluster_uuid, broken.snapshot).as_str(), "object");
    store.plant(Key::manifest(broken.cluster_uuid, broken.snapshot).as_str(), "{broken");
    store.plant("not-a-uuid/file", "stray");
    store.plant("README", "stray");

    let found = async |name: &str| {
        let name: ClusterName = name.parse().expect("a name");
        catalog::find_by_name(&store, &name, NOW).await.expect("no faults").map(|series| series.cluster.0.as_u128())
    };
    assert_eq!(found("alpha").await, Some(2), "the newest backup decides between two");
    assert_eq!(found("beta").await, Some(3));
    assert_eq!(found("gamma").await, Some(4));
    assert_eq!(found("delta").await, Some(5));
    assert_eq!(found("epsilon").await, None);
    // A name from a wrong clock decides between two clusters only if there is no other; another backup of its folder
    // may decide.
    let year = 365 * 86_400;
    backup(&store, &plan_of(6, "alpha", NOW.seconds + year)).await;
    assert_eq!(found("alpha").await, Some(2));
    backup(&store, &plan_of(1, "alpha", NOW.seconds + 2 * year)).await;
    assert_eq!(found("alpha").await, Some(2), "both have a true one as well");
    backup(&store, &plan_of(7, "zeta", NOW.seconds + year)).await;
    backup(&store, &plan_of(6, "zeta", NOW.seconds + 2 * year)).await;
    assert_eq!(found("zeta").await, Some(6));
    backup(&store, &plan_of(7, "zeta", NOW.seconds + 60)).await;
    assert_eq!(found("zeta").await, Some(7), "clocks differ by a little");
    let newest = async |uuid| {
        let newest = catalog::newest_true(&store, ClusterUuid(Uuid::from_u128(uuid)), NOW).await.expect("no faults");
        newest.map(|manifest| manifest.snapshot.unix_seconds())
    };
    assert_eq!(newest(7).await, Some(NOW.seconds + 60));
    assert_eq!(newest(6).await, Some(NOW.seconds + 2 * year));
    let clusters = catalog::clusters(&store).await.expect("no faults");
    assert_eq!(clusters.iter().map(|uuid| uuid.0.as_u128()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);

    let error = catalog::manifest(&store, broken.cluster_uuid, broken.snapshot).await.expect_err("broken");
    assert!(matches!(&error, CatalogError::Manifest { .. }), "{error}");
    assert!(error.to_string().contains(".manifest.json"), "{error}");
    let none = catalog::manifest(&store, broken.cluster_uuid, name(1)).await.expect("no faults");
    assert!(none.is_none());
}

/// A store in which the attempt of `plan` died between completion and manifest.
async fn died_before_the_manifest(plan: &Plan) -> MemoryStore {
    let store = MemoryStore::new();
    let made = backup(&store, plan).await;
    let json = store.body(&Key::manifest(plan.cluster_uuid, plan.snapshot));
    store.delete(&Key::manifest(plan.cluster_uuid, plan.snapshot)).await.expect("no faults");
    store.plant(Key::intent(plan.cluster_uuid, plan.snapshot, plan.attempt).as_str(), json);
    assert_eq!(made.attempt, plan.attempt);
    store
}

#[tokio::test]
async fn settling_promotes_the_owner_s_intent() {
    let plan = plan(1, 1, vec![]);
    let store = died_before_the_manifest(&plan).await;
    assert!(catalog::list(&store, cluster()).await.expect("no faults").is_empty(), "not visible yet");
    // Another attempt's intent for the same name is not the owner's.
    let other = AttemptId(Uuid::from_u128(77));
    store.plant(Key::intent(cluster(), plan.snapshot, other).as_str(), "{}");
    match catalog::settle(&store, cluster(), plan.snapshot).await.expect("no faults") {
        Settled::Done(manifest) => assert_eq!(manifest.attempt, plan.attempt),
        settled => panic!("{settled:?}"),
    }
    assert_eq!(catalog::list(&store, cluster()).await.expect("no faults").len(), 1);
    let swept = catalog::sweep_slot(&store, cluster(), plan.snapshot).await.expect("no faults");
    assert_eq!((swept.uploads, swept.intents, swept.promoted), (0, 1, 0));
    assert_eq!(store.keys().len(), 2);
}

#[tokio::test]
async fn an_object_without_its_owner_s_intent_is_an_orphan_and_is_left_alone() {
    let plan = plan(1, 1, vec![]);
    let intent = Key::intent(cluster(), plan.snapshot, plan.attempt);
    let wrong: [fn(&mut Manifest); 3] =
        [|m| m.sealed_bytes += 1, |m| m.attempt = AttemptId(Uuid::from_u128(5)), |m| m.snapshot = name(5)];
    for change in wrong {
        let store = died_before_the_manifest(&plan).await;
        let mut manifest = Manifest::from_json(&store.body(&intent)).expect("readable");
        change(&mut manifest);
        store.plant(intent.as_str(), manifest.to_json());
        let settled = catalog::settle(&store, cluster(), plan.snapshot).await.expect("no faults");
        assert!(matches!(settled, Settled::Orphan(_)), "{settled:?}");
    }
    let store = died_before_the_manifest(&plan).await;
    store.plant(intent.as_str(), "{broken");
    catalog::sweep_slot(&store, cluster(), plan.snapshot).await.expect("no faults");
    assert_eq!(store.keys().len(), 2, "object and intent stay: nothing else is known of it");
}

#[tokio::test]
async fn a_sweep_removes_what_is_old_and_promotes_what_is_complete() {
    let dead = plan(1, 1, vec![]);
    let store = died_before_the_manifest(&dead).await;
    let begin = async |seconds: i64, attempt: u128| {
        let attempt = AttemptId(Uuid::from_u128(attempt));
        store.begin(&Key::snapshot(cluster(), name(seconds)), attempt).await.expect("no faults");
        store.plant(Key::intent(cluster(), name(seconds), attempt).as_str(), "an intent");
    };
    begin(2_000, 2).await;
    // The store's clock is at this count now: what comes later is young.
    let now = store.head(&Key::intent(cluster(), name(2_000), AttemptId(Uuid::from_u128(2)))).await;
    let limit = now.expect("no faults").expect("it is there").modified.expect("known").seconds + 1;
    begin(3_000, 3).await;
    let elsewhere = Key::snapshot(ClusterUuid(Uuid::from_u128(8)), name(2_000));
    store.begin(&elsewhere, dead.attempt).await.expect("no faults");

    let swept = catalog::sweep(&store, cluster(), Timestamp::from_seconds(limit)).await.expect("no faults");
    assert_eq!((swept.uploads, swept.intents, swept.promoted), (1, 2, 1));
    assert_eq!(store.unfinished_count(), 2, "the young one and the other cluster's");
    let keys = [
        Key::manifest(cluster(), dead.snapshot),
        Key::snapshot(cluster(), dead.snapshot),
        Key::intent(cluster(), name(3_000), AttemptId(Uuid::from_u128(3))),
    ];
    assert_eq!(store.keys(), keys.each_ref().map(Key::as_str));
    let again = catalog::sweep(&store, cluster(), Timestamp::from_seconds(limit)).await.expect("no faults");
    assert_eq!(again, catalog::Swept::default());
}

#[tokio::test]
async fn a_manifest_that_is_too_large_is_its_own_backups_trouble_alone() {
    let store = MemoryStore::new();
    let good = backup(&store, &plan_of(1, "a", 1_700_000_000)).await;
    store.plant(Key::snapshot(good.cluster_uuid, name(1_700_000_001)).as_str(), vec![0; 3]);
    store.plant(Key::manifest(good.cluster_uuid, name(1_700_000_001)).as_str(), vec![b' '; 70_000]);
    let large = catalog::manifest(&store, good.cluster_uuid, name(1_700_000_001)).await.expect_err("too large");
    assert!(matches!(&large, CatalogError::Manifest { .. }) && large.to_string().contains("65536"), "{large}");
    assert_eq!(catalog::newest(&store, good.cluster_uuid).await.expect("the store is fine"), Some(good.clone()));
    let found = catalog::find_by_name(&store, &good.cluster, NOW).await.expect("the store is fine").map(|s| s.cluster);
    assert_eq!(found, Some(good.cluster_uuid));
}
