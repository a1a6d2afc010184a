//! What both halves of the tests need: a store in a temporary folder, a clock that stands still, looks.

use sha2::Digest as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstay_agent::once::{Once, once};
use backstay_archive::seal::Identity;
use backstay_archive::store::local::LocalStore;
use backstay_archive::store::spec::StoreSpec;
use backstay_archive::writer::Limits;
use backstay_archive::{Manifest, reader};
use backstay_protocol::{Clock, Timestamp};
use proptest::prelude::*;
use tempfile::TempDir;

/// Long enough for anything that works, on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);
/// How long a stream may be silent where the test is about silence.
pub const SHORT: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }
}

/// A store in a folder of its own.
pub struct Shelf {
    folder: TempDir,
    pub identity: Identity,
}

impl Shelf {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), identity: Identity::generate() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn once(&self) -> Once {
        Once {
            cluster: "prod".parse().expect("valid"),
            cluster_uuid: None,
            new_cluster_id: false,
            store: StoreSpec::Local(self.path().into()),
            named: backstay_daemon::bucket::Named::default(),
            recipients: vec![self.identity.to_public()],
            allow_unencrypted: false,
            sign_key: None,
            signers: Default::default(),
            limits: Limits::default(),
            deadline: LONG,
            stall: LONG,
        }
    }

    /// Every file below the root, whatever it is, but for the object of the cluster's name, which stays in any case.
    pub fn files(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for item in std::fs::read_dir(folder).expect("readable") {
                let path = item.expect("an entry").path();
                match path.is_dir() {
                    true if path.ends_with("names") => {}
                    true => walk(&path, found),
                    false => found.push(path),
                }
            }
        }
        let mut found = Vec::new();
        walk(self.path(), &mut found);
        found
    }

    /// The database that a backup opens to; its trailer is checked.
    pub async fn open(&self, manifest: &Manifest) -> Vec<u8> {
        let store = LocalStore::open(self.path()).expect("there");
        let mut out = Vec::new();
        reader::open(&store, manifest, Some(&self.identity), &mut out).await.expect("it opens");
        let trailer = out.split_off(out.len() - 32);
        assert!(trailer[..] == sha2::Sha256::digest(&out)[..], "the trailer is the database's digest");
        out
    }
}

/// Bytes that look like a database: whole sectors, neither empty nor all alike.
pub fn database(sectors: usize) -> Vec<u8> {
    (0..sectors * 512).map(|i| (i / 7) as u8 ^ (i >> 9) as u8).collect()
}

/// Takes one backup by the very function that `backstay-agent once` calls.
pub async fn back_up(
    what: Once,
    member: &backstay_agent::attempt::Member,
) -> Result<backstay_agent::once::Taken, backstay_agent::attempt::BackupFailure> {
    once(
        what,
        member,
        &StoppedClock,
        &tokio::sync::watch::Sender::default(),
        &tokio_util::sync::CancellationToken::new(),
    )
    .await
}

/// A few values of a strategy, from a fixed seed: for cases that are async and slow.
pub fn samples<T>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("no filter").current()).collect()
}
