//! Reads the frames of `Maintenance.Snapshot`: tells database from trailer and checks that the stream is complete.
//!
//! A frame is a blob and the number of database bytes that are still to come after it. The trailer, which is the
//! SHA-256 of the database, is not counted in that number. So the first frame's blob and its `remaining_bytes` add up
//! to the size of the database, and exactly [`TRAILER_BYTES`] follow it. (Source: `maintenanceServer.Snapshot` in
//! etcd 3.4 to 3.6.)
//!
//! Nothing here hashes or stores the database. Whoever hashes it compares the result with [`Trailer::sha256`].
//!
//! ```
//! use backstay_snapshot::Frames;
//!
//! let (database, digest) = ([0; 1024], [7; 32]);
//! let mut frames = Frames::default();
//! // Which bytes of the frame are the database's.
//! assert_eq!(frames.feed(&database[..600], 424)?, 0..600);
//! assert_eq!(frames.feed(&database[600..], 0)?, 0..424);
//! // The trailer's frame has none.
//! assert_eq!(frames.feed(&digest, 0)?, 0..0);
//!
//! let trailer = frames.finish()?;
//! assert_eq!((trailer.bytes, trailer.sha256), (1024, digest));
//! # Ok::<(), backstay_snapshot::FrameError>(())
//! ```

use std::ops::Range;

/// Size of the trailer in bytes: one SHA-256.
pub const TRAILER_BYTES: usize = 32;

/// The size of a database is a multiple of this, in bytes. From the remainder, etcd's own tools tell whether a file
/// has a trailer (`hasChecksum` in etcdutl's `snapshot/v3_snapshot.go`).
pub const SECTOR_BYTES: u64 = 512;

/// Why frames are not a complete snapshot. All numbers are bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first frame announces a database of 0 bytes.
    #[error("the snapshot stream contains no database: its first frame is empty and announces no data")]
    Empty,
    /// The announced size, `total`, is not a multiple of [`SECTOR_BYTES`].
    #[error("the snapshot stream announces a database of {total} bytes, which is not a multiple of {SECTOR_BYTES}")]
    NotSectors {
        /// The announced size of the database.
        total: u64,
    },
    /// The announced size and the trailer together do not fit into 64 bits.
    #[error("the snapshot stream announces a database of more than {max} bytes", max = u64::MAX)]
    TooLarge,
    /// After `read` of `total` bytes of the database, a frame announces `said` remaining bytes instead of the
    /// difference.
    #[error("after {read} of {total} bytes, the snapshot stream says that {said} remain")]
    Inconsistent {
        /// Bytes of the database so far, this frame's included.
        read: u64,
        /// The size of the database that the first frame announced.
        total: u64,
        /// The number of remaining bytes that this frame states.
        said: u64,
    },
    /// `extra` bytes follow the database of `total` bytes and its trailer.
    #[error(
        "the snapshot stream continues after the trailer: {extra} bytes too many after {total} and {TRAILER_BYTES}"
    )]
    TooLong {
        /// The size of the database.
        total: u64,
        /// How many bytes follow database and trailer.
        extra: u64,
    },
    /// The stream ended after `got` of `want` bytes, trailer included.
    #[error("the snapshot stream ended early: {got} of {want} bytes")]
    EndedEarly {
        /// Bytes that arrived, database and trailer.
        got: u64,
        /// The bytes of database and trailer together.
        want: u64,
    },
    /// The stream ended before its first frame, so the size of the database is not known.
    #[error("the snapshot stream ended before its first frame")]
    NoFrames,
}

/// What the end of a complete stream says about the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// SHA-256 of the database, computed by the member that sent it. It proves the transfer, not the data on the
    /// member's disk.
    pub sha256: [u8; TRAILER_BYTES],
    /// Size of the database in bytes, without the trailer.
    pub bytes: u64,
}

/// The state of a stream between two frames.
///
/// Start with `default()`, pass each frame to [`feed`](Self::feed) in order, and call [`finish`](Self::finish) when
/// the stream has ended. Do not continue after an error.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    /// Size of the database in bytes; known once the first frame was read.
    total: Option<u64>,
    /// Bytes of the database seen so far; at most `total`.
    read: u64,
    trailer: [u8; TRAILER_BYTES],
    /// Bytes of `trailer` seen so far.
    filled: usize,
}

