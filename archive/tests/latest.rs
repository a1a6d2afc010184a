//! The latest backup of a store: every manifest is read, one that cannot be read hides no other, and a fault of the
//! newest is an error.

mod support;

use backstay_archive::catalog::Progress;
use backstay_archive::latest::{self, LatestError, Scope};
use backstay_archive::manifest::{Manifest, Origin, SealInfo, Trigger};
use backstay_archive::store::{ErrorKind, Key};
use backstay_protocol::{AttemptId, SlotId, Timestamp};
use support::fixture::{cluster, name};
use support::memory::{Fate, MemoryStore, Op};
use uuid::Uuid;

const NOW: i64 = 1_700_000_000;

fn manifest(seconds: i64, revision: i64) -> Manifest {
    Manifest {
        format_version: 1,
        cluster: "talos-default".parse().expect("a name"),
        cluster_uuid: cluster(),
        machine: None,
        snapshot: name(seconds),
        slot: SlotId(Uuid::from_u128(1)),
        attempt: AttemptId(Uuid::from_u128(2)),
        trigger: Trigger::Once,
        created_at: Timestamp::from_seconds(seconds),
        origin: Origin { etcd_cluster_id: "cdf818194e3a8c32".into(), revision, ..Origin::default() },
        seal: SealInfo::default(),
        snapshot_bytes: 3,
        snapshot_sha256: "a".repeat(64),
        sealed_bytes: 3,
        sealed_sha256: "b".repeat(64),
        agent_version: "1".into(),
        inspection: None,
        replaces: None,
        extra: serde_json::Map::new(),
    }
}

fn plant(store: &MemoryStore, seconds: i64, json: impl Into<Vec<u8>>) {
    store.plant(Key::snapshot(cluster(), name(seconds)).as_str(), vec![0; 3]);
    store.plant(Key::manifest(cluster(), name(seconds)).as_str(), json.into());
}

async fn find(store: &MemoryStore, scope: &Scope) -> Result<(Option<i64>, usize), LatestError> {
    let progress = Progress::default();
    let found = latest::find(store, cluster(), scope, Timestamp::from_seconds(NOW), &progress).await?;
    assert_eq!(progress.done(), progress.total());
    Ok((found.manifest.map(|manifest| manifest.snapshot.unix_seconds()), found.skipped.count()))
}

