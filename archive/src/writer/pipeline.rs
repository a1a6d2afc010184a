//! From the source to a verified, encrypted object that only needs completion.
//!
//! Two threads (seal and verify) and two loops (pull and upload), connected by bounded channels. Each side ends when
//! the channel to its neighbour closes, so whichever fails first ends the others.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use backstay_protocol::Timestamp;
use backstay_protocol::hex::to_hex;
use bytes::Bytes;
use serde_json::Map;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::buffers::{Buffer, Pool};
use super::error::WriteError;
use super::examine::{Examination, Observer, VerdictFuture};
use super::plan::{Limits, Plan};
use super::progress::Progress;
use super::source::{Proof, Source};
use super::upload::{SealedPart, Uploader};
use crate::manifest::{FORMAT_VERSION, Inspection, Manifest, SealInfo};
use crate::seal::stream::{self, Incoming, Opened, Sealer, Snapshot};
use crate::seal::{Identity, Recipient};
use crate::store::{PART_BYTES, Upload};

/// How much is compressed at a time, in bytes, as a frame of its own. Smaller blocks cost the compressor more: a
/// fifth at 1 MiB.
pub const BLOCK_BYTES: usize = 4 * 1024 * 1024;
const _: () = assert!(BLOCK_BYTES <= stream::BLOCK_MAX, "readers take it");

/// One is being filled, one waits, one is being compressed.
const BLOCKS: usize = 3;

const PARTS_IN_FLIGHT_MAX: usize = 8;

/// Lets a test damage what passes between two stages; [`NoTap`] costs nothing.
pub trait Tap: Clone + Send + 'static {
    /// A block of the database before it is compressed.
    fn block(&mut self, _bytes: &mut [u8]) {}
    /// A compressed frame before it is encrypted.
    fn frame(&mut self, _bytes: &mut [u8]) {}
    /// A part before it is verified and uploaded.
    fn part(&mut self, _bytes: &mut [u8]) {}
}

#[derive(Clone)]
pub struct NoTap;

impl Tap for NoTap {}

/// What stays the same during one attempt.
pub struct Job<'a> {
    pub plan: &'a Plan,
    pub upload: &'a dyn Upload,
    pub progress: &'a Progress,
    pub limits: &'a Limits,
    pub created_at: Timestamp,
}

/// All parts are stored and verified.
pub struct Staged {
    pub manifest: Manifest,
    pub parts: u32,
}

/// What came out when the encrypted form was decrypted again.
struct Verified {
    snapshot: Snapshot,
    sealed_sha256: [u8; 32],
    sealed_bytes: u64,
}

/// Why a stage ended.
enum Stop {
    Failed(WriteError),
    /// A neighbour ended; the reason is in [`Fault`].
    Gone,
}

impl<E: Into<WriteError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The first reason why a thread ended. Set before its channels close.
#[derive(Clone, Default)]
struct Fault(Arc<Mutex<Option<WriteError>>>);

