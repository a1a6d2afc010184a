//! The writer: what a good backup looks like, and that a source that is not complete never becomes one.

mod support;

use std::sync::Arc;
use std::time::Duration;

use backstay_archive::manifest::{Inspection, Manifest};
use backstay_archive::reader;
use backstay_archive::seal::{Identity, Recipient};
use backstay_archive::store::{ErrorKind, Key, PART_BYTES};
use backstay_archive::writer::{
    Examination, Limits, Observer, Plan, Progress, Proof, Rejected, Source, SourceError, WriteError, write,
};
use bytes::Bytes;
use proptest::prelude::*;
use support::fixture::{
    Database, End, FixedClock, cluster, file_of, name, noise, plan, proof_of, runtime, sealed_plan,
};
use support::memory::{Fate, MemoryStore, Op};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Long enough for anything on a busy machine; no test waits for it to end.
const LONG: Duration = Duration::from_secs(60);
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

async fn run(store: &MemoryStore, plan: &Plan, source: &mut dyn Source) -> Result<Manifest, WriteError> {
    let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
    write(Arc::new(store.clone()), plan, source, &progress, &limits, &FixedClock, &cancel).await
}

/// Nothing visible and nothing hidden.
fn assert_empty(store: &MemoryStore) {
    assert_eq!(store.keys(), Vec::<String>::new());
    assert_eq!(store.unfinished_count(), 0);
}

async fn reopened(store: &MemoryStore, manifest: &Manifest, identity: Option<&Identity>) -> Vec<u8> {
    let mut out = Vec::new();
    reader::open(store, manifest, identity, &mut out).await.expect("a good backup opens");
    out
}

#[tokio::test]
async fn a_backup_is_an_object_and_a_manifest_and_opens_to_the_database() {
    let data = noise(1, 2 * PART_BYTES + 12_345);
    let store = MemoryStore::new();
    let (plan, identity) = sealed_plan();
    let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
    let mut source = Database::new(&data, 32 * KIB);
    let written = write(Arc::new(store.clone()), &plan, &mut source, &progress, &limits, &FixedClock, &cancel).await;
    let manifest = written.expect("all is well");

    assert_eq!(
        store.keys(),
        [
            "00000000-0000-0000-0000-0000000000c1/FFFFFFFF9A99FBF6.manifest.json",
            "00000000-0000-0000-0000-0000000000c1/FFFFFFFF9A99FBF6.snapshot",
        ]
    );
    assert_eq!(store.unfinished_count(), 0);
    let stored = Manifest::from_json(&store.body(&Key::manifest(cluster(), plan.snapshot))).expect("readable");
    assert_eq!(stored, manifest);
    assert_eq!(manifest.snapshot_bytes, data.len() as u64);
    assert_eq!(manifest.seal.encryption, "age");
    assert_eq!(manifest.seal.recipients, [identity.to_public().to_string()], "the ephemeral one is not listed");
    assert_eq!(manifest.created_at.seconds, 1_701_184_523);
    assert_eq!(manifest.origin.revision, 7);
    let object = store.body(&Key::snapshot(cluster(), plan.snapshot));
    assert_eq!(manifest.sealed_bytes, object.len() as u64);
    assert_eq!((progress.read(), progress.stored()), (data.len() as u64, object.len() as u64));
    assert!(reopened(&store, &manifest, Some(&identity)).await == file_of(&data));
}

#[tokio::test]
async fn every_recipient_opens_it_and_nobody_else() {
    let data = noise(2, 300_000);
    let store = MemoryStore::new();
    let (first, second) = (Identity::generate(), Identity::generate());
    let plan = plan(1, 1, vec![first.to_public(), second.to_public()]);
    let manifest = run(&store, &plan, &mut Database::new(&data, 1000)).await.expect("all is well");
    for identity in [&first, &second] {
        assert!(reopened(&store, &manifest, Some(identity)).await == file_of(&data));
    }
    let other = Identity::generate();
    assert!(reader::open(&store, &manifest, Some(&other), &mut Vec::new()).await.is_err());
    let error = reader::open(&store, &manifest, None, &mut Vec::new()).await.expect_err("sealed");
    assert!(error.to_string().contains("identity is required"), "{error}");
}

