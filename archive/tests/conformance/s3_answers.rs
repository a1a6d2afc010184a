//! The suite on a bucket, at its root and below a prefix; then the texts of S3's errors.

use std::sync::Arc;
use std::time::Duration;

use backstay_archive::Store;
use backstay_archive::store::ErrorKind;
use backstay_archive::store::s3::{ObjectSettings, S3Credentials, S3Settings, S3Store};
use bytes::Bytes;
use futures::TryStreamExt;

use super::faults::{Fate, Op};
use super::provider::Habits;
use super::server::{BUCKET, SECRET_KEY, Server};
use super::{attempt, bytes, key, suite};

async fn open(prefix: &str) -> (Server, suite::Stores) {
    let server = Server::start(Habits::default()).await;
    let settings = || S3Settings { prefix: prefix.into(), ..server.settings() };
    let store = Arc::new(server.store_with(settings(), |_| {}).await);
    let again = Arc::new(server.store_with(settings(), |_| {}).await);
    (server, suite::Stores { store, again })
}

mod at_the_root {
    super::suite::conformance!(super::open(""));
}

mod below_a_prefix {
    super::suite::conformance!(super::open("some/where"));
}

/// The checks on a provider that ignores create-only, without races.
mod where_create_only_is_ignored {
    use super::*;

    async fn open() -> (Server, suite::Stores) {
        let server = Server::start(Habits { ignores_create_only: true, ..Habits::default() }).await;
        let (store, again) = (Arc::new(server.store().await), Arc::new(server.store().await));
        (server, suite::Stores { store, again })
    }

    suite::conformance!(open(); an_object_is_created_once, the_same_bytes_are_created_twice,
        a_taken_name_is_refused, a_taken_name_of_a_small_object_is_refused, complete_is_idempotent);
}

/// The same for a provider that refuses the header itself.
mod where_create_only_is_refused {
    use super::*;

    async fn open() -> (Server, suite::Stores) {
        let server = Server::start(Habits { refuses_create_only: true, ..Habits::default() }).await;
        let (store, again) = (Arc::new(server.store().await), Arc::new(server.store().await));
        (server, suite::Stores { store, again })
    }

    suite::conformance!(open(); an_object_is_created_once, the_same_bytes_are_created_twice,
        a_taken_name_is_refused, parts_become_an_object, complete_is_idempotent);
}

#[tokio::test]
async fn two_prefixes_of_one_bucket_do_not_meet() {
    let server = Server::start(Habits::default()).await;
    let below = |prefix: &str| S3Settings { prefix: prefix.into(), ..server.settings() };
    let one = server.store_with(below("one"), |_| {}).await;
    let other = server.store_with(below("one-more"), |_| {}).await;
    one.put_new(&key("a/x"), Bytes::from_static(b"1")).await.expect("created");
    other.put_new(&key("a/x"), Bytes::from_static(b"2")).await.expect("created");
    let upload = other.begin(&key("a/y"), attempt(1)).await.expect("begun");
    assert_eq!(one.list("").try_collect::<Vec<_>>().await.expect("listed").len(), 1);
    assert_eq!(one.unfinished("").await.expect("listed"), []);
    assert_eq!(server.store().await.folders().await.expect("listed"), ["one", "one-more"]);
    assert_eq!(one.url(), "s3://backups/one");
    upload.abort().await.expect("aborted");
}

#[tokio::test]
async fn storage_class_and_encryption_go_with_whatever_is_put_there() {
    let habits = Habits { wants_kms_key: Some("key-1"), wants_class: Some("STANDARD_IA"), ..Habits::default() };
    let server = Server::start(habits).await;
    let bare = server.store().await;
    let error = bare.probe().await.expect_err("the policy refuses what is not encrypted");
    assert!(error.is(ErrorKind::Denied), "{error}");
    let with = |class: &str, key: &str| {
        let objects = ObjectSettings {
            storage_class: class.into(),
            server_side_encryption: "aws:kms".into(),
            kms_key_id: key.into(),
        };
        S3Settings { objects, ..server.settings() }
    };
    let good = server.store_with(with("STANDARD_IA", "key-1"), |_| {}).await;
    assert_eq!(good.probe().await.expect("all as the bucket wants it"), Vec::<String>::new());
    good.put_new(&key("a/x"), Bytes::from_static(b"1")).await.expect("manifests too");
    let other = server.store_with(with("GLACIER", "key-1"), |_| {}).await;
    let error = other.probe().await.expect_err("another class");
    assert!(error.to_string().contains("storage class"), "{error}");
    let alone = S3Settings {
        objects: ObjectSettings { kms_key_id: "key-1".into(), ..ObjectSettings::default() },
        ..server.settings()
    };
    let error = S3Store::new(alone).await.expect_err("a key without encryption").to_string();
    assert!(error.contains("KMS key"), "{error}");
}

