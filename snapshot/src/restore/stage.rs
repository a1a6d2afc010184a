//! Prepares a data directory in a hidden place, so that nobody uses it before it is complete.
//!
//! A directory that does not exist yet is prepared as a hidden sibling and renamed. One that exists and is empty is
//! kept, because it may be a disk of its own or belong to etcd's user; `member` is then prepared inside it. A lock
//! distinguishes a running restore from the remains of one that was killed, which the next restore removes.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::RestoreError;

/// The ending of the hidden directory's name.
const HIDDEN: &str = "backstay-restore";

/// A disk's own directory may contain this and still counts as empty.
const IGNORED: &str = "lost+found";

/// A directory in preparation. If it is dropped before [`Stage::publish`], it removes what it created.
#[derive(Debug)]
pub(super) struct Stage {
    /// The future data directory.
    folder: PathBuf,
    hidden: PathBuf,
    /// Whether the data directory itself already exists.
    inside: bool,
    /// Held until this restore ends.
    _lock: File,
    published: bool,
}

impl Stage {
    /// # Errors
    /// The directory contains files, another restore into it is running, or it cannot be created.
    pub(super) fn create(folder: &Path) -> Result<Self, RestoreError> {
        let inside = is_there_and_empty(folder)?;
        let hidden = hidden_path(folder, inside)?;
        make_parents(&hidden, sync_folder)?;
        take_away_remains(&hidden, folder)?;
        make(&hidden)?;
        let lock = File::open(&hidden).map_err(|cause| RestoreError::file("open", &hidden, cause))?;
        lock_or_refuse(&lock, &hidden, folder)?;
        let stage = Self { folder: folder.to_owned(), hidden, inside, _lock: lock, published: false };
        make(&stage.member())?;
        Ok(stage)
    }

    /// The directory `member` in preparation.
    pub(super) fn member(&self) -> PathBuf {
        self.hidden.join("member")
    }

    /// Creates a directory inside `member`.
    pub(super) fn make_folder(&self, name: &str) -> Result<(), RestoreError> {
        make(&self.member().join(name))
    }

    /// Makes the complete directory visible and returns its path. Its files must be synced before.
    ///
    /// # Errors
    /// Nothing became visible, except after [`RestoreError::NotSynced`].
    pub(super) fn publish(&mut self) -> Result<PathBuf, RestoreError> {
        self.publish_with(sync_folder)
    }

    fn publish_with(&mut self, sync: impl Fn(&Path) -> Result<(), RestoreError>) -> Result<PathBuf, RestoreError> {
        let (from, to) = if self.inside {
            (self.member(), self.folder.join("member"))
        } else {
            sync(&self.hidden)?;
            (self.hidden.clone(), self.folder.clone())
        };
        fs::rename(&from, &to).map_err(|cause| RestoreError::file("put in place", &to, cause))?;
        self.published = true;
        if self.inside {
            // What remains is harmless: etcd reads only `member`, and an empty directory counts as none.
            let _ = fs::remove_dir(&self.hidden);
        }
        match sync(parent(&to)) {
            Ok(()) => Ok(self.folder.clone()),
            Err(cause) => Err(RestoreError::NotSynced { folder: self.folder.clone(), cause: Box::new(cause) }),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.published {
            // There is nobody to report a failure to; the next restore removes what remains.
            let _ = fs::remove_dir_all(&self.hidden);
        }
    }
}

/// Whether the directory exists; it is empty then. Changes nothing.
///
/// # Errors
/// It contains files, or another restore into it is running.
pub(super) fn check(folder: &Path) -> Result<bool, RestoreError> {
    let inside = is_there_and_empty(folder)?;
    let hidden = hidden_path(folder, inside)?;
    match File::open(&hidden) {
        Ok(remains) => lock_or_refuse(&remains, &hidden, folder)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(RestoreError::file("open", &hidden, error)),
    }
    Ok(inside)
}

/// Whether the directory exists. It is an error if it contains files.
fn is_there_and_empty(folder: &Path) -> Result<bool, RestoreError> {
    let failed = |cause| RestoreError::file("read", folder, cause);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Nothing can be renamed onto a link. A trailing slash is removed, because otherwise the link would be
            // followed.
            let link = fs::symlink_metadata(folder.components().as_path()).is_ok();
            let dangling = || failed(io::Error::other("it is a link to a directory that does not exist"));
            return if link { Err(dangling()) } else { Ok(false) };
        }
        Err(error) => return Err(failed(error)),
    };
    let own = format!(".{HIDDEN}");
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        if name != IGNORED && name != own.as_str() {
            return Err(RestoreError::NotEmpty(folder.to_owned()));
        }
    }
    Ok(true)
}

