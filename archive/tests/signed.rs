//! Signed backups: the signature is there before the backup is, whatever fails; and what `latest` makes of backups that
//! nobody vouches for.

mod support;

use std::str::FromStr;
use std::sync::Arc;

use backstay_archive::catalog::{self, Progress as Looked, Settled};
use backstay_archive::latest::{self, Latest, LatestError, Scope};
use backstay_archive::manifest::{Manifest, Sequence};
use backstay_archive::store::{ErrorKind, Key};
use backstay_archive::trust::{Doubt, MANIFESTS, Signers, SigningKey, Trust, Voucher};
use backstay_archive::writer::{Limits, Plan, Progress, Signing, WriteError, write};
use backstay_archive::{names, series};
use backstay_protocol::{ClusterName, ClusterUuid, SnapshotName, Timestamp};
use support::fixture::{Database, FixedClock, cluster, name, noise, plan};
use support::memory::{Fate, MemoryStore, Op};
use tokio_util::sync::CancellationToken;

const NOW: i64 = 1_701_184_522;

fn key() -> Arc<SigningKey> {
    Arc::new(SigningKey::generate("test"))
}

fn trust(key: &SigningKey) -> Trust {
    let signers = Signers::from_iter([key.signer("test").expect("a name")]);
    Trust { signers, allow_unsigned: false }
}

fn signed_plan(key: &Arc<SigningKey>, sequence: Sequence) -> Plan {
    Plan { signing: Some(Signing { key: Arc::clone(key), sequence }), ..plan(1, 1, vec![]) }
}

async fn run(store: &MemoryStore, plan: &Plan) -> Result<Manifest, WriteError> {
    let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
    let mut source = Database::new(&noise(1, 100_000), 32 * 1024);
    write(Arc::new(store.clone()), plan, &mut source, &progress, &limits, &FixedClock, &cancel).await
}

async fn voucher(store: &MemoryStore, snapshot: SnapshotName, trust: &Trust) -> Option<Voucher> {
    let found = catalog::vouched_manifest(store, cluster(), snapshot, &trust.signers).await.expect("readable");
    found.expect("it is there").voucher
}

#[tokio::test]
async fn a_signed_backup_has_a_signature_and_its_place_in_the_sequence() {
    let (store, key) = (MemoryStore::new(), key());
    let first = run(&store, &signed_plan(&key, Sequence::after(None))).await.expect("all is well");
    let sequence = first.sequence.clone().expect("it is signed");
    assert_eq!((sequence.number, sequence.previous_sha256), (1, None));
    assert!(matches!(voucher(&store, first.snapshot, &trust(&key)).await, Some(Voucher::Signed(_))));
    let stem = "00000000-0000-0000-0000-0000000000c1/FFFFFFFF9A99FBF6";
    assert_eq!(store.keys(), ["manifest.json", "manifest.json.sig", "snapshot"].map(|end| format!("{stem}.{end}")));

    let json = store.body(&Key::manifest(cluster(), first.snapshot));
    let next = Sequence::after(Some((&first, &json)));
    let second = Plan { snapshot: name(NOW + 9), ..signed_plan(&key, next) };
    let second = run(&store, &second).await.expect("all is well").sequence.expect("it is signed");
    assert_eq!(second.number, 2);
    assert_eq!(second.previous_sha256.map(|sha256| sha256.len()), Some(64));
    // Those who trust somebody else, or nobody.
    let other = trust(&SigningKey::generate("other"));
    assert!(matches!(voucher(&store, first.snapshot, &other).await, Some(Voucher::Bad(_))));
    assert_eq!(voucher(&store, first.snapshot, &Trust::default()).await, None);
}

#[tokio::test]
async fn a_signature_that_was_planted_beforehand_is_replaced() {
    let (store, key) = (MemoryStore::new(), key());
    store.plant(Key::signature(cluster(), name(NOW)).as_str(), "planted");
    run(&store, &signed_plan(&key, Sequence::after(None))).await.expect("all is well");
    assert!(matches!(voucher(&store, name(NOW), &trust(&key)).await, Some(Voucher::Signed(_))));
}

