//! The rules of a store, as checks. Each gets an empty store, opened twice, as two programs would.

use std::sync::Arc;

use backstay_archive::Store;
use backstay_archive::store::{ErrorKind, ObjectInfo, PART_BYTES, StoreError, Upload};
use bytes::Bytes;
use futures::TryStreamExt;

use super::{attempt, bytes, key};

/// The same store, opened by two programs.
pub struct Stores {
    pub store: Arc<dyn Store>,
    pub again: Arc<dyn Store>,
}

/// Makes a test of every check. `$open` is a future of something to keep alive, and the stores.
macro_rules! conformance {
    ($open:expr) => {
        $crate::suite::conformance!($open;
            an_object_is_created_once, the_same_bytes_are_created_twice, a_small_object_has_a_limit, a_part_is_read,
            what_is_not_there, listing_is_sorted_and_whole, listings_by_prefix, folders_of_the_root,
            hidden_names_belong_to_the_store, parts_become_an_object, parts_come_in_any_order_at_once,
            a_part_may_be_sent_again, nothing_is_visible_before_it_is_complete, missing_parts_are_refused,
            a_taken_name_is_refused, a_taken_name_of_a_small_object_is_refused, of_many_uploads_one_wins,
            complete_is_idempotent, an_abort_leaves_nothing, what_a_dead_attempt_left_is_swept,
            deleting_forgets_everything, unfinished_uploads_by_prefix);
    };
    ($open:expr; $($check:ident),*) => {$(
        #[tokio::test]
        async fn $check() {
            let (_kept, stores) = $open.await;
            $crate::suite::$check(&stores).await;
            assert_eq!(stores.store.unfinished("").await.expect("listed"), [], "nothing unfinished is left");
        }
    )*};
}
pub(crate) use conformance;

async fn names(store: &Arc<dyn Store>, prefix: &str) -> Vec<String> {
    let found: Vec<ObjectInfo> = store.list(prefix).try_collect().await.expect("listed");
    found.into_iter().map(|object| object.key.to_string()).collect()
}

async fn begin(store: &Arc<dyn Store>, name: &str, owner: u128, body: &[Bytes]) -> Box<dyn Upload> {
    let upload = store.begin(&key(name), attempt(owner)).await.expect("begun");
    for (number, part) in (1..).zip(body) {
        upload.part(number, part.clone()).await.expect("uploaded");
    }
    upload
}

async fn put(store: &Arc<dyn Store>, name: &str, body: &'static str) -> Result<(), StoreError> {
    store.put_new(&key(name), Bytes::from_static(body.as_bytes())).await
}

async fn read(store: &Arc<dyn Store>, name: &str) -> Bytes {
    let chunks: Vec<Bytes> = store.read(&key(name)).await.expect("there").try_collect().await.expect("read");
    Bytes::from(chunks.concat())
}

async fn owner(store: &Arc<dyn Store>, name: &str) -> Option<u128> {
    store.head(&key(name)).await.expect("looked up")?.owner.map(|id| id.0.as_u128())
}

fn refused(result: Result<(), StoreError>, kind: ErrorKind) {
    let error = result.expect_err("refused");
    assert!(error.is(kind), "{error:?}");
}

pub async fn an_object_is_created_once(Stores { store, again }: &Stores) {
    put(store, "a/b", "first").await.expect("created");
    refused(put(again, "a/b", "other").await, ErrorKind::AlreadyExists);
    refused(put(again, "a/b", "longer than the first").await, ErrorKind::AlreadyExists);
    refused(put(again, "a/b", "").await, ErrorKind::AlreadyExists);
    assert_eq!(read(store, "a/b").await, "first");
    let found = store.head(&key("a/b")).await.expect("looked up").expect("there");
    assert_eq!((found.size, found.owner), (5, None));
    assert!(found.modified.is_some_and(|at| at.seconds > 1_700_000_000), "{found:?}");
}

pub async fn the_same_bytes_are_created_twice(Stores { store, again }: &Stores) {
    put(store, "a/b", "first").await.expect("created");
    put(again, "a/b", "first").await.expect("an earlier answer was lost");
    put(store, "a/empty", "").await.expect("created");
    put(again, "a/empty", "").await.expect("an earlier answer was lost");
    assert_eq!(names(store, "").await, ["a/b", "a/empty"]);
}

