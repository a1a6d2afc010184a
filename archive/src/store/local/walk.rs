//! Walks the folder: objects in the order of their keys, and what unfinished uploads left.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstay_protocol::Timestamp;
use futures::StreamExt;

use super::files::{self, Naming, Place};
use super::hidden::Hidden;
use crate::blocking::blocking;
use crate::store::{ErrorKind, Key, Listing, ObjectInfo, StoreError, Unfinished};

/// What is still to be visited, last first.
enum Pending {
    /// A folder's name below the root, without a trailing `/`; empty for the root.
    Folder(String),
    Object(ObjectInfo),
}

/// Lists every object whose key begins with `prefix`. The entries of one folder and its parents are in memory, not
/// the whole tree.
pub(super) fn list(root: Arc<PathBuf>, prefix: &str) -> Listing {
    let top = match top_folder(&root, prefix) {
        Ok(top) => top,
        Err(error) => return futures::stream::once(async { Err(error) }).boxed(),
    };
    let state = (root, prefix.to_owned(), vec![Pending::Folder(top.clone())]);
    futures::stream::try_unfold(state, move |(root, prefix, mut pending)| {
        let top = top.clone();
        async move {
            loop {
                match pending.pop() {
                    None => return Ok(None),
                    Some(Pending::Object(found)) => return Ok(Some((found, (root, prefix, pending)))),
                    Some(Pending::Folder(folder)) => {
                        let (at, wanted, is_top) = (root.clone(), prefix.clone(), folder == top);
                        match blocking(move || entries(&at, &folder, &wanted)).await {
                            Ok(found) => pending.extend(found),
                            // Belongs to someone else, such as `lost+found`; the rest is listed anyway.
                            Err(error) if error.is(ErrorKind::Denied) && !is_top => {
                                tracing::warn!(%error, "skipped a folder");
                            }
                            Err(error) => return Err(error),
                        }
                    }
                }
            }
        }
    })
    .boxed()
}

/// The folder that contains everything that begins with `prefix`: the text before its last `/`.
fn top_folder(root: &Path, prefix: &str) -> Result<String, StoreError> {
    let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
    if folder.is_empty() && !prefix.starts_with('/') || Key::new(folder).is_some() {
        return Ok(folder.to_owned());
    }
    let cause = format!("{prefix:?} is not the beginning of a key");
    Err(StoreError::new(ErrorKind::Invalid, "list", root.display(), cause))
}

/// The objects and folders in one folder that begin with `prefix`, or with which it begins; last first.
fn entries(root: &Path, folder: &str, prefix: &str) -> Result<Vec<Pending>, StoreError> {
    let mut found: Vec<(String, Pending)> = Vec::new();
    for (name, entry) in read_folder(root, folder)? {
        let key = join(folder, &name);
        let failed = |error: io::Error| files::io_error("list", &root.join(&key), &error);
        let kind = entry.file_type().map_err(failed)?;
        if name.starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            // As S3 sorts keys: the slash belongs to the name.
            let sorted = format!("{key}/");
            if sorted.starts_with(prefix) || prefix.starts_with(&sorted) {
                found.push((sorted, Pending::Folder(key)));
            }
        } else if kind.is_file()
            && key.starts_with(prefix)
            && let (Some(object), Some(stat)) = (Key::new(&key), files::stat(&entry.path()).map_err(failed)?)
        {
            let modified = Some(files::modified(&stat));
            found.push((key, Pending::Object(ObjectInfo { key: object, size: stat.len(), modified, owner: None })));
        }
    }
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    Ok(found.into_iter().map(|(_, pending)| pending).collect())
}

/// The folders directly below the root, sorted.
pub(super) fn folders(root: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for (name, entry) in read_folder(root, "")? {
        let kind = entry.file_type().map_err(|error| files::io_error("list", &entry.path(), &error))?;
        if kind.is_dir() && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The hidden files of uploads and small objects that were never finished, for keys that begin with `prefix`.
pub(super) fn unfinished(root: &Path, prefix: &str) -> Result<Vec<Unfinished>, StoreError> {
    let top = top_folder(root, prefix)?;
    let (mut pending, mut found) = (vec![top.clone()], Vec::new());
    while let Some(folder) = pending.pop() {
        let all = match read_folder(root, &folder) {
            // As in a listing.
            Err(error) if error.is(ErrorKind::Denied) && folder != top => {
                tracing::warn!(%error, "skipped a folder");
                continue;
            }
            all => all?,
        };
        let failed = |error: io::Error| files::io_error("list unfinished uploads in", &root.join(&folder), &error);
        let mut partials = HashSet::new();
        let mut hidden = Vec::new();
        for (name, entry) in all {
            if let Some(file) = Hidden::parse(&name) {
                let Some(stat) = files::stat(&entry.path()).map_err(failed)? else { continue };
                if matches!(file, Hidden::Partial { .. }) {
                    partials.insert(stat.ino());
                }
                hidden.push((file, stat));
            } else if !name.starts_with('.') && entry.file_type().map_err(failed)?.is_dir() {
                pending.push(join(&folder, &name));
            }
        }
        for (file, stat) in hidden {
            let Some(key) = Key::new(&join(&folder, file.name())).filter(|key| key.as_str().starts_with(prefix)) else {
                continue;
            };
            if is_left_over(&Place::of(root, &key, Naming::default()), &file, &partials).map_err(failed)? {
                found.push(Unfinished { key, upload: file.to_string(), begun: Some(begun(&stat)) });
            }
        }
    }
    found.sort_by(|a, b| (&a.key, &a.upload).cmp(&(&b.key, &b.upload)));
    Ok(found)
}

/// Whether an owner's note is left over: it belongs neither to its object nor to an upload that may become it.
fn is_left_over(place: &Place, file: &Hidden, partials: &HashSet<u64>) -> io::Result<bool> {
    match file {
        Hidden::Owner { inode, .. } => Ok(!partials.contains(inode) && place.inode()? != Some(*inode)),
        Hidden::Partial { .. } | Hidden::New { .. } => Ok(true),
    }
}

/// When a file was created, if the file system knows, or else when it was last written.
fn begun(stat: &std::fs::Metadata) -> Timestamp {
    let born = stat.created().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    match born {
        Some(age) => Timestamp { seconds: age.as_secs() as i64, nanos: age.subsec_nanos() as i32 },
        None => files::modified(stat),
    }
}

/// The entries of a folder whose names are text. None if the folder is missing, unless it is the root.
fn read_folder(root: &Path, folder: &str) -> Result<Vec<(String, std::fs::DirEntry)>, StoreError> {
    let path = root.join(folder);
    let failed = |error: io::Error| files::io_error("list", &path, &error);
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound && files::is_gone(root) => {
            return Err(files::gone("list", root));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_empty() => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut named = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if let Ok(name) = entry.file_name().into_string() {
            named.push((name, entry));
        }
    }
    Ok(named)
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
