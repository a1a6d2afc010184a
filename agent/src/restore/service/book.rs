//! What the service knows about the restore that is under way, or about the last one.

use std::sync::Arc;

use backstay_protocol::bus::{EtcdAfter, MemberCheck, RestoreState, clipped};
use tokio_util::sync::CancellationToken;

use super::watching::After;
use crate::restore::journal::{Goal, Hands, Journal, JournalStep};
use crate::restore::prepare::{Order, Progress};

#[derive(Default)]
pub(super) struct Book {
    pub(super) journal: Option<Journal>,
    pub(super) order: Option<Arc<Order>>,
    /// Why it does not continue.
    pub(super) error: String,
    pub(super) check: Option<MemberCheck>,
    pub(super) hash_revision: i64,
    pub(super) progress: Arc<Progress>,
    pub(super) hands: Hands,
    pub(super) failed_starts: u32,
    /// Why the old etcd was left stopped, or has ended; reported until the end.
    pub(super) unstarted: String,
    /// How etcd is after going back; unspecified while it was not observed.
    pub(super) after: After,
    /// The folders that are left; `None` while they were not looked for.
    pub(super) left: Option<Vec<String>>,
    /// Cancels preparing when another goal arrives.
    pub(super) cancel: CancellationToken,
}

impl Book {
    /// What the last process left.
    pub(super) fn taken_up(journal: Option<Journal>) -> Self {
        Self { journal, ..Self::default() }
    }

    /// A restore that has just begun.
    pub(super) fn begun(journal: Journal, order: Order) -> Self {
        Self { journal: Some(journal), order: Some(Arc::new(order)), ..Self::default() }
    }

    /// How far it is; `None` if there never was one.
    pub(super) fn state(&self) -> Option<RestoreState> {
        let journal = self.journal.as_ref()?;
        let (bytes_done, bytes_total) = self.progress.bytes();
        Some(RestoreState {
            restore: journal.restore.to_string(),
            step: journal.step.to_wire().into(),
            error: clipped(&self.error),
            digest: journal.digest_bytes().into(),
            bytes_done,
            bytes_total,
            aside: if journal.had_data { journal.folders.aside.display().to_string() } else { String::new() },
            check: self.check.clone(),
            new_cluster_id: journal.new_cluster_id,
            left: self.left.clone().unwrap_or_default(),
            etcd: self.after.etcd.into(),
            etcd_text: self.after.text.clone(),
        })
    }

    /// A new goal has come: what is told of the folders that are left must hold at its end. Where the new data stays,
    /// what it was prepared in is removed.
    pub(super) fn left_is_old(&mut self, goal: Goal) {
        let Some(journal) = self.journal.as_ref().filter(|_| goal == Goal::Keep) else {
            if goal == Goal::PutBack {
                self.left = None;
            }
            return;
        };
        let removed = journal.folders.removed().map(|folder| folder.display().to_string());
        if let Some(left) = &mut self.left {
            left.retain(|folder| !removed.contains(folder));
        }
    }

    /// Whether the old etcd must still be observed before going back has ended.
    pub(super) fn is_unsettled(&self, journal: &Journal) -> bool {
        journal.step == JournalStep::Returning && self.hands.started && self.after.etcd == EtcdAfter::Unspecified
    }
}
