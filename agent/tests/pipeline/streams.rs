//! Whatever a member sends, only a whole snapshot becomes a backup, and nothing else leaves a trace.

use std::time::Duration;

use backstay_agent::attempt::BackupFailure;
use backstay_protocol::bus::FailureCode;
use bytes::Bytes;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::fake_etcd::{End, FakeEtcd, MEMBER, REVISION, Script, SnapshotFrame};
use crate::support::{SHORT, Shelf, StoppedClock, back_up, database, samples};

const FRAME: usize = 1000;

/// A backup that must fail and leave nothing.
async fn fails(script: Script, stall: Duration) -> BackupFailure {
    let etcd = FakeEtcd::start(script).await;
    fails_at(&etcd, stall).await
}

async fn fails_at(etcd: &FakeEtcd, stall: Duration) -> BackupFailure {
    let shelf = Shelf::new();
    let mut once = shelf.once();
    once.stall = stall;
    let failure = back_up(once, &etcd.member()).await.expect_err("no backup");
    assert_eq!(shelf.files(), Vec::<std::path::PathBuf>::new(), "left after: {failure}");
    failure
}

#[tokio::test]
async fn a_whole_stream_becomes_a_backup_of_what_was_sent() {
    let sent = database(40);
    for size in [sent.len(), FRAME, 7] {
        let etcd = FakeEtcd::start(Script::healthy(&sent, size)).await;
        let shelf = Shelf::new();
        let taken = back_up(shelf.once(), &etcd.member()).await.expect("a backup");
        assert!(taken.first);
        assert_eq!(shelf.open(&taken.manifest).await, sent);
        assert_eq!(taken.manifest.origin.revision, REVISION);
        assert_eq!(taken.manifest.origin.member_id, format!("{MEMBER:016x}"));
        let again = back_up(shelf.once(), &etcd.member()).await.expect("a second");
        assert!(!again.first);
        assert_eq!(again.manifest.cluster_uuid, taken.manifest.cluster_uuid, "found by name");
        assert_eq!(again.manifest.snapshot, taken.manifest.snapshot.next().expect("in range"), "one second on");
    }
}

#[tokio::test]
async fn elections_during_the_first_read_only_delay_it() {
    let etcd = FakeEtcd::start(Script { elections: 3, ..Script::healthy(&database(10), FRAME) }).await;
    let shelf = Shelf::new();
    back_up(shelf.once(), &etcd.member()).await.expect("a backup");
    assert_eq!(etcd.snapshots(), 1);
}

#[tokio::test]
async fn a_stream_cut_at_any_frame_never_completes() {
    let whole = Script::healthy(&database(10), FRAME);
    for cut in 0..whole.frames.len() {
        for end in [End::Clean, End::Error, End::Reset] {
            let script = Script { frames: whole.frames[..cut].to_vec(), end, ..whole.clone() };
            let failure = fails(script, crate::support::LONG).await;
            assert_eq!(failure.code, FailureCode::Source, "{cut} {end:?}: {failure}");
        }
    }
    for end in [End::Error, End::Reset] {
        let failure = fails(Script { end, ..whole.clone() }, crate::support::LONG).await;
        assert_eq!(failure.code, FailureCode::Source, "all frames, but {end:?}: {failure}");
    }
}

#[tokio::test]
async fn a_stream_cut_at_any_byte_never_completes() {
    let whole = Script::healthy(&database(10), FRAME);
    for at in samples(any::<prop::sample::Index>(), 40) {
        let mut script = whole.clone();
        let frame = at.index(script.frames.len());
        script.frames.truncate(frame + 1);
        let blob = &mut script.frames[frame].blob;
        *blob = blob.slice(..at.index(blob.len()));
        let failure = fails(script, crate::support::LONG).await;
        assert_eq!(failure.code, FailureCode::Source, "{failure}");
    }
}

#[tokio::test]
async fn a_byte_that_changed_on_the_way_is_caught() {
    let whole = Script::healthy(&database(10), FRAME);
    for frame in 0..whole.frames.len() {
        let mut script = whole.clone();
        let mut blob = script.frames[frame].blob.to_vec();
        let middle = blob.len() / 2;
        blob[middle] ^= 0x10;
        script.frames[frame].blob = blob.into();
        let failure = fails(script, crate::support::LONG).await;
        assert_eq!(failure.code, FailureCode::Corruption, "{failure}");
        assert!(failure.text.contains("sha256"), "{failure}");
    }
}