pub async fn a_small_object_has_a_limit(Stores { store, .. }: &Stores) {
    put(store, "a/b", "12345").await.expect("created");
    assert_eq!(store.get(&key("a/b"), 5).await.expect("within"), "12345");
    let error = store.get(&key("a/b"), 4).await.expect_err("too long");
    assert!(error.is(ErrorKind::TooLarge), "{error:?}");
}

pub async fn what_is_not_there(Stores { store, .. }: &Stores) {
    assert_eq!(store.head(&key("a/b")).await.expect("looked up"), None);
    assert!(store.get(&key("a/b"), 5).await.expect_err("not there").is(ErrorKind::NotFound));
    let Err(error) = store.read(&key("a/b")).await else { panic!("not there") };
    assert!(error.is(ErrorKind::NotFound), "{error:?}");
    store.delete(&key("a/b")).await.expect("fine");
    assert!(names(store, "").await.is_empty());
    assert!(names(store, "a/").await.is_empty());
    assert!(store.folders().await.expect("listed").is_empty());
}

pub async fn a_part_is_read(Stores { store, again }: &Stores) {
    put(store, "a/b", "0123456789").await.expect("created");
    let part = async |range| {
        let chunks: Vec<Bytes> = again.read_range(&key("a/b"), range).await?.try_collect().await?;
        Ok::<_, StoreError>(chunks.concat())
    };
    assert_eq!(part(0..10).await.expect("whole"), b"0123456789");
    assert_eq!(part(3..4).await.expect("one"), b"3");
    assert_eq!(part(7..10).await.expect("the end"), b"789");
    // A reader must not mistake a part of what it requested for all of it.
    for range in [8..11, 10..12, 20..30, 5..5] {
        assert!(part(range.clone()).await.is_err(), "{range:?}");
    }
    let Err(error) = again.read_range(&key("a/c"), 0..1).await else { panic!("not there") };
    assert!(error.is(ErrorKind::NotFound), "{error:?}");
}

pub async fn listing_is_sorted_and_whole(Stores { store, again }: &Stores) {
    let mut expected = ["a-b", "a.b", "a/b", "a/b-c", "a0", "b/a/c", "b/a-c", "b/a0"].map(str::to_owned);
    for name in &expected {
        store.put_new(&key(name), Bytes::from_static(b"x")).await.expect("created");
    }
    expected.sort();
    assert_eq!(names(again, "").await, expected);
}

pub async fn listings_by_prefix(Stores { store, .. }: &Stores) {
    for name in ["c/x.snapshot", "c/x.manifest.json", "c/intents/x.json", "cc/y.snapshot"] {
        put(store, name, "x").await.expect("created");
    }
    assert_eq!(names(store, "c/").await, ["c/intents/x.json", "c/x.manifest.json", "c/x.snapshot"]);
    assert_eq!(names(store, "c/intents/").await, ["c/intents/x.json"]);
    assert_eq!(names(store, "d/").await, Vec::<String>::new());
    assert_eq!(names(store, "c/x").await, ["c/x.manifest.json", "c/x.snapshot"]);
    assert_eq!(names(store, "c").await.len(), 4);
    for wrong in ["../", "/", "a/../", "a//"] {
        assert!(store.list(wrong).try_collect::<Vec<_>>().await.is_err(), "{wrong}");
    }
}

pub async fn folders_of_the_root(Stores { store, .. }: &Stores) {
    for name in ["d/x", "b/a/x", "c", "b/y"] {
        put(store, name, "x").await.expect("created");
    }
    assert_eq!(store.folders().await.expect("listed"), ["b", "d"]);
}

pub async fn hidden_names_belong_to_the_store(Stores { store, .. }: &Stores) {
    for name in [".x", "a/.x", ".a/x"] {
        refused(put(store, name, "x").await, ErrorKind::Invalid);
        refused(store.begin(&key(name), attempt(1)).await.map(drop), ErrorKind::Invalid);
        refused(store.delete(&key(name)).await, ErrorKind::Invalid);
    }
}

