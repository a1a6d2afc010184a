//! The memory that an upload needs: its parts in flight, however large the object is.

use backstay_archive::Store;
use backstay_archive::store::PART_BYTES;
use backstay_archive::store::s3::{S3Settings, S3Store};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::environment::{passed, run_child};
use super::provider::Habits;
use super::server::{ACCESS_KEY, BUCKET, SECRET_KEY, Server};
use super::{attempt, key};

const PARTS: u32 = 16;
const IN_FLIGHT: usize = 3;
/// The most memory that a whole agent may use. Here there is only the client, and the test around it.
const PEAK_MIB: usize = 64;

/// Runs in a process of its own, so that the server's memory is not counted.
#[tokio::test]
#[ignore = "started by the other test here"]
async fn child() {
    let settings = S3Settings { bucket: BUCKET.into(), ..S3Settings::default() };
    let store = S3Store::new(settings).await.expect("the environment is enough");
    let upload = store.begin(&key("c/x"), attempt(1)).await.expect("begun");
    let (upload, part) = (upload.as_ref(), |n: u32| Bytes::from(vec![n as u8; PART_BYTES]));
    let sent = futures::stream::iter(1..=PARTS).map(|n| async move { upload.part(n, part(n)).await });
    sent.buffer_unordered(IN_FLIGHT).try_collect::<()>().await.expect("uploaded");
    upload.complete(PARTS).await.expect("completed");
    let peak = peak_mib();
    assert!(peak < PEAK_MIB, "{peak} MiB at the peak");
    assert!(peak >= PART_BYTES >> 20, "{peak} MiB cannot be: a part alone is larger");
}

/// The largest resident set of this process so far.
fn peak_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("every process has one");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number of KiB") / 1024
}

#[tokio::test]
async fn memory_does_not_grow_with_the_object() {
    let server = Server::start(Habits::default()).await;
    let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let output = run_child("memory::child", &[keys[0], keys[1], ("AWS_ENDPOINT_URL", &server.endpoint)]).await;
    passed(&output);
    let found = server.store().await.head(&key("c/x")).await.expect("looked up").expect("there");
    assert_eq!(found.size, u64::from(PARTS) * PART_BYTES as u64);
}
