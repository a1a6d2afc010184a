//! The three folders of a restore (live, fresh and aside): where they are, and moving them.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use backstay_protocol::RestoreId;
use serde::{Deserialize, Serialize};

/// Room in addition to the database: the first WAL segment, the snapshot file, and what etcd writes while it starts.
const ROOM_BYTES: u64 = 128 * 1024 * 1024;

/// What went wrong with which folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {cause}", .path.display())]
pub struct FolderError {
    action: String,
    path: PathBuf,
    cause: io::Error,
}

fn failed(action: impl Into<String>, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let (action, path) = (action.into(), path.to_owned());
    move |cause| FolderError { action, path, cause }
}

/// Where they are. All are on one file system, so that a folder is moved by renaming it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folders {
    pub live: PathBuf,
    pub fresh: PathBuf,
    pub aside: PathBuf,
    /// The data folder that is prepared: `fresh` itself, or the folder around it.
    pub made: PathBuf,
    /// The folder that is created to prepare in, and removed afterwards.
    pub root: PathBuf,
}

/// Which of the folders are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExistingFolders {
    pub live: bool,
    pub fresh: bool,
    pub aside: bool,
    /// The folder that was created to prepare in, with `fresh` in it. While it exists, nothing in it was removed.
    pub root: bool,
    /// What is left of it if its removal was interrupted.
    pub rest: bool,
}

/// What a restore moves: the data folder, or `member` in it if the folder is a mount point and cannot be renamed.
///
/// # Errors
/// The path has no parent folder, or cannot be looked at.
pub fn moved_folder(data_dir: &Path) -> io::Result<PathBuf> {
    let parent = data_dir.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent
        .ok_or_else(|| io::Error::other("the data directory must be an absolute path, and not the root directory"))?;
    match fs::metadata(data_dir) {
        Ok(data) if data.dev() != fs::metadata(parent)?.dev() => Ok(data_dir.join("member")),
        Ok(_) if is_mount_point(data_dir)? => Ok(data_dir.join("member")),
        Ok(_) => Ok(data_dir.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(data_dir.to_owned()),
        Err(error) => Err(error),
    }
}

/// Whether something is mounted at this path. A bind mount may have the same device as its parent, and cannot be
/// renamed either.
fn is_mount_point(path: &Path) -> io::Result<bool> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(true) };
    // The kernel lists real paths; a link itself is no mount point.
    let path = fs::canonicalize(parent)?.join(name);
    Ok(lists(&fs::read("/proc/self/mountinfo")?, &path))
}

