//! Fetching an object ahead of whoever opens it: a few ranges at once, handed on in their order, so that neither
//! the way there nor a single connection decides how fast it goes. What is under way is bounded.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use futures::stream::FuturesOrdered;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use super::error::{ReadError, mismatch, size};
use crate::store::{Key, Store, StoreError};

/// Bytes of a range.
const RANGE_BYTES: u64 = 2 * 1024 * 1024;

/// Ranges under way at once.
const AHEAD: usize = 4;

/// Hands the first `expected` bytes of an object to `out`.
///
/// # Errors
/// The store's, or the object is not as long as it should be. Where `out` is closed the fetching ends without an
/// error: whoever closed it knows why.
pub(super) async fn fetch(
    store: &dyn Store,
    key: &Key,
    expected: u64,
    out: mpsc::Sender<Bytes>,
) -> Result<(), ReadError> {
    // Asked at first: less or more is then said as it is, and what is missing altogether too.
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
        // So nothing is asked for while the opening lags: at most a range waits besides those under way.
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
            // Also while the opening is waited for: what is under way goes on.
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
