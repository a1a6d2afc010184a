//! What a crash leaves after each step, and that a sweep removes all of it. The rules that all stores share are in
//! the conformance suite.

use super::*;
use uuid::Uuid;

fn store() -> (tempfile::TempDir, LocalStore) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = LocalStore::open(folder.path()).expect("it is there");
    (folder, store)
}

fn key(text: &str) -> Key {
    Key::new(text).expect("a key")
}

fn attempt(n: u128) -> AttemptId {
    AttemptId(Uuid::from_u128(n))
}

/// Every file below the root, hidden ones included, sorted.
fn files_below(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).expect("readable") {
        let entry = entry.expect("readable");
        let name = entry.file_name().into_string().expect("text");
        if entry.file_type().expect("known").is_dir() {
            found.extend(files_below(&entry.path()).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}

async fn sweep(store: &LocalStore) -> usize {
    let found = store.unfinished("").await.expect("listed");
    for upload in &found {
        store.abort_unfinished(upload).await.expect("aborted");
    }
    found.len()
}

async fn begun(store: &LocalStore, owner: AttemptId) -> Box<dyn Upload> {
    let upload = store.begin(&key("c/x"), owner).await.expect("begun");
    upload.part(1, Bytes::from_static(b"bytes")).await.expect("written");
    upload
}

/// The partial file of the only upload.
fn partial(root: &Path) -> PathBuf {
    let name = files_below(root).into_iter().find(|name| name.ends_with(".partial")).expect("one upload");
    root.join(name)
}

/// Writes the owner's note, as `complete` does before it links.
fn note_owner(root: &Path, owner: AttemptId) -> PathBuf {
    let inode = partial(root).metadata().expect("there").ino();
    let note = root.join("c").join(Hidden::owner("x", inode).to_string());
    files::write_whole(&note, format!("{owner}\n").as_bytes()).expect("written");
    note
}

#[tokio::test]
async fn a_crash_before_the_link_leaves_no_object_and_a_sweep_clears_it() {
    let (folder, store) = store();
    drop(begun(&store, attempt(1)).await);
    note_owner(folder.path(), attempt(1));
    assert_eq!(store.head(&key("c/x")).await.expect("looked up"), None);
    assert_eq!(sweep(&store).await, 1);
    assert!(files_below(folder.path()).is_empty());
}

#[tokio::test]
async fn a_crash_after_the_link_leaves_an_object_that_knows_its_owner() {
    let (folder, store) = store();
    drop(begun(&store, attempt(1)).await);
    note_owner(folder.path(), attempt(1));
    std::fs::hard_link(partial(folder.path()), folder.path().join("c/x")).expect("linked");
    let owner = || async { store.head(&key("c/x")).await.expect("looked up").expect("there").owner };
    assert_eq!(owner().await, Some(attempt(1)));
    assert_eq!(sweep(&store).await, 1);
    assert_eq!(owner().await, Some(attempt(1)), "a sweep keeps the object's owner");
    assert_eq!(sweep(&store).await, 0);
    store.delete(&key("c/x")).await.expect("deleted");
    assert!(files_below(folder.path()).is_empty());
}

#[tokio::test]
async fn a_crash_in_the_middle_of_an_abort_or_a_sweep_is_swept() {
    let (folder, store) = store();
    drop(begun(&store, attempt(1)).await);
    note_owner(folder.path(), attempt(1));
    std::fs::remove_file(partial(folder.path())).expect("by hand, in the wrong order");
    assert_eq!(sweep(&store).await, 1);
    assert!(files_below(folder.path()).is_empty());
}

#[tokio::test]
async fn the_loser_of_a_race_leaves_the_winner_s_owner() {
    let (folder, store) = store();
    let (winner, loser) = (begun(&store, attempt(1)).await, begun(&store, attempt(2)).await);
    winner.complete(1).await.expect("the first to come");
    let error = loser.complete(1).await.expect_err("the name is taken");
    assert!(error.is(ErrorKind::AlreadyExists), "{error}");
    loser.abort().await.expect("aborted");
    let there = store.head(&key("c/x")).await.expect("looked up").expect("there");
    assert_eq!(there.owner, Some(attempt(1)));
    store.delete(&key("c/x")).await.expect("deleted");
    assert!(files_below(folder.path()).is_empty());
}

#[tokio::test]
async fn a_small_object_that_was_cut_off_is_swept() {
    let (folder, store) = store();
    std::fs::create_dir(folder.path().join("c")).expect("created");
    std::fs::write(folder.path().join("c").join(Hidden::new("x").to_string()), "half").expect("written");
    assert_eq!(store.list("").count().await, 0);
    assert_eq!(sweep(&store).await, 1);
    assert!(files_below(folder.path()).is_empty());
}

#[tokio::test]
async fn a_part_after_the_end_changes_nothing() {
    let (_folder, store) = store();
    let upload = begun(&store, attempt(1)).await;
    upload.complete(1).await.expect("complete");
    upload.part(1, Bytes::from_static(b"other")).await.expect_err("the upload has already ended");
    assert_eq!(store.get(&key("c/x"), 100).await.expect("read"), "bytes");
}

#[tokio::test]
async fn files_and_folders_are_their_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, store) = store();
    begun(&store, attempt(1)).await.complete(1).await.expect("complete");
    store.put_new(&key("c/y"), Bytes::from_static(b"y")).await.expect("created");
    for (path, mode) in [("c", 0o700), ("c/x", 0o600), ("c/y", 0o600)] {
        let found = folder.path().join(path).metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path}");
    }
}

