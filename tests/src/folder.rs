//! A part's temporary folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// A folder that is removed with all its contents when dropped, unless `BACKSTAY_TEST_KEEP` is set.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    /// A new folder below the system's temporary folder (`TMPDIR`).
    pub fn new(what: &str) -> Result<Self> {
        let mut dir = tempfile::Builder::new()
            .prefix(&format!("backstay-{what}-"))
            .tempdir()
            .with_context(|| format!("failed to make a temporary folder for {what}"))?;
        if std::env::var_os("BACKSTAY_TEST_KEEP").is_some() {
            dir.disable_cleanup(true);
            eprintln!("kept: {}", dir.path().display());
        }
        Ok(Self(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A folder of that name below this one, made where it is missing.
    pub fn sub(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("failed to make {}", path.display()))?;
        Ok(path)
    }
}
