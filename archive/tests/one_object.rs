//! A fault of one object concerns only that object: whatever is wrong with one manifest, intent or folder, the others
//! are found, listed and swept. A fault of the whole store is an error.

mod support;

use std::sync::Arc;

use backstay_archive::catalog::{self, CatalogError, Settled};
use backstay_archive::manifest::Manifest;
use backstay_archive::store::{ErrorKind, Key, Store};
use backstay_archive::writer::{Limits, Plan, Progress, WriteError, write};
use backstay_protocol::{AttemptId, ClusterName, ClusterUuid, Timestamp};
use support::fixture::{Database, FixedClock, NOW, cluster, name, plan};
use support::memory::{Fate, MemoryStore, Op};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The faults of one object.
const ITS_OWN: [ErrorKind; 3] = [ErrorKind::Denied, ErrorKind::Invalid, ErrorKind::TooLarge];
/// The faults of the whole store.
const THE_STORE_S: [ErrorKind; 2] = [ErrorKind::Unavailable, ErrorKind::Login];

async fn backup(store: &MemoryStore, plan: &Plan) -> Result<Manifest, WriteError> {
    let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
    let mut source = Database::new(b"a database", 3);
    write(Arc::new(store.clone()), plan, &mut source, &progress, &limits, &FixedClock, &cancel).await
}

fn plan_of(cluster: u128, name_of: &str, seconds: i64) -> Plan {
    Plan {
        cluster: cluster_name(name_of),
        cluster_uuid: ClusterUuid(Uuid::from_u128(cluster)),
        snapshot: name(seconds),
        ..plan(1, 1, vec![])
    }
}

fn cluster_name(text: &str) -> ClusterName {
    text.parse().expect("a name")
}

/// Two backups of `alpha` and one of `beta`.
async fn store() -> MemoryStore {
    let store = MemoryStore::new();
    for plan in [plan_of(1, "alpha", 1_000), plan_of(1, "alpha", 2_000), plan_of(2, "beta", 3_000)] {
        backup(&store, &plan).await.expect("all is well");
    }
    store
}

/// From now on, reading a key that contains `part` fails.
fn ail(store: &MemoryStore, part: &'static str, kind: ErrorKind) {
    let ails = move |op, key: &str| op == Op::Get && key.contains(part);
    store.on_call(move |call| if ails(call.op, &call.key) { Fate::Fail(kind) } else { Fate::Pass });
}

