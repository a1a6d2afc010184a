//! What entries mean, whoever keeps them: the same suite runs on those in memory and on a bucket of JetStream.

use backstay_coordinator::kv::{Entries, KvError};
use bytes::Bytes;

/// Goes through all of it; the entries begin with none.
pub async fn suite(entries: &dyn Entries) {
    create_once(entries).await;
    compare_and_set(entries).await;
    delete_and_again(entries).await;
    keys_in_order(entries).await;
    one_of_many_wins(entries).await;
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// The value and the revision; `None` where there is none.
async fn read(entries: &dyn Entries, key: &str) -> Option<(Bytes, u64)> {
    entries.get(key).await.expect("it answers").map(|entry| (entry.value, entry.revision))
}

fn conflicts(result: Result<u64, KvError>, key: &str) {
    match result {
        Err(KvError::Conflict { key: named }) => assert_eq!(named, key),
        other => panic!("{key}: a conflict is wanted, not {other:?}"),
    }
}

async fn create_once(entries: &dyn Entries) {
    assert_eq!(read(entries, "a.one").await, None);
    let first = entries.create("a.one", bytes("1")).await.expect("it is not there");
    assert_eq!(read(entries, "a.one").await, Some((bytes("1"), first)));
    conflicts(entries.create("a.one", bytes("2")).await, "a.one");
    // The very same value is no reason to let it pass.
    conflicts(entries.create("a.one", bytes("1")).await, "a.one");
    assert_eq!(read(entries, "a.one").await, Some((bytes("1"), first)));
    let other = entries.create("a.two", bytes("")).await.expect("it is not there");
    assert!(other > first, "revisions rise over all entries");
    assert_eq!(read(entries, "a.two").await, Some((bytes(""), other)), "an empty value is one");
}

async fn compare_and_set(entries: &dyn Entries) {
    let first = read(entries, "a.one").await.expect("it was made").1;
    let taken = entries.get("a.one").await.expect("it answers").expect("it was made").taken;
    let second = entries.update("a.one", bytes("2"), first).await.expect("it has that revision");
    assert!(second > first);
    for stale in [first, second + 100] {
        conflicts(entries.update("a.one", bytes("3"), stale).await, "a.one");
    }
    assert_eq!(read(entries, "a.one").await, Some((bytes("2"), second)));
    let later = entries.get("a.one").await.expect("it answers").expect("it was made").taken;
    assert!(later >= taken, "a change is taken later than the one before");
    conflicts(entries.update("a.none", bytes("1"), second).await, "a.none");
    assert_eq!(read(entries, "a.none").await, None);
}

async fn delete_and_again(entries: &dyn Entries) {
    let before = read(entries, "a.one").await.expect("it is there").1;
    entries.delete("a.one").await.expect("it is there");
    assert_eq!(read(entries, "a.one").await, None);
    conflicts(entries.update("a.one", bytes("4"), before).await, "a.one");
    entries.delete("a.one").await.expect("nothing happens");
    entries.delete("a.never").await.expect("nothing happens");
    let again = entries.create("a.one", bytes("5")).await.expect("a deleted one can be made again");
    assert!(again > before, "and its revision is above all earlier ones");
    assert_eq!(read(entries, "a.one").await, Some((bytes("5"), again)));
    conflicts(entries.update("a.one", bytes("6"), before).await, "a.one");
    conflicts(entries.create("a.one", bytes("6")).await, "a.one");
}

async fn keys_in_order(entries: &dyn Entries) {
    for key in ["b.z", "b.a", "b.m.n", "ba.x", "c.gone"] {
        entries.create(key, bytes(key)).await.expect("it is not there");
    }
    entries.delete("c.gone").await.expect("it is there");
    assert_eq!(entries.keys("b.").await.expect("a list"), ["b.a", "b.m.n", "b.z"]);
    assert_eq!(entries.keys("nothing.").await.expect("a list"), Vec::<String>::new());
    // A deleted one may be listed: whoever asks for it finds none.
    for key in entries.keys("c.").await.expect("a list") {
        assert_eq!(read(entries, &key).await, None, "{key}");
    }
}

/// Whoever is first: one of several changes to the same revision is taken.
async fn one_of_many_wins(entries: &dyn Entries) {
    let texts: Vec<String> = (0..8).map(|n| n.to_string()).collect();
    let made = futures::future::join_all(texts.iter().map(|text| entries.create("d.one", bytes(text)))).await;
    let first = *made.iter().flatten().next().expect("one of them");
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{made:?}");
    let changed = futures::future::join_all(texts.iter().map(|text| entries.update("d.one", bytes(text), first))).await;
    let at = changed.iter().position(Result::is_ok).expect("one of them");
    assert_eq!(changed.iter().filter(|changed| changed.is_ok()).count(), 1, "{changed:?}");
    assert_eq!(read(entries, "d.one").await.expect("it is there").0, bytes(&texts[at]));
}
