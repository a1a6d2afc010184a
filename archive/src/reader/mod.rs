//! Reads a backup back: streams the sealed object, decrypts it, and verifies it against its manifest.
//!
//! What was written before the end is not verified: if [`open`] fails, the caller must discard it.

use std::io;

use backstay_snapshot::TRAILER_BYTES;
use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::manifest::Manifest;
use crate::seal::Identity;
use crate::seal::stream::{self, Incoming, Opened, Snapshot};
use crate::store::{Key, Store};
use backstay_protocol::hex::to_hex;

mod error;
mod fetch;

pub use error::ReadError;

use error::{mismatch, size};
use fetch::fetch;

/// How many pieces wait before and after the decrypting thread.
const PIECES: usize = 4;

/// Reads a backup and writes its snapshot file to `out`: the database and its trailer, as `etcdctl snapshot restore`
/// reads it. Digests and lengths of the object and of the snapshot are verified. `identity` may be `None` if the
/// backup is not encrypted.
///
/// ```
#[doc = include_str!("../example.txt")]
/// use backstay_archive::reader;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let store = LocalStore::open(directory.path())?;
/// # let identity = Identity::generate();
/// let manifest = backup(&store, &identity).await?;
/// let mut snapshot = Vec::new();
/// reader::open(&store, &manifest, Some(&identity), &mut snapshot).await?;
/// // The trailer is a SHA-256.
/// assert_eq!(snapshot.len() as u64, manifest.snapshot_bytes + 32);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`ReadError`] if the backup cannot be read, is damaged, or cannot be written to `out`. `out` may have received a
/// part of it, or all of it.
pub async fn open<W: AsyncWrite + Unpin>(
    store: &dyn Store,
    manifest: &Manifest,
    identity: Option<&Identity>,
    mut out: W,
) -> Result<(), ReadError> {
    let (plain_out, mut plain) = mpsc::channel(PIECES);
    let mut failed = None;
    let write = async {
        while let Some(chunk) = plain.recv().await {
            let chunk: Bytes = chunk;
            if let Err(error) = out.write_all(&chunk).await {
                // When the channel closes, everything before it ends, too.
                failed = Some(error);
                break;
            }
        }
        drop(plain);
    };
    let (opened, ()) = tokio::join!(run(store, manifest, identity, vec![plain_out]), write);
    match failed {
        Some(error) => Err(ReadError::Write(error)),
        None => {
            opened?;
            out.flush().await.map_err(ReadError::Write)
        }
    }
}

/// Fetches and decrypts a backup, and sends the pieces of the snapshot file to each of `outs`. Succeeds only if all
/// of it was verified. If a receiver closes its channel, everything ends with [`ReadError::Closed`].
///
/// Decrypting and hashing have a thread each: one thread could not keep up with a disk.
pub(crate) async fn run(
    store: &dyn Store,
    manifest: &Manifest,
    identity: Option<&Identity>,
    mut outs: Vec<mpsc::Sender<Bytes>>,
) -> Result<(), ReadError> {
    let identity = lock(manifest, identity)?;
    let (sealed_out, sealed) = mpsc::channel(PIECES);
    let (prove_out, prove) = mpsc::channel(PIECES);
    outs.push(prove_out);
    let expected = manifest.snapshot_bytes.saturating_add(TRAILER_BYTES as u64);
    let mut opening = JoinSet::new();
    opening.spawn_blocking(move || unseal(sealed, identity.as_ref(), expected, &outs));
    let mut proving = JoinSet::new();
    proving.spawn_blocking(move || digest(prove));

    let key = Key::snapshot(manifest.cluster_uuid, manifest.snapshot);
    fetch(store, &key, manifest.sealed_bytes, sealed_out).await?;
    let sealed = joined(&mut opening, "opening").await?.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => ReadError::Closed,
        _ => ReadError::unopened(&error),
    })?;
    let snapshot = joined(&mut proving, "proving").await?.map_err(|error| ReadError::unopened(&error))?;
    check(manifest, sealed, snapshot)
}

/// The result of the one thread in `set`.
async fn joined<T: 'static>(set: &mut JoinSet<T>, what: &str) -> Result<T, ReadError> {
    let ended = set.join_next().await.expect("one thread was started");
    ended.map_err(|error| ReadError::Internal(format!("the {what} thread failed: {error}")))
}

/// The identity that decrypts this backup; `None` if it is only compressed.
fn lock(manifest: &Manifest, identity: Option<&Identity>) -> Result<Option<Identity>, ReadError> {
    let seal = &manifest.seal;
    if seal.compression != "zstd" {
        return Err(ReadError::UnknownSeal(seal.compression.clone()));
    }
    match seal.encryption.as_str() {
        "none" => Ok(None),
        "age" => match identity {
            Some(identity) => Ok(Some(identity.clone())),
            None => Err(ReadError::NoIdentity { recipients: seal.recipients.join(", ") }),
        },
        other => Err(ReadError::UnknownSeal(other.to_owned())),
    }
}

/// Sends the decrypted data to all of `outs`. Returns digest and length of the sealed object.
fn unseal(
    sealed: mpsc::Receiver<Bytes>,
    identity: Option<&Identity>,
    expected: u64,
    outs: &[mpsc::Sender<Bytes>],
) -> io::Result<([u8; 32], u64)> {
    let mut incoming = Incoming::new(sealed);
    let mut bytes = 0;
    stream::open(&mut incoming, identity, &mut |chunk| {
        bytes += chunk.len() as u64;
        if bytes > expected {
            let text = format!(
                "it contains more than the {expected} bytes that its manifest gives for database and \
                trailer"
            );
            return Err(io::Error::other(text));
        }
        let chunk = Bytes::copy_from_slice(chunk);
        outs.iter().try_for_each(|out| {
            out.blocking_send(chunk.clone()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
        })
    })?;
    Ok(incoming.finish())
}

fn digest(mut plain: mpsc::Receiver<Bytes>) -> io::Result<Snapshot> {
    let mut opened = Opened::default();
    while let Some(chunk) = plain.blocking_recv() {
        opened.update(&chunk);
    }
    opened.finish()
}

fn check(manifest: &Manifest, sealed: ([u8; 32], u64), snapshot: Snapshot) -> Result<(), ReadError> {
    let (sealed_sha256, sealed_bytes) = sealed;
    let sum = |digest: &str| format!("sha256 {digest}");
    let rows = [
        ("the sealed object", size(manifest.sealed_bytes), size(sealed_bytes)),
        ("the sealed object", sum(&manifest.sealed_sha256), sum(&to_hex(&sealed_sha256))),
        ("the snapshot", size(manifest.snapshot_bytes), size(snapshot.bytes)),
        ("the snapshot", sum(&manifest.snapshot_sha256), sum(&to_hex(&snapshot.sha256))),
        ("the snapshot's trailer", sum(&manifest.snapshot_sha256), sum(&to_hex(&snapshot.trailer))),
    ];
    for (what, expected, got) in rows {
        if expected != got {
            return Err(mismatch(what, expected, got));
        }
    }
    Ok(())
}