async fn found(store: &MemoryStore, name: &str) -> Option<u128> {
    let found = catalog::find_by_name(store, &cluster_name(name), NOW).await;
    found.expect("one object's trouble").map(|series| series.cluster.0.as_u128())
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_is_skipped() {
    let newest = Key::manifest(ClusterUuid(Uuid::from_u128(1)), name(2_000)).to_string();
    let newest: &'static str = newest.leak();
    for kind in ITS_OWN {
        let store = store().await;
        ail(&store, newest, kind);
        assert_eq!(found(&store, "alpha").await, Some(1), "{kind:?}: by the one before it");
        assert_eq!(found(&store, "beta").await, Some(2), "{kind:?}");
        assert_eq!(found(&store, "gamma").await, None, "{kind:?}");
        let read = catalog::newest(&store, ClusterUuid(Uuid::from_u128(1))).await.expect("its own trouble");
        assert_eq!(read.map(|manifest| manifest.snapshot), Some(name(1_000)), "{kind:?}");
        let error = catalog::manifest(&store, ClusterUuid(Uuid::from_u128(1)), name(2_000)).await.expect_err("ails");
        assert!(!matches!(error, CatalogError::Store(_)) && error.to_string().contains("manifest.json"), "{error}");
    }
    for kind in THE_STORE_S {
        let store = store().await;
        ail(&store, newest, kind);
        assert!(catalog::find_by_name(&store, &cluster_name("gamma"), NOW).await.is_err_and(|e| e.is(kind)));
        assert!(catalog::newest(&store, ClusterUuid(Uuid::from_u128(1))).await.is_err_and(|e| e.is(kind)));
    }
}

#[tokio::test]
async fn a_new_cluster_gets_its_first_backup_beside_clusters_that_cannot_be_read() {
    for kind in ITS_OWN {
        // No manifest can be read, although the store allows reading.
        let store = store().await;
        ail(&store, "manifest.json", kind);
        assert_eq!(found(&store, "gamma").await, None, "{kind:?}");
        backup(&store, &plan_of(3, "gamma", 4_000)).await.expect("the first");
    }
    // Listing is denied for one folder.
    let store = store().await;
    let folder = format!("{}/", ClusterUuid(Uuid::from_u128(1)));
    store.on_call(move |call| match call.op {
        Op::List if call.key == folder => Fate::Fail(ErrorKind::Denied),
        _ => Fate::Pass,
    });
    assert_eq!(found(&store, "beta").await, Some(2));
    assert_eq!(found(&store, "gamma").await, None);
}

#[tokio::test]
async fn where_nothing_at_all_may_be_read_no_name_is_new() {
    let store = store().await;
    store.on_call(|call| if call.op == Op::Get { Fate::Fail(ErrorKind::Denied) } else { Fate::Pass });
    let error = catalog::find_by_name(&store, &cluster_name("alpha"), NOW).await.expect_err("nobody may read");
    assert!(error.is(ErrorKind::Denied) && error.target.contains("manifest.json"), "{error}");
    assert!(!catalog::is_reading_allowed(&store).await.expect("it answers"));
}

#[tokio::test]
async fn forbidden_is_what_some_say_of_what_is_not_there() {
    // The object exists, its manifest does not, and asking for it is denied: the intent still becomes the manifest.
    let store = store().await;
    let plan = plan_of(1, "alpha", 2_000);
    let manifest = Key::manifest(plan.cluster_uuid, plan.snapshot);
    store.plant(Key::intent(plan.cluster_uuid, plan.snapshot, plan.attempt).as_str(), store.body(&manifest));
    store.delete(&manifest).await.expect("no faults");
    ail(&store, "manifest.json", ErrorKind::Denied);
    let settled = catalog::settle(&store, plan.cluster_uuid, plan.snapshot).await.expect("settled");
    assert!(matches!(settled, Settled::Done(_)), "{settled:?}");
}

#[tokio::test]
async fn a_name_that_is_held_by_what_cannot_be_read_is_not_used() {
    let plan = plan_of(1, "alpha", 2_000);
    for kind in [ErrorKind::Denied, ErrorKind::Invalid] {
        let store = store().await;
        ail(&store, "manifest.json", kind);
        let settled = catalog::settle(&store, plan.cluster_uuid, plan.snapshot).await.expect("its own trouble");
        assert!(matches!(&settled, Settled::Unreadable(error) if error.is(kind)), "{settled:?}");
        let refused = backup(&store, &plan).await;
        assert!(matches!(refused, Err(WriteError::NameTaken(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_sweep_goes_on_past_what_it_cannot_remove() {
    for kind in [ErrorKind::Denied, ErrorKind::Invalid] {
        let store = MemoryStore::new();
        for n in 1..=3_u128 {
            let (key, attempt) = (Key::snapshot(cluster(), name(n as i64)), AttemptId(Uuid::from_u128(n)));
            store.begin(&key, attempt).await.expect("no faults");
            store.plant(Key::intent(cluster(), name(n as i64), attempt).as_str(), "an intent");
        }
        let (upload, intent) = (Key::snapshot(cluster(), name(1)), Uuid::from_u128(2).to_string());
        store.on_call(move |call| match call.op {
            Op::AbortUnfinished if call.key == upload.as_str() => Fate::Fail(kind),
            Op::Delete if call.key.contains(&intent) => Fate::Fail(kind),
            _ => Fate::Pass,
        });
        let swept = catalog::sweep(&store, cluster(), Timestamp::from_seconds(1_000)).await.expect("it goes on");
        assert_eq!((swept.uploads, swept.intents, swept.skipped), (2, 2, 2), "{kind:?}");
        store.on_call(|call| match call.op {
            Op::AbortUnfinished => Fate::Fail(ErrorKind::Unavailable),
            _ => Fate::Pass,
        });
        catalog::sweep(&store, cluster(), Timestamp::from_seconds(1_000)).await.expect_err("the store's trouble");
    }
}

#[tokio::test]
async fn an_intent_that_cannot_be_read_keeps_its_object_an_orphan() {
    for kind in ITS_OWN {
        let store = store().await;
        let plan = plan_of(1, "alpha", 2_000);
        let (manifest, intent) = (
            Key::manifest(plan.cluster_uuid, plan.snapshot),
            Key::intent(plan.cluster_uuid, plan.snapshot, plan.attempt),
        );
        store.plant(intent.as_str(), store.body(&manifest));
        store.delete(&manifest).await.expect("no faults");
        ail(&store, "intents/", kind);
        let settled = catalog::settle(&store, plan.cluster_uuid, plan.snapshot).await.expect("its own trouble");
        assert!(matches!(settled, Settled::Orphan(_)), "{kind:?}: {settled:?}");
        catalog::sweep_slot(&store, plan.cluster_uuid, plan.snapshot).await.expect("its own trouble");
        assert!(store.keys().contains(&intent.to_string()), "{kind:?}: it is all that is known of the object");
    }
}