pub async fn parts_become_an_object(Stores { store, again }: &Stores) {
    let body = [bytes(1, PART_BYTES), bytes(2, PART_BYTES), bytes(3, 12_345)];
    let upload = begin(store, "c/x", 7, &body).await;
    upload.complete(3).await.expect("completed");
    assert_eq!(read(again, "c/x").await, body.concat());
    let found = again.head(&key("c/x")).await.expect("looked up").expect("there");
    assert_eq!((found.size, found.owner), (body.concat().len() as u64, Some(attempt(7))));
    assert_eq!(names(again, "").await, ["c/x"]);
    assert_eq!(upload.retries(), 0);
}

pub async fn parts_come_in_any_order_at_once(Stores { store, .. }: &Stores) {
    let body = [bytes(1, PART_BYTES), bytes(2, PART_BYTES), bytes(3, PART_BYTES), bytes(4, 1)];
    let upload = begin(store, "c/x", 7, &[]).await;
    let sent = [4u32, 2, 1, 3].map(|number| upload.part(number, body[number as usize - 1].clone()));
    futures::future::try_join_all(sent).await.expect("uploaded");
    upload.complete(4).await.expect("completed");
    assert_eq!(read(store, "c/x").await, body.concat());
}

pub async fn a_part_may_be_sent_again(Stores { store, .. }: &Stores) {
    let upload = begin(store, "c/x", 7, &[bytes(1, PART_BYTES), bytes(2, 500)]).await;
    upload.part(2, bytes(3, 100)).await.expect("replaces the longer one");
    upload.complete(2).await.expect("completed");
    assert_eq!(read(store, "c/x").await, [bytes(1, PART_BYTES), bytes(3, 100)].concat());
}

pub async fn nothing_is_visible_before_it_is_complete(Stores { store, again }: &Stores) {
    let upload = begin(store, "c/x", 7, &[bytes(1, 10)]).await;
    assert!(names(again, "").await.is_empty());
    assert_eq!(again.head(&key("c/x")).await.expect("looked up"), None);
    assert!(again.get(&key("c/x"), 100).await.is_err());
    let found = again.unfinished("c/").await.expect("listed");
    assert_eq!(found.iter().map(|upload| upload.key.as_str()).collect::<Vec<_>>(), ["c/x"]);
    upload.complete(1).await.expect("completed");
    assert_eq!(names(again, "").await, ["c/x"]);
}

pub async fn missing_parts_are_refused(Stores { store, .. }: &Stores) {
    let upload = begin(store, "c/x", 7, &[bytes(1, PART_BYTES)]).await;
    upload.part(3, bytes(3, 10)).await.expect("uploaded");
    for count in [0, 1, 2, 3, 4] {
        refused(upload.complete(count).await, ErrorKind::Invalid);
    }
    refused(upload.part(0, bytes(1, 1)).await, ErrorKind::Invalid);
    refused(upload.part(1, Bytes::new()).await, ErrorKind::Invalid);
    refused(upload.part(1, bytes(1, PART_BYTES + 1)).await, ErrorKind::Invalid);
    upload.part(2, bytes(2, 10)).await.expect("uploaded");
    // Part 2 is shorter than a part must be that is not the last.
    refused(upload.complete(3).await, ErrorKind::Invalid);
    assert!(names(store, "").await.is_empty());
    upload.abort().await.expect("aborted");
}

pub async fn a_taken_name_is_refused(Stores { store, again }: &Stores) {
    let late = begin(again, "c/x", 2, &[bytes(2, 10)]).await;
    begin(store, "c/x", 1, &[bytes(1, 10)]).await.complete(1).await.expect("completed");
    refused(late.complete(1).await, ErrorKind::AlreadyExists);
    refused(late.complete(1).await, ErrorKind::AlreadyExists);
    assert_eq!(again.unfinished("").await.expect("listed").len(), 1, "the upload stays to be aborted");
    late.abort().await.expect("aborted");
    assert_eq!(read(store, "c/x").await, bytes(1, 10));
    assert_eq!(owner(again, "c/x").await, Some(1));
}

pub async fn a_taken_name_of_a_small_object_is_refused(Stores { store, again }: &Stores) {
    let late = begin(again, "c/x", 2, &[bytes(2, 10)]).await;
    put(store, "c/x", "small").await.expect("created");
    refused(late.complete(1).await, ErrorKind::AlreadyExists);
    late.abort().await.expect("aborted");
    refused(put(again, "c/x", "other").await, ErrorKind::AlreadyExists);
    assert_eq!(read(store, "c/x").await, "small");
}

