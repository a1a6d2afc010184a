//! The few file system operations of the local store. They block, and each is durable by itself.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use backstay_protocol::{AttemptId, Timestamp};
use rustix::fs::{OFlags, RenameFlags};
use rustix::io::Errno;
use uuid::Uuid;

use super::hidden::Hidden;
use crate::store::{ErrorKind, Key, StoreError};

/// The place of an object, whether or not it exists.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The folder of the object.
    pub(super) folder: PathBuf,
    /// The object's file name in it.
    pub(super) name: String,
    pub(super) key: Key,
    pub(super) naming: Naming,
}

impl Place {
    /// The place of `key` below `root`. A key has no `..` and no empty segment, so it cannot lead out of it.
    pub(super) fn of(root: &Path, key: &Key, naming: Naming) -> Self {
        let (folder, name) = key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()));
        Self { folder: root.join(folder), name: name.to_owned(), key: key.clone(), naming }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    pub(super) fn beside(&self, hidden: &Hidden) -> PathBuf {
        self.folder.join(hidden.to_string())
    }

    /// Creates the folders between `root` and the object, but never `root`: if it is missing, a mount may be missing,
    /// and a backup must not be written beneath it.
    pub(super) fn make_folders(&self, root: &Path) -> io::Result<()> {
        let mut folder = root.to_path_buf();
        let below = self.folder.strip_prefix(root).expect("a place is made below its root");
        for segment in below {
            let parent = folder.clone();
            folder.push(segment);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => sync_folder(&parent)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The object's inode; `None` if there is no such file.
    pub(super) fn inode(&self) -> io::Result<Option<u64>> {
        Ok(stat(&self.path())?.map(|found| found.ino()))
    }

    /// The attempt that uploaded the file with this inode, if it is known.
    pub(super) fn owner_of(&self, inode: u64) -> io::Result<Option<AttemptId>> {
        let read = |path: &Path| io::read_to_string(open(path)?);
        match read(&self.beside(&Hidden::owner(&self.name, inode))) {
            Ok(text) => Ok(text.trim_end().parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn error(&self, action: &str, error: &io::Error) -> StoreError {
        io_error(action, &self.path(), error)
    }
}

/// A regular file's metadata. `None` for nothing, and for folders and symbolic links, which are not objects.
pub(super) fn stat(path: &Path) -> io::Result<Option<std::fs::Metadata>> {
    match path.symlink_metadata() {
        Ok(found) => Ok(found.is_file().then_some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a file for reading, never through a symbolic link.
pub(super) fn open(path: &Path) -> io::Result<File> {
    // A pipe in an object's place would otherwise wait for somebody who writes into it.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// The same, at the beginning of a range that the file must have.
pub(super) fn open_range(path: &Path, range: &Range<u64>) -> io::Result<File> {
    let mut file = open(path)?;
    if range.is_empty() || range.end > file.metadata()?.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("it has no bytes {}..{}", range.start, range.end),
        ));
    }
    file.seek(io::SeekFrom::Start(range.start))?;
    Ok(file)
}

/// Creates a file that must not exist and that only its owner can access.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// How a complete file gets its final name without ever replacing another: by a hard link, or, if the file system has
/// none (SMB, exFAT), by a rename that never overwrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Naming {
    #[default]
    LinkOrRename,
    /// As on a file system without hard links.
    Rename,
    /// As on a file system with neither.
    #[cfg(test)]
    Neither,
}

impl Naming {
    /// Whether `from` is no longer the file's name, because it was renamed.
    pub(super) fn give(self, from: &Path, to: &Path) -> io::Result<bool> {
        let linked = match self {
            Self::LinkOrRename => std::fs::hard_link(from, to),
            #[cfg(test)]
            Self::Neither => Err(Errno::PERM.into()),
            Self::Rename => Err(Errno::PERM.into()),
        };
        match linked {
            Ok(()) => Ok(false),
            Err(error) if has_no_links(&error) => self.rename(from, to).map(|()| true),
            Err(error) => Err(error),
        }
    }

    fn rename(self, from: &Path, to: &Path) -> io::Result<()> {
        #[cfg(test)]
        if self == Self::Neither {
            return Err(no_way());
        }
        let folder = rustix::fs::CWD;
        match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
            // The file system, or the kernel, does not support the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Err(no_way()),
            result => Ok(result?),
        }
    }
}

/// The answers of file systems without hard links.
fn has_no_links(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::PERM | Errno::NOSYS | Errno::NOTSUP | Errno::MLINK | Errno::INVAL))
}

fn no_way() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this file system supports neither hard links nor renames that never overwrite, so backups could be \
         overwritten: use another file system, or S3",
    )
}

/// Writes a whole small file, and replaces what an earlier crash may have left of it.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Syncs the names in a folder to disk.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a file. It is not an error if there is none.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn modified(found: &std::fs::Metadata) -> Timestamp {
    Timestamp { seconds: found.mtime(), nanos: found.mtime_nsec() as i32 }
}

/// The time by the file system's clock; on a network mount, that of its server.
pub(super) fn time(root: &Path) -> io::Result<Timestamp> {
    let path = root.join(format!(".backstay-clock-{}", Uuid::new_v4().simple()));
    let file = create(&path)?;
    let written = file.sync_all().and_then(|()| file.metadata());
    remove(&path)?;
    Ok(modified(&written?))
}

/// The failure of a store whose folder is not there. It is the whole store's, never one object's.
pub(super) fn gone(action: &str, root: &Path) -> StoreError {
    let cause = "this folder does not exist: create it, or mount what belongs there";
    StoreError::new(ErrorKind::Unavailable, action, root.display(), cause)
}

/// Whether the store's own folder is not there.
pub(super) fn is_gone(root: &Path) -> bool {
    matches!(root.metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// What was found below `root`. Nothing is an answer only where `root` is there.
pub(super) fn below<T>(
    root: &Path,
    action: &str,
    found: Result<T, StoreError>,
    is_nothing: impl FnOnce(&T) -> bool,
) -> Result<T, StoreError> {
    let nothing = match &found {
        Ok(found) => is_nothing(found),
        Err(error) => error.is(ErrorKind::NotFound),
    };
    if nothing && is_gone(root) { Err(gone(action, root)) } else { found }
}

pub(super) fn io_error(action: &str, path: &Path, error: &io::Error) -> StoreError {
    use io::ErrorKind as Io;
    let kind = match error.kind() {
        Io::NotFound => ErrorKind::NotFound,
        Io::AlreadyExists => ErrorKind::AlreadyExists,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::Denied,
        Io::NotADirectory | Io::IsADirectory | Io::InvalidFilename | Io::InvalidInput | Io::FileTooLarge => {
            ErrorKind::Invalid
        }
        Io::Unsupported | Io::TooManyLinks | Io::CrossesDevices => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    };
    StoreError::new(kind, action, path.display(), error)
}
