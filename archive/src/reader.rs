//! The way back: a sealed object as a stream, opened and checked against its manifest.
//!
//! What is written before the end is not proven: a caller whose `open` fails must throw it away.

use std::io;

use backstay_snapshot::TRAILER_BYTES;
use bytes::Bytes;
use futures::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::manifest::Manifest;
use crate::seal::Identity;
use crate::seal::stream::{self, Incoming, Opened, Snapshot, hex};
use crate::store::{Key, Store, StoreError};

/// Pieces on either side of the opening thread.
const PIECES: usize = 4;

/// Why a backup could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the backup is sealed with {0:?}, which this build does not know: update Backstay")]
    UnknownSeal(String),
    #[error("the backup is sealed to {recipients}: an identity is needed")]
    NoIdentity { recipients: String },
    #[error("the sealed object does not open: {0}")]
    Open(String),
    #[error("{what} has {got}, its manifest says {expected}")]
    Mismatch { what: &'static str, expected: String, got: String },
    #[error("failed to write the snapshot: {0}")]
    Write(#[source] io::Error),
    #[error("internal error: {0}")]
    Internal(String),
}

/// Streams the snapshot file of a backup into `out`: the database and its trailer, as `etcdctl snapshot restore`
/// takes it. Checks digests and lengths, sealed and open.
pub async fn open<W: AsyncWrite + Unpin>(
    store: &dyn Store,
    manifest: &Manifest,
    identity: Option<&Identity>,
    mut out: W,
) -> Result<(), ReadError> {
    let identity = lock(manifest, identity)?;
    let (sealed_out, sealed) = mpsc::channel(PIECES);
    let (plain_out, mut plain) = mpsc::channel(PIECES);
    let expected = manifest.snapshot_bytes.saturating_add(TRAILER_BYTES as u64);
    let mut thread = JoinSet::new();
    thread.spawn_blocking(move || unseal(sealed, identity.as_ref(), expected, &plain_out));

    let key = Key::snapshot(manifest.cluster_uuid, manifest.snapshot);
    let moved = tokio::try_join!(fetch(store, &key, manifest.sealed_bytes, sealed_out), async {
        while let Some(chunk) = plain.recv().await {
            let chunk: Bytes = chunk;
            out.write_all(&chunk).await.map_err(ReadError::Write)?;
        }
        out.flush().await.map_err(ReadError::Write)
    });
    // The thread ends once both channels have lost this side.
    drop(plain);
    moved?;
    let unsealed = thread.join_next().await.expect("one thread was started");
    let unsealed = unsealed.map_err(|e| ReadError::Internal(format!("the opening thread failed: {e}")))?;
    check(manifest, unsealed.map_err(|e| ReadError::Open(e.to_string()))?)
}

/// The identity that opens this backup; `None` where it is only compressed.
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

/// Reads the object, and no more than one byte past the size that it should have.
async fn fetch(store: &dyn Store, key: &Key, expected: u64, out: mpsc::Sender<Bytes>) -> Result<(), ReadError> {
    let mut body = store.read(key).await?;
    let mut left = expected;
    while let Some(mut piece) = body.next().await.transpose()? {
        let excess = piece.len() as u64 > left;
        if excess {
            // The first byte too many is passed on, so that the count shows it.
            piece.truncate(left as usize + 1);
        }
        left = left.saturating_sub(piece.len() as u64);
        // Where the opening thread has ended it says why itself.
        if out.send(piece).await.is_err() || excess {
            break;
        }
    }
    Ok(())
}

/// What came in and what came out of the seal.
struct Unsealed {
    sealed: ([u8; 32], u64),
    snapshot: Snapshot,
}

fn unseal(
    sealed: mpsc::Receiver<Bytes>,
    identity: Option<&Identity>,
    expected: u64,
    out: &mpsc::Sender<Bytes>,
) -> io::Result<Unsealed> {
    let mut incoming = Incoming::new(sealed);
    let mut opened = Opened::default();
    stream::open(&mut incoming, identity, &mut |chunk| {
        opened.update(chunk);
        if opened.bytes() > expected {
            let text = format!("it holds more than the {expected} bytes of its manifest's database and trailer");
            return Err(io::Error::other(text));
        }
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        out.blocking_send(Bytes::copy_from_slice(chunk)).map_err(gone)
    })?;
    Ok(Unsealed { sealed: incoming.finish(), snapshot: opened.finish()? })
}

fn check(manifest: &Manifest, unsealed: Unsealed) -> Result<(), ReadError> {
    let ((sealed_sha256, sealed_bytes), snapshot) = (unsealed.sealed, unsealed.snapshot);
    let size = |n: u64| format!("{n} bytes");
    let sum = |digest: &str| format!("sha256 {digest}");
    let rows = [
        ("the sealed object", size(manifest.sealed_bytes), size(sealed_bytes)),
        ("the sealed object", sum(&manifest.sealed_sha256), sum(&hex(&sealed_sha256))),
        ("the snapshot", size(manifest.snapshot_bytes), size(snapshot.bytes)),
        ("the snapshot", sum(&manifest.snapshot_sha256), sum(&hex(&snapshot.sha256))),
        ("the snapshot's trailer", sum(&manifest.snapshot_sha256), sum(&hex(&snapshot.trailer))),
    ];
    for (what, expected, got) in rows {
        if expected != got {
            return Err(ReadError::Mismatch { what, expected, got });
        }
    }
    Ok(())
}