impl Frames {
    /// Takes the next frame: its blob and its `remaining_bytes`. Returns which bytes of `blob` belong to the
    /// database. The range is empty for an empty frame and for the trailer.
    ///
    /// # Errors
    /// [`FrameError`] if the frame does not fit what came before. The whole stream is useless then.
    pub fn feed(&mut self, blob: &[u8], remaining: u64) -> Result<Range<usize>, FrameError> {
        let total = match self.total {
            Some(total) => total,
            None => self.begin(blob.len() as u64, remaining)?,
        };
        let left = total - self.read;
        let database = usize::try_from(left).map_or(blob.len(), |left| left.min(blob.len()));
        self.read += database as u64;
        if remaining != total - self.read {
            return Err(FrameError::Inconsistent { read: self.read, total, said: remaining });
        }
        self.hold_back(&blob[database..], total)?;
        Ok(0..database)
    }

    fn begin(&mut self, blob: u64, remaining: u64) -> Result<u64, FrameError> {
        let total = blob.checked_add(remaining).ok_or(FrameError::TooLarge)?;
        total.checked_add(TRAILER_BYTES as u64).ok_or(FrameError::TooLarge)?;
        if total == 0 {
            return Err(FrameError::Empty);
        }
        if !total.is_multiple_of(SECTOR_BYTES) {
            return Err(FrameError::NotSectors { total });
        }
        self.total = Some(total);
        Ok(total)
    }

