//! Reads many manifests, as needed to look at a whole series. One that cannot be read does not hide the others, and
//! is reported at the end.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, stream};

use super::error::CatalogError;
use super::listing::ListedBackup;
use super::lookup::listed_manifest;
use super::skipped::Skipped;
use crate::manifest::Manifest;
use crate::store::{Store, StoreError};

/// How many manifests are read at the same time.
const AT_ONCE: usize = 32;

/// How many manifests have been read, of those known so far. Can be read from any thread.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicUsize,
    total: AtomicUsize,
}

impl Progress {
    /// Manifests read so far, including those that could not be read.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Manifests to read, as far as known; 0 until something was listed.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}

/// A pass over many manifests of a store.
#[derive(Debug)]
pub struct Reading<'a> {
    store: &'a dyn Store,
    progress: &'a Progress,
    /// What could not be read so far.
    pub skipped: Skipped,
}

impl<'a> Reading<'a> {
    /// Starts a pass. `progress` is updated while it runs.
    pub fn new(store: &'a dyn Store, progress: &'a Progress) -> Self {
        Self { store, progress, skipped: Skipped::default() }
    }

    /// Reads the manifests of these backups, 32 at a time, and passes them to `take` in the order of `entries`. One
    /// that cannot be read goes to [`skipped`](Self::skipped).
    ///
    /// # Errors
    /// [`StoreError`] if the whole store fails: no answer, or the credentials are not accepted.
    pub async fn each(
        &mut self,
        entries: Vec<ListedBackup>,
        mut take: impl FnMut(ListedBackup, Manifest),
    ) -> Result<(), StoreError> {
        self.progress.total.fetch_add(entries.len(), Ordering::Relaxed);
        let store = self.store;
        let read = entries.into_iter().map(async |entry| {
            let manifest = listed_manifest(store, entry.cluster, entry.snapshot).await;
            (entry, manifest)
        });
        let mut read = stream::iter(read).buffered(AT_ONCE);
        while let Some((entry, manifest)) = read.next().await {
            self.progress.done.fetch_add(1, Ordering::Relaxed);
            match manifest {
                Ok(manifest) => take(entry, manifest),
                Err(CatalogError::Store(error)) => return Err(error),
                Err(error) => self.skipped.note(error),
            }
        }
        Ok(())
    }

    /// Ends the pass, and returns everything that could not be read.
    pub fn end(self) -> Skipped {
        self.skipped.end();
        self.skipped
    }
}