#[tokio::test]
async fn a_root_that_went_away_is_not_made_again() {
    let (folder, store) = store();
    std::fs::remove_dir(folder.path()).expect("removed");
    store.put_new(&key("c/y"), Bytes::from_static(b"y")).await.expect_err("the root is gone");
    store.begin(&key("c/x"), attempt(1)).await.expect_err("the root is gone");
    assert!(store.list("").next().await.expect("one answer").is_err());
    assert!(!folder.path().exists());
}

#[tokio::test]
async fn nothing_leads_out_of_the_root() {
    let (folder, store) = store();
    let outside = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(outside.path().join("secret"), "s").expect("written");
    std::os::unix::fs::symlink(outside.path().join("secret"), folder.path().join("link")).expect("linked");
    std::os::unix::fs::symlink(outside.path(), folder.path().join("there")).expect("linked");
    for bad in ["../x", "/etc/passwd", "a/../../x", "a//b", ".", "a/./b"] {
        assert_eq!(Key::new(bad), None, "{bad}");
        assert!(store.list(bad).next().await.is_none_or(|found| found.is_err()), "{bad}");
    }
    assert!(store.get(&key("link"), 10).await.is_err());
    assert_eq!(store.head(&key("link")).await.expect("looked up"), None);
    assert_eq!(store.list("").count().await, 0);
    let wrong = Unfinished { key: key("x"), upload: "../secret".into(), begun: None };
    store.abort_unfinished(&wrong).await.expect_err("not one of ours");
}

#[tokio::test]
async fn a_probe_leaves_nothing_and_says_what_is_wrong() {
    let (folder, store) = store();
    assert_eq!(store.probe().await.expect("a good folder"), Vec::<String>::new());
    assert!(std::fs::read_dir(folder.path()).expect("readable").next().is_none());
    std::fs::remove_dir(folder.path()).expect("removed");
    let text = store.probe().await.expect_err("gone").to_string();
    assert!(text.starts_with(&format!("failed to list {}", folder.path().display())), "{text}");
}

#[test]
fn a_store_opens_an_existing_absolute_folder_only() {
    assert!(LocalStore::open("relative").expect_err("relative").is(ErrorKind::Invalid));
    assert!(LocalStore::open("/does/not/exist").expect_err("missing").is(ErrorKind::Unavailable));
    assert!(LocalStore::open("/dev/null").expect_err("a device").is(ErrorKind::Invalid));
}

