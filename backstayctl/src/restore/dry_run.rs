//! `restore --store --dry-run`: checks what can be checked without downloading the backup or writing to the disk, and
//! prints what would be done.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use backstay_archive::restore::{Options, Plan, check};
use backstay_archive::trust::Voucher;
use backstay_archive::{Key, Manifest, Store};
use backstay_daemon::units;

use super::error::RestoreFailure;
use super::trust;

/// The plan in words, after the backup was chosen and the key for it was found.
///
/// # Errors
/// The object in the store is missing or incomplete, the folder cannot be used, or there is not enough room.
pub async fn run(
    store: &dyn Store,
    manifest: &Manifest,
    voucher: Option<&Voucher>,
    folder: &Path,
    options: &Options,
) -> Result<String, RestoreFailure> {
    is_whole(store, manifest).await?;
    let plan = check(folder, options).map_err(|cause| RestoreFailure::Folder { folder: folder.into(), cause })?;
    let free = room(folder, needed(manifest, options))?;
    let mut text = text(&store.url(), manifest, folder, options, &plan, free);
    text.push_str(&format!("signed         {}\n", trust::told(voucher)));
    Ok(text)
}

/// Checks that the object exists and has all its bytes. Whether they are right is only known after downloading them.
async fn is_whole(store: &dyn Store, manifest: &Manifest) -> Result<(), RestoreFailure> {
    let (snapshot, said) = (manifest.snapshot, manifest.sealed_bytes);
    let object = store.head(&Key::snapshot(manifest.cluster_uuid, snapshot)).await?;
    match object.map(|object| object.size) {
        None => Err(RestoreFailure::NoObject { store: store.url(), snapshot }),
        Some(is) if is != said => Err(RestoreFailure::OtherSize { store: store.url(), snapshot, is, said }),
        Some(_) => Ok(()),
    }
}

/// How many bytes the restore needs on the disk.
fn needed(manifest: &Manifest, options: &Options) -> u64 {
    let copies = if options.defragment { 2 } else { 1 };
    manifest.snapshot_bytes.saturating_mul(copies)
}

/// How many bytes are free where the folder is or would be created.
fn room(folder: &Path, needed: u64) -> Result<u64, RestoreFailure> {
    let place = nearest(folder);
    let unusable =
        |cause: rustix::io::Errno| RestoreFailure::NotWritable { folder: place.clone(), cause: io::Error::from(cause) };
    use rustix::fs::{Access, access, statvfs};
    access(&place, Access::WRITE_OK | Access::EXEC_OK).map_err(unusable)?;
    let disk = statvfs(&place).map_err(unusable)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    match free < needed {
        false => Ok(free),
        true => {
            let (needed, free) = (units::bytes(needed), units::bytes(free));
            Err(RestoreFailure::NoRoom { folder: place, needed, free })
        }
    }
}

/// The folder itself, or the nearest parent that exists.
fn nearest(folder: &Path) -> PathBuf {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    whole.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn text(store: &str, manifest: &Manifest, folder: &Path, options: &Options, plan: &Plan, free: u64) -> String {
    let Manifest { cluster, cluster_uuid, snapshot, created_at, origin, .. } = manifest;
    let (is, bump) = (if plan.is_there { "empty" } else { "new" }, options.bump.unwrap_or_default());
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ =
        writeln!(text, "would restore  {snapshot} of {cluster} (UUID {cluster_uuid}), taken {}", created_at.rfc3339());
    let _ = writeln!(text, "from           {store}");
    let _ = writeln!(text, "into           {} ({is}; {} free)", folder.display(), units::bytes(free));
    let (database, sealed) = (units::bytes(manifest.snapshot_bytes), units::bytes(manifest.sealed_bytes));
    let _ = writeln!(text, "database       {database} ({sealed} in the store)");
    let _ = writeln!(text, "revision       {} or later, raised by {bump}", origin.revision);
    let members: Vec<&str> = options.members.iter().map(|member| member.name.as_str()).collect();
    let _ = writeln!(text, "member         {} ({:016x}) of {}", options.name, plan.member_id, members.join(", "));
    let was = &origin.etcd_cluster_id;
    let _ = writeln!(text, "cluster        new etcd cluster ID {:016x} (was {was})", plan.cluster_id);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_looked_for_where_the_folder_would_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("not/there/yet");
        assert_eq!(nearest(&deep), folder.path());
        assert!(room(&deep, 1).expect("room") > 0);
        let error = room(&deep, u64::MAX).expect_err("too much").to_string();
        let said = format!("the database needs 16.0 EiB, but {} has only ", folder.path().display());
        assert!(error.starts_with(&said) && error.ends_with(" free"), "{error}");
        assert!(!folder.path().join("not").exists(), "nothing was touched");
    }
}
