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

/// What others can ask of a cluster's task.
#[derive(Debug)]
pub enum Message {
    /// Make a backup now; the same time again changes nothing.
    Manual { seconds: i64, reply: Reply },
    /// The new content of the cluster resource. A cluster that was created by this request keeps its first version;
    /// otherwise its version must not be newer than `given`.
    Configure { spec: ClusterSpec, meta: Meta, given: Version, created: bool, reply: Reply },
    /// The manual resource was deleted, and with it the backups that wait for their turn.
    DropManual { reply: Reply },
    /// The cluster was deleted; its backups stay in the store.
    Forget { reply: Reply },
    /// Restore the cluster; a running backup ends first.
    Restore { restore: Box<Restore>, reply: Reply },
    /// The control plane's machine set was deleted.
    ControlPlanesDeleted { reply: Reply },
    /// A machine's beat reports a restore that has not ended there.
    Behind,
    /// Verify a backup.
    Verify { verification: Box<Verification>, reply: Reply },
    /// An agent's report; the reply says that the record contains it.
    Report { report: Box<Report>, done: oneshot::Sender<()> },
}

/// For the task's answer: the record as it is then, or why the request was not carried out.
pub type Reply = oneshot::Sender<Result<Arc<ClusterRecord>, ApiError>>;

/// The handle of one cluster's task.
#[derive(Debug, Clone)]
pub struct Handle {
    pub inbox: mpsc::Sender<Message>,
    pub record: watch::Receiver<Arc<ClusterRecord>>,
}

/// The handles of all tasks, by the names of their clusters.
#[derive(Debug, Default)]
pub struct Directory {
    clusters: Mutex<BTreeMap<ClusterName, Handle>>,
}

impl Directory {
    /// Adds a cluster; false if the name exists already.
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