#[tokio::test]
async fn a_total_that_is_not_kept_is_caught() {
    let whole = Script::healthy(&database(10), FRAME);
    let with = |change: &dyn Fn(&mut Vec<SnapshotFrame>)| {
        let mut script = whole.clone();
        change(&mut script.frames);
        script
    };
    let too_large = with(&|f| f.iter_mut().rev().skip(1).for_each(|f| f.remaining += 512));
    let too_small = with(&|f| f.iter_mut().for_each(|f| f.remaining = f.remaining.saturating_sub(512)));
    let odd = with(&|f| f[0].remaining += 1);
    let huge = with(&|f| f[0].remaining = u64::MAX);
    let one_lies = with(&|f| f[2].remaining -= 512);
    let one_is_missing = with(&|f| drop(f.remove(3)));
    let one_comes_twice = with(&|f| f.insert(3, f[3].clone()));
    let swapped = with(&|f| f.swap(2, 3));
    let no_database = with(&|f| drop(f.drain(..f.len() - 1)));
    let extra = with(&|f| f.push(SnapshotFrame { remaining: 0, blob: Bytes::from_static(&[0]) }));
    for script in
        [too_large, too_small, odd, huge, one_lies, one_is_missing, one_comes_twice, swapped, no_database, extra]
    {
        let failure = fails(script, crate::support::LONG).await;
        assert_eq!(failure.code, FailureCode::Source, "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_bytes_is_noticed_however_many_frames_it_has() {
    let whole = Script::healthy(&database(10), FRAME);
    for end in [End::Silence, End::EmptyForever] {
        for cut in [0, 3, whole.frames.len() - 1, whole.frames.len()] {
            let script = Script { frames: whole.frames[..cut].to_vec(), end, ..whole.clone() };
            let failure = fails(script, SHORT).await;
            assert_eq!(failure.code, FailureCode::Source, "{failure}");
            assert!(failure.text.contains("no data"), "{cut} {end:?}: {failure}");
        }
    }
}

#[tokio::test]
async fn an_unfit_member_is_never_asked_for_a_snapshot() {
    let whole = Script::healthy(&database(10), FRAME);
    let with = |change: &dyn Fn(&mut Script)| {
        let mut script = whole.clone();
        change(&mut script);
        script
    };
    for (text, script) in [
        ("learner", with(&|s| s.status.learner = true)),
        ("CORRUPT", with(&|s| s.status.errors = vec![format!("memberID:{MEMBER} alarm:CORRUPT ")])),
        ("s: the member has no quorum", with(&|s| s.quorum = false)),
    ] {
        let etcd = FakeEtcd::start(script).await;
        let failure = fails_at(&etcd, crate::support::LONG).await;
        assert!(failure.text.contains(text), "{failure}");
        assert_eq!((failure.code, etcd.snapshots()), (FailureCode::Source, 0));
    }
}

#[tokio::test]
async fn the_deadline_holds_for_the_whole_attempt() {
    let whole = Script::healthy(&database(10), FRAME);
    let etcd = FakeEtcd::start(Script { frames: whole.frames[..3].to_vec(), end: End::Silence, ..whole }).await;
    let shelf = Shelf::new();
    let mut once = shelf.once();
    once.deadline = SHORT;
    let failure = back_up(once, &etcd.member()).await.expect_err("too late");
    assert_eq!(failure.code, FailureCode::Deadline);
    assert!(failure.text.contains("3000 of 5120 bytes read"), "{failure}");
    assert!(shelf.files().is_empty());
}

#[tokio::test]
async fn an_interrupted_backup_leaves_nothing() {
    let whole = Script::healthy(&database(10), FRAME);
    let etcd = FakeEtcd::start(Script { frames: whole.frames[..3].to_vec(), end: End::Silence, ..whole }).await;
    let (shelf, cancel) = (Shelf::new(), CancellationToken::new());
    let member = etcd.member();
    let tries = tokio::sync::watch::Sender::default();
    let work = backstay_agent::once::once(shelf.once(), &member, &StoppedClock, &tries, &cancel);
    let interrupt = async {
        while etcd.snapshots() == 0 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(work, interrupt);
    assert_eq!(result.expect_err("interrupted").code, FailureCode::Cancelled);
    assert!(shelf.files().is_empty());
}

#[tokio::test]
async fn an_etcd_that_has_not_caught_up_with_the_newest_backup_is_asked_once_more_before_it_is_refused() {
    let whole = Script::healthy(&database(10), FRAME);
    let (etcd, shelf) = (FakeEtcd::start(whole.clone()).await, Shelf::new());
    back_up(shelf.once(), &etcd.member()).await.expect("the first");
    let behind = |reads: usize| Script { behind: reads, ..whole.clone() };
    etcd.say(behind(etcd.reads() + 1));
    back_up(shelf.once(), &etcd.member()).await.expect("the second look finds it where the backup is");
    etcd.say(behind(usize::MAX));
    let (reads, snapshots) = (etcd.reads(), etcd.snapshots());
    let failure = back_up(shelf.once(), &etcd.member()).await.expect_err("it stays behind");
    assert_eq!((failure.code, etcd.reads() - reads, etcd.snapshots() - snapshots), (FailureCode::Source, 2, 0));
    let said = format!("is at revision {REVISION}, but this etcd is only at {}", REVISION - 1);
    assert!(failure.text.contains(&said) && failure.text.contains("--new-cluster-id"), "{failure}");
}
