//! Tests whether a folder can hold backups, with a small hidden folder that is removed again.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::files::{self, Naming};
use crate::store::{ErrorKind, StoreError};

/// Removes the probe's folder, however the probe ends.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "could not remove the folder of the test");
        }
    }
}

/// The notes are for people: what this folder does not support, although backups are possible.
pub(super) fn probe(root: &Path, naming: Naming) -> Result<Vec<String>, StoreError> {
    let folder = root.join(format!(".backstay-probe-{}", Uuid::new_v4().simple()));
    let failed = |action: &'static str| move |error: io::Error| files::io_error(action, root, &error);
    std::fs::read_dir(root).map_err(failed("list"))?;
    std::fs::create_dir(&folder).map_err(failed("create a folder in"))?;
    let scratch = Scratch(folder);
    let (first, second, taken) = (scratch.0.join("first"), scratch.0.join("second"), scratch.0.join("taken"));
    for (path, text) in [(&first, "first"), (&second, "second")] {
        files::write_whole(path, text.as_bytes()).map_err(failed("write to"))?;
    }
    let before = inode(&first).map_err(failed("look into"))?;
    let renamed = naming.give(&first, &taken).map_err(failed("give a name in"))?;
    files::sync_folder(&scratch.0).map_err(failed("sync"))?;
    refuses_a_taken_name(root, naming, &second, &taken)?;
    let same = before == inode(&taken).map_err(failed("look into"))?;
    std::fs::remove_file(&second).map_err(failed("delete from"))?;
    let whole = std::fs::read(&taken).map_err(failed("read from"))? == b"first";
    if !whole {
        return Err(StoreError::new(
            ErrorKind::Invalid,
            "read from",
            root.display(),
            "the content differs from what was \
            written",
        ));
    }
    let notes = [(renamed, WITHOUT_LINKS), (!same, UNSTABLE_INODES)];
    Ok(notes.into_iter().filter(|(is_so, _)| *is_so).map(|(_, note)| note.to_owned()).collect())
}

const WITHOUT_LINKS: &str = "this file system does not support hard links: backups get their names by renames that \
    never overwrite. After a remount it may be unknown which attempt made a backup whose manifest is missing";

const UNSTABLE_INODES: &str = "this file system reports different inodes for hard links to one file: if an attempt \
    dies before its manifest is written, it is unknown which attempt made the backup";

fn refuses_a_taken_name(root: &Path, naming: Naming, second: &Path, taken: &Path) -> Result<(), StoreError> {
    match naming.give(second, taken) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(files::io_error("give a taken name in", root, &error)),
        Ok(_) => {
            let cause = "an existing file was replaced: backups could be overwritten";
            Err(StoreError::new(ErrorKind::Invalid, "give a taken name in", root.display(), cause))
        }
    }
}

fn inode(path: &Path) -> io::Result<u64> {
    Ok(path.metadata()?.ino())
}
