//! Every call to the store fails, hangs or loses its answer; the attempt is cancelled or dropped at any point;
//! several attempts meet. Each time there is one backup or none, and nothing else remains.

mod support;

use std::sync::Arc;
use std::task::Poll;

use backstay_archive::catalog::{self, Settled};
use backstay_archive::manifest::Manifest;
use backstay_archive::reader;
use backstay_archive::store::{ErrorKind, Key};
use backstay_archive::writer::{Limits, Plan, Progress, WriteError, write};
use support::fixture::{Database, FixedClock, cluster, file_of, name, noise, plan};
use support::memory::{Fate, MemoryStore, Op};
use tokio_util::sync::CancellationToken;

const NAME: i64 = 1_701_184_522;

async fn run(
    store: &MemoryStore,
    plan: &Plan,
    data: &[u8],
    cancel: &CancellationToken,
) -> Result<Manifest, WriteError> {
    let (progress, limits) = (Progress::default(), Limits::default());
    let mut source = Database::new(data, 64 * 1024);
    write(Arc::new(store.clone()), plan, &mut source, &progress, &limits, &FixedClock, cancel).await
}

/// The state in which every run must end, once the remains are swept: one whole backup, or nothing. Returns which.
async fn settled(store: &MemoryStore, data: &[u8]) -> bool {
    store.no_faults();
    catalog::sweep_slot(store, cluster(), name(NAME)).await.expect("no faults any more");
    assert_eq!(store.unfinished_count(), 0, "an unfinished upload is left");
    match catalog::settle(store, cluster(), name(NAME)).await.expect("no faults any more") {
        Settled::Free => {
            assert_eq!(store.keys(), Vec::<String>::new());
            false
        }
        Settled::Done(manifest) => {
            let keys = [Key::manifest(cluster(), name(NAME)), Key::snapshot(cluster(), name(NAME))];
            assert_eq!(store.keys(), keys.each_ref().map(Key::as_str));
            let mut out = Vec::new();
            reader::open(store, &manifest, None, &mut out).await.expect("a visible backup opens");
            assert!(out == file_of(data), "a visible backup is the database");
            true
        }
        settled => panic!("neither a backup nor nothing: {settled:?}"),
    }
}

/// The calls of a run without faults.
async fn good_calls(data: &[u8]) -> Vec<Op> {
    let store = MemoryStore::new();
    run(&store, &plan(1, 1, vec![]), data, &CancellationToken::new()).await.expect("all is well");
    store.calls().into_iter().map(|call| call.op).collect()
}

const KINDS: [ErrorKind; 5] =
    [ErrorKind::NotFound, ErrorKind::AlreadyExists, ErrorKind::Denied, ErrorKind::Unavailable, ErrorKind::Invalid];

