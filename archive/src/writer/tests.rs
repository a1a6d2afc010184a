//! Damages data between the stages of the pipeline: the writer must notice before anything is visible.

use std::sync::{Arc, LazyLock, Mutex};

use proptest::prelude::*;

use super::pipeline::{BLOCK_BYTES, Tap};
use super::*;
use crate as archive;
use crate::store::PART_BYTES;

#[path = "../../tests/support/fixture.rs"]
#[allow(dead_code)] // shared with the tests outside
mod fixture;
#[path = "../../tests/support/memory.rs"]
#[allow(dead_code)]
mod memory;

use fixture::{Database, FixedClock, noise, plan, runtime};
use memory::MemoryStore;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Block,
    Frame,
    Part,
}

/// Flips one bit in the `nth` piece that passes `stage`.
#[derive(Clone)]
struct Flip(Arc<Mutex<Aim>>);

#[derive(Debug)]
struct Aim {
    stage: Stage,
    /// Pieces that still pass before the bit is flipped.
    nth: usize,
    at: prop::sample::Index,
    bit: u8,
    hit: bool,
}

impl Flip {
    fn new(stage: Stage, nth: usize, at: prop::sample::Index, bit: u8) -> Self {
        Self(Arc::new(Mutex::new(Aim { stage, nth, at, bit, hit: false })))
    }

    fn passes(&self, stage: Stage, bytes: &mut [u8]) {
        let mut aim = self.0.lock().unwrap();
        if aim.stage != stage || aim.hit {
            return;
        }
        if aim.nth > 0 {
            aim.nth -= 1;
            return;
        }
        bytes[aim.at.index(bytes.len())] ^= 1 << aim.bit;
        aim.hit = true;
    }
}

impl Tap for Flip {
    fn block(&mut self, bytes: &mut [u8]) {
        self.passes(Stage::Block, bytes);
    }

    fn frame(&mut self, bytes: &mut [u8]) {
        self.passes(Stage::Frame, bytes);
    }

    fn part(&mut self, bytes: &mut [u8]) {
        self.passes(Stage::Part, bytes);
    }
}

async fn run<T: Tap>(store: &MemoryStore, plan: &Plan, data: &[u8], tap: T) -> Result<Manifest, WriteError> {
    let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
    let mut source = Database::new(data, 100_000);
    let store = Arc::new(store.clone());
    write_tapped(store, plan, &mut source, &progress, &limits, &FixedClock, &cancel, tap).await
}

/// Large enough for two parts and three full blocks.
static TWELVE_MIB: LazyLock<Vec<u8>> = LazyLock::new(|| database(12 * 1024 * 1024));

/// A quarter of it can be compressed, as is common in etcd's data.
fn database(len: usize) -> Vec<u8> {
    let mut data = noise(1, len);
    for chunk in data.chunks_mut(8192) {
        let part = chunk.len() / 4;
        chunk[..part].fill(b'k');
    }
    data
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_bit_flipped_between_any_two_stages_is_caught(
        stage in prop::sample::select(vec![Stage::Block, Stage::Frame, Stage::Part]),
        nth in 0..40_usize, at in any::<prop::sample::Index>(), bit in 0..8_u8, sealed: bool,
    ) {
        let data = &TWELVE_MIB;
        // The trailer is a block of its own.
        let nth = nth % if stage == Stage::Part { 2 } else { data.len() / BLOCK_BYTES + 1 };
        let recipients = if sealed { vec![crate::seal::Identity::generate().to_public()] } else { vec![] };
        let tap = Flip::new(stage, nth, at, bit);
        let runtime = runtime();
        let store = MemoryStore::new();
        let written = runtime.block_on(run(&store, &plan(1, 1, recipients), data, tap.clone()));
        let aim = tap.0.lock().unwrap();
        prop_assert!(aim.hit, "the damage was done: {aim:?}");
        prop_assert!(matches!(written, Err(WriteError::Digest { .. } | WriteError::Reopened(_))), "{written:?} {aim:?}");
        prop_assert!(store.keys().is_empty());
        prop_assert_eq!(store.unfinished_count(), 0);
    }
}

/// Fails in one stage as a bug or broken memory would.
#[derive(Clone)]
struct Panics(Stage);

impl Tap for Panics {
    fn block(&mut self, _: &mut [u8]) {
        assert!(self.0 != Stage::Block, "a panic on purpose");
    }

    fn part(&mut self, _: &mut [u8]) {
        assert!(self.0 != Stage::Part, "a panic on purpose");
    }
}

#[tokio::test]
async fn a_stage_that_panics_ends_the_attempt_and_leaves_nothing() {
    let data = noise(2, 2 * PART_BYTES);
    for stage in [Stage::Block, Stage::Part] {
        let store = MemoryStore::new();
        let written = run(&store, &plan(1, 1, vec![]), &data, Panics(stage)).await;
        assert!(matches!(&written, Err(WriteError::Internal(text)) if text.contains("pipeline")), "{written:?}");
        assert!(store.keys().is_empty());
        assert_eq!(store.unfinished_count(), 0);
    }
}

#[tokio::test]
async fn no_damage_no_error() {
    let data = database(3 * 1024 * 1024);
    let store = MemoryStore::new();
    let tap = Flip::new(Stage::Part, 1000, any_index(), 0);
    run(&store, &plan(1, 1, vec![]), &data, tap.clone()).await.expect("the tap does nothing by itself");
    assert!(!tap.0.lock().unwrap().hit);
}

fn any_index() -> prop::sample::Index {
    use proptest::strategy::{Strategy, ValueTree};
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    any::<prop::sample::Index>().new_tree(&mut runner).expect("any index").current()
}

/// Agents run attempts on a runtime with several threads.
#[allow(dead_code)] // compiling is the test
fn futures_can_move_between_threads(store: &MemoryStore, plan: &Plan, source: &mut Database, manifest: &Manifest) {
    fn movable(_: impl Send) {}
    let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
    movable(write(Arc::new(store.clone()), plan, source, &progress, &limits, &FixedClock, &cancel));
    movable(crate::reader::open(store, manifest, None, Vec::new()));
    movable(catalog::list(store, plan.cluster_uuid));
    movable(catalog::sweep_slot(store, plan.cluster_uuid, plan.snapshot));
}
