//! Real providers: the probe finds out what they do differently, and the store copes with it.

use std::sync::Arc;

use backstay_archive::Store;
use backstay_archive::store::s3::{Addressing, Checksum, Patience, S3Credentials, S3Settings, S3Store};
use backstay_archive::store::{ErrorKind, PART_BYTES};
use bytes::Bytes;
use futures::TryStreamExt;

use super::faults::{Fate, Op, Words};
use super::provider::{Habits, Says};
use super::server::Server;
use super::{attempt, bytes, key, suite};

/// The suite on a provider with these habits, without the check that counts what was sent again.
macro_rules! provider {
    ($name:ident, $habits:expr) => {
        mod $name {
            use super::*;

            async fn open() -> (Server, suite::Stores) {
                let server = Server::start($habits).await;
                let (store, again) = (Arc::new(server.store().await), Arc::new(server.store().await));
                (server, suite::Stores { store, again })
            }

            suite::conformance!(open(); an_object_is_created_once, the_same_bytes_are_created_twice, a_part_is_read,
                what_is_not_there, listing_is_sorted_and_whole, a_taken_name_is_refused,
                a_taken_name_of_a_small_object_is_refused, of_many_uploads_one_wins, complete_is_idempotent,
                an_abort_leaves_nothing);
        }
    };
}

provider!(that_demands_md5, Habits { demands: Some(Checksum::Md5), ..Habits::default() });
provider!(that_demands_crc32c, Habits { demands: Some(Checksum::Crc32c), ..Habits::default() });
provider!(
    that_wants_crc32c_announced,
    Habits { demands: Some(Checksum::Crc32c), wants_announcement: true, ..Habits::default() }
);
provider!(that_says_no_length, Habits { says_no_length: true, ..Habits::default() });

async fn backup(store: &S3Store, name: &str) -> Result<(), backstay_archive::StoreError> {
    let upload = store.begin(&key(name), attempt(1)).await?;
    let sent = async {
        upload.part(1, bytes(1, PART_BYTES)).await?;
        upload.part(2, bytes(2, 100)).await?;
        upload.complete(2).await
    };
    let done = sent.await;
    if done.is_err() {
        upload.abort().await?;
    }
    done
}

#[tokio::test]
async fn a_checksum_that_is_demanded_is_found_by_the_probe_and_without_it() {
    for demands in [Checksum::Md5, Checksum::Crc32c] {
        let server = Server::start(Habits { demands: Some(demands), ..Habits::default() }).await;
        let probed = server.store().await;
        assert_eq!(probed.probe().await.expect("it is found out"), Vec::<String>::new());
        assert_eq!(probed.in_use().checksum, demands);
        let fresh = server.store().await;
        backup(&fresh, "c/x").await.expect("the first part finds it out");
        fresh.put_new(&key("c/y"), Bytes::from_static(b"y")).await.expect("as small objects do");
        assert_eq!(fresh.in_use().checksum, demands);
        // If a checksum is set, it is used from the first request on.
        let said = S3Settings { checksum: demands, ..server.settings() };
        let said = server.store_with(said, |_| {}).await;
        server.faults.clear();
        backup(&said, "c/z").await.expect("it is right");
        assert_eq!(server.faults.count(Op::Part), 2);
        let wrong = S3Settings { checksum: Checksum::None, ..server.settings() };
        let error = server.store_with(wrong, |_| {}).await.probe().await.expect_err("it was said");
        assert!(error.to_string().contains("Content-MD5"), "{error}");
    }
}