#[tokio::test(start_paused = true)]
async fn every_call_that_fails_once_leaves_one_backup_or_nothing() {
    let data = noise(1, 9_000_000);
    let ops = good_calls(&data).await;
    let complete = ops.iter().position(|op| *op == Op::Complete).expect("it completes");
    assert_eq!(ops[complete + 1..], [Op::PutNew, Op::Delete], "manifest, then the intent goes");
    let fates = KINDS.map(Fate::Fail).into_iter().chain([Fate::FailAfter(ErrorKind::Unavailable)]);
    for fate in fates {
        for (nth, op) in ops.iter().enumerate() {
            let store = MemoryStore::new();
            store.on_call(move |call| if call.nth == nth { fate } else { Fate::Pass });
            let written = run(&store, &plan(1, 1, vec![]), &data, &CancellationToken::new()).await;
            let before_sweep = (store.keys().len(), store.unfinished_count());
            let proven = nth > complete || (nth == complete && matches!(fate, Fate::FailAfter(_)));
            assert_eq!(written.is_ok(), proven, "{op:?} {fate:?}: {written:?}");
            match (op, fate) {
                // The upload's ID is lost with the answer, so only a sweep finds it.
                (Op::Begin, Fate::FailAfter(_)) => assert_eq!(before_sweep, (0, 1)),
                (Op::Delete, Fate::Fail(kind)) if kind != ErrorKind::Unavailable => assert_eq!(before_sweep, (3, 0)),
                _ => assert_eq!(before_sweep, (if proven { 2 } else { 0 }, 0), "{op:?} {fate:?}"),
            }
            assert_eq!(settled(&store, &data).await, proven, "{op:?} {fate:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_broken_leaves_one_backup_or_nothing_once_it_is_back() {
    let data = noise(2, 9_000_000);
    let calls = good_calls(&data).await.len();
    for kind in KINDS {
        for from in 0..calls {
            let store = MemoryStore::new();
            store.on_call(move |call| if call.nth >= from { Fate::Fail(kind) } else { Fate::Pass });
            let written = run(&store, &plan(1, 1, vec![]), &data, &CancellationToken::new()).await;
            let visible = settled(&store, &data).await;
            assert!(visible || written.is_err(), "{kind:?} from {from}: a success without a backup");
        }
    }
}

#[tokio::test]
async fn every_call_that_hangs_is_cancelled_and_leaves_one_backup_or_nothing() {
    let data = noise(3, 9_000_000);
    let ops = good_calls(&data).await;
    let complete = ops.iter().position(|op| *op == Op::Complete).expect("it completes");
    for fate in [Fate::Hang, Fate::HangAfter] {
        for (nth, op) in ops.iter().enumerate() {
            let (store, cancel) = (MemoryStore::new(), CancellationToken::new());
            let stop = cancel.clone();
            store.on_call(move |call| {
                if call.nth != nth {
                    return Fate::Pass;
                }
                stop.cancel();
                fate
            });
            let written = hurried(run(&store, &plan(1, 1, vec![]), &data, &cancel)).await;
            let before_sweep = (store.keys().len(), store.unfinished_count());
            let proven = nth > complete || (nth == complete && fate == Fate::HangAfter);
            assert_eq!(written.is_ok(), proven, "{op:?} {fate:?}: {written:?}");
            match (op, fate) {
                (Op::Begin, Fate::HangAfter) => assert_eq!(before_sweep, (0, 1)),
                (Op::Delete, Fate::Hang) => assert_eq!(before_sweep, (3, 0)),
                _ => assert_eq!(before_sweep, (if proven { 2 } else { 0 }, 0), "{op:?} {fate:?}"),
            }
            assert_eq!(settled(&store, &data).await, proven, "{op:?} {fate:?}");
        }
    }
}

#[tokio::test]
async fn a_store_that_hangs_for_good_does_not_hold_a_cancelled_attempt() {
    let data = noise(4, 9_000_000);
    let calls = good_calls(&data).await.len();
    for from in 0..calls {
        let (store, cancel) = (MemoryStore::new(), CancellationToken::new());
        let stop = cancel.clone();
        store.on_call(move |call| {
            if call.nth < from {
                return Fate::Pass;
            }
            stop.cancel();
            Fate::Hang
        });
        let written = hurried(run(&store, &plan(1, 1, vec![]), &data, &cancel)).await;
        let visible = settled(&store, &data).await;
        assert!(visible || written.is_err(), "from {from}: a success without a backup");
    }
}

/// Runs with a clock that jumps: the threads of the pipeline prevent a paused clock from advancing by itself.
async fn hurried<T>(work: impl Future<Output = T>) -> T {
    tokio::time::pause();
    let mut work = std::pin::pin!(work);
    let result = loop {
        tokio::select! {
            biased;
            result = &mut work => break result,
            () = async { for _ in 0..2_000 { tokio::task::yield_now().await } } => {}
        }
        // Threads that still run get time, too.
        std::thread::yield_now();
        tokio::time::advance(std::time::Duration::from_millis(50)).await;
    };
    tokio::time::resume();
    result
}

/// Polls `work` until it is done, or `polls` times, and then drops it.
async fn dropped_after<T>(polls: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = Box::pin(work);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        work.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test]
async fn an_attempt_dropped_anywhere_leaves_one_backup_or_nothing_and_the_next_ends_with_one() {
    let data = noise(5, 200_000);
    for polls in 1.. {
        let store = MemoryStore::new();
        let written = dropped_after(polls, run(&store, &plan(1, 1, vec![]), &data, &CancellationToken::new())).await;
        let visible = settled(&store, &data).await;
        assert!(visible || !matches!(written, Some(Ok(_))));
        let next = run(&store, &plan(1, 2, vec![]), &data, &CancellationToken::new()).await;
        match next {
            Ok(_) => assert!(!visible),
            Err(WriteError::SlotDone(_)) => assert!(visible),
            Err(error) => panic!("after {polls} polls: {error}"),
        }
        assert!(settled(&store, &data).await);
        if written.is_some() {
            assert!(polls > 10, "the story has more than a few steps");
            return;
        }
    }
}

#[tokio::test]
async fn a_crash_at_any_call_leaves_one_backup_or_nothing_without_a_sweep_first() {
    let data = noise(6, 9_000_000);
    let calls = good_calls(&data).await.len();
    for fate in [Fate::Hang, Fate::HangAfter] {
        for nth in 0..calls {
            let store = MemoryStore::new();
            let (crash, crashed) = tokio::sync::oneshot::channel();
            let mut crash = Some(crash);
            store.on_call(move |call| {
                if call.nth != nth {
                    return Fate::Pass;
                }
                let _ = crash.take().expect("once").send(());
                fate
            });
            let (first, cancel) = (plan(1, 1, vec![]), CancellationToken::new());
            let crashed = async {
                crashed.await.expect("the call comes");
                // The call takes effect, if it has one, and then never answers.
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                () = crashed => {}
                written = run(&store, &first, &data, &cancel) => panic!("{written:?}"),
            }
            store.no_faults();
            // The next attempt follows without a sweep, and may find the first one's backup.
            match run(&store, &plan(1, 2, vec![]), &data, &CancellationToken::new()).await {
                Ok(_) | Err(WriteError::SlotDone(_)) => {}
                Err(error) => panic!("call {nth}, {fate:?}: {error}"),
            }
            assert!(settled(&store, &data).await, "call {nth}, {fate:?}");
        }
    }
}

/// A store whose calls take turns of different lengths, reproducible by the seed.
fn shuffled(seed: u64) -> MemoryStore {
    let store = MemoryStore::new();
    let turns = noise(seed, 4096);
    store.on_call(move |call| Fate::Later(turns[call.nth % turns.len()] % 24));
    store
}

#[tokio::test]
async fn two_attempts_for_one_slot_make_one_backup() {
    let data = noise(7, 50_000);
    for seed in 0..300 {
        let (store, cancel) = (shuffled(seed), CancellationToken::new());
        let (one, two) = (plan(1, 1, vec![]), plan(1, 2, vec![]));
        let (first, second) = tokio::join!(run(&store, &one, &data, &cancel), run(&store, &two, &data, &cancel));
        match (&first, &second) {
            (Ok(made), Err(WriteError::SlotDone(found))) | (Err(WriteError::SlotDone(found)), Ok(made)) => {
                assert_eq!(**found, *made);
            }
            other => panic!("seed {seed}: {other:?}"),
        }
        assert_eq!((store.keys().len(), store.unfinished_count()), (2, 0), "seed {seed}");
        assert!(settled(&store, &data).await);
    }
}

#[tokio::test]
async fn two_slots_with_one_name_make_one_backup() {
    let data = noise(8, 50_000);
    for seed in 0..300 {
        let (store, cancel) = (shuffled(seed), CancellationToken::new());
        let (one, two) = (plan(1, 1, vec![]), plan(2, 2, vec![]));
        let (first, second) = tokio::join!(run(&store, &one, &data, &cancel), run(&store, &two, &data, &cancel));
        match (&first, &second) {
            (Ok(_), Err(WriteError::NameTaken(_))) | (Err(WriteError::NameTaken(_)), Ok(_)) => {}
            other => panic!("seed {seed}: {other:?}"),
        }
        assert_eq!((store.keys().len(), store.unfinished_count()), (2, 0), "seed {seed}");
        assert!(settled(&store, &data).await);
    }
}

#[tokio::test]
async fn sweeping_beside_a_live_attempt_never_takes_a_backup_away() {
    let data = noise(9, 50_000);
    let (mut made, mut stopped) = (0, 0);
    for seed in 0..300 {
        let (store, cancel) = (shuffled(seed), CancellationToken::new());
        let plan = plan(1, 1, vec![]);
        let writing = run(&store, &plan, &data, &cancel);
        let sweeping = async {
            for _ in 0..seed {
                tokio::task::yield_now().await;
            }
            catalog::sweep_slot(&store, cluster(), name(NAME)).await.expect("no faults");
        };
        let (written, ()) = tokio::join!(writing, sweeping);
        let visible = settled(&store, &data).await;
        assert_eq!(visible, written.is_ok(), "seed {seed}: {written:?}");
        made += usize::from(visible);
        stopped += usize::from(!visible);
    }
    assert!(made > 0 && stopped > 0, "both ends were seen: {made} made, {stopped} stopped");
}