fn lists(mountinfo: &[u8], path: &Path) -> bool {
    let escaped = path.as_os_str().as_bytes().iter().flat_map(|byte| match byte {
        b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
        byte => vec![*byte],
    });
    let escaped: Vec<u8> = escaped.collect();
    mountinfo.split(|b| *b == b'\n').any(|line| line.split(|b| *b == b' ').nth(4) == Some(escaped.as_slice()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl Folders {
    /// For etcd's data folder; `suffix` is what the old folder's new name ends with.
    ///
    /// # Errors
    /// The data folder cannot be looked at.
    pub fn of(data_dir: &Path, restore: RestoreId, suffix: &str) -> Result<Self, FolderError> {
        let live = moved_folder(data_dir).map_err(failed("look at the data directory", data_dir))?;
        if live == data_dir {
            return Ok(Self::beside(data_dir, restore, suffix));
        }
        let root = data_dir.join(format!(".restore-{restore}"));
        let made = root.join("data");
        Ok(Self { aside: with_suffix(&live, suffix), fresh: made.join("member"), made, root, live })
    }

    /// All three are in the same parent folder.
    pub fn beside(data_dir: &Path, restore: RestoreId, suffix: &str) -> Self {
        let root = with_suffix(data_dir, &format!(".restore-{restore}"));
        let fresh = root.join("data");
        Self { live: data_dir.to_owned(), made: fresh.clone(), fresh, root, aside: with_suffix(data_dir, suffix) }
    }

    /// The database of the live folder, which etcd locks while it runs.
    pub fn live_database(&self) -> PathBuf {
        self.database_in(&self.live)
    }

    /// The databases that this machine's etcd may have open; it keeps its lock when its folder is moved.
    pub fn databases(&self) -> [PathBuf; 2] {
        [self.live_database(), self.database_in(&self.aside)]
    }

    fn database_in(&self, moved: &Path) -> PathBuf {
        let member = if self.made == self.fresh { moved.join("member") } else { moved.to_owned() };
        member.join("snap/db")
    }

    /// The same for the prepared folder.
    pub fn fresh_database(&self) -> PathBuf {
        self.made.join("member/snap/db")
    }

    pub fn see(&self) -> ExistingFolders {
        let there = |path: &Path| fs::symlink_metadata(path).is_ok();
        ExistingFolders {
            live: there(&self.live),
            fresh: there(&self.fresh),
            aside: there(&self.aside),
            root: there(&self.root),
            rest: there(&self.rest()),
        }
    }

    /// Checks that there is room for a database of this many bytes, and that nothing is in the place for the old
    /// folder.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(&self, bytes: u64) -> Result<(), String> {
        let parent = self.live.parent().unwrap_or(Path::new("/"));
        let free =
            free_bytes(parent).map_err(|e| format!("cannot determine the free space in {}: {e}", parent.display()))?;
        let wanted = bytes.saturating_add(ROOM_BYTES);
        if free < wanted {
            let text = "are needed next to the live data in";
            return Err(format!("{wanted} bytes {text} {}, {free} are free", parent.display()));
        }
        if self.live.exists()
            && is_mount_point(&self.live).map_err(|e| format!("cannot read the list of mounts: {e}"))?
        {
            return Err(format!("{} is a mount point: it cannot be moved", self.live.display()));
        }
        if self.aside.exists() {
            return Err(format!("{} already exists: the old data would be moved there", self.aside.display()));
        }
        let snap = self.live_database();
        let wal = snap.ancestors().nth(2).map(|member| member.join("wal"));
        if snap.exists() && !wal.is_some_and(|wal| wal.exists()) {
            let text = "has no WAL directory: a separate one (--wal-dir) is not supported";
            return Err(format!("{} {text}", self.live.display()));
        }
        Ok(())
    }

    /// Gives the prepared folder the owner and the mode of the live one.
    ///
    /// # Errors
    /// The file system refuses; the error names the path.
    pub fn adopt(&self) -> Result<(), FolderError> {
        let like = match fs::metadata(&self.live) {
            Ok(live) => live,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = self.live.parent().unwrap_or(Path::new("/"));
                let parent = fs::metadata(parent).map_err(failed("look at", parent))?;
                return own_all(&self.made, parent.uid(), parent.gid());
            }
            Err(error) => return Err(failed("look at", &self.live)(error)),
        };
        own_all(&self.made, like.uid(), like.gid())?;
        let mode = fs::Permissions::from_mode(like.mode() & 0o7777);
        fs::set_permissions(&self.fresh, mode).map_err(failed("set the mode of", &self.fresh))
    }

    /// Moves a folder, and returns when that is on disk.
    ///
    /// # Errors
    /// The target exists already, or the file system refuses.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), FolderError> {
        // Renaming onto an empty folder would replace it.
        if fs::symlink_metadata(to).is_ok() {
            return Err(failed(format!("move {} to", from.display()), to)(io::ErrorKind::AlreadyExists.into()));
        }
        fs::rename(from, to).map_err(failed(format!("move {} to", from.display()), to))?;
        for folder in [from.parent(), to.parent()].into_iter().flatten() {
            File::open(folder).and_then(|f| f.sync_all()).map_err(failed("sync", folder))?;
        }
        Ok(())
    }

    /// Where a folder is moved that is in the place of the live one although nobody put it there.
    pub fn unexpected(&self) -> PathBuf {
        unused(&self.aside, ".unexpected")
    }

    /// Sets aside what etcd ran on, before the rest of the prepared folder is removed, and returns where. `None` if
    /// that was done already.
    ///
    /// # Errors
    /// The file system refuses; the error names the path.
    pub fn keep_what_ran(&self) -> Result<Option<PathBuf>, FolderError> {
        if fs::symlink_metadata(&self.fresh).is_err() {
            return Ok(None);
        }
        let kept = unused(&self.aside, ".restored-and-put-back");
        self.rename(&self.fresh, &kept)?;
        Ok(Some(kept))
    }

    /// Every folder of this restore beside the data folder: what was set aside, what etcd ran on, what was found in
    /// place of the data folder, and what could not be removed yet.
    ///
    /// # Errors
    /// The parent folder cannot be read.
    pub fn left(&self) -> io::Result<Vec<PathBuf>> {
        let (Some(parent), Some(aside)) = (self.aside.parent(), self.aside.file_name()) else { return Ok(Vec::new()) };
        let of_aside =
            |name: &[u8]| name.strip_prefix(aside.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'.');
        let rest = self.rest();
        let mut left = Vec::new();
        for entry in fs::read_dir(parent)? {
            let path = parent.join(entry?.file_name());
            let own = path.file_name().is_some_and(|name| of_aside(name.as_bytes()));
            if own || path == self.root || path == rest {
                left.push(path);
            }
        }
        left.sort();
        Ok(left)
    }

    /// What a restore removes before it has ended: the folder to prepare in, under each of its names.
    pub fn removed(&self) -> [PathBuf; 2] {
        [self.root.clone(), self.rest()]
    }

    /// The name that a prepared folder has while it is removed.
    fn rest(&self) -> PathBuf {
        with_suffix(&self.root, ".removing")
    }

    /// Removes the prepared folder. It is renamed first, so that a folder that is half removed is never mistaken for a
    /// complete one.
    ///
    /// # Errors
    /// The file system refuses; the error names the path.
    pub fn discard(&self) -> Result<(), FolderError> {
        let rest = self.rest();
        remove(&rest)?;
        if fs::symlink_metadata(&self.root).is_ok() {
            self.rename(&self.root, &rest)?;
        }
        remove(&rest)
    }
}