#[tokio::test]
async fn a_checksum_that_must_be_announced_is_found_with_parts_under_way() {
    let habits = Habits { demands: Some(Checksum::Crc32c), wants_announcement: true, ..Habits::default() };
    let server = Server::start(habits).await;
    let store = server.store().await;
    let upload = store.begin(&key("c/x"), attempt(1)).await.expect("begun");
    let bodies = [bytes(1, PART_BYTES), bytes(2, PART_BYTES), bytes(3, PART_BYTES), bytes(4, 100)];
    let parts = (1..).zip(&bodies).map(|(number, body)| upload.part(number, body.clone()));
    futures::future::try_join_all(parts).await.expect("one of them begins it anew for all");
    upload.complete(4).await.expect("made");
    let read = store.read(&key("c/x")).await.expect("there").try_collect::<Vec<_>>().await.expect("read").concat();
    assert!(read == bodies.concat(), "the parts are those of one upload, in their order");
    assert_eq!((server.faults.count(Op::Begin), store.in_use().checksum), (2, Checksum::Crc32c));
    assert_eq!(store.unfinished("").await.expect("listed"), [], "the first one is gone");
    // From here on it is announced immediately. If another one is set, the provider's own error is reported.
    server.faults.clear();
    backup(&store, "c/y").await.expect("made");
    assert_eq!(server.faults.count(Op::Begin), 1);
    let said = S3Settings { checksum: Checksum::Md5, ..server.settings() };
    let error = backup(&server.store_with(said, |_| {}).await, "c/z").await.expect_err("it was said");
    assert!(error.to_string().contains("x-amz-checksum"), "{error}");
    assert_eq!(store.unfinished("").await.expect("listed"), []);
}

#[tokio::test]
async fn a_length_that_is_not_said_is_not_zero() {
    let server = Server::start(Habits { says_no_length: true, ..Habits::default() }).await;
    let store = server.store().await;
    let notes = store.probe().await.expect("backups are possible");
    assert!(notes.len() == 1 && notes[0].contains("HEAD without Content-Length"), "{notes:?}");
    backup(&store, "c/x").await.expect("it is whole");
    let found = store.head(&key("c/x")).await.expect("looked up").expect("there");
    assert_eq!((found.size, found.owner), (PART_BYTES as u64 + 100, Some(attempt(1))));
    server.seed("c/one-byte");
    assert_eq!(store.head(&key("c/one-byte")).await.expect("looked up").expect("there").size, 1);
    // No part of it can be read, but the listing knows it.
    server.faults.set_policy(|call| if call.op == Op::Get { Fate::Refuse(403) } else { Fate::Pass });
    assert_eq!(store.head(&key("c/one-byte")).await.expect("looked up").expect("there").size, 1);
    server.faults.set_policy(|call| if call.op == Op::Get { Fate::Refuse(400) } else { Fate::Pass });
    assert_eq!(store.head(&key("c/one-byte")).await.expect("looked up").expect("there").size, 1);
    let both = |call: &super::faults::Call| matches!(call.op, Op::Get | Op::List);
    server.faults.set_policy(move |call| if both(call) { Fate::Refuse(403) } else { Fate::Pass });
    store.head(&key("c/one-byte")).await.expect_err("nobody says how long it is");
}

#[tokio::test]
async fn what_was_completed_and_is_not_whole_is_removed_by_its_owner_alone() {
    let server = Server::start(Habits { truncates: true, ..Habits::default() }).await;
    let store = server.store().await;
    let error = backup(&store, "c/x").await.expect_err("a byte is there");
    assert!(error.is(ErrorKind::Invalid) && error.to_string().contains("it was removed again"), "{error}");
    assert_eq!(store.head(&key("c/x")).await.expect("looked up"), None);
    assert_eq!(store.unfinished("").await.expect("listed"), []);
    store.probe().await.expect_err("the probe sees it too");
    assert_eq!(store.list("").try_collect::<Vec<_>>().await.expect("listed"), []);
    // Its owner is unknown, so it remains.
    let server = Server::start(Habits { truncates: true, drops_metadata: true, ..Habits::default() }).await;
    let store = server.store().await;
    backup(&store, "c/x").await.expect_err("a byte is there");
    assert!(store.head(&key("c/x")).await.expect("looked up").is_some());
    // The name belongs to another object, which is never touched.
    let server = Server::start(Habits::default()).await;
    server.seed("c/x");
    let store = server.store().await;
    let error = backup(&store, "c/x").await.expect_err("taken");
    assert!(error.is(ErrorKind::AlreadyExists), "{error}");
    assert!(store.head(&key("c/x")).await.expect("looked up").is_some());
}