    fn hold_back(&mut self, bytes: &[u8], total: u64) -> Result<(), FrameError> {
        let room = TRAILER_BYTES - self.filled;
        if bytes.len() > room {
            return Err(FrameError::TooLong { total, extra: (bytes.len() - room) as u64 });
        }
        self.trailer[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }

    /// Size of the database in bytes, without the trailer; `None` before the first frame.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Bytes of the database seen so far.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Checks that the stream is complete and returns its trailer.
    ///
    /// # Errors
    /// [`FrameError::NoFrames`] or [`FrameError::EndedEarly`] if the database or the trailer is incomplete.
    pub fn finish(&self) -> Result<Trailer, FrameError> {
        let total = self.total.ok_or(FrameError::NoFrames)?;
        let (got, want) = (self.read + self.filled as u64, total + TRAILER_BYTES as u64);
        if got != want {
            return Err(FrameError::EndedEarly { got, want });
        }
        Ok(Trailer { sha256: self.trailer, bytes: total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// A frame as it is sent.
    type Frame = (Vec<u8>, u64);

    /// What a member sends: `sizes` cuts the database and the trailer after it, at most one cut per size.
    fn stream(database: &[u8], trailer: &[u8], sizes: &[usize]) -> Vec<Frame> {
        let whole = [database, trailer].concat();
        let (mut at, mut frames) = (0_usize, Vec::new());
        for size in sizes.iter().copied().chain(std::iter::repeat(usize::MAX)) {
            // The first frame cannot contain bytes of the trailer, because the end of the database follows from that
            // frame.
            let end = if at == 0 { database.len() } else { whole.len() };
            let next = at.saturating_add(size).min(end);
            frames.push((whole[at..next].to_vec(), database.len().saturating_sub(next) as u64));
            at = next;
            if at == whole.len() {
                return frames;
            }
        }
        frames
    }

    fn read(frames: &[Frame]) -> Result<(Vec<u8>, Trailer), FrameError> {
        let (mut state, mut database) = (Frames::default(), Vec::new());
        for (blob, remaining) in frames {
            let range = state.feed(blob, *remaining)?;
            database.extend_from_slice(&blob[range]);
        }
        Ok((database, state.finish()?))
    }

    fn databases() -> impl Strategy<Value = Vec<u8>> {
        (1..12_usize, any::<u8>()).prop_map(|(sectors, seed)| {
            (0..sectors * SECTOR_BYTES as usize).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect()
        })
    }

    proptest! {
        #[test]
        fn any_split_of_a_whole_stream_is_put_together(
            database in databases(), trailer in any::<[u8; TRAILER_BYTES]>(), sizes in vec(0..900_usize, 0..40),
        ) {
            let (got, end) = read(&stream(&database, &trailer, &sizes))?;
            prop_assert_eq!(&got, &database);
            prop_assert_eq!(end, Trailer { sha256: trailer, bytes: database.len() as u64 });
        }

        #[test]
        fn a_stream_cut_at_any_frame_never_completes(database in databases(), sizes in vec(1..900_usize, 1..40)) {
            let frames = stream(&database, &[7; TRAILER_BYTES], &sizes);
            for cut in 0..frames.len() {
                prop_assert!(read(&frames[..cut]).is_err(), "{cut} of {} frames", frames.len());
            }
        }

        #[test]
        fn a_stream_cut_at_any_byte_never_completes(
            database in databases(), sizes in vec(1..900_usize, 1..40), at in any::<prop::sample::Index>(),
        ) {
            let mut frames = stream(&database, &[7; TRAILER_BYTES], &sizes);
            let frame = at.index(frames.len());
            frames.truncate(frame + 1);
            let blob = &mut frames[frame].0;
            blob.truncate(at.index(blob.len()));
            prop_assert!(read(&frames).is_err());
        }

        #[test]
        fn more_bytes_than_announced_are_refused(database in databases(), extra in vec(any::<u8>(), 1..100), own: bool) {
            let mut frames = stream(&database, &[7; TRAILER_BYTES], &[100, 200]);
            match frames.last_mut() {
                Some((blob, _)) if !own => blob.extend_from_slice(&extra),
                _ => frames.push((extra.clone(), 0)),
            }
            let total = database.len() as u64;
            prop_assert_eq!(read(&frames), Err(FrameError::TooLong { total, extra: extra.len() as u64 }));
        }

        #[test]
        fn a_wrong_count_of_what_remains_is_refused(
            database in databases(), at in any::<prop::sample::Index>(), said in any::<u64>(),
        ) {
            let mut frames = stream(&database, &[7; TRAILER_BYTES], &[300, 300]);
            let frame = at.index(frames.len());
            prop_assume!(frames[frame].1 != said);
            frames[frame].1 = said;
            prop_assert!(read(&frames).is_err());
        }

        #[test]
        fn arbitrary_frames_never_panic(frames in vec((vec(any::<u8>(), 0..1100), prop_oneof![
            Just(0), 0..4_u64, (0..8_u64).prop_map(|s| s * SECTOR_BYTES), any::<u64>(), Just(u64::MAX)
        ]), 0..12)) {
            if let Ok((database, end)) = read(&frames) {
                prop_assert_eq!(database.len() as u64, end.bytes);
                prop_assert!(end.bytes > 0 && end.bytes.is_multiple_of(SECTOR_BYTES));
            }
        }
    }

    #[test]
    fn errors_say_how_much_came() {
        let frames = [(vec![1; 512], 512_u64), (vec![2; 100], 412)];
        let error = read(&frames).expect_err("cut").to_string();
        assert_eq!(error, "the snapshot stream ended early: 612 of 1056 bytes");
        assert_eq!(read(&[]), Err(FrameError::NoFrames));
        assert_eq!(read(&[(Vec::new(), 0)]), Err(FrameError::Empty));
        assert_eq!(read(&[(vec![0; 100], 0)]), Err(FrameError::NotSectors { total: 100 }));
        assert_eq!(read(&[(vec![0; 1], u64::MAX)]), Err(FrameError::TooLarge));
        assert_eq!(read(&[(Vec::new(), u64::MAX - 31)]), Err(FrameError::TooLarge));
    }

    #[test]
    fn empty_frames_change_nothing() {
        let frames =
            [(Vec::new(), 512_u64), (Vec::new(), 512), (vec![3; 512], 0), (Vec::new(), 0), (vec![9; TRAILER_BYTES], 0)];
        assert_eq!(read(&frames).map(|(d, t)| (d.len(), t.sha256)), Ok((512, [9; TRAILER_BYTES])));
    }
}
