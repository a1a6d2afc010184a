//! The file of named connections: where it is, and how it is read and replaced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use backstay_daemon::settings::{self, SettingsError};

use super::model::{Contexts, PATHS};

/// The variable that names the file.
pub const VARIABLE: &str = "BACKSTAYCTL_CONFIG";

/// The permission bits of everybody except the owner.
const OTHERS: u32 = 0o077;

/// Why the named connections could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    #[error("cannot tell where the configuration file is: set {VARIABLE} or HOME")]
    NoPlace,
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("{file}: {cause}")]
    Fault { file: PathBuf, cause: String },
    #[error("{file} contains a password and other users can read it (mode {mode:o}): run `chmod 600 {file}`")]
    Exposed { file: PathBuf, mode: u32 },
    #[error("cannot write the configuration file {file}: {cause}")]
    Write { file: PathBuf, cause: io::Error },
    #[error("{cause} (in {file})")]
    Missing { file: PathBuf, cause: String },
    #[error("no current context is set: set one with `backstayctl config use-context NAME`")]
    NoCurrent,
    #[error("nothing to set: pass --nats URL or another connection flag")]
    Nothing,
    #[error("context {name:?}: {cause}")]
    Contradiction { name: String, cause: String },
}

impl ContextError {
    /// Whether this user is not permitted to read it.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Settings(SettingsError::Read { cause, .. }) if cause.kind() == ErrorKind::PermissionDenied)
    }
}

/// Whether the variable names the file.
pub fn is_named(variables: &[(String, String)]) -> bool {
    variables.iter().any(|(variable, value)| variable == VARIABLE && !value.is_empty())
}

/// Where the file is: named by its variable, otherwise in the user's folder for configuration.
///
/// # Errors
/// No variable says where that would be.
pub fn path(variables: &[(String, String)]) -> Result<PathBuf, ContextError> {
    let value = |name: &str| {
        let found = variables.iter().find(|(variable, value)| variable == name && !value.is_empty());
        found.map(|(_, value)| PathBuf::from(value))
    };
    let folder = value("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let folder = folder.or_else(|| Some(value("HOME")?.join(".config")));
    value(VARIABLE).or_else(|| Some(folder?.join("backstay").join("config.toml"))).ok_or(ContextError::NoPlace)
}

/// Reads the file; a missing file means no contexts. Relative paths in it are relative to its folder.
///
/// # Errors
/// It cannot be read, or what it says makes no sense; it holds a password and others can read it.
pub fn load(path: &Path) -> Result<Contexts, ContextError> {
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & 0o7777,
        // A part of the path that is a file: a home that is /dev/null, for one.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Contexts::default());
        }
        Err(cause) => return Err(SettingsError::Read { path: path.to_owned(), cause }.into()),
    };
    let mut contexts: Contexts = settings::load(Some(path), &[])?;
    let file = path.to_owned();
    if let Some(cause) = contexts.fault() {
        return Err(ContextError::Fault { file, cause });
    }
    if mode & OTHERS != 0 && contexts.holds_secrets() {
        return Err(ContextError::Exposed { file, mode });
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    for context in contexts.contexts.values_mut() {
        for (_, value) in context.nats.iter_mut().filter(|(key, _)| PATHS.contains(&key.as_str())) {
            *value = folder.join(&value).to_string_lossy().into_owned();
        }
    }
    Ok(contexts)
}

