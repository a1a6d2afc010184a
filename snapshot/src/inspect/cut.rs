//! Cuts a stream into pieces that can be read as a whole. Nothing is copied if a piece of the stream already contains
//! them.

/// What a [`Cutter`] feeds.
pub trait Take {
    /// How many bytes are needed, given the bytes that are available. If it is more than are available, more must
    /// arrive first.
    fn need(&self, bytes: &[u8]) -> usize;

    /// Reads the first [`need`](Self::need) bytes and returns how many of them are finished: at least one, and
    /// perhaps fewer than were read.
    fn take(&mut self, bytes: &[u8]) -> usize;
}

/// Capacity that is kept for the next bytes to hold, in bytes.
const KEPT: usize = 1024 * 1024;

/// Bytes that arrived and could not be read yet.
#[derive(Debug, Default)]
pub struct Cutter {
    held: Vec<u8>,
    /// How many bytes of `held` are finished.
    done: usize,
}

impl Cutter {
    /// Bytes that wait for more to arrive.
    pub fn waiting(&self) -> usize {
        self.held.len() - self.done
    }

    pub fn feed(&mut self, mut piece: &[u8], to: &mut impl Take) {
        if self.waiting() > 0 {
            piece = self.finish_held(piece, to);
        }
        while !piece.is_empty() {
            let need = to.need(piece);
            if need > piece.len() {
                // Exactly what is needed: growing on its own, the buffer could take twice as much.
                self.held.reserve_exact(need);
                self.held.extend_from_slice(piece);
                return;
            }
            piece = &piece[to.take(&piece[..need])..];
        }
    }

    /// Continues with the held bytes and as much of `piece` as they need; returns the rest of `piece`.
    fn finish_held<'a>(&mut self, piece: &'a [u8], to: &mut impl Take) -> &'a [u8] {
        // Bytes at the end of `held` that are copies of the beginning of `piece`.
        let mut copied = 0;
        loop {
            let waiting = self.held.len() - self.done;
            if waiting <= copied {
                self.held.clear();
                self.held.shrink_to(KEPT);
                self.done = 0;
                return &piece[copied - waiting..];
            }
            let need = to.need(&self.held[self.done..]);
            if need <= waiting {
                self.done += to.take(&self.held[self.done..self.done + need]);
                continue;
            }
            let more = (need - waiting).min(piece.len() - copied);
            if more == 0 {
                self.held.drain(..self.done);
                self.done = 0;
                return &[];
            }
            self.held.reserve_exact(need - waiting);
            self.held.extend_from_slice(&piece[copied..copied + more]);
            copied += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Records with one byte for the length and as many bytes, of which the first `step` are finished with.
    #[derive(Default)]
    struct Records(Vec<Vec<u8>>);

    impl Take for Records {
        fn need(&self, bytes: &[u8]) -> usize {
            bytes.first().map_or(1, |length| usize::from(*length) + 1)
        }

        fn take(&mut self, bytes: &[u8]) -> usize {
            self.0.push(bytes.to_vec());
            1 + bytes.len() / 2
        }
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_is_looked_at(
            stream in prop::collection::vec(0..9_u8, 0..200), sizes in prop::collection::vec(0..20_usize, 0..40),
        ) {
            let (mut whole, mut cut) = (Records::default(), Records::default());
            let mut cutter = Cutter::default();
            cutter.feed(&stream, &mut whole);
            let left = cutter.waiting();
            let (mut cutter, mut rest) = (Cutter::default(), &stream[..]);
            for size in sizes.into_iter().chain([usize::MAX]) {
                let (piece, more) = rest.split_at(size.min(rest.len()));
                cutter.feed(piece, &mut cut);
                rest = more;
            }
            prop_assert_eq!(whole.0, cut.0);
            prop_assert_eq!(cutter.waiting(), left);
        }
    }
}
