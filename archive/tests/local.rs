//! The writer, the catalog and the reader on a real folder.

mod support;

use std::path::Path;
use std::sync::Arc;

use backstay_archive::catalog::{self, Settled};
use backstay_archive::manifest::Manifest;
use backstay_archive::reader;
use backstay_archive::seal::Identity;
use backstay_archive::store::Key;
use backstay_archive::store::local::LocalStore;
use backstay_archive::writer::{Limits, Plan, Progress, Source, WriteError, write};
use support::fixture::{Database, End, FixedClock, NOW, cluster, file_of, name, noise, plan};
use tokio_util::sync::CancellationToken;

const NAME: i64 = 1_701_184_522;

async fn run(store: &LocalStore, plan: &Plan, source: &mut dyn Source) -> Result<Manifest, WriteError> {
    let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
    write(Arc::new(store.clone()), plan, source, &progress, &limits, &FixedClock, &cancel).await
}

/// Every file below `folder`, hidden ones included, without the owners' notes.
fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            names.extend(files(&path));
        } else {
            names.push(path.file_name().expect("a name").to_string_lossy().into_owned());
        }
    }
    names.retain(|name| !name.ends_with(".owner"));
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_on_disk_is_two_files_and_opens() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = LocalStore::open(folder.path()).expect("a store");
    let data = noise(1, 20_000_000);
    let identity = Identity::generate();
    let plan = plan(1, 1, vec![identity.to_public()]);
    let manifest = run(&store, &plan, &mut Database::new(&data, 32 * 1024)).await.expect("all is well");
    assert_eq!(files(folder.path()), ["FFFFFFFF9A99FBF6.manifest.json", "FFFFFFFF9A99FBF6.snapshot"]);
    let mut out = Vec::new();
    reader::open(&store, &manifest, Some(&identity), &mut out).await.expect("opens");
    assert!(out == file_of(&data));
    let entries = catalog::list(&store, cluster()).await.expect("lists");
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].size, manifest.sealed_bytes);
    assert_eq!(
        catalog::find_by_name(&store, &plan.cluster, NOW).await.expect("finds").map(|s| s.cluster),
        Some(cluster())
    );
}

#[tokio::test]
async fn a_cut_stream_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = LocalStore::open(folder.path()).expect("a store");
    let data = noise(2, 18_000_000);
    for (at, end) in [(0, End::Fails), (5_000, End::Cut), (9_000_000, End::Fails), (17_999_999, End::Cut)] {
        let written = run(&store, &plan(1, 1, vec![]), &mut Database::ending(&data, 100_000, at, end)).await;
        assert!(written.is_err(), "{written:?}");
        assert_eq!(files(folder.path()), Vec::<String>::new(), "{end:?} at {at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_at_once_on_one_slot_make_one_backup() {
    let data = noise(3, 300_000);
    for _ in 0..20 {
        let folder = tempfile::tempdir().expect("a folder");
        let store = LocalStore::open(folder.path()).expect("a store");
        let attempt = async |id| run(&store, &plan(1, id, vec![]), &mut Database::new(&data, 10_000)).await;
        let all = futures::future::join_all((1..=4).map(attempt)).await;
        let made = all.iter().filter(|written| written.is_ok()).count();
        let done = all.iter().filter(|written| matches!(written, Err(WriteError::SlotDone(_)))).count();
        assert_eq!((made, done), (1, 3), "{all:?}");
        assert_eq!(files(folder.path()), ["FFFFFFFF9A99FBF6.manifest.json", "FFFFFFFF9A99FBF6.snapshot"]);
    }
}

#[tokio::test]
async fn what_a_dropped_attempt_left_is_swept() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = LocalStore::open(folder.path()).expect("a store");
    let data = noise(4, 17_000_000);
    let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
    let (dead, mut source) = (plan(1, 1, vec![]), Database::ending(&data, 100_000, data.len(), End::Hangs));
    let to_store = Arc::new(store.clone());
    let writing = write(to_store, &dead, &mut source, &progress, &limits, &FixedClock, &cancel);
    let stored = async {
        while progress.stored() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = stored => {}
        written = writing => panic!("{written:?}"),
    }
    assert_eq!(files(folder.path()).len(), 1, "the partial file");
    let swept = catalog::sweep_slot(&store, cluster(), name(NAME)).await.expect("sweeps");
    assert_eq!(swept.uploads, 1);
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[tokio::test]
async fn an_intent_on_disk_is_promoted() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = LocalStore::open(folder.path()).expect("a store");
    let plan = plan(1, 1, vec![]);
    let made = run(&store, &plan, &mut Database::new(b"database", 3)).await.expect("all is well");
    // As if the attempt had died before the manifest.
    let (intent, manifest) = (Key::intent(cluster(), name(NAME), plan.attempt), Key::manifest(cluster(), name(NAME)));
    let path = |key: &Key| folder.path().join(key.as_str());
    std::fs::create_dir_all(path(&intent).parent().expect("a folder")).expect("creates");
    std::fs::rename(path(&manifest), path(&intent)).expect("moves");
    match catalog::settle(&store, cluster(), name(NAME)).await.expect("settles") {
        Settled::Done(found) => assert_eq!(*found, made),
        settled => panic!("{settled:?}"),
    }
    assert_eq!(files(folder.path()), ["FFFFFFFF9A99FBF6.manifest.json", "FFFFFFFF9A99FBF6.snapshot"]);
}
