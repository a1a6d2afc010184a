//! A wall clock that a test sets while a program runs: Debian's libfaketime, put before the C library. The clock that
//! never jumps, and the times of files, stay as they are.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::folder::Folder;

/// Where Debian puts the library: below a folder of the machine's architecture.
const LIBRARIES: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A clock that is off by what the test says.
#[derive(Debug)]
pub struct FakeClock {
    folder: Folder,
    library: PathBuf,
}

impl FakeClock {
    /// A clock that is right.
    pub fn new() -> Result<Self> {
        let folders = fs::read_dir(LIBRARIES).with_context(|| format!("failed to read {LIBRARIES}"))?;
        let libraries = folders.flatten().map(|folder| folder.path().join(LIBRARY));
        let library = libraries.into_iter().find(|library| library.is_file());
        let library = library.context("libfaketime is not installed: run tests/setup.sh test")?;
        let clock = Self { folder: Folder::new("clock")?, library };
        clock.set(0)?;
        Ok(clock)
    }

    /// From here on it is so many seconds ahead of the true time, or behind it.
    pub fn set(&self, ahead: i64) -> Result<()> {
        // Renamed, so that nobody reads half a line.
        let fresh = self.folder.path().join("fresh");
        fs::write(&fresh, format!("{ahead:+}\n")).with_context(|| format!("failed to write {}", fresh.display()))?;
        fs::rename(&fresh, self.file()).context("failed to set the clock")
    }

    /// What has a program look at this clock.
    pub fn variables(&self) -> Vec<(String, String)> {
        let (library, file) = (self.library.display().to_string(), self.file().display().to_string());
        let variables = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }
}