/// The first such name that is not used; with a number from the second one on.
fn unused(path: &Path, suffix: &str) -> PathBuf {
    let free = |name: &PathBuf| fs::symlink_metadata(name).is_err();
    let mut names = (1_u32..).map(|n| match n {
        1 => with_suffix(path, suffix),
        n => with_suffix(path, &format!("{suffix}.{n}")),
    });
    names.find(free).expect("a directory has fewer entries than there are numbers")
}

fn remove(folder: &Path) -> Result<(), FolderError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", folder)(error)),
        _ => Ok(()),
    }
}

/// Bytes that are free on a file system for a user who is not root.
///
/// # Errors
/// The path does not exist, or cannot be looked at.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Sets owner and group of a folder and everything in it. Nothing is done for what has them already, which needs no
/// privilege.
fn own_all(path: &Path, uid: u32, gid: u32) -> Result<(), FolderError> {
    let now = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    if (now.uid(), now.gid()) != (uid, gid) {
        chown(path, Some(uid), Some(gid)).map_err(failed(format!("give to {uid}:{gid}"), path))?;
    }
    if now.is_dir() {
        for entry in fs::read_dir(path).map_err(failed("read", path))? {
            own_all(&entry.map_err(failed("read", path))?.path(), uid, gid)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn folders(data: &Path) -> Folders {
        Folders::of(data, RestoreId(Uuid::from_u128(7)), ".old").expect("there")
    }

    #[test]
    fn moving_is_renaming_and_never_replaces() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("etcd");
        fs::create_dir_all(data.join("member/snap")).expect("writable");
        fs::write(data.join("member/snap/db"), "old").expect("writable");
        let all = folders(&data);
        assert_eq!(all.see(), ExistingFolders { live: true, ..ExistingFolders::default() });
        assert!(all.check(1).is_err_and(|e| e.contains("--wal-dir")));
        fs::create_dir_all(data.join("member/wal")).expect("writable");
        all.check(1).expect("room for a byte");
        assert!(all.check(u64::MAX / 2).is_err_and(|e| e.contains("are free")));
        all.rename(&all.live, &all.aside).expect("free");
        assert!(all.check(1).is_err_and(|e| e.contains("already exists")));
        fs::create_dir(&all.live).expect("free");
        assert!(all.rename(&all.aside, &all.live).is_err(), "an empty folder is not replaced either");
        assert_eq!(fs::read(all.aside.join("member/snap/db")).expect("there"), b"old");
    }

    #[test]
    fn every_folder_that_a_restore_leaves_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("etcd");
        fs::create_dir(&data).expect("writable");
        let all = folders(&data);
        assert_eq!(all.left().expect("readable"), [] as [PathBuf; 0]);
        for other in ["etcd.older", "etcd.old-too", "another.old"] {
            fs::create_dir(folder.path().join(other)).expect("writable");
        }
        let mut ours = vec![all.aside.clone(), all.unexpected()];
        fs::create_dir_all(&all.fresh).expect("writable");
        fs::create_dir(all.unexpected()).expect("writable");
        ours.push(all.keep_what_ran().expect("ours").expect("it is there"));
        fs::create_dir(&all.aside).expect("writable");
        ours.push(all.root.clone());
        ours.sort();
        assert_eq!(all.left().expect("readable"), ours);
    }

    #[test]
    fn a_mount_point_is_seen_where_the_device_is_the_same() {
        let line = |path: &str| format!("36 25 8:1 /srv/etcd {path} rw,relatime shared:1 - ext4 /dev/sda1 rw\n");
        let mountinfo = line("/var/lib") + &line("/var/lib/my\\040etcd") + &line("/var/lib/etcd");
        for (path, there) in [("/var/lib/etcd", true), ("/var/lib/my etcd", true), ("/srv/etcd", false)] {
            assert_eq!(lists(mountinfo.as_bytes(), Path::new(path)), there, "{path}");
        }
        assert!(is_mount_point(Path::new("/proc")).expect("readable"));
        let folder = tempfile::tempdir().expect("a folder");
        assert!(!is_mount_point(&folder.path().join("etcd")).expect("readable"));
    }

    #[test]
    fn what_is_prepared_looks_like_what_is_live() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("etcd");
        fs::create_dir(&data).expect("writable");
        fs::set_permissions(&data, fs::Permissions::from_mode(0o750)).expect("ours");
        let all = folders(&data);
        fs::create_dir_all(all.fresh_database().parent().expect("below")).expect("writable");
        all.adopt().expect("ours");
        assert_eq!(fs::metadata(&all.fresh).expect("there").mode() & 0o777, 0o750);
        all.discard().expect("ours");
        all.discard().expect("twice is fine");
        assert_eq!(all.see(), ExistingFolders { live: true, ..ExistingFolders::default() });
    }
}
