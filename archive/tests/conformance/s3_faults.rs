//! Broken connections, overload and lost answers: the result that is reported is the one that happened, a part that
//! is sent again has the same bytes, and nothing unfinished is left.

use std::time::Duration;

use backstay_archive::Store;
use backstay_archive::store::s3::S3Store;
use backstay_archive::store::{ErrorKind, PART_BYTES, StoreError, Upload};
use bytes::Bytes;
use futures::TryStreamExt;

use super::faults::{Call, Fate, Op, Words};
use super::provider::Habits;
use super::server::Server;
use super::{attempt, bytes, key};

async fn start() -> (Server, S3Store) {
    let server = Server::start(Habits::default()).await;
    let store = server.store().await;
    (server, store)
}

fn body() -> [Bytes; 4] {
    [bytes(1, PART_BYTES), bytes(2, PART_BYTES), bytes(3, PART_BYTES), bytes(4, 54_321)]
}

/// A whole backup as the writer makes it: three parts in flight, then completion. Aborts if it fails.
async fn backup(store: &S3Store) -> Result<u32, StoreError> {
    let upload = store.begin(&key("c/x"), attempt(1)).await?;
    let result = send(upload.as_ref()).await;
    if result.is_err() {
        upload.abort().await?;
    }
    result.map(|()| upload.retries())
}

async fn send(upload: &dyn Upload) -> Result<(), StoreError> {
    let parts = body();
    futures::future::try_join_all((1..).zip(&parts[..3]).map(|(n, part)| upload.part(n, part.clone()))).await?;
    upload.part(4, parts[3].clone()).await?;
    upload.complete(4).await
}

/// Every try of a part had the same bytes. Returns how many tries there were after the first.
fn same_bytes_each_time(server: &Server) -> usize {
    let parts = server.faults.parts();
    for attempts in &parts {
        assert!(attempts.iter().all(|digest| *digest == attempts[0]), "a retry sent other bytes");
    }
    parts.iter().map(|attempts| attempts.len() - 1).sum()
}

async fn is_whole(store: &S3Store) -> bool {
    let Ok(found) = store.read(&key("c/x")).await else { return false };
    found.try_collect::<Vec<_>>().await.expect("read").concat() == body().concat()
}

/// The backup succeeds despite these faults, is whole and has its owner, and nothing is left over.
async fn survives(policy: impl Fn(&Call) -> Fate + Send + Sync + 'static) -> (Server, u32) {
    let (server, store) = start().await;
    server.faults.set_policy(policy);
    let retries = backup(&store).await.expect("the faults are survived");
    server.faults.clear();
    assert!(is_whole(&store).await);
    let found = store.head(&key("c/x")).await.expect("looked up").expect("there");
    assert_eq!(found.owner, Some(attempt(1)));
    assert_eq!(store.unfinished("").await.expect("listed"), []);
    (server, retries)
}

#[tokio::test]
async fn every_third_request_is_answered_with_503() {
    let (server, retries) = survives(|call| if call.all % 3 == 2 { Fate::Refuse(503) } else { Fate::Pass }).await;
    let resent = same_bytes_each_time(&server);
    assert!(resent > 0 && retries as usize == resent, "{retries} counted, {resent} seen");
}

#[tokio::test]
async fn connections_are_reset() {
    let fates = [Fate::Reset, Fate::CutRequest, Fate::Refuse(500)];
    let (server, retries) = survives(move |call| match call.op {
        Op::Part if call.nth < 6 => fates[call.nth % 3],
        _ if call.nth == 0 && call.op != Op::Begin => Fate::Reset,
        _ => Fate::Pass,
    })
    .await;
    same_bytes_each_time(&server);
    assert_eq!(retries, 6, "one for each fault");
}

#[tokio::test]
async fn answers_to_parts_are_lost() {
    let (server, retries) = survives(|call| match call.op {
        Op::Part if call.nth % 2 == 0 => Fate::LoseAnswer,
        _ => Fate::Pass,
    })
    .await;
    let resent = same_bytes_each_time(&server);
    assert!(resent >= 4 && retries as usize == resent, "{retries} counted, {resent} seen");
}

