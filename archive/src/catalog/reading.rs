//! Many manifests at once, as whoever looks at a whole series reads them: what cannot be read hides nothing else, and is
//! told in the end.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, stream};

use super::error::CatalogError;
use super::listing::ListedBackup;
use super::lookup::listed_manifest;
use super::skipped::Skipped;
use crate::manifest::Manifest;
use crate::store::{Store, StoreError};

/// Manifests that are read at once.
const AT_ONCE: usize = 32;

/// How many manifests were looked at, of those that are known by now.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicUsize,
    total: AtomicUsize,
}

impl Progress {
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// 0 as long as nothing was listed.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}

/// A pass over the manifests of a store.
#[derive(Debug)]
pub struct Reading<'a> {
    store: &'a dyn Store,
    progress: &'a Progress,
    /// What could not be read, so far.
    pub skipped: Skipped,
}

impl<'a> Reading<'a> {
    pub fn new(store: &'a dyn Store, progress: &'a Progress) -> Self {
        Self { store, progress, skipped: Skipped::default() }
    }

    /// Reads the manifests of these backups, and hands them on in their order.
    ///
    /// # Errors
    /// The whole store's: no answer, or no login.
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

    /// What could not be read in all.
    pub fn end(self) -> Skipped {
        self.skipped.end();
        self.skipped
    }
}