/// Replaces the file, readable only by its owner. After a crash, it is either the old one or the new one.
///
/// # Errors
/// It cannot be written; the old one is as it was.
pub fn save(path: &Path, contexts: &Contexts) -> Result<(), ContextError> {
    let failed = |cause| ContextError::Write { file: path.to_owned(), cause };
    // A link stays one: what it leads to is replaced.
    let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // What is no file, such as /dev/null, is not replaced by one.
    if fs::metadata(&place).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(failed(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")));
    }
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let text = settings::print(contexts)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let fresh = place.with_added_extension(format!("{}.new", std::process::id()));
    write(&fresh, &place, folder, text.as_bytes()).map_err(|cause| {
        // Nobody is helped by half a file.
        let _ = fs::remove_file(&fresh);
        failed(cause)
    })
}

fn write(fresh: &Path, place: &Path, folder: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(fresh)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(fresh, place)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contexts::model::Context;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_no_file_is_not_replaced_and_a_home_that_is_none_has_no_contexts() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = save(folder.path(), &Contexts::default()).expect_err("it is a folder").to_string();
        assert!(error.contains("not a regular file"), "{error}");
        assert!(folder.path().is_dir());
        let nowhere = Path::new("/dev/null/.config/backstay/config.toml");
        assert!(load(nowhere).expect("nothing is there").contexts.is_empty());
    }

    #[test]
    fn the_file_is_where_configuration_is() {
        let found = |pairs: &[(&str, &str)]| path(&variables(pairs)).map(|path| path.display().to_string()).ok();
        let home = ("HOME", "/home/me");
        assert_eq!(found(&[home]).as_deref(), Some("/home/me/.config/backstay/config.toml"));
        assert_eq!(found(&[home, ("XDG_CONFIG_HOME", "/x")]).as_deref(), Some("/x/backstay/config.toml"));
        assert_eq!(found(&[home, ("XDG_CONFIG_HOME", "")]), found(&[home]));
        assert_eq!(found(&[home, (VARIABLE, "here.toml")]).as_deref(), Some("here.toml"));
        assert_eq!(found(&[]), None);
    }

    fn with(nats: &[(&str, &str)]) -> Contexts {
        let nats = nats.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Contexts { current: Some("a".into()), contexts: [("a".to_owned(), Context { nats })].into() }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn what_is_saved_is_read_again_and_is_its_owner_s_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/config.toml");
        assert_eq!(load(&path).expect("nothing yet"), Contexts::default());
        let contexts = with(&[("url", "nats://h"), ("user", "u"), ("password_file", "/run/p")]);
        save(&path, &contexts).expect("saved");
        assert_eq!(load(&path).expect("read"), contexts);
        assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
        // Also where somebody had opened it to others, and through a link, which stays one.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
        let link = folder.path().join("link.toml");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        save(&link, &with(&[("url", "nats://i")])).expect("saved");
        assert_eq!((mode(&path), load(&link).expect("read")), (0o600, with(&[("url", "nats://i")])));
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read_dir(path.parent().expect("a folder")).expect("readable").count(), 1, "nothing beside it");
    }

    #[test]
    fn a_password_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.toml");
        save(&path, &with(&[("url", "nats://h"), ("user", "u"), ("password", "hunter2")])).expect("saved");
        assert!(load(&path).is_ok(), "its owner may keep it there");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
        let error = load(&path).expect_err("exposed").to_string();
        assert!(error.contains("mode 640") && error.contains("chmod 600") && !error.contains("hunter2"), "{error}");
        save(&path, &with(&[("user", "u"), ("password_file", "/p")])).expect("saved");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
        assert!(load(&path).is_ok(), "a path is no secret");
    }

    #[test]
    fn relative_paths_are_taken_from_the_folder_of_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.toml");
        fs::write(&path, "[contexts.a.nats]\nca = 'ca.crt'\nuser = 'x/y'\n").expect("written");
        let found = load(&path).expect("read");
        let nats = &found.contexts["a"].nats;
        assert_eq!(nats["ca"], folder.path().join("ca.crt").display().to_string());
        assert_eq!(nats["user"], "x/y");
    }

    #[test]
    fn what_is_wrong_in_it_is_said_with_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.toml");
        for (text, says) in [
            ("currnt = 'a'", "unknown field `currnt`"),
            ("[contexts.a.nats]\nuri = 'x'", "context \"a\": unknown key \"uri\" in nats: did you mean \"url\"?"),
            ("[contexts.a\n", "config.toml: line 1: "),
        ] {
            fs::write(&path, text).expect("written");
            let error = load(&path).expect_err(text).to_string();
            assert!(error.contains(says) && error.contains("config.toml"), "{error}");
        }
    }
}