#[tokio::test]
async fn a_higher_revision_is_found_among_thousands() {
    let store = MemoryStore::new();
    assert_eq!(find(&store, &Scope::default()).await.expect("nothing there"), (None, 0));
    for n in 0..2_500 {
        plant(&store, NOW - n, manifest(NOW - n, 10_000 - n).to_json());
    }
    assert_eq!(find(&store, &Scope::default()).await.expect("no contradiction"), (Some(NOW), 0));
    plant(&store, NOW - 90_000, manifest(NOW - 90_000, 10_001).to_json());
    let error = find(&store, &Scope::default()).await.expect_err("the oldest name is the furthest");
    assert!(error.to_string().contains("has revision 10001"), "{error}");
    let until = Some(Timestamp::from_seconds(NOW - 100));
    assert!(find(&store, &Scope { until, own: Vec::new() }).await.is_err(), "it is before that, too");
    // The program that made them knows the order, and checks only those whose names are newer than its own.
    let scope = Scope { until: None, own: vec![name(NOW - 1), name(NOW - 90_000)] };
    store.on_call(move |call| match call.op {
        Op::Get if call.key.contains(&Key::manifest(cluster(), name(NOW - 2)).to_string()) => {
            Fate::Fail(ErrorKind::Unavailable)
        }
        _ => Fate::Pass,
    });
    assert_eq!(find(&store, &scope).await.expect("theirs, and one that is newer"), (Some(NOW), 0));
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_the_newest_must_be_readable() {
    let store = MemoryStore::new();
    plant(&store, NOW - 10, manifest(NOW - 10, 9).to_json());
    plant(&store, NOW - 20, "{broken");
    plant(&store, NOW - 30, manifest(NOW - 31, 8).to_json());
    plant(&store, NOW - 40, vec![b' '; 70_000]);
    assert_eq!(find(&store, &Scope::default()).await.expect("the newest is fine"), (Some(NOW - 10), 3));
    for json in ["{broken".to_owned().into_bytes(), manifest(NOW - 6, 10).to_json()] {
        let store = MemoryStore::new();
        plant(&store, NOW - 10, manifest(NOW - 10, 9).to_json());
        plant(&store, NOW - 5, json);
        let error = find(&store, &Scope::default()).await.expect_err("an older one is nobody's idea of the latest");
        assert!(error.to_string().contains(&name(NOW - 5).to_string()[..16]), "{error}");
    }
}

#[tokio::test]
async fn one_that_is_denied_is_skipped_and_a_store_that_is_silent_is_an_error() {
    for (kind, skipped) in [(ErrorKind::Denied, Some(1)), (ErrorKind::Unavailable, None)] {
        let store = MemoryStore::new();
        plant(&store, NOW - 10, manifest(NOW - 10, 9).to_json());
        plant(&store, NOW - 20, manifest(NOW - 20, 8).to_json());
        let denied = Key::manifest(cluster(), name(NOW - 20)).to_string();
        store.on_call(move |call| if call.op == Op::Get && call.key == denied { Fate::Fail(kind) } else { Fate::Pass });
        let found = find(&store, &Scope::default()).await;
        assert_eq!(found.ok(), skipped.map(|skipped| (Some(NOW - 10), skipped)), "{kind:?}");
    }
}

#[tokio::test]
async fn however_many_cannot_be_read_a_bounded_number_is_named() {
    let store = MemoryStore::new();
    plant(&store, NOW, manifest(NOW, 9).to_json());
    for n in 1..=1_000 {
        plant(&store, NOW - n, "{broken");
    }
    let now = Timestamp::from_seconds(NOW);
    let found = latest::find(&store, cluster(), &Scope::default(), now, &Progress::default()).await.expect("found");
    let lines: Vec<String> = found.skipped.lines().collect();
    assert_eq!((found.skipped.count(), lines.len()), (1_000, 21));
    assert!(lines[0].contains("manifest.json") && lines[20].starts_with("980 more"), "{lines:?}");
}

#[tokio::test]
async fn a_manifest_that_goes_while_it_is_looked_for_is_said_to_be_gone() {
    for (gone, left) in [(NOW - 20, Some(NOW - 10)), (NOW - 10, None)] {
        let store = MemoryStore::new();
        for seconds in [NOW - 10, NOW - 20] {
            plant(&store, seconds, manifest(seconds, seconds).to_json());
        }
        let key = Key::manifest(cluster(), name(gone)).to_string();
        store.on_call(move |call| match call.op == Op::Get && call.key == key {
            true => Fate::Fail(ErrorKind::NotFound),
            false => Fate::Pass,
        });
        let found = find(&store, &Scope::default()).await;
        match left {
            Some(left) => assert_eq!(found.expect("another's trouble"), (Some(left), 1)),
            None => {
                let error = found.expect_err("the newest is gone").to_string();
                assert!(error.contains(" no longer exists: it was removed") && !error.contains("another"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_store_that_goes_silent_is_the_store_s_trouble_whichever_manifest_is_asked_for() {
    for silent in [NOW - 10, NOW - 20] {
        for kind in [ErrorKind::Unavailable, ErrorKind::Login] {
            let store = MemoryStore::new();
            for seconds in [NOW - 10, NOW - 20] {
                plant(&store, seconds, manifest(seconds, seconds).to_json());
            }
            let key = Key::manifest(cluster(), name(silent)).to_string();
            store.on_call(move |call| match call.op == Op::Get && call.key == key {
                true => Fate::Fail(kind),
                false => Fate::Pass,
            });
            let error = find(&store, &Scope::default()).await.expect_err("nobody knows");
            assert!(matches!(&error, LatestError::Store(error) if error.is(kind)), "{error}");
        }
    }
}
