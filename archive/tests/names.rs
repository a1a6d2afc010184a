//! Which UUID belongs to a name: one claim wins and the others use it; older stores are searched as before; forged
//! objects do not count.

mod support;

use std::sync::Arc;

use backstay_archive::store::{ErrorKind, Key, Store};
use backstay_archive::trust::Signers;
use backstay_archive::writer::{Limits, Plan, Progress, write};
use backstay_archive::{catalog, names, series};
use backstay_protocol::{ClusterName, ClusterUuid};
use support::fixture::{Database, FixedClock, NOW, name, plan};
use support::memory::{Fate, MemoryStore, Op};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn uuid(n: u128) -> ClusterUuid {
    ClusterUuid(Uuid::from_u128(n))
}

fn prod() -> ClusterName {
    "prod".parse().expect("a name")
}

async fn backup(store: &MemoryStore, cluster: u128, of: &str, seconds: i64) {
    let plan = Plan {
        cluster: of.parse().expect("a name"),
        cluster_uuid: uuid(cluster),
        snapshot: name(seconds),
        ..plan(seconds as u128, seconds as u128, vec![])
    };
    let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
    let mut source = Database::new(b"a database", 3);
    let written = write(Arc::new(store.clone()), &plan, &mut source, &progress, &limits, &FixedClock, &cancel).await;
    written.expect("all is well");
}

async fn found(store: &MemoryStore) -> Option<u128> {
    names::find(store, &prod(), NOW, &Signers::default()).await.expect("no faults").map(|uuid| uuid.0.as_u128())
}

#[tokio::test]
async fn one_wins_and_the_others_take_its_uuid() {
    let store = MemoryStore::new();
    let claims = (1..=20).map(|n| {
        let store = store.clone();
        async move {
            names::claim(&store, &prod(), uuid(n), Some("cdf818194e3a8c32"), NOW, &Signers::default())
                .await
                .expect("no faults")
        }
    });
    let claims = futures::future::join_all(claims).await;
    assert_eq!(claims.iter().filter(|claim| claim.is_new).count(), 1);
    assert!(claims.iter().all(|claim| claim.uuid == claims[0].uuid), "{claims:?}");
    let later =
        names::claim(&store, &prod(), uuid(99), Some("another"), NOW, &Signers::default()).await.expect("no faults");
    assert_eq!((later.uuid, later.is_new), (claims[0].uuid, false));
    assert_eq!(later.etcd_cluster_id.as_deref(), Some("cdf818194e3a8c32"), "as long as no backup says more");
    backup(&store, claims[0].uuid.0.as_u128(), "prod", 1_000).await;
    let later =
        names::claim(&store, &prod(), uuid(99), Some("another"), NOW, &Signers::default()).await.expect("no faults");
    assert_eq!((later.uuid, later.etcd_cluster_id), (claims[0].uuid, None));
}

#[tokio::test]
async fn where_create_only_is_not_kept_what_stands_there_counts() {
    let other = MemoryStore::new();
    names::claim(&other, &prod(), uuid(7), None, NOW, &Signers::default()).await.expect("no faults");
    let note = other.body(&names::key(&prod()));
    let store = MemoryStore::new();
    let (overwritten, mut reads) = (store.clone(), 0);
    store.on_call(move |call| {
        // Between our own creation and the check of the result, another machine's creation is accepted, too.
        reads += usize::from(call.op == Op::Get && call.key.starts_with("names/"));
        if reads == 2 {
            overwritten.plant(names::key(&prod()).as_str(), note.clone());
        }
        Fate::Pass
    });
    let claim = names::claim(&store, &prod(), uuid(1), None, NOW, &Signers::default()).await.expect("no faults");
    assert_eq!((claim.uuid, claim.is_new), (uuid(7), false));
}

#[tokio::test]
async fn a_store_from_before_there_were_such_objects_gets_one() {
    let store = MemoryStore::new();
    backup(&store, 1, "prod", 1_000).await;
    backup(&store, 2, "prod", 5_000).await;
    backup(&store, 3, "other", 9_000).await;
    assert_eq!(found(&store).await, Some(2), "as it was before: the newest backup decides");
    let claim = names::claim(&store, &prod(), uuid(99), Some("x"), NOW, &Signers::default()).await.expect("no faults");
    assert_eq!((claim.uuid, claim.is_new), (uuid(2), false));
    // From here on the UUID is fixed, whatever is backed up where.
    backup(&store, 1, "prod", 7_000).await;
    assert_eq!(found(&store).await, Some(2));
    let clusters = catalog::clusters(&store).await.expect("no faults");
    assert_eq!(clusters, [uuid(1), uuid(2), uuid(3)], "the folder of names is no cluster");
}