fn hidden_path(folder: &Path, inside: bool) -> Result<PathBuf, RestoreError> {
    if inside {
        return Ok(folder.join(format!(".{HIDDEN}")));
    }
    let unnamed = || RestoreError::file("make", folder, io::Error::other("the path does not end in a name"));
    let name = folder.file_name().ok_or_else(unnamed)?.to_string_lossy();
    Ok(folder.with_file_name(format!(".{name}.{HIDDEN}")))
}

/// Creates the parent directories, and syncs each that got a new one. The last is synced when the directory becomes
/// visible.
fn make_parents(hidden: &Path, sync: impl Fn(&Path) -> Result<(), RestoreError>) -> Result<(), RestoreError> {
    let above = parent(hidden);
    let named = above.ancestors().take_while(|folder| !folder.as_os_str().is_empty());
    let new: Vec<&Path> = named.take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(above).map_err(|cause| RestoreError::file("make", above, cause))?;
    new.into_iter().rev().try_for_each(|folder| sync(parent(folder)))
}

/// Removes the remains of a restore that was killed. One that is running holds the lock.
fn take_away_remains(hidden: &Path, folder: &Path) -> Result<(), RestoreError> {
    let remains = match File::open(hidden) {
        Ok(remains) => remains,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(RestoreError::file("open", hidden, error)),
    };
    lock_or_refuse(&remains, hidden, folder)?;
    fs::remove_dir_all(hidden).map_err(|cause| RestoreError::file("remove", hidden, cause))
}

/// Locks the directory that was opened at `hidden`. Meanwhile another restore may have replaced it with its own; then
/// the lock on the old one means nothing.
fn lock_or_refuse(file: &File, hidden: &Path, folder: &Path) -> Result<(), RestoreError> {
    let failed = |cause| RestoreError::file("lock", hidden, cause);
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => RestoreError::UnderWay(folder.to_owned()),
        TryLockError::Error(cause) => failed(cause),
    })?;
    let own = file.metadata().map_err(failed)?;
    match fs::symlink_metadata(hidden) {
        Ok(there) if (there.dev(), there.ino()) == (own.dev(), own.ino()) => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Err(RestoreError::UnderWay(folder.to_owned())),
    }
}

/// A directory that only its owner can access, as etcd wants it.
fn make(path: &Path) -> Result<(), RestoreError> {
    DirBuilder::new().mode(0o700).create(path).map_err(|cause| RestoreError::file("make", path, cause))
}

/// A new file that only its owner can read and write.
pub(super) fn create_file(path: &Path) -> Result<File, RestoreError> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|cause| RestoreError::file("create", path, cause))
}

/// Writes a small file of at least `bytes` bytes, and syncs it.
pub(super) fn write_file(path: &Path, contents: &[u8], bytes: u64) -> Result<(), RestoreError> {
    let mut file = create_file(path)?;
    let written = file
        .write_all(contents)
        .and_then(|()| file.set_len(bytes.max(contents.len() as u64)))
        .and_then(|()| file.sync_all());
    written.map_err(|cause| RestoreError::file("write", path, cause))
}