#[tokio::test]
async fn every_page_is_listed() {
    let server = Server::start(Habits { uploads_per_page: 2, ..Habits::default() }).await;
    let store = server.store().await;
    let names: Vec<String> = (0..2_500).map(|n| format!("{}/{n:016X}.snapshot", n % 3)).collect();
    for name in &names {
        server.seed(name);
    }
    let listed: Vec<String> = store.list("").map_ok(|found| found.key.to_string()).try_collect().await.expect("listed");
    let mut expected = names;
    expected.sort();
    assert_eq!(listed, expected);
    assert!(server.faults.count(Op::List) >= 3, "one page has 1,000");
    assert_eq!(store.folders().await.expect("listed"), ["0", "1", "2"]);
    for n in 0..5 {
        drop(store.begin(&key("c/x"), attempt(n + 1)).await.expect("begun"));
        drop(store.begin(&key(&format!("c/{n}")), attempt(9)).await.expect("begun"));
    }
    assert_eq!(store.unfinished("c/").await.expect("listed").len(), 10);
}

#[tokio::test]
async fn a_probe_proves_a_good_bucket_and_leaves_nothing() {
    let server = Server::start(Habits::default()).await;
    for prefix in ["", "some/where"] {
        let store = server.store_with(S3Settings { prefix: prefix.into(), ..server.settings() }, |_| {}).await;
        assert_eq!(store.probe().await.expect("a good bucket"), Vec::<String>::new());
    }
    assert_eq!(left_by_probes(&server).await, (0, 0));
}

/// Objects and unfinished uploads in the probe's folder, as seen by a store that uses it as its prefix.
async fn left_by_probes(server: &Server) -> (usize, usize) {
    let inside = S3Settings { prefix: ".backstay-probe".into(), ..server.settings() };
    let store = server.store_with(inside, |_| {}).await;
    let objects: Vec<_> = store.list("").try_collect().await.expect("listed");
    (objects.len(), store.unfinished("").await.map_or(0, |found| found.len()))
}

#[tokio::test]
async fn what_a_killed_probe_left_goes_with_the_next_one() {
    let server = Server::start(Habits::default()).await;
    let inside = S3Settings { prefix: ".backstay-probe".into(), ..server.settings() };
    drop(server.store_with(inside, |_| {}).await.begin(&key("killed"), attempt(1)).await.expect("begun"));
    server.seed_aged(".backstay-probe/hours", Duration::from_secs(7_200));
    // Another probe may be running.
    server.seed_aged(".backstay-probe/minutes", Duration::from_secs(1_800));
    // Not from a probe.
    server.seed_aged("c/hours", Duration::from_secs(7_200));
    assert_eq!(left_by_probes(&server).await, (2, 1));
    assert_eq!(server.store().await.probe().await.expect("a good bucket"), Vec::<String>::new());
    assert_eq!(left_by_probes(&server).await, (1, 0));
    let others: Vec<_> = server.store().await.list("").try_collect().await.expect("listed");
    assert_eq!(others.len(), 1, "{others:?}");
}

#[tokio::test]
async fn a_probe_notes_what_a_provider_cannot() {
    let habits = [
        (Habits { ignores_create_only: true, ..Habits::default() }, "ignores If-None-Match", 0),
        (Habits { refuses_create_only: true, ..Habits::default() }, "ignores If-None-Match", 0),
        (Habits { refuses_deletes: true, ..Habits::default() }, "refuses deletes", 1),
        (Habits { drops_metadata: true, ..Habits::default() }, "drops the metadata", 0),
        (Habits { cannot_list_uploads: true, ..Habits::default() }, "cannot list unfinished uploads", 0),
    ];
    for (habits, note, objects) in habits {
        let server = Server::start(habits).await;
        let notes = server.store().await.probe().await.expect("backups are possible");
        assert!(notes.len() == 1 && notes[0].contains(note), "{habits:?}: {notes:?}");
        assert_eq!(left_by_probes(&server).await, (objects, 0), "{habits:?}");
        assert!(server.store().await.folders().await.expect("listed").is_empty(), "hidden from listings");
    }
}

#[tokio::test]
async fn a_probe_that_fails_in_the_middle_cleans_up() {
    for op in [Op::Begin, Op::Part, Op::Complete, Op::Head, Op::Put] {
        let server = Server::start(Habits::default()).await;
        server.faults.set_policy(move |call| if call.op == op { Fate::Refuse(403) } else { Fate::Pass });
        let error = server.store().await.probe().await.expect_err("refused");
        assert!(error.is(ErrorKind::Denied), "{op:?}: {error:?}");
        server.faults.clear();
        assert_eq!(left_by_probes(&server).await, (0, 0), "{op:?}");
    }
}

