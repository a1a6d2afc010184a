//! Compresses and encrypts a snapshot file as a stream, and reads it back, on threads that may block. The snapshot
//! file is the database followed by its trailer, as `etcdctl snapshot save` writes it.
//!
//! The format is a sequence of zstd frames, one per block, each with the size of its content, all of it encrypted
//! with age. Without recipients there is no age, and each frame has a checksum instead. `age -d -i KEY | zstd -d`
//! decrypts it, because zstd frames can be concatenated.
//!
//! ```
//! use backstay_archive::seal::{Identity, stream};
//!
//! let identity = Identity::generate();
//! let mut sealer = stream::Sealer::new(&[identity.to_public()], Vec::new())?;
//! for block in [b"snap", b"shot"] {
//!     sealer.compress(block)?;
//!     sealer.push()?;
//! }
//! let sealed = sealer.finish()?;
//!
//! let mut opened = Vec::new();
//! stream::open(&sealed[..], Some(&identity), &mut |piece| {
//!     opened.extend_from_slice(piece);
//!     Ok(())
//! })?;
//! assert_eq!(opened, b"snapshot");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io::{self, BufRead, Read, Write};
use std::iter;

use age::stream::StreamWriter;
use age::{Decryptor, Encryptor};
use backstay_snapshot::TRAILER_BYTES;
use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{self, CParameter};

use super::{Identity, Recipient};

/// The compression level. Higher levels cost much more on etcd's data and gain nothing.
const LEVEL: i32 = 1;

/// Size of zstd's hash table, as a power of two: 8192 entries stay in a core's nearest cache. That is a tenth faster
/// than the level's own size, and the result is 0.7 % larger.
const HASH_LOG: u32 = 13;

/// Limit for the content of a frame, in bytes. A reader keeps one frame in memory, compressed and decompressed.
pub const BLOCK_MAX: usize = 8 * 1024 * 1024;

/// Limit for the header of a frame, in bytes.
const HEADER_MAX: usize = 18;

/// zstd's error for a frame that is not complete yet.
const INCOMPLETE: &str = "Src size is incorrect";

/// How much is read at a time, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// How much decompressed data is passed on at a time, in bytes.
const PLAIN_CHUNK: usize = 256 * 1024;

/// Compresses and encrypts blocks, and writes the result to `out`. Each block needs [`compress`](Self::compress) and
/// then [`push`](Self::push).
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
    /// Starts a stream. Without recipients it is only compressed.
    ///
    /// # Errors
    /// The error of zstd, of age, or of `out`.
    pub fn new(recipients: &[Recipient], out: W) -> io::Result<Self> {
        let mut compressor = Compressor::new(LEVEL)?;
        // age authenticates every byte, so a checksum would only cost time.
        compressor.set_parameter(CParameter::ChecksumFlag(recipients.is_empty()))?;
        compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
        compressor.set_parameter(CParameter::HashLog(HASH_LOG))?;
        let out = if recipients.is_empty() {
            Sink::Plain(out)
        } else {
            let recipients = recipients.iter().map(|r| r as &dyn age::Recipient);
            let encryptor = Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
            Sink::Age(Box::new(encryptor.wrap_output(out)?))
        };
        Ok(Self { compressor, frame: Vec::new(), out })
    }

    /// Compresses a block of at most [`BLOCK_MAX`] bytes into a frame of its own. [`push`](Self::push) then encrypts
    /// that frame.
    ///
    /// # Errors
    /// The error of zstd.
    pub fn compress(&mut self, block: &[u8]) -> io::Result<&mut [u8]> {
        self.frame.clear();
        // Nothing is copied, because the buffer is empty when it grows.
        self.frame.reserve(zstd_safe::compress_bound(block.len()));
        self.compressor.compress_to_buffer(block, &mut self.frame)?;
        Ok(&mut self.frame)
    }

    /// Encrypts the frame that [`compress`](Self::compress) made, and writes it.
    ///
    /// # Errors
    /// The error of `out`.
    pub fn push(&mut self) -> io::Result<()> {
        match &mut self.out {
            Sink::Plain(out) => out.write_all(&self.frame),
            Sink::Age(out) => out.write_all(&self.frame),
        }
    }

    /// Ends the stream and returns `out`. Without this the result cannot be decrypted.
    ///
    /// # Errors
    /// The error of `out`.
    pub fn finish(self) -> io::Result<W> {
        match self.out {
            Sink::Plain(out) => Ok(out),
            Sink::Age(out) => out.finish(),
        }
    }
}

/// Decrypts and decompresses a stream to its end, and passes the content to `sink` in pieces. `identity` must be
/// `None` if the stream was made without recipients.
///
/// # Errors
/// The error of `sealed` or `sink`, or a description of what is wrong with the data. Pieces that were passed on
/// before are not verified then.
pub fn open<R: BufRead>(
    sealed: R,
    identity: Option<&Identity>,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let Some(identity) = identity else { return decompress(sealed, sink) };
    let decryptor = Decryptor::new_buffered(sealed).map_err(io::Error::other)?;
    let plain = decryptor.decrypt(iter::once(identity as &dyn age::Identity)).map_err(io::Error::other)?;
    decompress(plain, sink)
}