pub async fn of_many_uploads_one_wins(Stores { store, again }: &Stores) {
    let mut uploads = Vec::new();
    for n in 0..8u8 {
        let from = if n % 2 == 0 { store } else { again };
        uploads.push(begin(from, "c/x", u128::from(n) + 1, &[bytes(n, 100)]).await);
    }
    let results = futures::future::join_all(uploads.iter().map(|upload| upload.complete(1))).await;
    let winners: Vec<usize> = (0..8).filter(|n| results[*n].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    for (upload, result) in uploads.iter().zip(results) {
        if let Err(error) = result {
            assert!(error.is(ErrorKind::AlreadyExists), "{error:?}");
            upload.abort().await.expect("aborted");
        }
    }
    assert_eq!(owner(store, "c/x").await, Some(winners[0] as u128 + 1));
    assert_eq!(read(store, "c/x").await, bytes(winners[0] as u8, 100));
}

pub async fn complete_is_idempotent(Stores { store, again }: &Stores) {
    let upload = begin(store, "c/x", 1, &[bytes(1, 10)]).await;
    upload.complete(1).await.expect("completed");
    upload.complete(1).await.expect("completed before");
    upload.abort().await.expect("does nothing");
    // A second upload of the same attempt finds its object.
    let other = begin(again, "c/x", 1, &[bytes(1, 10)]).await;
    other.complete(1).await.expect("this attempt's object is there");
    assert_eq!(read(store, "c/x").await, bytes(1, 10));
    assert_eq!(owner(store, "c/x").await, Some(1));
    for left in store.unfinished("").await.expect("listed") {
        store.abort_unfinished(&left).await.expect("aborted");
    }
    assert_eq!(read(store, "c/x").await, bytes(1, 10));
    assert_eq!(owner(store, "c/x").await, Some(1));
}

pub async fn an_abort_leaves_nothing(Stores { store, .. }: &Stores) {
    let upload = begin(store, "c/x", 1, &[bytes(1, PART_BYTES), bytes(2, 10)]).await;
    upload.abort().await.expect("aborted");
    upload.abort().await.expect("does nothing");
    assert!(names(store, "").await.is_empty());
    refused(upload.complete(2).await, ErrorKind::Invalid);
    assert!(upload.part(3, bytes(3, 10)).await.is_err(), "the upload has already ended");
    assert_eq!(store.head(&key("c/x")).await.expect("looked up"), None);
}

pub async fn what_a_dead_attempt_left_is_swept(Stores { store, again }: &Stores) {
    drop(begin(store, "c/x", 1, &[bytes(1, PART_BYTES)]).await);
    drop(begin(store, "c/x", 1, &[]).await);
    let left = again.unfinished("c/").await.expect("listed");
    assert_eq!(left.len(), 2);
    for upload in &left {
        again.abort_unfinished(upload).await.expect("aborted");
        again.abort_unfinished(upload).await.expect("it is not there any more");
    }
    begin(again, "c/x", 2, &[bytes(2, 10)]).await.complete(1).await.expect("the name is free");
}

pub async fn deleting_forgets_everything(Stores { store, .. }: &Stores) {
    begin(store, "c/x", 1, &[bytes(1, 10)]).await.complete(1).await.expect("completed");
    store.delete(&key("c/x")).await.expect("deleted");
    assert_eq!(store.head(&key("c/x")).await.expect("looked up"), None);
    put(store, "c/x", "small").await.expect("the name is free");
    assert_eq!(owner(store, "c/x").await, None);
    store.delete(&key("c/x")).await.expect("deleted");
    begin(store, "c/x", 2, &[bytes(2, 10)]).await.complete(1).await.expect("the name is free");
    assert_eq!(owner(store, "c/x").await, Some(2));
}

pub async fn unfinished_uploads_by_prefix(Stores { store, again }: &Stores) {
    let mut uploads = Vec::new();
    for name in ["c/x", "c/xy", "c/y", "d/x"] {
        uploads.push(begin(store, name, 1, &[]).await);
    }
    for (prefix, expected) in [("", 4), ("c/", 3), ("c/x", 2), ("c/y", 1), ("e/", 0)] {
        assert_eq!(again.unfinished(prefix).await.expect("listed").len(), expected, "{prefix}");
    }
    for upload in uploads {
        upload.abort().await.expect("aborted");
    }
}
