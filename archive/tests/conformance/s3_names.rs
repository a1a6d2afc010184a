//! Foreign keys in the bucket, and objects that cannot be read: everything else is listed and found.

use backstay_archive::Store;
use backstay_archive::catalog;
use backstay_archive::store::s3::S3Settings;
use backstay_archive::store::{ErrorKind, Key};
use backstay_protocol::{ClusterUuid, SnapshotName, Timestamp};
use futures::TryStreamExt;
use uuid::Uuid;

use super::provider::{Habits, Why};
use super::server::Server;
use super::{attempt, key};

/// Names that XML 1.0 cannot represent, and names that look URL-encoded.
const STRANGE: [&str; 7] = ["\u{1}", "a\u{1f}b", "\u{8}\u{b}\u{c}", "\u{fffe}", "%2F", "a+b", "100% ü"];

async fn names(store: &dyn Store, prefix: &str) -> Vec<String> {
    store.list(prefix).map_ok(|found| found.key.to_string()).try_collect().await.expect("listed")
}

#[tokio::test]
async fn keys_that_xml_cannot_carry_are_listed() {
    let server = Server::start(Habits { uploads_per_page: 1, ..Habits::default() }).await;
    let store = server.store().await;
    let mut expected = vec!["c/plain".to_owned()];
    for name in STRANGE {
        server.seed(&format!("c/{name}"));
        expected.push(format!("c/{name}"));
        server.seed(&format!("folder {name}/x"));
        drop(store.begin(&key(&format!("u/{name}")), attempt(1)).await.expect("begun"));
    }
    server.seed("c/plain");
    expected.sort();
    assert_eq!(names(&store, "c/").await, expected);
    let mut folders: Vec<_> = STRANGE.iter().map(|name| format!("folder {name}")).chain(["c".to_owned()]).collect();
    folders.sort();
    assert_eq!(store.folders().await.expect("listed"), folders);
    let unfinished = store.unfinished("u/").await.expect("listed, page by page");
    assert_eq!(unfinished.len(), STRANGE.len());
    for upload in &unfinished {
        store.abort_unfinished(upload).await.expect("known by its own name");
    }
    assert_eq!(store.unfinished("").await.expect("listed"), []);
    assert_eq!(store.probe().await.expect("a good bucket"), Vec::<String>::new());
}

#[tokio::test]
async fn a_server_that_does_not_encode_names_is_understood() {
    for says_so in [false, true] {
        let server = Server::start(Habits { does_not_encode: Some(says_so), ..Habits::default() }).await;
        for prefix in ["", "a+b", "100%2F"] {
            let store = server.store_with(S3Settings { prefix: prefix.into(), ..server.settings() }, |_| {}).await;
            store.put_new(&key("c/x"), bytes::Bytes::from_static(b"1")).await.expect("created");
            assert_eq!(names(&store, "c/").await, ["c/x"], "{prefix} {says_so}");
            assert!(store.folders().await.expect("listed").contains(&"c".to_owned()), "{prefix} {says_so}");
        }
    }
}

#[tokio::test]
async fn what_is_archived_or_kept_back_is_one_object_s_trouble() {
    for why in [Why::Archived, Why::Policy] {
        let cluster = ClusterUuid(Uuid::from_u128(1));
        let name = SnapshotName::from_unix_seconds(1_700_000_000).expect("in range");
        let server = Server::start(Habits { keeps_to_itself: Some(("manifest", why)), ..Habits::default() }).await;
        server.seed(Key::snapshot(cluster, name).as_str());
        server.seed(Key::manifest(cluster, name).as_str());
        let store = server.store().await;
        let error = store.get(&Key::manifest(cluster, name), 100).await.expect_err("kept back");
        assert!(error.is(ErrorKind::Denied) && error.is_one_object_s(), "{error:?}");
        let other = "another".parse().expect("a name");
        assert_eq!(
            catalog::find_by_name(&store, &other, Timestamp::from_seconds(1_800_000_000))
                .await
                .expect("its own trouble"),
            None,
            "{why:?}"
        );
        assert_eq!(catalog::newest(&store, cluster).await.expect("its own trouble"), None, "{why:?}");
    }
}