#[tokio::test]
async fn a_part_that_did_not_arrive_whole_is_sent_again_as_it_was() {
    const GARBLED: Words = Words {
        status: 400,
        headers: &[("content-type", "application/xml")],
        body: "<Error><Code>BadDigest</Code><Message>The Content-MD5 you specified did not match</Message></Error>",
    };
    let say = |times| {
        move |call: &Call| if call.op == Op::Part && call.nth < times { Fate::Say(&GARBLED) } else { Fate::Pass }
    };
    for times in 1..=2 {
        let (server, retries) = survives(say(times)).await;
        assert_eq!((same_bytes_each_time(&server), retries as usize), (times, times));
    }
    // It is not tried for ever, and nothing remains.
    let (server, store) = start().await;
    server.faults.set_policy(say(usize::MAX));
    let error = small_backup(&store).await.expect_err("it never arrives");
    assert!(error.is(ErrorKind::Unavailable) && error.to_string().contains("BadDigest"), "{error:?}");
    assert!(server.faults.count(Op::Part) >= 3, "{}", server.faults.count(Op::Part));
    server.faults.clear();
    assert_eq!(store.unfinished("").await.expect("listed"), []);
}

#[tokio::test]
async fn the_answer_to_complete_is_lost() {
    for times in 1..=3 {
        let (server, _) = survives(move |call| match call.op {
            Op::Complete if call.nth < times => Fate::LoseAnswer,
            _ => Fate::Pass,
        })
        .await;
        assert!(server.faults.parts().iter().all(|attempts| attempts.len() == 1), "nothing was uploaded again");
    }
}

#[tokio::test]
async fn every_answer_to_complete_is_lost() {
    survives(|call| if call.op == Op::Complete { Fate::LoseAnswer } else { Fate::Pass }).await;
}

#[tokio::test]
async fn the_answer_to_complete_breaks_off() {
    survives(|call| match call.op {
        Op::Complete if call.nth == 0 => Fate::CutAnswer(20),
        _ => Fate::Pass,
    })
    .await;
}

#[tokio::test]
async fn the_answer_to_complete_comes_too_late() {
    let server = Server::start(Habits::default()).await;
    let impatient = |patience: &mut backstay_archive::store::s3::Patience| {
        patience.join = Duration::from_millis(300);
        patience.attempts = 2;
    };
    let store = server.store_with(server.settings(), impatient).await;
    server.faults.set_policy(|call| if call.op == Op::Complete { Fate::Hang } else { Fate::Pass });
    let error = backup(&store).await.expect_err("nobody completed it");
    assert!(error.is(ErrorKind::Unavailable), "{error:?}");
    server.faults.clear();
    assert!(!is_whole(&store).await);
    assert_eq!(store.unfinished("").await.expect("listed"), []);
}

#[tokio::test]
async fn the_answer_to_put_is_lost() {
    let (server, store) = start().await;
    server.faults.set_policy(|call| match call.op {
        Op::Put if call.nth == 0 => Fate::LoseAnswer,
        _ => Fate::Pass,
    });
    store.put_new(&key("c/x"), Bytes::from_static(b"small")).await.expect("it was created");
    assert!(server.faults.count(Op::Put) >= 2, "the retry met the object");
    let error = store.put_new(&key("c/x"), Bytes::from_static(b"other")).await.expect_err("taken");
    assert!(error.is(ErrorKind::AlreadyExists), "{error:?}");
    server.faults.set_policy(|call| if call.op == Op::Put { Fate::LoseAnswer } else { Fate::Pass });
    store.put_new(&key("c/y"), Bytes::from_static(b"small")).await.expect("it was created");
}

#[tokio::test]
async fn two_writers_that_meet_are_tried_again() {
    let (server, store) = start().await;
    server.faults.set_policy(|call| match call.op {
        Op::Put if call.nth == 0 => Fate::Refuse(409),
        _ => Fate::Pass,
    });
    store.put_new(&key("c/x"), Bytes::from_static(b"small")).await.expect("the second try");
    server.faults.set_policy(|call| if call.op == Op::Put { Fate::Refuse(409) } else { Fate::Pass });
    let error = store.put_new(&key("c/y"), Bytes::from_static(b"small")).await.expect_err("always refused");
    assert!(error.is(ErrorKind::Unavailable), "{error:?}");
}

