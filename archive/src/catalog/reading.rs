//! Reads many manifests, as needed to look at a whole series. One that cannot be read does not hide the others, and
//! is reported at the end.

use std::sync::atomic::{AtomicUsize, Ordering};

use backstay_trust::Signers;
use futures::{StreamExt, stream};

use super::error::CatalogError;
use super::listing::ListedBackup;
use super::lookup::{Vouched, listed_backup};
use super::skipped::Skipped;
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
    signers: Signers,
    /// What could not be read so far.
    pub skipped: Skipped,
}

impl<'a> Reading<'a> {
    /// Starts a pass. `progress` is updated while it runs.
    pub fn new(store: &'a dyn Store, progress: &'a Progress) -> Self {
        Self { store, progress, signers: Signers::default(), skipped: Skipped::default() }
    }

    /// The same, and checks the signatures against `signers`.
    #[must_use]
    pub fn trusting(self, signers: Signers) -> Self {
        Self { signers, ..self }
    }

    /// Reads the manifests of these backups, 32 at a time, and passes them to `take` in the order of `entries`. One
    /// that cannot be read goes to [`skipped`](Self::skipped).
    ///
    /// # Errors
    /// [`StoreError`] if the whole store fails: no answer, or the credentials are not accepted.
    pub async fn each(
        &mut self,
        entries: Vec<ListedBackup>,
        mut take: impl FnMut(ListedBackup, Vouched),
    ) -> Result<(), StoreError> {
        let each = |entry, read: Result<Vouched, CatalogError>, skipped: &mut Skipped| match read {
            Ok(found) => take(entry, found),
            Err(error) => skipped.note(error),
        };
        self.each_result(entries, each).await
    }

    /// The same, with who vouches for each, and with those of which there is nothing to read.
    ///
    /// # Errors
    /// As [`Reading::each`].
    pub async fn each_result(
        &mut self,
        entries: Vec<ListedBackup>,
        mut take: impl FnMut(ListedBackup, Result<Vouched, CatalogError>, &mut Skipped),
    ) -> Result<(), StoreError> {
        self.progress.total.fetch_add(entries.len(), Ordering::Relaxed);
        let (store, signers) = (self.store, &self.signers);
        let read = entries.into_iter().map(async |entry| {
            let ListedBackup { cluster, snapshot, .. } = entry;
            let found = listed_backup(store, cluster, snapshot, signers).await;
            (entry, found)
        });
        let mut read = stream::iter(read).buffered(AT_ONCE);
        while let Some((entry, found)) = read.next().await {
            self.progress.done.fetch_add(1, Ordering::Relaxed);
            match found {
                Err(CatalogError::Store(error)) => return Err(error),
                found => take(entry, found, &mut self.skipped),
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