#[tokio::test]
async fn forbidden_may_mean_not_there() {
    // Listing is allowed, so it tells one from the other.
    let server = Server::start(Habits { absent_is_denied: true, ..Habits::default() }).await;
    let store = server.store().await;
    let notes = store.probe().await.expect("backups are possible");
    assert!(notes.len() == 1 && notes[0].contains("403 for objects that do not exist"), "{notes:?}");
    assert!(store.in_use().absent_is_denied);
    let fresh = server.store().await;
    assert_eq!(fresh.head(&key("c/x")).await.expect("looked up"), None);
    backup(&fresh, "c/x").await.expect("made");
    fresh.put_new(&key("c/y"), Bytes::from_static(b"y")).await.expect("created");
    let error = fresh.put_new(&key("c/y"), Bytes::from_static(b"z")).await.expect_err("taken");
    assert!(error.is(ErrorKind::AlreadyExists), "{error}");

    // It is not allowed: what the first contact found out counts, or what an agent was told.
    let server = Server::start(Habits { absent_is_denied: true, may_not_list: true, ..Habits::default() }).await;
    let unsure = server.store().await;
    let error = unsure.head(&key("c/x")).await.expect_err("nobody said what 403 means");
    assert!(error.is(ErrorKind::Denied), "{error}");
    let told = server.store_with(S3Settings { absent_is_denied: true, ..server.settings() }, |_| {}).await;
    assert_eq!(told.head(&key("c/x")).await.expect("looked up"), None);
    let greeted = server.store().await;
    greeted.greet().await.expect("it is there");
    backup(&greeted, "c/x").await.expect("made");
    // An existing object that cannot be read is not overwritten.
    backup(&told, "c/x").await.expect("this attempt's own");
    let upload = told.begin(&key("c/x"), attempt(2)).await.expect("begun");
    upload.part(1, bytes(3, 5)).await.expect("uploaded");
    let error = upload.complete(1).await.expect_err("taken");
    assert!(error.is(ErrorKind::AlreadyExists), "{error}");
    upload.abort().await.expect("aborted");
}

#[tokio::test]
async fn a_bucket_that_locks_is_not_asked_to_delete() {
    for says in [Says::Rule, Says::Object] {
        let server = Server::start(Habits { locks: Some(says), ..Habits::default() }).await;
        let notes = server.store().await.probe().await.expect("backups are possible");
        assert!(notes.len() == 1 && notes[0].contains("deleting was not tested"), "{says:?}: {notes:?}");
        assert_eq!(server.faults.count(Op::Delete), 0);
    }
}

#[tokio::test]
async fn a_probe_does_what_a_backup_does() {
    let server = Server::start(Habits::default()).await;
    server.faults.clear();
    server.store().await.probe().await.expect("a good bucket");
    let at_least = [(Op::Head, 2), (Op::Begin, 2), (Op::Part, 3), (Op::Complete, 2), (Op::Get, 1), (Op::List, 2)];
    for (op, count) in at_least.into_iter().chain([(Op::Delete, 1), (Op::ListUploads, 1), (Op::Put, 1)]) {
        assert!(server.faults.count(op) >= count, "{op:?}: {}", server.faults.count(op));
    }
    for op in [Op::Get, Op::List, Op::ListUploads] {
        server.faults.set_policy(move |call| match call.op == op && (op != Op::List || call.nth > 0) {
            true => Fate::Refuse(403),
            false => Fate::Pass,
        });
        let error = server.store().await.probe().await.expect_err("a backup needs it");
        assert!(error.is(ErrorKind::Denied), "{op:?}: {error}");
    }
}