#[tokio::test]
async fn sizes_at_the_edges_work_sealed_and_unsealed() {
    let identity = Identity::generate();
    let none: &[Recipient] = &[];
    for recipients in [none, &[identity.to_public()]] {
        for len in [0, 1, MIB - 33, MIB - 32, MIB - 1, MIB, MIB + 1, PART_BYTES - 32, PART_BYTES, PART_BYTES + 1] {
            let data = noise(3, len);
            let store = MemoryStore::new();
            let plan = plan(1, 1, recipients.to_vec());
            let frame = if len < 2 * MIB { 777 } else { 3 * MIB };
            let manifest = run(&store, &plan, &mut Database::new(&data, frame)).await.expect("all is well");
            let identity = (!recipients.is_empty()).then_some(&identity);
            assert!(reopened(&store, &manifest, identity).await == file_of(&data), "{len} bytes");
        }
    }
}

#[tokio::test]
async fn parts_are_equal_but_the_last_and_few_are_in_flight() {
    let data = noise(4, 5 * PART_BYTES);
    for allowed in [1, 2, 3] {
        let store = MemoryStore::new();
        // No part proceeds before this many are in flight. Then they wait, so that one too many would be noticed.
        store.hold_parts_until(allowed);
        let limits = Limits { parts_in_flight: allowed, ..Limits::default() };
        let (progress, cancel, plan) = (Progress::default(), CancellationToken::new(), plan(1, 1, vec![]));
        let mut source = Database::new(&data, MIB);
        // The store itself refuses unequal parts and gaps.
        let written = write(Arc::new(store.clone()), &plan, &mut source, &progress, &limits, &FixedClock, &cancel);
        let written = timeout(LONG, written).await;
        written.unwrap_or_else(|_| panic!("never {allowed} parts at once")).expect("all is well");
        assert_eq!(store.most_sending(), allowed);
        assert_eq!(store.calls().iter().filter(|call| call.op == Op::Part).count(), 6);
    }
}

