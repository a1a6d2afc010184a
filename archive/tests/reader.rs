//! Reading backups back: damage is noticed, and standard tools can read what the writer wrote.

mod support;

use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;

use backstay_archive::manifest::Manifest;
use backstay_archive::reader::{self, ReadError};
use backstay_archive::seal::{Identity, identity_file};
use backstay_archive::store::Key;
use backstay_archive::writer::{Limits, Plan, Progress, write};
use proptest::prelude::*;
use support::fixture::{Database, FixedClock, file_of, noise, plan, runtime, sealed_plan};
use support::memory::MemoryStore;
use tokio_util::sync::CancellationToken;

async fn backup(store: &MemoryStore, plan: &Plan, data: &[u8]) -> Manifest {
    let (progress, limits, cancel) = (Progress::default(), Limits::default(), CancellationToken::new());
    let mut source = Database::new(data, 32 * 1024);
    let written = write(Arc::new(store.clone()), plan, &mut source, &progress, &limits, &FixedClock, &cancel).await;
    written.expect("all is well")
}

fn object(manifest: &Manifest) -> Key {
    Key::snapshot(manifest.cluster_uuid, manifest.snapshot)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_flipped_bit_anywhere_is_caught(at in any::<prop::sample::Index>(), bit in 0..8_u8, seal: bool, trust: bool) {
        let runtime = runtime();
        let data = [noise(1, 90_000), vec![b'x'; 50_000]].concat();
        let store = MemoryStore::new();
        let (sealed, identity) = sealed_plan();
        let plan = if seal { sealed } else { plan(1, 1, vec![]) };
        let mut manifest = runtime.block_on(backup(&store, &plan, &data));
        store.damage(&object(&manifest), |body| { let at = at.index(body.len()); body[at] ^= 1 << bit });
        if !trust {
            // Even if the manifest matches the damaged object, encryption and the snapshot's digest reveal the
            // damage.
            manifest.sealed_sha256 = sha256(&store.body(&object(&manifest)));
        }
        let mut out = Vec::new();
        let opened = runtime.block_on(reader::open(&store, &manifest, Some(&identity), &mut out));
        // A flipped bit in unused bits of a frame changes nothing in the result, and shows only in the object's
        // digest.
        let harmless = !seal && !trust && out == file_of(&data);
        prop_assert!(opened.is_err() || harmless, "at {at:?}: opened");
    }

    #[test]
    fn a_cut_or_longer_object_is_caught(at in any::<prop::sample::Index>(), seal: bool, more in 0..3_usize) {
        let runtime = runtime();
        let data = noise(2, 200_000);
        let store = MemoryStore::new();
        let (sealed, identity) = sealed_plan();
        let plan = if seal { sealed } else { plan(1, 1, vec![]) };
        let manifest = runtime.block_on(backup(&store, &plan, &data));
        store.damage(&object(&manifest), |body| match more {
            0 => body.truncate(at.index(body.len())),
            more => body.extend(vec![0; more]),
        });
        let opened = runtime.block_on(reader::open(&store, &manifest, Some(&identity), &mut Vec::new()));
        prop_assert!(matches!(opened, Err(ReadError::Open(_) | ReadError::Mismatch { .. })), "{opened:?}");
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn what_the_manifest_says_is_checked() {
    let data = noise(3, 100_000);
    let store = MemoryStore::new();
    let good = backup(&store, &plan(1, 1, vec![]), &data).await;
    let changes: [fn(&mut Manifest); 6] = [
        |m| m.snapshot_bytes += 1,
        |m| m.snapshot_bytes -= 1,
        |m| m.snapshot_sha256.replace_range(..1, if m.snapshot_sha256.starts_with('0') { "1" } else { "0" }),
        |m| m.sealed_bytes -= 1,
        |m| m.seal.encryption = "rot13".into(),
        |m| m.seal.compression = "gzip".into(),
    ];
    for change in changes {
        let mut manifest = good.clone();
        change(&mut manifest);
        assert!(reader::open(&store, &manifest, None, &mut Vec::new()).await.is_err(), "{manifest:?}");
    }
    reader::open(&store, &good, None, &mut Vec::new()).await.expect("unchanged it opens");
}

/// Accepts a few bytes, and then no more.
struct Full(usize);

impl tokio::io::AsyncWrite for Full {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        data: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        if self.0 == 0 {
            return std::task::Poll::Ready(Err(io::ErrorKind::StorageFull.into()));
        }
        let n = data.len().min(self.0);
        self.0 -= n;
        std::task::Poll::Ready(Ok(n))
    }

    fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_full_disk_ends_the_reading_with_its_reason() {
    let data = noise(4, 9_000_000);
    let store = MemoryStore::new();
    let manifest = backup(&store, &plan(1, 1, vec![]), &data).await;
    let opened = reader::open(&store, &manifest, None, Full(1_000_000)).await;
    assert!(matches!(&opened, Err(ReadError::Write(e)) if e.kind() == io::ErrorKind::StorageFull), "{opened:?}");
}

#[tokio::test]
async fn age_and_zstd_alone_open_a_backup() {
    let data = [noise(5, 9_000_000), vec![b'y'; 3_000_000]].concat();
    let folder = tempfile::tempdir().expect("a folder");
    let (object_file, key_file) = (folder.path().join("object"), folder.path().join("key"));

    let store = MemoryStore::new();
    let identity = Identity::generate();
    let manifest = backup(&store, &plan(1, 1, vec![identity.to_public()]), &data).await;
    std::fs::write(&object_file, store.body(&object(&manifest))).expect("a file");
    std::fs::write(&key_file, identity_file(&identity, "cluster talos-default").as_bytes()).expect("a file");

    let mut age = Command::new("age");
    age.arg("-d").arg("-i").arg(&key_file).arg(&object_file).stdout(Stdio::piped());
    let mut age = age.spawn().expect("age is installed");
    let opened = decompressed(age.stdout.take().expect("piped").into());
    assert!(age.wait().expect("age ends").success());
    assert!(opened == file_of(&data), "age and zstd open it to the snapshot file");

    let store = MemoryStore::new();
    let manifest = backup(&store, &plan(1, 1, vec![]), &data).await;
    std::fs::write(&object_file, store.body(&object(&manifest))).expect("a file");
    let opened = decompressed(std::fs::File::open(&object_file).expect("the file").into());
    assert!(opened == file_of(&data), "without recipients zstd alone opens it");
}

fn decompressed(from: Stdio) -> Vec<u8> {
    let zstd = Command::new("zstd").args(["-d", "-c"]).stdin(from).output().expect("zstd is installed");
    assert!(zstd.status.success(), "{}", String::from_utf8_lossy(&zstd.stderr));
    zstd.stdout
}

#[test]
fn age_keygen_s_files_are_read() {
    let made = Command::new("age-keygen").output().expect("age-keygen is installed");
    let text = String::from_utf8(made.stdout).expect("text");
    let identity = backstay_archive::seal::parse_identity(&text).expect("a key file");
    assert!(text.contains(&identity.to_public().to_string()), "its comment names the same recipient");
}