#[tokio::test]
async fn a_file_system_without_links_works_and_the_probe_says_so() {
    let (folder, store) = store();
    let store = store.without_links();
    let notes = store.probe().await.expect("backups are possible");
    assert!(notes.len() == 1 && notes[0].contains("does not support hard links"), "{notes:?}");
    begun(&store, attempt(1)).await.complete(1).await.expect("complete");
    assert_eq!(files_below(folder.path()).len(), 2, "the object and its owner: {:?}", files_below(folder.path()));
    let owner = store.head(&key("c/x")).await.expect("looked up").expect("there").owner;
    assert_eq!(owner, Some(attempt(1)), "its inode is the partial file's");
}

#[tokio::test]
async fn a_file_system_that_could_overwrite_is_refused_by_the_probe() {
    let (folder, store) = store();
    let store = LocalStore { naming: Naming::Neither, ..store };
    let error = store.probe().await.expect_err("it has neither");
    assert!(error.is(ErrorKind::Invalid) && error.to_string().contains("neither hard links nor renames"), "{error}");
    assert!(files_below(folder.path()).is_empty());
    let error = store.put_new(&key("c/y"), Bytes::from_static(b"y")).await.expect_err("no name can be given");
    assert!(error.is(ErrorKind::Invalid), "{error}");
    let upload = begun(&store, attempt(1)).await;
    let error = upload.complete(1).await.expect_err("no name can be given");
    assert!(error.is(ErrorKind::Invalid), "{error}");
    upload.abort().await.expect("aborted");
    assert!(files_below(folder.path()).is_empty(), "{:?}", files_below(folder.path()));
}

/// Nothing can be tested as root, who may read everything.
#[tokio::test]
async fn a_folder_of_somebody_else_is_skipped() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, store) = store();
    store.put_new(&key("c/y"), Bytes::from_static(b"y")).await.expect("created");
    for closed in ["lost+found", "c/lost+found"] {
        let closed = folder.path().join(closed);
        std::fs::create_dir(&closed).expect("created");
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).expect("closed");
    }
    for prefix in ["", "c/"] {
        let listed: Vec<_> = store.list(prefix).try_collect().await.expect("listed all the same");
        assert_eq!(listed.len(), 1, "{prefix}");
        assert_eq!(store.unfinished(prefix).await.expect("listed all the same"), []);
    }
}

#[tokio::test]
async fn a_store_whose_folder_is_gone_is_never_taken_for_an_empty_one() {
    let (folder, store) = store();
    store.put_new(&key("c/x"), Bytes::from_static(b"bytes")).await.expect("written");
    let root = folder.path().display().to_string();
    folder.close().expect("it goes");
    let looked = [
        ("list", store.list("c/").try_collect::<Vec<_>>().await.map(drop)),
        ("list", store.list("").try_collect::<Vec<_>>().await.map(drop)),
        ("list", store.folders().await.map(drop)),
        ("list", store.unfinished("c/").await.map(drop)),
        ("read from", store.head(&key("c/x")).await.map(drop)),
        ("read from", store.get(&key("c/x"), 10).await.map(drop)),
        ("read from", store.read_range(&key("c/x"), 0..1).await.map(drop)),
        ("delete from", store.delete(&key("c/x")).await),
        ("write to", store.put_new(&key("c/y"), Bytes::new()).await),
        ("write to", store.begin(&key("c/y"), attempt(1)).await.map(drop)),
        ("write to", store.time().await.map(drop)),
        ("open", LocalStore::open(&root).map(drop)),
    ];
    for (action, found) in looked {
        let error = found.expect_err(action);
        let text =
            format!("failed to {action} {root}: this folder does not exist: create it, or mount what belongs there");
        assert_eq!((error.to_string(), error.is_one_object_s()), (text, false));
    }
}
