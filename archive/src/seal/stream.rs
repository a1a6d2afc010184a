//! Sealing and opening of a whole snapshot file as a stream, off the async threads: the database and its
//! trailer, as `etcdctl snapshot save` writes them.
//!
//! The form: zstd frames, one per block, each with its content size; then age over all of them. Without
//! recipients there is no age, and each frame has a checksum instead. `age -d -i KEY | zstd -d` opens it: frames concatenate.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::iter;

use age::stream::StreamWriter;
use age::{Decryptor, Encryptor};
use backstay_snapshot::TRAILER_BYTES;
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
        // Where age authenticates every byte, a checksum of its own would only cost.
        compressor.set_parameter(CParameter::ChecksumFlag(recipients.is_empty()))?;
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

/// Opens a sealed stream to its end and hands what it holds to `sink` in pieces.
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

/// A snapshot file as it comes out of its sealed form: the database, and behind it the trailer that says the
/// database's sha256.
#[derive(Default)]
pub struct Opened {
    digest: Sha256,
    /// Bytes so far, those in `last` included.
    bytes: u64,
    /// The last bytes so far, at most a trailer's: they are not hashed yet.
    last: Vec<u8>,
}

/// What an opened snapshot file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Bytes of the database, without the trailer.
    pub bytes: u64,
    /// Of the database, computed.
    pub sha256: [u8; TRAILER_BYTES],
    /// What the file says that the sha256 is.
    pub trailer: [u8; TRAILER_BYTES],
}

impl Opened {
    pub fn update(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        // What no longer can be the trailer is the database's.
        let passed = (self.last.len() + chunk.len()).saturating_sub(TRAILER_BYTES);
        let held = passed.min(self.last.len());
        self.digest.update(&self.last[..held]);
        self.last.drain(..held);
        self.digest.update(&chunk[..passed - held]);
        self.last.extend_from_slice(&chunk[passed - held..]);
    }

    /// Bytes so far, database and trailer.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn finish(self) -> io::Result<Snapshot> {
        let trailer = self.last.try_into().map_err(|last: Vec<u8>| {
            io::Error::other(format!("it holds {} bytes, less than a snapshot's trailer", last.len()))
        })?;
        Ok(Snapshot { bytes: self.bytes - TRAILER_BYTES as u64, sha256: self.digest.finalize().into(), trailer })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_trailer_is_told_from_the_database_however_the_file_is_cut(
            file in prop::collection::vec(any::<u8>(), 0..300), sizes in prop::collection::vec(0..90_usize, 0..30),
        ) {
            let (mut opened, mut rest) = (Opened::default(), &file[..]);
            for size in sizes {
                let (chunk, more) = rest.split_at(size.min(rest.len()));
                opened.update(chunk);
                rest = more;
            }
            opened.update(rest);
            prop_assert_eq!(opened.bytes(), file.len() as u64);
            match (opened.finish(), file.split_last_chunk()) {
                (Ok(snapshot), Some((database, &trailer))) => {
                    let sha256 = Sha256::digest(database).into();
                    prop_assert_eq!(snapshot, Snapshot { bytes: database.len() as u64, sha256, trailer });
                }
                (Err(error), None) => prop_assert!(error.to_string().contains("less than"), "{error}"),
                (got, expected) => prop_assert!(false, "{got:?} of {expected:?}"),
            }
        }
    }
}