/// Whatever becomes of one call: what is visible is signed, and nothing else stays.
async fn ends_well(store: &MemoryStore, key: &SigningKey, what: &str) {
    store.no_faults();
    let visible = catalog::list(store, cluster()).await.expect("no faults any more");
    for entry in visible {
        let voucher = voucher(store, entry.snapshot, &trust(key)).await;
        assert!(matches!(voucher, Some(Voucher::Signed(_))), "visible and {voucher:?} before the sweep: {what}");
    }
    catalog::sweep_slot(store, cluster(), name(NOW)).await.expect("no faults any more");
    let keys = store.keys();
    match catalog::settle(store, cluster(), name(NOW)).await.expect("no faults any more") {
        Settled::Free => {
            let left: Vec<_> = keys.iter().filter(|key| !key.ends_with(".manifest.json.sig")).collect();
            assert!(left.is_empty(), "{what}: {keys:?}");
        }
        Settled::Done(_) => {
            assert_eq!(keys.len(), 3, "{what}: {keys:?}");
            let voucher = voucher(store, name(NOW), &trust(key)).await;
            assert!(matches!(voucher, Some(Voucher::Signed(_))), "{what}: {voucher:?}");
        }
        settled => panic!("{what}: {settled:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_call_fails_or_is_the_last_a_visible_backup_is_signed() {
    let key = key();
    let plan = signed_plan(&key, Sequence::after(None));
    let good = MemoryStore::new();
    run(&good, &plan).await.expect("all is well");
    let ops: Vec<Op> = good.calls().into_iter().map(|call| call.op).collect();
    for (nth, op) in ops.iter().enumerate() {
        for fate in
            [Fate::Fail(ErrorKind::Denied), Fate::Fail(ErrorKind::Unavailable), Fate::FailAfter(ErrorKind::Unavailable)]
        {
            let store = MemoryStore::new();
            store.on_call(move |call| if call.nth == nth { fate } else { Fate::Pass });
            let _ = run(&store, &plan).await;
            ends_well(&store, &key, &format!("{op:?} {nth} {fate:?}")).await;
        }
        // The store, or the process, is gone from this call on.
        for after in [false, true] {
            let store = MemoryStore::new();
            store.on_call(move |call| match call.nth {
                n if n < nth => Fate::Pass,
                n if n == nth && after => Fate::FailAfter(ErrorKind::Unavailable),
                _ => Fate::Fail(ErrorKind::Unavailable),
            });
            let _ = run(&store, &plan).await;
            ends_well(&store, &key, &format!("{op:?} is the last, {after}")).await;
        }
    }
}

/// A small backup as it stands in a store.
fn backup(seconds: i64, revision: i64, number: Option<u64>) -> Manifest {
    let json = include_str!("golden/manifest.json");
    let mut manifest = Manifest::from_json(json.as_bytes()).expect("golden");
    (manifest.cluster_uuid, manifest.snapshot) = (cluster(), name(seconds));
    manifest.origin.revision = revision;
    manifest.sequence = number.map(|number| Sequence { number, ..Sequence::after(None) });
    manifest
}

fn plant(store: &MemoryStore, manifest: &Manifest, signature: Option<String>) {
    let json = manifest.to_json();
    store.plant(Key::snapshot(cluster(), manifest.snapshot).as_str(), vec![0; 3]);
    store.plant(Key::manifest(cluster(), manifest.snapshot).as_str(), json);
    if let Some(signature) = signature {
        store.plant(Key::signature(cluster(), manifest.snapshot).as_str(), signature);
    }
}

fn plant_signed(store: &MemoryStore, key: &SigningKey, manifest: &Manifest) {
    plant(store, manifest, Some(key.sign(MANIFESTS, &manifest.to_json())));
}

async fn find(store: &MemoryStore, trust: &Trust) -> Result<Latest, LatestError> {
    let scope = Scope { trust: trust.clone(), ..Scope::default() };
    latest::find(store, cluster(), &scope, Timestamp::from_seconds(NOW + 1_000), &Looked::default()).await
}

fn latest_of(found: Result<Latest, LatestError>) -> i64 {
    found.expect("there is a latest").found.expect("there is one").manifest.snapshot.unix_seconds() - NOW
}

fn refused(found: Result<Latest, LatestError>) -> (Doubt, Option<i64>, String) {
    match found {
        Err(LatestError::Refused(refused)) => {
            let good = refused.good.as_ref().map(|good| good.snapshot.unix_seconds() - NOW);
            (refused.why.clone(), good, refused.to_string())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_newest_backup_that_nobody_vouches_for_is_refused_and_the_newest_good_one_is_named() {
    let (key, thief) = (key(), key());
    let store = MemoryStore::new();
    plant(&store, &backup(NOW - 90, 1, None), None);
    plant_signed(&store, &key, &backup(NOW, 5, Some(1)));
    assert_eq!(latest_of(find(&store, &trust(&key)).await), 0, "an older unsigned one is passed over");

    let planted = backup(NOW + 60, 9, Some(2));
    plant(&store, &planted, None);
    let (why, good, text) = refused(find(&store, &trust(&key)).await);
    assert_eq!((why, good), (Doubt::Unsigned, Some(0)));
    assert!(text.contains("nobody signed it") && text.contains("--snapshot FFFFFFFF9A99FBF6.snapshot"), "{text}");
    // By default nobody is trusted; and who says so uses what is unsigned.
    assert_eq!(latest_of(find(&store, &Trust::default()).await), 60);
    assert_eq!(latest_of(find(&store, &Trust { allow_unsigned: true, ..trust(&key) }).await), 60);

    let of_another = key.sign(MANIFESTS, &backup(NOW, 5, Some(1)).to_json());
    let for_another_use = key.sign("file", &planted.to_json());
    let by_a_thief = thief.sign(MANIFESTS, &planted.to_json());
    for bad in [of_another, for_another_use, by_a_thief, "nonsense".into(), String::new()] {
        plant(&store, &planted, Some(bad));
        let (why, good, _) = refused(find(&store, &trust(&key)).await);
        assert!(matches!(why, Doubt::Bad(_)), "{why:?}");
        assert_eq!(good, Some(0));
    }
    store.plant(Key::manifest(cluster(), planted.snapshot).as_str(), "{broken");
    let (why, good, _) = refused(find(&store, &trust(&key)).await);
    assert!(matches!(why, Doubt::Unreadable(_)) && good == Some(0), "{why:?}");
}

#[tokio::test]
async fn a_genuine_manifest_under_another_name_is_refused() {
    let (store, key) = (MemoryStore::new(), key());
    let old = backup(NOW, 5, Some(1));
    plant_signed(&store, &key, &old);
    plant_signed(&store, &key, &backup(NOW + 60, 6, Some(2)));
    let copy = |from: Key, to: Key| store.plant(to.as_str(), store.body(&from));
    for key in [Key::manifest, Key::signature, Key::snapshot] {
        copy(key(cluster(), old.snapshot), key(cluster(), name(NOW + 120)));
    }
    let (why, good, text) = refused(find(&store, &trust(&key)).await);
    assert!(matches!(why, Doubt::Unreadable(_)) && good == Some(60), "{why:?}");
    assert!(text.contains("describes another backup"), "{text}");
}

#[tokio::test]
async fn the_number_says_which_signed_backup_is_the_latest() {
    let (store, key) = (MemoryStore::new(), key());
    // A clock that was an hour ahead named the first; what came after it has an earlier name.
    plant_signed(&store, &key, &backup(NOW + 3_600, 5, Some(1)));
    plant_signed(&store, &key, &backup(NOW, 9, Some(2)));
    assert_eq!(latest_of(find(&store, &trust(&key)).await), 0);
    // Unsigned numbers are nobody's word.
    assert!(matches!(find(&store, &Trust::default()).await, Err(LatestError::Ambiguous(_))));
    // One that an older build made, and that was signed afterwards, has none.
    let store = MemoryStore::new();
    plant_signed(&store, &key, &backup(NOW, 5, Some(1)));
    plant_signed(&store, &key, &backup(NOW + 60, 6, None));
    assert_eq!(latest_of(find(&store, &trust(&key)).await), 60);
}

fn plant_of(store: &MemoryStore, uuid: u128, seconds: i64, key: Option<&SigningKey>) {
    let uuid = ClusterUuid(uuid::Uuid::from_u128(uuid));
    let manifest = Manifest { cluster_uuid: uuid, ..backup(seconds, 5, Some(1)) };
    store.plant(Key::snapshot(uuid, manifest.snapshot).as_str(), vec![0; 3]);
    store.plant(Key::manifest(uuid, manifest.snapshot).as_str(), manifest.to_json());
    if let Some(key) = key {
        store.plant(Key::signature(uuid, manifest.snapshot).as_str(), key.sign(MANIFESTS, &manifest.to_json()));
    }
}

#[tokio::test]
async fn planted_backups_never_become_the_cluster_where_its_own_are_signed() {
    let (store, key) = (MemoryStore::new(), key());
    let signers = trust(&key).signers;
    let (name, now) = (ClusterName::from_str("talos-default").expect("a name"), Timestamp::from_seconds(NOW + 9_000));
    let known = async |signers: &Signers| {
        names::find(&store, &name, now, signers).await.expect("no faults").map(|uuid| uuid.0.as_u128())
    };
    plant_of(&store, 1, NOW, Some(&key));
    plant_of(&store, 2, NOW + 60, None);
    plant_of(&store, 3, NOW + 70, Some(&SigningKey::generate("thief")));
    assert_eq!(known(&signers).await, Some(1));
    assert_eq!(known(&Signers::default()).await, Some(3), "who trusts nobody takes the newest");
    // The name's object points to the thief's, and there are many of them, also beside the cluster's own.
    let note =
        r#"{"format_version":1,"cluster":"talos-default","cluster_uuid":"00000000-0000-0000-0000-000000000002"}"#;
    store.plant(names::key(&name).as_str(), note);
    for n in 0..100 {
        plant_of(&store, 2, NOW + 100 + n, None);
        plant_of(&store, 1, NOW + 100 + n, None);
    }
    assert_eq!(known(&signers).await, Some(1));
    assert_eq!(known(&Signers::default()).await, Some(2));
    let entries = catalog::list(&store, ClusterUuid(uuid::Uuid::from_u128(1))).await.expect("no faults");
    let newest = catalog::newest_true_among(&store, &entries, now, &signers).await.expect("no faults");
    assert_eq!(newest.map(|newest| newest.manifest.snapshot.unix_seconds()), Some(NOW));
    let signed = catalog::newest_signed(&store, &entries, &signers).await.expect("no faults");
    let newest = series::newest(&store, entries, now, &signers, signed.as_ref()).await.expect("no faults");
    assert_eq!(newest.map(|newest| newest.manifest.snapshot.unix_seconds()), Some(NOW));
}

#[tokio::test]
async fn a_new_key_whose_numbers_begin_anew_hides_no_later_backup() {
    let (old, new) = (key(), key());
    let both = Trust { signers: trust(&old).signers.and(trust(&new).signers), allow_unsigned: false };
    let store = MemoryStore::new();
    plant_signed(&store, &old, &backup(NOW, 5, Some(500)));
    plant_signed(&store, &new, &backup(NOW + 60, 6, Some(1)));
    assert_eq!(latest_of(find(&store, &both).await), 60);
    // Within one key the number decides, whatever the name says.
    plant_signed(&store, &new, &backup(NOW + 30, 7, Some(2)));
    assert_eq!(latest_of(find(&store, &both).await), 30);
    // Where the keys contradict each other, nothing is guessed.
    plant_signed(&store, &old, &backup(NOW + 10, 9, Some(501)));
    assert!(matches!(find(&store, &both).await, Err(LatestError::Ambiguous(_))));
}