/// Every call of an upload, failing for good in every way: no false success, and nothing left.
#[tokio::test]
async fn no_failure_is_taken_for_success() {
    let fates = [
        (Fate::Refuse(500), ErrorKind::Unavailable),
        (Fate::Refuse(503), ErrorKind::Unavailable),
        (Fate::Refuse(403), ErrorKind::Denied),
        (Fate::Reset, ErrorKind::Unavailable),
        (Fate::Hang, ErrorKind::Unavailable),
    ];
    let server = Server::start(Habits::default()).await;
    let impatient = |patience: &mut backstay_archive::store::s3::Patience| {
        (patience.attempts, patience.slowest) = (2, u64::MAX);
        (patience.answer, patience.join) = (Duration::from_millis(400), Duration::from_millis(400));
    };
    let impatient = server.store_with(server.settings(), impatient).await;
    let store = server.store().await;
    for op in [Op::Begin, Op::Part, Op::Complete, Op::Head] {
        for (fate, kind) in fates {
            server.faults.set_policy(move |call| if call.op == op { fate } else { Fate::Pass });
            let done = small_backup(&impatient).await;
            if (op, fate) == (Op::Head, Fate::Refuse(403)) {
                // The listing shows what HEAD may not: it is a backup, and really a success.
                done.expect("it is there");
                server.faults.clear();
                let found = store.head(&key("c/x")).await.expect("looked up").expect("there");
                assert_eq!((found.size, found.owner), (1000, Some(attempt(1))));
                store.delete(&key("c/x")).await.expect("deleted");
                continue;
            }
            let error = done.expect_err("it failed");
            assert!(error.is(kind), "{op:?} {fate:?}: {error:?}");
            server.faults.clear();
            assert_eq!(store.head(&key("c/x")).await.expect("looked up"), None, "{op:?} {fate:?}");
            assert_eq!(store.unfinished("").await.expect("listed"), [], "{op:?} {fate:?}");
        }
    }
}

async fn small_backup(store: &S3Store) -> Result<(), StoreError> {
    let upload = store.begin(&key("c/x"), attempt(1)).await?;
    let result = match upload.part(1, bytes(1, 1000)).await {
        Ok(()) => upload.complete(1).await,
        Err(error) => Err(error),
    };
    if result.is_err() {
        upload.abort().await.expect("aborted");
    }
    result
}

#[tokio::test]
async fn the_answer_to_begin_is_lost_and_a_sweep_finds_what_it_left() {
    let (server, store) = start().await;
    server.faults.set_policy(|call| match call.op {
        Op::Begin if call.nth == 0 => Fate::LoseAnswer,
        _ => Fate::Pass,
    });
    backup(&store).await.expect("the second answer came");
    let left = store.unfinished("c/x").await.expect("listed");
    assert_eq!(left.len(), 1);
    store.abort_unfinished(&left[0]).await.expect("aborted");
    assert!(is_whole(&store).await);
}

#[tokio::test]
async fn an_abort_survives_what_an_upload_does() {
    for fate in [Fate::LoseAnswer, Fate::Refuse(503), Fate::Reset] {
        let (server, store) = start().await;
        let upload = store.begin(&key("c/x"), attempt(1)).await.expect("begun");
        upload.part(1, bytes(1, 100)).await.expect("uploaded");
        server.faults.set_policy(move |call| if call.op == Op::Abort && call.nth == 0 { fate } else { Fate::Pass });
        upload.abort().await.expect("aborted");
        assert_eq!(store.unfinished("").await.expect("listed"), [], "{fate:?}");
    }
}

#[tokio::test]
async fn a_download_goes_on_where_it_broke_off() {
    let (server, store) = start().await;
    backup(&store).await.expect("completed");
    server.faults.set_policy(|call| match call.op {
        Op::Get if call.nth < 4 => Fate::CutAnswer(3_000_000 * (call.nth + 1) / 2),
        _ => Fate::Pass,
    });
    assert!(is_whole(&store).await);
    assert_eq!(server.faults.count(Op::Get), 5);
    // If it fails for good, there is an error, not a shorter object.
    server.faults.set_policy(|call| if call.nth == 0 { Fate::CutAnswer(1000) } else { Fate::Reset });
    let found = store.read(&key("c/x")).await.expect("the answer begins");
    let error = found.try_collect::<Vec<_>>().await.expect_err("it never goes on");
    assert!(error.is(ErrorKind::Unavailable), "{error:?}");
}

#[tokio::test]
async fn an_abort_while_parts_are_on_their_way_leaves_nothing() {
    let (server, store) = start().await;
    let upload = store.begin(&key("c/x"), attempt(1)).await.expect("begun");
    upload.part(1, bytes(1, PART_BYTES)).await.expect("uploaded");
    server.faults.set_policy(|call| if call.op == Op::Part { Fate::Hang } else { Fate::Pass });
    let arrived = tokio::time::timeout(Duration::from_millis(200), upload.part(2, bytes(2, 100))).await;
    assert!(arrived.is_err(), "given up on its way");
    upload.abort().await.expect("aborted");
    assert_eq!(store.unfinished("").await.expect("listed"), []);
}
