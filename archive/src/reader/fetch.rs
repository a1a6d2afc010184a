//! Fetches an object before it is needed: a few ranges at the same time, passed on in order, so that neither latency
//! nor a single connection limits the speed. The amount in flight is bounded.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use futures::stream::FuturesOrdered;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use super::error::{ReadError, mismatch, size};
use crate::store::{Key, Store, StoreError};

/// Size of a range in bytes.
const RANGE_BYTES: u64 = 2 * 1024 * 1024;

/// How many ranges are fetched at the same time.
const AHEAD: usize = 4;

/// Sends the first `expected` bytes of an object to `out`.
///
/// # Errors
/// The store fails, or the object has another length. If `out` is closed, fetching ends without an error: the
/// receiver knows why.
pub(super) async fn fetch(
    store: &dyn Store,
    key: &Key,
    expected: u64,
    out: mpsc::Sender<Bytes>,
) -> Result<(), ReadError> {
    // Asked first, so that a wrong length or a missing object is reported as such.
    if let Some(object) = store.head(key).await?
        && object.size != expected
    {
        return Err(mismatch("the sealed object", size(expected), size(object.size)));
    }
    let starts = (0..expected).step_by(RANGE_BYTES as usize);
    let mut ranges = starts.map(|start| start..expected.min(start + RANGE_BYTES));
    let mut under_way = FuturesOrdered::new();
    let (mut ready, mut ready_bytes) = (VecDeque::<Bytes>::new(), 0);
    loop {
        // So nothing more is requested while decryption lags: at most one range waits besides those in flight.
        while under_way.len() < AHEAD && ready_bytes < RANGE_BYTES {
            let Some(range) = ranges.next() else { break };
            under_way.push_back(read(store, key, range));
        }
        tokio::select! {
            room = out.reserve(), if !ready.is_empty() => {
                let (Ok(room), Some(piece)) = (room, ready.pop_front()) else { return Ok(()) };
                ready_bytes -= piece.len() as u64;
                room.send(piece);
            }
            // What is in flight continues while decryption is waited for.
            Some(came) = under_way.next(), if !under_way.is_empty() => {
                let came: Vec<Bytes> = came?;
                ready_bytes += came.iter().map(|piece| piece.len() as u64).sum::<u64>();
                ready.extend(came);
            }
            else => return Ok(()),
        }
    }
}

async fn read(store: &dyn Store, key: &Key, range: Range<u64>) -> Result<Vec<Bytes>, StoreError> {
    store.read_range(key, range).await?.try_collect().await
}
