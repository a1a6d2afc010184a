//! The clusters for which this coordinator has a task: how to reach each task, what can be sent to it, and its latest
//! record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use backstay_protocol::ClusterName;
use backstay_protocol::api::ApiError;
use backstay_protocol::bus::Report;
use backstay_protocol::resource::Version;
use backstay_protocol::spec::ClusterSpec;
use tokio::sync::{mpsc, oneshot, watch};

use crate::record::{ClusterRecord, Meta};
use crate::restore::Restore;
use crate::verify::Verification;

/// What others want of a cluster's task.
#[derive(Debug)]
pub enum Message {
    /// Back up now; the same time again changes nothing.
    Manual { seconds: i64, reply: Reply },
    /// What the cluster resource says now.
    /// A cluster that was created for this keeps its first version; another must be at most of version `given`.
    Configure { spec: ClusterSpec, meta: Meta, given: Version, created: bool, reply: Reply },
    /// The manual resource goes, and with it what waits for its turn.
    DropManual { reply: Reply },
    /// The cluster is deleted; its backups stay in the store.
    Forget { reply: Reply },
    /// Restore the cluster; what backup is under way ends first.
    Restore { restore: Box<Restore>, reply: Reply },
    /// The control plane's machine set is deleted.
    ControlPlanesDeleted { reply: Reply },
    /// A machine's beat says that it is not at the end of its restore.
    Behind,
    /// Prove a backup.
    Verify { verification: Box<Verification>, reply: Reply },
    /// An agent's report; the reply says that it is folded and kept.
    Report { report: Box<Report>, done: oneshot::Sender<()> },
}

/// Where the task answers: with the record as it is then, or why it did not do it.
pub type Reply = oneshot::Sender<Result<Arc<ClusterRecord>, ApiError>>;

/// One cluster's task, as others see it.
#[derive(Debug, Clone)]
pub struct Handle {
    pub inbox: mpsc::Sender<Message>,
    pub record: watch::Receiver<Arc<ClusterRecord>>,
}

/// All of them, by name.
#[derive(Debug, Default)]
pub struct Directory {
    clusters: Mutex<BTreeMap<ClusterName, Handle>>,
}

impl Directory {
    /// Adds a cluster; false where the name is there already.
    pub fn add(&self, name: ClusterName, handle: Handle) -> bool {
        match self.lock().entry(name) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(handle);
                true
            }
            std::collections::btree_map::Entry::Occupied(_) => false,
        }
    }

    /// Forgets a cluster; its task ends by itself.
    pub fn remove(&self, name: &ClusterName) {
        self.lock().remove(name);
    }

    pub fn get(&self, name: &ClusterName) -> Option<Handle> {
        self.lock().get(name).cloned()
    }

    pub fn contains(&self, name: &ClusterName) -> bool {
        self.lock().contains_key(name)
    }

    /// Every record, in the order of names.
    pub fn records(&self) -> Vec<Arc<ClusterRecord>> {
        self.lock().values().map(|h| h.record.borrow().clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ClusterName, Handle>> {
        // Nothing that can panic runs while the lock is held, so what it guards is whole.
        self.clusters.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