pub(super) fn sync_folder(path: &Path) -> Result<(), RestoreError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|cause| RestoreError::file("sync", path, cause))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .expect("readable")
            .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_folder_appears_at_once_and_a_dropped_one_never() {
        let home = tempfile::tempdir().expect("folder");
        let folder = home.path().join("a/data");
        let stage = Stage::create(&folder).expect("created");
        assert!(!folder.exists());
        drop(stage);
        assert!(names(&home.path().join("a")).is_empty());
        let mut stage = Stage::create(&folder).expect("created again");
        stage.make_folder("snap").expect("made");
        assert_eq!(stage.publish().expect("published"), folder);
        drop(stage);
        assert_eq!(names(&home.path().join("a")), ["data"]);
        assert_eq!(names(&folder.join("member")), ["snap"]);
        assert!(matches!(Stage::create(&folder), Err(RestoreError::NotEmpty(_))));
    }

    #[test]
    fn an_empty_folder_stays_itself() {
        let home = tempfile::tempdir().expect("folder");
        let folder = home.path().join("data");
        fs::create_dir_all(folder.join(IGNORED)).expect("made");
        let inode = |path: &Path| fs::metadata(path).expect("there").ino();
        let before = inode(&folder);
        drop(Stage::create(&folder).expect("created"));
        assert_eq!(names(&folder), [IGNORED]);
        Stage::create(&folder).expect("created").publish().expect("published");
        assert_eq!(names(&folder), [IGNORED, "member"]);
        assert_eq!(inode(&folder), before);
    }

    #[test]
    fn remains_are_removed_and_a_living_restore_is_not() {
        let home = tempfile::tempdir().expect("folder");
        for there in [false, true] {
            let folder = home.path().join(format!("data-{there}"));
            if there {
                fs::create_dir(&folder).expect("made");
            }
            let hidden = hidden_path(&folder, there).expect("a path");
            fs::create_dir_all(hidden.join("member/snap")).expect("made");
            fs::write(hidden.join("member/snap/db"), b"half").expect("written");
            let stage = Stage::create(&folder).expect("created over the remains");
            assert!(names(&stage.member()).is_empty());
            assert!(matches!(Stage::create(&folder), Err(RestoreError::UnderWay(_))));
            assert!(stage.member().exists(), "the other one left it alone");
        }
    }

    #[test]
    fn who_opened_remains_that_another_took_away_leaves_the_other_alone() {
        let home = tempfile::tempdir().expect("folder");
        let folder = home.path().join("data");
        let hidden = hidden_path(&folder, false).expect("a path");
        fs::create_dir_all(&hidden).expect("made");
        let remains = File::open(&hidden).expect("opened");
        let stage = Stage::create(&folder).expect("created over the remains");
        let refused = |remains| matches!(lock_or_refuse(remains, &hidden, &folder), Err(RestoreError::UnderWay(_)));
        assert!(refused(&remains), "the other one prepares its own there");
        drop(stage);
        assert!(refused(&remains), "nothing is there");
    }

    #[test]
    fn what_fails_once_it_is_shown_does_not_say_that_nothing_is_there() {
        let home = tempfile::tempdir().expect("folder");
        let failing = |at: &Path| Err(RestoreError::file("sync", at, io::Error::other("no disk")));
        for there in [false, true] {
            let folder = home.path().join(format!("data-{there}"));
            if there {
                fs::create_dir(&folder).expect("made");
            }
            let mut stage = Stage::create(&folder).expect("created");
            let above = if there { &folder } else { home.path() };
            let sync = |at: &Path| if at == above { failing(at) } else { Ok(()) };
            let error = stage.publish_with(sync).expect_err("not synced");
            assert!(matches!(&error, RestoreError::NotSynced { folder: shown, .. } if *shown == folder), "{error}");
            drop(stage);
            assert_eq!(names(&folder), ["member"]);
        }
        let folder = home.path().join("data");
        let mut stage = Stage::create(&folder).expect("created");
        assert!(matches!(stage.publish_with(failing), Err(RestoreError::File { .. })));
        drop(stage);
        assert_eq!(names(home.path()), ["data-false", "data-true"]);
    }

    #[test]
    fn a_hidden_folder_that_cannot_be_removed_is_no_failure() {
        let home = tempfile::tempdir().expect("folder");
        let mut stage = Stage::create(home.path()).expect("created");
        fs::write(stage.hidden.join("foreign"), b"").expect("written");
        assert_eq!(stage.publish().expect("published"), home.path());
        assert!(home.path().join("member").exists());
    }

    #[test]
    fn a_link_that_leads_nowhere_is_refused_at_once() {
        let home = tempfile::tempdir().expect("folder");
        let link = home.path().join("data");
        std::os::unix::fs::symlink(home.path().join("elsewhere"), &link).expect("linked");
        for end in ["", "/", "/."] {
            let folder = PathBuf::from(format!("{}{end}", link.display()));
            let error = Stage::create(&folder).expect_err("it leads nowhere").to_string();
            assert!(error.ends_with(": it is a link to a directory that does not exist"), "{error}");
        }
        assert_eq!(names(home.path()), ["data"]);
        fs::create_dir(home.path().join("elsewhere")).expect("made");
        Stage::create(&link).expect("created").publish().expect("published");
        assert_eq!(names(&home.path().join("elsewhere")), ["member"]);
    }

    #[test]
    fn every_folder_that_got_a_new_one_is_synced() {
        let home = tempfile::tempdir().expect("folder");
        let synced = std::cell::RefCell::new(Vec::new());
        let sync = |at: &Path| {
            synced.borrow_mut().push(at.to_owned());
            sync_folder(at)
        };
        let made = |path: &str| {
            make_parents(&home.path().join(path), sync).expect("made");
            synced.take()
        };
        assert_eq!(made("a/b/c/.data"), [home.path().to_owned(), home.path().join("a"), home.path().join("a/b")]);
        assert_eq!(made("a/d/.data"), [home.path().join("a")]);
        assert!(made("a/.data").is_empty());
        make_parents(Path::new(".data"), sync).expect("made");
        assert!(synced.take().is_empty(), "this folder is there");
    }
}
