//! Sealing and opening of a whole database as a stream, off the async threads.
//!
//! The form: zstd frames, one per block, each with its content size and a checksum; then age over all of
//! them, unless there are no recipients. `age -d -i KEY | zstd -d` opens it: frames concatenate.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::iter;

use age::stream::StreamWriter;
use age::{Decryptor, Encryptor};
use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::{Identity, Recipient};

/// Higher levels cost much more on etcd's data and gain nothing.
const LEVEL: i32 = 1;

/// The largest window that a frame may ask a reader to keep, as a power of two: 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;

/// How much plain text is handed on at a time.
const PLAIN_CHUNK: usize = 256 * 1024;

/// Compresses and encrypts blocks into `out`.
pub struct Sealer<W: Write> {
    compressor: Compressor<'static>,
    frame: Vec<u8>,
    out: Sink<W>,
}

enum Sink<W: Write> {
    Plain(W),
    Age(Box<StreamWriter<W>>),
}

impl<W: Write> Sealer<W> {
    /// No recipients: compressed only.
    pub fn new(recipients: &[Recipient], out: W) -> io::Result<Self> {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
        let out = if recipients.is_empty() {
            Sink::Plain(out)
        } else {
            let recipients = recipients.iter().map(|r| r as &dyn age::Recipient);
            let encryptor = Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
            Sink::Age(Box::new(encryptor.wrap_output(out)?))
        };
        Ok(Self { compressor, frame: Vec::new(), out })
    }

    /// Compresses a block into a frame of its own, which [`Self::push`] then encrypts.
    pub fn compress(&mut self, block: &[u8]) -> io::Result<&mut [u8]> {
        self.frame.clear();
        // Nothing is copied: the buffer is empty when it grows.
        self.frame.reserve(zstd::zstd_safe::compress_bound(block.len()));
        self.compressor.compress_to_buffer(block, &mut self.frame)?;
        Ok(&mut self.frame)
    }

    /// Encrypts the frame that [`Self::compress`] made.
    pub fn push(&mut self) -> io::Result<()> {
        match &mut self.out {
            Sink::Plain(out) => out.write_all(&self.frame),
            Sink::Age(out) => out.write_all(&self.frame),
        }
    }

    /// Ends the stream; without this the sealed form does not open.
    pub fn finish(self) -> io::Result<W> {
        match self.out {
            Sink::Plain(out) => Ok(out),
            Sink::Age(out) => out.finish(),
        }
    }
}

/// Opens a sealed stream to its end and hands the database to `sink` in pieces.
pub fn open<R: BufRead>(
    sealed: R,
    identity: Option<&Identity>,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let Some(identity) = identity else { return decompress(sealed, sink) };
    let decryptor = Decryptor::new_buffered(sealed).map_err(io::Error::other)?;
    let plain = decryptor.decrypt(iter::once(identity as &dyn age::Identity)).map_err(io::Error::other)?;
    decompress(BufReader::with_capacity(64 * 1024, plain), sink)
}

fn decompress<R: BufRead>(frames: R, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(frames)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let mut chunk = vec![0; PLAIN_CHUNK];
    loop {
        match decoder.read(&mut chunk)? {
            0 => break,
            n => sink(&chunk[..n])?,
        }
    }
    // A decoder that stops before the end would leave the rest unproven.
    let rest = decoder.finish().fill_buf()?.len();
    if rest > 0 { Err(io::Error::other("bytes follow the last frame")) } else { Ok(()) }
}

/// Sealed bytes as they come through a channel, hashed and counted as they are taken.
pub struct Incoming {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
    digest: Sha256,
    bytes: u64,
}

impl Incoming {
    pub fn new(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self { pieces, current: Bytes::new(), digest: Sha256::new(), bytes: 0 }
    }

    /// The sha256 and the number of the bytes that came.
    pub fn finish(self) -> ([u8; 32], u64) {
        (self.digest.finalize().into(), self.bytes)
    }
}

impl BufRead for Incoming {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            // Dropped before the wait: the sealer may need this buffer to go on.
            self.current = Bytes::new();
            let Some(next) = self.pieces.blocking_recv() else { break };
            self.digest.update(&next);
            self.bytes += next.len() as u64;
            self.current = next;
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount);
    }
}

impl Read for Incoming {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let n = ready.len().min(out.len());
        out[..n].copy_from_slice(&ready[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// Counts and hashes a database as it comes out of its sealed form.
#[derive(Default)]
pub struct Opened {
    digest: Sha256,
    pub bytes: u64,
}

impl Opened {
    pub fn update(&mut self, chunk: &[u8]) {
        self.digest.update(chunk);
        self.bytes += chunk.len() as u64;
    }

    pub fn sha256(self) -> [u8; 32] {
        self.digest.finalize().into()
    }
}

/// Lower-case hexadecimal, as manifests hold digests.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