#[tokio::test]
async fn answers_that_are_not_s3_s_or_name_another_place_say_what_to_do() {
    const CONSOLE: Words = Words {
        status: 200,
        headers: &[("content-type", "text/html")],
        body: "<!doctype html><html><body>Sign in</body></html>",
    };
    const LOGIN: Words = Words { status: 403, headers: &[("content-type", "text/html")], body: "<html>no</html>" };
    const MOVED: Words = Words {
        status: 301,
        headers: &[("x-amz-bucket-region", "eu-west-1"), ("content-type", "application/xml")],
        body: "<Error><Code>PermanentRedirect</Code><Message>address it there</Message>\
               <Endpoint>backups.s3.eu-west-1.amazonaws.com</Endpoint></Error>",
    };
    const MALFORMED: Words = Words {
        status: 400,
        headers: &[("content-type", "application/xml")],
        body: "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region is wrong</Message>\
               <Region>eu-north-1</Region></Error>",
    };
    let cases: [(&'static Words, &[&str]); 4] = [
        (&CONSOLE, &["a web page answered, not S3", "address of the S3 API"]),
        (&LOGIN, &["a web page answered, not S3"]),
        (&MOVED, &["PermanentRedirect", "eu-west-1", "backups.s3.eu-west-1.amazonaws.com", "--endpoint"]),
        (&MALFORMED, &["AuthorizationHeaderMalformed", "eu-north-1: set it with `region`"]),
    ];
    let server = Server::start(Habits::default()).await;
    for (words, parts) in cases {
        server.faults.set_policy(move |_| Fate::Say(words));
        let store = server.store().await;
        for error in [store.probe().await.map(drop), store.greet().await] {
            let error = error.expect_err("it is not there");
            let text = error.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
            assert!(error.is(ErrorKind::Invalid) && !text.contains('\n'), "{error:?}");
        }
    }
    // A gateway with a temporary failure may recover.
    const GATEWAY: Words = Words { status: 502, headers: &[], body: "<html><h1>502 Bad Gateway</h1></html>" };
    server.faults.set_policy(|call| if call.all < 3 { Fate::Say(&GATEWAY) } else { Fate::Pass });
    backup(&server.store().await, "c/x").await.expect("it was asked again");
}

#[tokio::test]
async fn a_first_contact_tells_what_is_for_good_and_waits_for_the_rest() {
    let server = Server::start(Habits::default()).await;
    let good = || server.settings();
    let credentials = |secret: &str| {
        let (access_key_id, secret_access_key) = ("AKIATEST".to_owned(), secret.to_owned());
        Some(S3Credentials { access_key_id, secret_access_key, session_token: None })
    };
    for (settings, kind, part) in [
        (
            S3Settings { endpoint: "http://127.0.0.1:1".into(), ..good() },
            ErrorKind::Unavailable,
            "nothing is listening there",
        ),
        (S3Settings { bucket: "nowhere".into(), ..good() }, ErrorKind::NotFound, "NoSuchBucket"),
        (S3Settings { credentials: credentials("wrong"), ..good() }, ErrorKind::Login, "SignatureDoesNotMatch"),
    ] {
        // The patience of a backup, not of a test.
        let store = S3Store::with_patience(settings, Patience::default()).await.expect("good settings");
        let error = store.greet().await.expect_err(part);
        assert!(error.is(kind) && error.to_string().contains(part), "{error:?}");
    }
    let store = server.store().await;
    for fate in [Fate::Refuse(503), Fate::Refuse(500), Fate::Reset, Fate::Refuse(403)] {
        server.faults.set_policy(move |_| fate);
        store.greet().await.unwrap_or_else(|error| panic!("{fate:?} may pass: {error}"));
    }
}

#[tokio::test]
async fn settings_that_no_request_can_carry_are_told() {
    let keys = |id: &str, secret: &str, token: Option<&str>| {
        Some(S3Credentials {
            access_key_id: id.into(),
            secret_access_key: secret.into(),
            session_token: token.map(str::to_owned),
        })
    };
    let settings = |credentials, region: &str, bucket: &str| S3Settings {
        credentials,
        region: region.into(),
        bucket: bucket.into(),
        addressing: Addressing::Path,
        ..S3Settings::default()
    };
    for (settings, part) in [
        (settings(keys("id\n", "s3cret", None), "r", "b"), "the access key ID contains a line break"),
        (settings(keys("id", "s3cret\n", None), "r", "b"), "the secret access key contains a line break"),
        (settings(keys("id", "s3cret", Some("t t")), "r", "b"), "the session token contains a space"),
        (settings(keys("id", "s3cret", None), "eu-west-1 ", "b"), "the region contains a space"),
        (settings(keys("id", "s3cret", None), "eu\r\n", "b"), "the region contains a line break"),
        (settings(keys("id", "s3cret", None), "r", "b\n"), "not a valid bucket name"),
    ] {
        let error = S3Store::new(settings).await.expect_err(part);
        assert!(error.is(ErrorKind::Invalid) && error.to_string().contains(part), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}
