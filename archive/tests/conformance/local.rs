//! The suite on a folder.

use std::sync::Arc;

use backstay_archive::store::local::LocalStore;

use super::suite;

fn store() -> (tempfile::TempDir, suite::Stores) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = LocalStore::open(folder.path()).expect("it is there");
    (folder, suite::Stores { store: Arc::new(store.clone()), again: Arc::new(store) })
}

suite::conformance!(async { store() });

/// On a file system without hard links.
mod without_links {
    use super::*;

    fn store() -> (tempfile::TempDir, suite::Stores) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = LocalStore::open(folder.path()).expect("it is there").without_links();
        (folder, suite::Stores { store: Arc::new(store.clone()), again: Arc::new(store) })
    }

    suite::conformance!(async { store() });
}
