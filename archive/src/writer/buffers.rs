//! The memory that one attempt may use: a fixed number of buffers, which return when they are no longer used.
//!
//! All buffers of a pool are pieces of one large allocation. Allocators map such an allocation by itself and unmap it
//! when it is freed, so the peak is the sum of the buffers, for the first attempt of a process as for the hundredth.
//! Pages that are never touched cost nothing.

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

/// Smallest allocation in bytes. glibc serves up to 32 MiB from heaps that it keeps, once it has seen such sizes.
const SLAB_MIN: usize = 33 * 1024 * 1024;

/// At most `limit` buffers of `size` bytes.
pub struct Pool {
    size: usize,
    unused: BytesMut,
    unmade: usize,
    returned: mpsc::Receiver<BytesMut>,
    give_back: mpsc::Sender<BytesMut>,
}

impl Pool {
    pub fn new(size: usize, limit: usize) -> Self {
        let (give_back, returned) = mpsc::channel(limit);
        let unused = BytesMut::with_capacity(SLAB_MIN.max(size * limit));
        Self { size, unused, unmade: limit, returned, give_back }
    }

    /// An empty buffer; waits until one is free.
    pub async fn take(&mut self) -> Buffer {
        match self.at_once() {
            Some(buffer) => buffer,
            None => {
                let buffer = self.returned.recv().await.expect("the pool holds a sender itself");
                self.wrap(buffer)
            }
        }
    }

    /// The same for a thread that may block.
    pub fn take_blocking(&mut self) -> Buffer {
        match self.at_once() {
            Some(buffer) => buffer,
            None => {
                let buffer = self.returned.blocking_recv().expect("the pool holds a sender itself");
                self.wrap(buffer)
            }
        }
    }

    fn at_once(&mut self) -> Option<Buffer> {
        if let Ok(buffer) = self.returned.try_recv() {
            return Some(self.wrap(buffer));
        }
        self.unmade = self.unmade.checked_sub(1)?;
        let rest = self.unused.split_off(self.size);
        let buffer = std::mem::replace(&mut self.unused, rest);
        Some(self.wrap(buffer))
    }

    fn wrap(&self, mut bytes: BytesMut) -> Buffer {
        bytes.clear();
        Buffer { bytes, size: self.size, home: self.give_back.clone() }
    }
}

/// A buffer of a [`Pool`]; it returns when it is dropped.
pub struct Buffer {
    bytes: BytesMut,
    size: usize,
    home: mpsc::Sender<BytesMut>,
}

impl Buffer {
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= self.size
    }

    /// Copies as much of `data` as fits, and returns how many bytes that was.
    pub fn fill(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.size - self.bytes.len());
        self.bytes.extend_from_slice(&data[..n]);
        n
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Immutable bytes that share the buffer, which returns with the last of them.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // There is room for all. If the pool is gone, the memory is freed.
        let _ = self.home.try_send(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pool_gives_no_more_than_its_limit_and_takes_buffers_back() {
        let mut pool = Pool::new(4, 2);
        let mut first = pool.take().await;
        assert_eq!(first.fill(b"123456"), 4);
        assert!(first.is_full());
        let shared = first.freeze();
        let other = shared.slice(1..2);
        let _second = pool.take().await;
        drop(shared);
        assert!(pool.at_once().is_none(), "a slice still uses the first buffer");
        drop(other);
        let third = pool.at_once().expect("both uses of the first have ended");
        assert!(third.as_ref().is_empty());
        drop(pool);
        drop(third);
    }
}