#[tokio::test]
async fn what_is_broken_or_forged_does_not_count() {
    let foreign =
        br#"{"format_version": 1, "cluster": "other", "cluster_uuid": "00000000-0000-0000-0000-000000000003"}"#;
    let to_another =
        br#"{"format_version": 1, "cluster": "prod", "cluster_uuid": "00000000-0000-0000-0000-000000000003"}"#;
    let to_nobody =
        br#"{"format_version": 1, "cluster": "prod", "cluster_uuid": "00000000-0000-0000-0000-000000000009"}"#;
    let later = br#"{"format_version": 2, "cluster": "prod", "cluster_uuid": "00000000-0000-0000-0000-000000000002"}"#;
    let large = vec![b' '; 5_000];
    for note in [&b""[..], b"{", b"[]", b"\xff\xfe", foreign, to_another, to_nobody, later, &large] {
        let store = MemoryStore::new();
        backup(&store, 2, "prod", 5_000).await;
        backup(&store, 3, "other", 9_000).await;
        store.plant(names::key(&prod()).as_str(), note.to_vec());
        let shown = String::from_utf8_lossy(note);
        assert_eq!(found(&store).await, Some(2), "{shown}");
        let claim = names::claim(&store, &prod(), uuid(99), None, NOW, &Signers::default()).await.expect("no faults");
        assert_eq!(claim.uuid, uuid(2), "{shown}");
    }
    // Without a backup of that name, another cluster's UUID is not used, either.
    let store = MemoryStore::new();
    backup(&store, 3, "other", 9_000).await;
    store.plant(names::key(&prod()).as_str(), to_another.to_vec());
    assert_eq!(found(&store).await, None);
    let claim = names::claim(&store, &prod(), uuid(99), None, NOW, &Signers::default()).await.expect("no faults");
    assert_eq!((claim.uuid, claim.is_new), (uuid(99), true));
}

#[tokio::test]
async fn who_may_not_create_or_read_it_does_without_and_a_store_s_trouble_is_an_error() {
    let store = MemoryStore::new();
    backup(&store, 2, "prod", 5_000).await;
    let at_names = |fate: ErrorKind| move |key: &str| key.starts_with("names/").then_some(Fate::Fail(fate));
    let denied = at_names(ErrorKind::Denied);
    store.on_call(move |call| denied(&call.key).unwrap_or(Fate::Pass));
    let claim = names::claim(&store, &prod(), uuid(99), None, NOW, &Signers::default()).await.expect("no faults");
    assert_eq!(claim.uuid, uuid(2));
    let gone = at_names(ErrorKind::Unavailable);
    store.on_call(move |call| gone(&call.key).unwrap_or(Fate::Pass));
    assert!(names::claim(&store, &prod(), uuid(99), None, NOW, &Signers::default()).await.is_err());
    assert!(names::find(&store, &prod(), NOW, &Signers::default()).await.is_err());
}

#[tokio::test]
async fn a_name_can_be_made_to_stand_for_another_uuid() {
    let store = MemoryStore::new();
    backup(&store, 1, "prod", 1_000).await;
    backup(&store, 2, "prod", 5_000).await;
    for target in [1, 2, 2, 1] {
        names::point(&store, &prod(), uuid(target)).await.expect("no faults");
        assert_eq!(found(&store).await, Some(target));
    }
    store.delete(&Key::manifest(uuid(1), name(1_000))).await.expect("no faults");
    assert_eq!(found(&store).await, Some(2), "what has no backup gives way to what has");
}

#[tokio::test]
async fn a_series_is_listed_once_on_the_way_to_its_newest_backup() {
    let store = MemoryStore::new();
    for seconds in [1_000, 5_000] {
        backup(&store, 2, "prod", seconds).await;
    }
    // First without an object for the name, then with it.
    for _ in 0..2 {
        let before = store.calls().len();
        let claim = names::claim(&store, &prod(), uuid(99), None, NOW, &Signers::default()).await.expect("no faults");
        let listed = claim.listed.expect("it was listed");
        let newest = series::newest(&store, listed, NOW, &Signers::default(), None)
            .await
            .expect("no faults")
            .expect("there are two");
        assert_eq!(newest.manifest.cluster_uuid, uuid(2));
        let folder = format!("{}/", uuid(2));
        let lists = store.calls()[before..].iter().filter(|call| call.op == Op::List && call.key == folder).count();
        assert_eq!(lists, 1);
    }
}