impl Fault {
    fn set(&self, error: WriteError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn take(&self) -> Option<WriteError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Streams `source` into `job.upload` until every part is stored and the whole is verified.
pub async fn run<T: Tap>(job: &Job<'_>, source: &mut dyn Source, tap: T) -> Result<Staged, WriteError> {
    let fault = Fault::default();
    let mut threads = JoinSet::new();
    let result = stream(job, source, tap, &fault, &mut threads).await;
    // Every channel's async end is gone by now, so both threads are about to end.
    let mut panicked = None;
    while let Some(end) = threads.join_next().await {
        panicked = panicked.or(end.err());
    }
    result.map_err(|stop| match (stop, panicked) {
        (Stop::Failed(error), _) => error,
        (Stop::Gone, Some(panic)) => WriteError::Internal(format!("a stage of the pipeline failed: {panic}")),
        (Stop::Gone, None) => {
            fault.take().unwrap_or_else(|| WriteError::Internal("a stage of the pipeline ended early".into()))
        }
    })
}

async fn stream<T: Tap>(
    job: &Job<'_>,
    source: &mut dyn Source,
    tap: T,
    fault: &Fault,
    threads: &mut JoinSet<()>,
) -> Result<Staged, Stop> {
    let in_flight = job.limits.parts_in_flight.clamp(1, PARTS_IN_FLIGHT_MAX);
    let (blocks, to_seal) = mpsc::channel(1);
    let (part_out, mut parts) = mpsc::channel(in_flight);
    let (piece_out, pieces) = mpsc::channel(in_flight + 1);
    let (proven, verified) = oneshot::channel();
    let lock = Lock::new(&job.plan.recipients);
    let (observer, verdict) = source.examination().map(|Examination { observer, verdict }| (observer, verdict)).unzip();

    let cutter = Cutter {
        pool: Pool::new(PART_BYTES, in_flight + 1),
        filling: None,
        cut: 0,
        uploader: part_out,
        verifier: piece_out,
        tap,
    };
    let (sealing, opening) = (fault.clone(), fault.clone());
    threads.spawn_blocking(move || seal(to_seal, &lock.recipients, cutter, &sealing));
    threads.spawn_blocking(move || verify(pieces, lock.ephemeral.as_ref(), observer, proven, &opening));

    let mut uploader = Uploader::new(job.upload, job.progress, in_flight, job.limits.upload_bytes_per_second);
    let (proof, last, verified, examined) = tokio::try_join!(
        pull(source, blocks, job.progress),
        async { uploader.send_all_but_last(&mut parts).await?.ok_or(Stop::Gone) },
        async { verified.await.map_err(|_| Stop::Gone) },
        examine(verdict),
    )?;
    // First the bytes, then their meaning: otherwise damage on the way would be blamed on the member.
    compare(&proof, &verified.snapshot)?;
    let inspection = examined?;
    let parts = last.number;
    uploader.send_last(last).await?;
    Ok(Staged { manifest: describe(job, proof, &verified, inspection), parts })
}

/// Waits for the verdict, if there is to be one. Never fails itself, because the digest is compared first.
async fn examine(verdict: Option<VerdictFuture>) -> Result<Result<Option<Inspection>, WriteError>, Stop> {
    match verdict {
        Some(verdict) => Ok(verdict.await.map(Some).map_err(WriteError::from)),
        None => Ok(Ok(None)),
    }
}

/// Who can decrypt the stream, and what decrypts it for verification.
struct Lock {
    recipients: Vec<Recipient>,
    /// Created for this attempt and dropped with it.
    ephemeral: Option<Identity>,
}

impl Lock {
    fn new(recipients: &[Recipient]) -> Self {
        let ephemeral = (!recipients.is_empty()).then(Identity::generate);
        let recipients = recipients.iter().cloned().chain(ephemeral.as_ref().map(Identity::to_public)).collect();
        Self { recipients, ephemeral }
    }
}

/// Reads the source to its end, in blocks, and returns what it states. The digest follows the database, so that the
/// whole is the file that `etcdctl snapshot save` writes.
async fn pull(source: &mut dyn Source, out: mpsc::Sender<Buffer>, progress: &Progress) -> Result<Proof, Stop> {
    let mut blocks = Blocks::new(out);
    let mut total = 0_u64;
    loop {
        // The source may be silent for a long time; a stage that failed meanwhile is noticed immediately.
        let next = tokio::select! {
            biased;
            () = blocks.out.closed() => return Err(Stop::Gone),
            next = source.next() => next?,
        };
        let Some(data) = next else { break };
        total += data.len() as u64;
        progress.read.fetch_add(data.len() as u64, std::sync::atomic::Ordering::Relaxed);
        blocks.push(&data).await?;
    }
    let proof = source.proof().await?;
    if proof.bytes != total {
        return Err(WriteError::Total { expected: proof.bytes, got: total }.into());
    }
    blocks.push(&proof.sha256).await?;
    blocks.finish().await?;
    Ok(proof)
}

/// Fills blocks, and passes on the full ones.
struct Blocks {
    pool: Pool,
    filling: Option<Buffer>,
    out: mpsc::Sender<Buffer>,
}

impl Blocks {
    fn new(out: mpsc::Sender<Buffer>) -> Self {
        Self { pool: Pool::new(BLOCK_BYTES, BLOCKS), filling: None, out }
    }

    async fn push(&mut self, mut data: &[u8]) -> Result<(), Stop> {
        while !data.is_empty() {
            let mut block = match self.filling.take() {
                Some(block) => block,
                None => self.pool.take().await,
            };
            data = &data[block.fill(data)..];
            if block.is_full() {
                self.send(block).await?;
            } else {
                self.filling = Some(block);
            }
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(), Stop> {
        match self.filling.take() {
            Some(block) => self.send(block).await,
            None => Ok(()),
        }
    }

    async fn send(&self, block: Buffer) -> Result<(), Stop> {
        self.out.send(block).await.map_err(|_| Stop::Gone)
    }
}

/// The sealing thread.
fn seal<T: Tap>(mut blocks: mpsc::Receiver<Buffer>, recipients: &[Recipient], cutter: Cutter<T>, fault: &Fault) {
    let mut tap = cutter.tap.clone();
    // The neighbours must find the reason when their channels close.
    let _open_until_the_end = (cutter.uploader.clone(), cutter.verifier.clone());
    let work = || -> io::Result<()> {
        let mut sealer = Sealer::new(recipients, cutter)?;
        while let Some(mut block) = blocks.blocking_recv() {
            tap.block(block.bytes_mut());
            let frame = sealer.compress(block.as_ref())?;
            tap.frame(frame);
            drop(block);
            sealer.push()?;
        }
        sealer.finish()?.finish()
    };
    match work() {
        // A neighbour ended and reports the reason itself.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => fault.set(WriteError::Internal(format!("failed to encrypt the snapshot: {error}"))),
        Ok(()) => {}
    }
}

/// Cuts the encrypted stream into parts of [`PART_BYTES`]; only the last may be smaller.
struct Cutter<T> {
    pool: Pool,
    filling: Option<Buffer>,
    /// Number of parts so far.
    cut: u32,
    uploader: mpsc::Sender<SealedPart>,
    verifier: mpsc::Sender<Bytes>,
    tap: T,
}

impl<T: Tap> Cutter<T> {
    fn emit(&mut self, mut buffer: Buffer, last: bool) -> io::Result<()> {
        self.tap.part(buffer.bytes_mut());
        self.cut += 1;
        let body = buffer.freeze();
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.verifier.blocking_send(body.clone()).map_err(|_| gone())?;
        self.uploader.blocking_send(SealedPart { number: self.cut, body, last }).map_err(|_| gone())
    }

    fn finish(mut self) -> io::Result<()> {
        match self.filling.take() {
            Some(buffer) => self.emit(buffer, true),
            None => Err(io::Error::other("nothing was encrypted")),
        }
    }
}

impl<T: Tap> Write for Cutter<T> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // A full part is passed on only when more follows, so that the last one is known.
        match self.filling.take() {
            Some(full) if full.is_full() => self.emit(full, false)?,
            other => self.filling = other,
        }
        Ok(self.filling.get_or_insert_with(|| self.pool.take_blocking()).fill(data))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The verifying thread: decrypts the very bytes that are uploaded.
fn verify(
    pieces: mpsc::Receiver<Bytes>,
    identity: Option<&Identity>,
    mut observer: Option<Box<dyn Observer>>,
    proven: oneshot::Sender<Verified>,
    fault: &Fault,
) {
    let mut incoming = Incoming::new(pieces);
    let mut opened = Opened::default();
    let result = stream::open(&mut incoming, identity, &mut |chunk| {
        match &mut observer {
            Some(observer) => opened.update_seen(chunk, &mut |database| observer.update(database)),
            None => opened.update(chunk),
        }
        Ok(())
    });
    let snapshot = match result.and_then(|()| opened.finish()) {
        Ok(snapshot) => snapshot,
        Err(error) => return fault.set(WriteError::Reopened(error.to_string())),
    };
    if let Some(observer) = observer {
        observer.finish();
    }
    let (sealed_sha256, sealed_bytes) = incoming.finish();
    // Nobody waits for it if the attempt has ended meanwhile.
    let _ = proven.send(Verified { snapshot, sealed_sha256, sealed_bytes });
}

/// The verification: what came out of the encrypted form is what the source states.
fn compare(proof: &Proof, out: &Snapshot) -> Result<(), WriteError> {
    if out.bytes != proof.bytes {
        let text = format!("{} bytes went in, {} came out", proof.bytes, out.bytes);
        return Err(WriteError::Reopened(text));
    }
    if out.sha256 != proof.sha256 {
        return Err(WriteError::Digest { expected: to_hex(&proof.sha256), got: to_hex(&out.sha256) });
    }
    if out.trailer != proof.sha256 {
        return Err(WriteError::Reopened("its trailer has changed".into()));
    }
    Ok(())
}

fn describe(job: &Job<'_>, proof: Proof, verified: &Verified, inspection: Option<Inspection>) -> Manifest {
    let plan = job.plan;
    let recipients: Vec<String> = plan.recipients.iter().map(ToString::to_string).collect();
    let encryption = if recipients.is_empty() { "none" } else { "age" }.to_owned();
    Manifest {
        format_version: FORMAT_VERSION,
        cluster: plan.cluster.clone(),
        cluster_uuid: plan.cluster_uuid,
        machine: plan.machine,
        snapshot: plan.snapshot,
        slot: plan.slot,
        attempt: plan.attempt,
        trigger: plan.trigger,
        created_at: job.created_at,
        origin: proof.origin,
        seal: SealInfo { compression: "zstd".into(), encryption, recipients },
        snapshot_bytes: proof.bytes,
        snapshot_sha256: to_hex(&proof.sha256),
        sealed_bytes: verified.sealed_bytes,
        sealed_sha256: to_hex(&verified.sealed_sha256),
        agent_version: plan.agent_version.clone(),
        inspection,
        replaces: plan.replaces.clone(),
        extra: Map::new(),
    }
}
