//! The outbox without NATS: order, crashes between any two steps, damage, bounds, outages.

use std::sync::Arc;

use async_trait::async_trait;
use backstay_protocol::bus::{Failed, FailureCode, Finished, Report, Started, report::State};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::sender::{Courier, send};
use super::*;

fn record(attempt: &str, state: State) -> Record {
    let report = Report { version: 1, attempt: attempt.into(), state: Some(state), ..Report::default() };
    Record::new("backstay.v1.report.c.m".into(), &report)
}

fn started(attempt: &str) -> Record {
    record(attempt, State::Started(Started {}))
}

fn finished(attempt: &str) -> Record {
    record(attempt, State::Finished(Finished::default()))
}

fn ids(outbox: &Outbox) -> Vec<String> {
    outbox.lock().entries.values().map(|e| e.message_id.clone()).collect()
}

#[test]
fn what_was_added_is_there_after_a_crash_in_its_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let outbox = Outbox::open(folder.path()).expect("fresh");
    for record in [started("a"), finished("a"), finished("a"), started("b")] {
        outbox.add(record).expect("writable");
    }
    drop(outbox); // nothing is flushed at the end: a crash looks the same
    let outbox = Outbox::open(folder.path()).expect("left");
    assert_eq!(ids(&outbox), ["a.started", "a.finished", "b.started"], "and a repetition is dropped");
    let (number, first) = outbox.first().expect("the disk works").expect("three");
    assert_eq!(first, started("a"));
    drop(outbox); // sent, and dead before it was taken away
    let outbox = Outbox::open(folder.path()).expect("left");
    assert_eq!(outbox.first().expect("the disk works").expect("sent again"), (number, first));
    outbox.done(number);
    outbox.add(finished("b")).expect("writable");
    drop(outbox);
    assert_eq!(ids(&Outbox::open(folder.path()).expect("left")), ["a.finished", "b.started", "b.finished"]);
}

#[test]
fn a_crash_in_the_middle_of_writing_leaves_no_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("00000000000000000001.report.partial");
    std::fs::write(path, &finished("a").to_bytes()[..20]).expect("writable");
    assert!(Outbox::open(folder.path()).expect("usable").first().expect("the disk works").is_none());
}

#[test]
fn a_damaged_record_is_set_aside_and_holds_up_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let outbox = Outbox::open(folder.path()).expect("fresh");
    outbox.add(started("a")).expect("writable");
    outbox.add(finished("a")).expect("writable");
    std::fs::write(outbox.path(1), b"\x93nonsense").expect("writable");
    assert_eq!(outbox.first().expect("the disk works").expect("the second").1, finished("a"));
    std::fs::write(outbox.path(2), b"").expect("writable");
    drop(outbox);
    let outbox = Outbox::open(folder.path()).expect("usable");
    assert!(outbox.first().expect("the disk works").is_none());
    outbox.add(finished("b")).expect("a number that was never used");
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .expect("readable")
        .map(|e| e.expect("an entry").file_name().into_string().expect("ascii"))
        .collect();
    names.sort();
    let number = |n, end: &str| format!("{n:020}.report{end}");
    assert_eq!(names, [number(1, ".corrupt"), number(2, ".corrupt"), number(3, "")]);
}

#[test]
fn a_full_outbox_drops_the_oldest_started_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let outbox = Outbox::open(folder.path()).expect("fresh");
    {
        let mut queue = outbox.lock();
        for n in 1..=RECORDS_MAX as u64 {
            let message_id = format!("{n}.x");
            queue.entries.insert(n, WaitingReport { message_id, passing: n == 3 || n == 9, unsaved: None });
        }
        queue.next = RECORDS_MAX as u64 + 1;
    }
    for attempt in ["a", "b", "c"] {
        outbox.add(finished(attempt)).expect("writable");
    }
    let left = ids(&outbox);
    assert_eq!(left.len(), RECORDS_MAX);
    assert!(!left.iter().any(|id| ["1.x", "3.x", "9.x"].contains(&id.as_str())));
    assert_eq!(left[0], "2.x");
    assert_eq!(left[RECORDS_MAX - 1], "c.finished");
}

#[test]
fn a_disk_that_refuses_keeps_no_report_from_being_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let inner = folder.path().join("outbox");
    let outbox = Outbox::open(&inner).expect("fresh");
    std::fs::remove_dir(&inner).expect("empty");
    outbox.add(finished("a")).expect_err("there is no folder");
    let (number, first) = outbox.first().expect("the disk works").expect("kept in memory");
    assert_eq!(first, finished("a"));
    outbox.done(number);
    assert!(outbox.first().expect("the disk works").is_none());
}

#[test]
fn a_report_that_nats_would_not_let_through_is_cut_and_holds_up_nobody() {
    let failed = |text: String| record("a", State::Failed(Failed { code: FailureCode::Store.into(), text }));
    let long = failed("x".repeat(100_000));
    let sent = Report::decode(sender::fitting(&long, 64 * 1024)).expect("a report");
    let Some(State::Failed(kept)) = sent.state else { panic!("another state") };
    assert!(
        kept.text.len() <= backstay_protocol::limits::TEXT
            && kept.text.starts_with("xxx")
            && kept.code() == FailureCode::Store
    );
    assert_eq!(sent.attempt, "a");
    for whole in [failed("short".into()), finished("a")] {
        assert_eq!(sender::fitting(&whole, 64 * 1024), whole.payload);
    }
    assert_eq!(sender::fitting(&long, 1024 * 1024), long.payload);
}

proptest! {
    #[test]
    fn records_round_trip_and_damage_never_panics(attempt in ".{0,40}", cut in any::<prop::sample::Index>(), flip in any::<u8>()) {
        let record = finished(&attempt);
        let mut bytes = record.to_bytes();
        prop_assert_eq!(Record::from_bytes(&bytes), Ok(record));
        let at = cut.index(bytes.len());
        bytes[at] ^= flip;
        let _ = Record::from_bytes(&bytes);
        prop_assert!(Record::from_bytes(&bytes[..at]).is_err());
    }
}

/// Fails as often as it is told, then takes everything.
struct Flaky {
    failures: Mutex<u32>,
    got: Mutex<Vec<String>>,
}

#[async_trait]
impl Courier for Flaky {
    async fn deliver(&self, record: &Record) -> Result<(), String> {
        let mut failures = self.failures.lock().expect("not poisoned");
        if *failures > 0 {
            *failures -= 1;
            return Err("away".into());
        }
        self.got.lock().expect("not poisoned").push(record.message_id.clone());
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn reports_arrive_in_order_after_an_outage() {
    let folder = tempfile::tempdir().expect("a folder");
    let outbox = Arc::new(Outbox::open(folder.path()).expect("fresh"));
    let courier = Flaky { failures: Mutex::new(30), got: Mutex::default() };
    let (hurry, stop) = (CancellationToken::new(), CancellationToken::new());
    let mut waiting = outbox.waiting();
    let work = async {
        outbox.add(started("a")).expect("writable");
        outbox.add(finished("a")).expect("writable");
        waiting.wait_for(|n| *n == 0).await.expect("the outbox lives");
        outbox.add(started("b")).expect("writable");
        waiting.wait_for(|n| *n == 0).await.expect("the outbox lives");
        stop.cancel();
    };
    tokio::join!(work, send(Arc::clone(&outbox), &courier, &hurry, &stop));
    assert_eq!(*courier.got.lock().expect("not poisoned"), ["a.started", "a.finished", "b.started"]);
    drop(outbox);
    assert!(Outbox::open(folder.path()).expect("usable").first().expect("the disk works").is_none());
}