#[tokio::test]
async fn the_last_part_waits_for_the_proof() {
    let data = noise(5, PART_BYTES + 5);
    let store = MemoryStore::new();
    let mut source = Database { proof_hangs: true, ..Database::new(&data, 32 * KIB) };
    let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
    let (seen, first_part) = tokio::sync::oneshot::channel();
    let mut seen = Some(seen);
    store.on_call(move |call| {
        if call.op == Op::Part {
            seen.take().expect("only one part is sent").send(call.key.clone()).expect("awaited");
        }
        Fate::Pass
    });
    let plan = plan(1, 1, vec![]);
    let writing = write(Arc::new(store.clone()), &plan, &mut source, &progress, &limits, &FixedClock, &cancel);
    let cancelling = async {
        assert!(first_part.await.expect("a part is sent").ends_with("#1"));
        // Everything that can happen without the proof happens meanwhile.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (written, ()) = tokio::join!(writing, cancelling);
    assert!(matches!(written, Err(WriteError::Cancelled)), "{written:?}");
    assert_empty(&store);
}

/// Checks the error for a source of `whole` bytes that ends, or fails, after `at` bytes.
fn assert_cut(written: Result<Manifest, WriteError>, end: End, whole: usize, at: usize) {
    match (end, written) {
        (End::Cut, Err(WriteError::Total { expected, got })) => assert_eq!((expected, got), (whole as u64, at as u64)),
        (End::Fails, Err(WriteError::Source(SourceError(text)))) => assert!(text.contains("went away")),
        (_, other) => panic!("{end:?} at {at}: {other:?}"),
    }
}

#[tokio::test]
async fn a_stream_cut_at_any_block_never_completes() {
    let data = noise(6, 2 * MIB + 4567);
    let (plan, _) = sealed_plan();
    for at in (0..data.len()).step_by(32 * KIB) {
        let store = MemoryStore::new();
        for end in [End::Cut, End::Fails] {
            let written = run(&store, &plan, &mut Database::ending(&data, 32 * KIB, at, end)).await;
            assert_cut(written, end, data.len(), at);
            assert_empty(&store);
        }
    }
}

#[tokio::test]
async fn a_stream_cut_between_parts_never_completes() {
    let data = noise(7, 3 * PART_BYTES);
    for at in [PART_BYTES - MIB, PART_BYTES, 2 * PART_BYTES, 3 * PART_BYTES - 1] {
        for end in [End::Cut, End::Fails] {
            let store = MemoryStore::new();
            let plan = plan(1, 1, vec![]);
            let written = run(&store, &plan, &mut Database::ending(&data, MIB, at, end)).await;
            assert_cut(written, end, data.len(), at);
            assert_empty(&store);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_stream_cut_at_random_bytes_never_completes(
        len in 1..1_500_000_usize, at in any::<prop::sample::Index>(), frame in 1000..200_000_usize, fails: bool
    ) {
        let data = noise(8, len);
        runtime().block_on(async {
            let store = MemoryStore::new();
            let end = if fails { End::Fails } else { End::Cut };
            let (plan, _) = sealed_plan();
            let written = run(&store, &plan, &mut Database::ending(&data, frame, at.index(len), end)).await;
            assert_cut(written, end, len, at.index(len));
            assert_empty(&store);
        });
    }

    #[test]
    fn any_database_in_any_frames_opens_to_itself(len in 1..3_000_000_usize, frame in 500..4_000_000_usize, seal: bool) {
        let data = noise(len as u64, len);
        runtime().block_on(async {
            let store = MemoryStore::new();
            let (sealed, identity) = sealed_plan();
            let plan = if seal { sealed } else { plan(1, 1, vec![]) };
            let manifest = run(&store, &plan, &mut Database::new(&data, frame)).await.expect("all is well");
            assert!(reopened(&store, &manifest, seal.then_some(&identity)).await == file_of(&data));
        });
    }
}

#[tokio::test]
async fn a_wrong_proof_never_completes() {
    let data = noise(9, PART_BYTES + 100_000);
    let (plan, _) = sealed_plan();
    let store = MemoryStore::new();
    let mut digest = proof_of(&data);
    digest.sha256[31] ^= 1;
    let mut source = Database { proof: Ok(digest), ..Database::new(&data, 32 * KIB) };
    let written = run(&store, &plan, &mut source).await;
    assert!(matches!(written, Err(WriteError::Digest { .. })), "{written:?}");
    assert_empty(&store);

    for wrong in [-1_i64, 1] {
        let mut total = proof_of(&data);
        total.bytes = total.bytes.checked_add_signed(wrong).expect("in range");
        let mut source = Database { proof: Ok(total), ..Database::new(&data, 32 * KIB) };
        let written = run(&store, &plan, &mut source).await;
        assert!(matches!(written, Err(WriteError::Total { .. })), "{written:?}");
        assert_empty(&store);
    }

    let no_trailer = Err(SourceError("the stream ended before the trailer".into()));
    let mut source = Database { proof: no_trailer, ..Database::new(&data, 32 * KIB) };
    let written = run(&store, &plan, &mut source).await;
    assert!(matches!(written, Err(WriteError::Source(_))), "{written:?}");
    assert_empty(&store);
}

#[tokio::test]
async fn a_hanging_source_is_cancelled_and_leaves_nothing() {
    let data = noise(10, PART_BYTES + MIB);
    for at in [0, 5000, MIB, data.len() - 1, data.len()] {
        let store = MemoryStore::new();
        let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
        let (plan, _) = sealed_plan();
        let mut source = Database::ending(&data, 100_000, at, End::Hangs);
        let writing = write(Arc::new(store.clone()), &plan, &mut source, &progress, &limits, &FixedClock, &cancel);
        let cancelling = async {
            while progress.read() < at as u64 {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
        };
        let (written, ()) = tokio::join!(writing, cancelling);
        assert!(matches!(written, Err(WriteError::Cancelled)), "{written:?}");
        assert_empty(&store);
    }
}

#[tokio::test]
async fn a_failed_part_stops_a_source_that_hangs() {
    let data = noise(11, 2 * PART_BYTES);
    let store = MemoryStore::new();
    store.on_call(|call| if call.op == Op::Part { Fate::Fail(ErrorKind::Denied) } else { Fate::Pass });
    let (plan, _) = sealed_plan();
    // Never ends, so only the failed part can end the attempt.
    let mut source = Database::ending(&data, MIB, data.len(), End::Hangs);
    let written = run(&store, &plan, &mut source).await;
    assert!(matches!(&written, Err(WriteError::Store(error)) if error.is(ErrorKind::Denied)), "{written:?}");
    assert_empty(&store);
}

#[tokio::test]
async fn a_cancelled_attempt_does_not_begin() {
    let store = MemoryStore::new();
    let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
    cancel.cancel();
    let (plan, _) = sealed_plan();
    let mut source = Database::new(b"abc", 1);
    let written = write(Arc::new(store.clone()), &plan, &mut source, &progress, &limits, &FixedClock, &cancel).await;
    assert!(matches!(written, Err(WriteError::Cancelled)), "{written:?}");
    assert!(store.calls().is_empty());
}

#[tokio::test]
async fn a_name_is_used_once() {
    let data = noise(12, 100_000);
    let store = MemoryStore::new();
    let manifest = run(&store, &plan(1, 1, vec![]), &mut Database::new(&data, 4096)).await.expect("free");
    let again = run(&store, &plan(1, 2, vec![]), &mut Database::new(&data, 4096)).await;
    match again {
        Err(WriteError::SlotDone(found)) => assert_eq!(*found, manifest),
        other => panic!("{other:?}"),
    }
    let other = run(&store, &plan(2, 3, vec![]), &mut Database::new(&data, 4096)).await;
    assert!(matches!(other, Err(WriteError::NameTaken(taken)) if taken == name(1_701_184_522)), "{other:?}");
    assert_eq!(store.keys().len(), 2);
    assert!(reopened(&store, &manifest, None).await == file_of(&data));
}

#[tokio::test]
async fn a_name_held_by_something_else_is_taken() {
    let plan = plan(1, 1, vec![]);
    for key in [Key::snapshot(cluster(), plan.snapshot), Key::manifest(cluster(), plan.snapshot)] {
        let store = MemoryStore::new();
        store.plant(key.as_str(), "something else");
        let written = run(&store, &plan, &mut Database::new(b"data", 4)).await;
        assert!(matches!(written, Err(WriteError::NameTaken(_))), "{written:?}");
        assert_eq!(store.keys(), [key.as_str()]);
    }
}

/// A source with an inspection: the observer records what it saw, and the verdict is `rejected` or what was seen.
struct Watched {
    database: Database,
    rejected: Option<Rejected>,
    data: Vec<u8>,
}

struct Notes(Vec<u8>, tokio::sync::oneshot::Sender<Vec<u8>>);

impl Observer for Notes {
    fn update(&mut self, database: &[u8]) {
        self.0.extend_from_slice(database);
    }

    fn finish(self: Box<Self>) {
        let _ = self.1.send(self.0);
    }
}

#[async_trait::async_trait]
impl Source for Watched {
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        self.database.next().await
    }

    async fn proof(&mut self) -> Result<Proof, SourceError> {
        self.database.proof().await
    }

    fn examination(&mut self) -> Option<Examination> {
        let (out, seen) = tokio::sync::oneshot::channel();
        let (rejected, data) = (self.rejected.clone(), self.data.clone());
        let verdict = Box::pin(async move {
            let seen = seen.await.expect("the observer finished");
            assert!(seen == data, "the observer saw the database, without its trailer");
            rejected.map_or_else(|| Ok(Inspection { reason: Some("seen".into()), ..Inspection::default() }), Err)
        });
        Some(Examination { observer: Box::new(Notes(Vec::new(), out)), verdict })
    }
}

#[tokio::test]
async fn an_observer_sees_the_database_and_its_verdict_decides() {
    for size in [1024, PART_BYTES + 4096] {
        let data = noise(9, size);
        let watched = |rejected| Watched { database: Database::new(&data, 32 * KIB), rejected, data: data.clone() };
        let (store, (plan, _)) = (MemoryStore::new(), sealed_plan());
        let manifest = run(&store, &plan, &mut watched(None)).await.expect("all is well");
        assert_eq!(manifest.inspection.and_then(|i| i.reason).as_deref(), Some("seen"));

        for rejected in [Rejected::Unfit("damaged".into()), Rejected::Disagreement("they differ".into())] {
            let store = MemoryStore::new();
            let error = run(&store, &plan, &mut watched(Some(rejected.clone()))).await.expect_err("refused");
            assert!(matches!(&error, WriteError::Rejected(why) if *why == rejected), "{error}");
            assert_empty(&store);
        }
    }
}

#[tokio::test]
async fn a_backup_whose_manifest_nobody_could_read_does_not_appear() {
    let store = MemoryStore::new();
    let recipients = std::iter::repeat_with(|| Identity::generate().to_public()).take(1_100).collect();
    let written = run(&store, &plan(1, 1, recipients), &mut Database::new(b"a database", 3)).await;
    let error = written.expect_err("too many recipients").to_string();
    assert!(error.contains("cannot be written") && error.contains("65536"), "{error}");
    assert_empty(&store);
}