fn decompress(source: impl Read, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut frames = Frames { source, bytes: Vec::new(), filled: 0 };
    let mut decompressor = Decompressor::new()?;
    let mut block = Vec::new();
    while let Some((length, holds)) = frames.whole()? {
        block.clear();
        block.reserve(holds);
        decompressor.decompress_to_buffer(&frames.bytes[..length], &mut block)?;
        frames.drop_first(length);
        block.chunks(PLAIN_CHUNK).try_for_each(&mut *sink)?;
    }
    Ok(())
}

/// Collects whole frames. Each is decompressed in one call, so nothing is copied through a window.
struct Frames<R> {
    source: R,
    bytes: Vec<u8>,
    /// How many of `bytes` were filled.
    filled: usize,
}

impl<R: Read> Frames<R> {
    /// Reads until a whole frame is there. Returns its length and that of its content; `None` at the end of the
    /// stream.
    fn whole(&mut self) -> io::Result<Option<(usize, usize)>> {
        loop {
            if let Some(frame) = look(&self.bytes[..self.filled], false)? {
                return Ok(Some(frame));
            }
            let end = (self.filled + READ_BYTES).min(zstd_safe::compress_bound(BLOCK_MAX));
            if self.bytes.len() < end {
                self.bytes.resize(end, 0);
            }
            match self.source.read(&mut self.bytes[self.filled..end]) {
                Ok(0) if self.filled == 0 => return Ok(None),
                Ok(0) => return look(&self.bytes[..self.filled], true),
                Ok(n) => self.filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn drop_first(&mut self, length: usize) {
        self.bytes.copy_within(length..self.filled, 0);
        self.filled -= length;
    }
}

/// The length of the frame at the beginning of `bytes`, and of its content. `None` if the frame is not complete yet.
fn look(bytes: &[u8], at_end: bool) -> io::Result<Option<(usize, usize)>> {
    if bytes.len() < HEADER_MAX && !at_end {
        return Ok(None);
    }
    let holds = match zstd_safe::get_frame_content_size(bytes) {
        Ok(Some(0)) => return Err(io::Error::other("a frame is empty")),
        Ok(Some(holds)) if holds <= BLOCK_MAX as u64 => usize::try_from(holds).expect("it was compared"),
        Ok(Some(holds)) => {
            return Err(io::Error::other(format!(
                "a frame contains {holds} bytes, more than the maximum of {BLOCK_MAX}"
            )));
        }
        Ok(None) => return Err(io::Error::other("a frame does not give the size of its content")),
        Err(_) => return Err(io::Error::other("it does not consist of zstd frames")),
    };
    match zstd_safe::find_frame_compressed_size(bytes) {
        Ok(length) => Ok(Some((length, holds))),
        Err(code) if zstd_safe::get_error_name(code) != INCOMPLETE => {
            Err(io::Error::other(format!("a frame is damaged: {}", zstd_safe::get_error_name(code))))
        }
        Err(_) if at_end => Err(io::Error::other("it ends in the middle of a frame")),
        Err(_) if bytes.len() >= zstd_safe::compress_bound(BLOCK_MAX) => {
            Err(io::Error::other("a frame is longer than its content"))
        }
        Err(_) => Ok(None),
    }
}

/// Sealed bytes that arrive through a channel, hashed and counted when they are read. Reading blocks the thread.
pub struct Incoming {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
    digest: Sha256,
    bytes: u64,
}

impl Incoming {
    /// Reads from this channel until it is closed.
    pub fn new(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self { pieces, current: Bytes::new(), digest: Sha256::new(), bytes: 0 }
    }

    /// SHA-256 and number of the bytes that were read.
    pub fn finish(self) -> ([u8; 32], u64) {
        (self.digest.finalize().into(), self.bytes)
    }
}

impl BufRead for Incoming {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            // Dropped before waiting, because the sender may need this buffer to continue.
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

/// Splits a decrypted snapshot file into the database and the trailer that follows it, and hashes the database.
#[derive(Default)]
pub struct Opened {
    digest: Sha256,
    /// Bytes so far, including those in `last`.
    bytes: u64,
    /// The last bytes so far, at most as many as a trailer has. They are not hashed yet.
    last: Vec<u8>,
}

/// What a decrypted snapshot file contains. It is intact if `sha256` equals `trailer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Size of the database in bytes, without the trailer.
    pub bytes: u64,
    /// SHA-256 of the database, computed.
    pub sha256: [u8; TRAILER_BYTES],
    /// SHA-256 of the database, as stated by the trailer.
    pub trailer: [u8; TRAILER_BYTES],
}

impl Opened {
    /// Takes the next bytes of the file, in pieces of any size.
    pub fn update(&mut self, chunk: &[u8]) {
        self.update_seen(chunk, &mut |_| ());
    }

    /// Like [`update`](Self::update), and lends the bytes that belong to the database to `seen`.
    pub fn update_seen(&mut self, chunk: &[u8], seen: &mut dyn FnMut(&[u8])) {
        self.bytes += chunk.len() as u64;
        // What can no longer be the trailer belongs to the database.
        let passed = (self.last.len() + chunk.len()).saturating_sub(TRAILER_BYTES);
        let held = passed.min(self.last.len());
        let mut take = |database: &[u8]| {
            self.digest.update(database);
            seen(database);
        };
        take(&self.last[..held]);
        take(&chunk[..passed - held]);
        self.last.drain(..held);
        self.last.extend_from_slice(&chunk[passed - held..]);
    }

    /// Bytes so far, of database and trailer.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the file.
    ///
    /// # Errors
    /// The file is shorter than a trailer.
    pub fn finish(self) -> io::Result<Snapshot> {
        let trailer = self.last.try_into().map_err(|last: Vec<u8>| {
            io::Error::other(format!("it contains {} bytes, less than the trailer of a snapshot", last.len()))
        })?;
        Ok(Snapshot { bytes: self.bytes - TRAILER_BYTES as u64, sha256: self.digest.finalize().into(), trailer })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(block: &[u8]) -> Vec<u8> {
        let mut sealer = Sealer::new(&[], Vec::new()).expect("no recipients");
        sealer.compress(block).expect("it compresses");
        sealer.push().expect("memory");
        sealer.finish().expect("memory")
    }

    /// Gives a few bytes at a time.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let size = self.1.min(out.len());
            self.0.read(&mut out[..size])
        }
    }

    fn opens(sealed: &[u8], step: usize) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut sink = |chunk: &[u8]| {
            out.extend_from_slice(chunk);
            Ok(())
        };
        decompress(Dribble(sealed, step), &mut sink).map(|()| out).map_err(|e| e.to_string())
    }

    #[test]
    fn frames_that_no_sealer_makes_are_refused() {
        let large = frame(&vec![0; BLOCK_MAX + 1]);
        assert_eq!(opens(&large, 100), Err("a frame contains 8388609 bytes, more than the maximum of 8388608".into()));
        assert_eq!(opens(&frame(&vec![0; BLOCK_MAX]), 7000).map(|out| out.len()), Ok(BLOCK_MAX));
        let unsized_frame = {
            let mut compressor = Compressor::new(LEVEL).expect("a level");
            compressor.set_parameter(CParameter::ContentSizeFlag(false)).expect("a flag");
            compressor.compress(b"some text").expect("it compresses")
        };
        assert_eq!(opens(&unsized_frame, 100), Err("a frame does not give the size of its content".into()));
        assert_eq!(opens(b"neither this nor that is one", 100), Err("it does not consist of zstd frames".into()));
        assert_eq!(opens(b"", 100), Ok(Vec::new()));
        assert_eq!(opens(&frame(b""), 100), Err("a frame is empty".into()));
        let mut damaged = frame(&[7; 5000]);
        // The type of its first block becomes a reserved one.
        damaged[7] |= 0b110;
        let error = opens(&damaged, 100).expect_err("damaged");
        assert!(error.contains("damaged"), "{error}");
        let mut followed = frame(b"a block");
        followed.push(0);
        assert_eq!(opens(&followed, 100), Err("it does not consist of zstd frames".into()));
    }

    proptest! {
        #[test]
        fn frames_open_however_the_stream_comes_and_a_cut_one_does_not(
            blocks in prop::collection::vec(prop::collection::vec(0..3_u8, 1..3000), 1..5),
            step in 1..200_usize, at in any::<prop::sample::Index>(),
        ) {
            let frames: Vec<_> = blocks.iter().map(|block| frame(block)).collect();
            let sealed = frames.concat();
            prop_assert_eq!(opens(&sealed, step), Ok(blocks.concat()));
            let cut = at.index(sealed.len());
            let ends: Vec<_> = frames.iter().scan(0, |end, frame| { *end += frame.len(); Some(*end) }).collect();
            prop_assert_eq!(opens(&sealed[..cut], step).is_ok(), cut == 0 || ends.contains(&cut));
        }

        #[test]
        fn a_flipped_bit_in_a_frame_is_noticed_or_changes_nothing(
            block in prop::collection::vec(0..3_u8, 1..3000), at in any::<prop::sample::Index>(), bit in 0..8_u8,
        ) {
            let mut sealed = frame(&block);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            if let Ok(out) = opens(&sealed, 500) {
                prop_assert_eq!(out, block);
            }
        }

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
