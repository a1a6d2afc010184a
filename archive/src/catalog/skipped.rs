//! What one pass over a store passes over: each is named once, and a thousand of them do not flood the log.

use std::fmt::Display;

/// So many are named; of the others only the count is told.
const NAMED: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Skipped {
    count: usize,
}

impl Skipped {
    /// The error names the object.
    pub(super) fn note(&mut self, error: &dyn Display) {
        self.count += 1;
        if self.count <= NAMED {
            tracing::warn!(%error, "skipped an object");
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn end(self) {
        if self.count > NAMED {
            tracing::warn!(more = self.count - NAMED, "skipped more objects");
        }
    }
}
