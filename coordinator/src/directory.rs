//! The clusters that this coordinator looks after: where to reach each one's task, and its latest record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use backstay_protocol::ClusterName;
use tokio::sync::{mpsc, watch};

use crate::cluster::Message;
use crate::cluster::record::ClusterRecord;

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