#[tokio::test]
async fn a_provider_that_cannot_list_uploads_has_none_to_show() {
    let server = Server::start(Habits { cannot_list_uploads: true, ..Habits::default() }).await;
    let store = server.store().await;
    let upload = store.begin(&key("c/x"), attempt(1)).await.expect("begun");
    assert_eq!(store.unfinished("").await.expect("tolerated"), []);
    upload.abort().await.expect("aborted");
}

#[tokio::test]
async fn errors_say_s3_s_own_reason() {
    let server = Server::start(Habits::default()).await;
    let keys = |id: &str, secret: &str| {
        let (access_key_id, secret_access_key) = (id.to_owned(), secret.to_owned());
        Some(S3Credentials { access_key_id, secret_access_key, session_token: None })
    };
    let good = || server.settings();
    let nobody = "http://127.0.0.1:1";
    let cases = [
        (S3Settings { bucket: "nowhere".into(), ..good() }, ErrorKind::NotFound, "bucket \"nowhere\": NoSuchBucket"),
        (S3Settings { credentials: keys("AKIAWRONG", "x"), ..good() }, ErrorKind::Login, "InvalidAccessKeyId"),
        (S3Settings { credentials: keys("AKIATEST", "hunter2"), ..good() }, ErrorKind::Login, "SignatureDoesNotMatch"),
        (S3Settings { endpoint: nobody.into(), ..good() }, ErrorKind::Unavailable, "Connection refused"),
    ];
    for (settings, kind, part) in cases {
        let store = server.store_with(settings, |_| {}).await;
        let error = store.probe().await.expect_err(part);
        let text = error.to_string();
        assert!(error.is(kind), "{error:?}");
        assert!(text.starts_with("failed to list objects in bucket \""), "{text}");
        assert!(text.contains(part) && !text.contains('\n'), "{text}");
        assert!(!text.contains(SECRET_KEY) && !text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_said_by_every_listing() {
    let server = Server::start(Habits::default()).await;
    let settings = S3Settings { bucket: "nowhere".into(), ..server.settings() };
    let store = server.store_with(settings, |_| {}).await;
    let text = store.list("").try_collect::<Vec<_>>().await.expect_err("no bucket").to_string();
    assert_eq!(text, "failed to list objects in bucket \"nowhere\": NoSuchBucket");
}

#[tokio::test]
async fn an_answer_s_code_and_message_are_the_cause() {
    let server = Server::start(Habits::default()).await;
    let store = server.store().await;
    server.faults.set_policy(|_| Fate::Refuse(403));
    let text = store.list("").try_collect::<Vec<_>>().await.expect_err("refused").to_string();
    assert_eq!(text, "failed to list objects in bucket \"backups\": AccessDenied: as the test wants");
    let text = store.begin(&key("c/x"), attempt(1)).await.expect_err("refused").to_string();
    assert_eq!(text, "failed to begin an upload of s3://backups/c/x: AccessDenied: as the test wants");
    let text = store.head(&key("c/x")).await.expect_err("refused, without a body to say why").to_string();
    assert_eq!(text, "failed to look up s3://backups/c/x: HTTP 403 Forbidden");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_before_anything_is_asked() {
    let bad = [
        (S3Settings::default(), "bucket must be specified"),
        (S3Settings { bucket: "b".into(), endpoint: "minio:9000".into(), ..S3Settings::default() }, "endpoint must be"),
        (S3Settings { bucket: "b".into(), prefix: "../b".into(), ..S3Settings::default() }, "is not a valid prefix"),
    ];
    for (settings, part) in bad {
        let error = S3Store::new(settings).await.expect_err(part);
        assert!(error.is(ErrorKind::Invalid) && error.cause.contains(part), "{error}");
    }
}

#[tokio::test]
async fn nothing_printed_holds_a_secret() {
    let server = Server::start(Habits::default()).await;
    let store = server.store().await;
    let upload = store.begin(&key("c/x"), attempt(1)).await.expect("begun");
    for text in [format!("{store:?} {:#?}", server.settings()), format!("{upload:?}"), store.url()] {
        assert!(!text.contains(SECRET_KEY), "{text}");
    }
    assert!(store.url() == format!("s3://{BUCKET}"));
    upload.part(1, bytes(1, 5)).await.expect("uploaded");
    upload.abort().await.expect("aborted");
}
