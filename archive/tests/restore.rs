//! Restoring: what a database must contain is checked even if it could not be inspected.

mod support;

use std::fs;
use std::sync::Arc;

use backstay_archive::Manifest;
use backstay_archive::restore::{self, Examined, Look, NewMember, Options, Progress, RestoreBackupError, RestoreError};
use backstay_archive::writer::{self, Limits, write};
use support::fixture::{Database, FixedClock, plan};
use support::memory::MemoryStore;
use tokio_util::sync::CancellationToken;

/// A database of etcd 3.4.23 at revision 8.
const SMALL: &[u8] = include_bytes!("../../snapshot/tests/golden/restore/3.4.23.db");

async fn backup(store: &MemoryStore) -> Manifest {
    let (progress, limits, cancel) = (writer::Progress::default(), Limits::default(), CancellationToken::new());
    let (store, plan) = (Arc::new(store.clone()), plan(1, 1, vec![]));
    let mut source = Database::new(SMALL, 32 * 1024);
    let written = write(store, &plan, &mut source, &progress, &limits, &FixedClock, &cancel).await;
    written.expect("all is well")
}

#[tokio::test]
async fn what_ends_before_its_manifest_is_refused_with_and_without_inspection() {
    let home = tempfile::tempdir().expect("a folder");
    let store = MemoryStore::new();
    let mut manifest = backup(&store).await;
    for (memory, wanted) in [(u64::MAX, 9), (0, 9), (0, 8)] {
        manifest.origin.revision = wanted;
        let folder = home.path().join("data");
        let member = NewMember { name: "a".into(), peer_urls: vec!["http://127.0.0.1:2380".into()] };
        let into = Some((folder.as_path(), Options::new("a", vec![member])));
        let (look, progress) = (Look { memory, ..Look::default() }, Arc::<Progress>::default());
        let examined =
            restore::examine(&store, &manifest, None, into, look, &progress, &CancellationToken::new()).await;
        let good = match (memory, wanted, &examined) {
            (0, 8, Ok(Examined { restored: Some(_), inspection })) => inspection.contents.is_err() && folder.exists(),
            (0, 9, Err(RestoreBackupError::Restore(RestoreError::TooOld { is: 8, wanted: 9 })))
            | (_, 9, Err(RestoreBackupError::TooOld { is: 8, wanted: 9 })) => {
                fs::read_dir(home.path()).expect("readable").count() == 0
            }
            _ => false,
        };
        assert!(good, "{memory} bytes, {wanted}: {examined:?}");
    }
}
