//! Kubernetes-like data for etcd, from a seed: pods, events, secrets, config maps and the like, 1 to 8 KiB
//! each, with the repetition that makes zstd -1 shrink a snapshot of them to less than a quarter.
//!
//! The same seed gives the same keys and values. In what order they get their revisions is left open: several
//! transactions are under way at once.

use anyhow::{Context, Result};
use etcd_client::{Client, Txn, TxnOp};
use futures::{StreamExt, TryStreamExt, stream};

mod object;

pub use object::{Object, object};

/// Objects in a transaction: etcd takes at most 128 operations, and 1.5 MiB.
const BATCH: u64 = 100;
/// Transactions under way at once.
const IN_FLIGHT: usize = 4;
/// Batches that are being made at once.
const MAKING: usize = 2;

/// What was loaded: objects `0..objects` of the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    pub seed: u64,
    /// How many objects, each under a key of its own.
    pub objects: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// The highest revision that an answer told.
    pub revision: i64,
}

/// Puts as many objects of the seed as it takes for `total_bytes` of keys and values into the etcd at
/// `endpoint` (a client URL).
pub async fn load(endpoint: &str, total_bytes: u64, seed: u64) -> Result<Loaded> {
    let client = Client::connect([endpoint], None).await;
    let client = client.with_context(|| format!("failed to connect to etcd at {endpoint}"))?;
    let mut loaded = Loaded { seed, objects: 0, bytes: 0, revision: 0 };
    let batches = stream::iter(0u64..)
        .map(|batch| tokio::task::spawn_blocking(move || make(seed, batch)))
        .buffered(MAKING)
        .map(|made| made.context("the making of a batch was given up"))
        // In order, so that where the total is reached does not depend on who was faster.
        .scan(&mut loaded, |loaded, batch| std::future::ready(take(loaded, batch, total_bytes)));
    let revision = batches
        .map_ok(|batch| put(client.clone(), batch))
        .try_buffer_unordered(IN_FLIGHT)
        .try_fold(0, |highest, revision| std::future::ready(Ok(i64::max(highest, revision))))
        .await?;
    loaded.revision = revision;
    Ok(loaded)
}

fn make(seed: u64, batch: u64) -> Vec<Object> {
    (batch * BATCH..(batch + 1) * BATCH).map(|index| object(seed, index)).collect()
}

/// Cuts the batch where the total is reached; `None` once it was reached before.
fn take(loaded: &mut Loaded, batch: Result<Vec<Object>>, total_bytes: u64) -> Option<Result<Vec<Object>>> {
    if loaded.bytes >= total_bytes {
        return None;
    }
    Some(batch.map(|mut objects| {
        let mut count = 0;
        while count < objects.len() && loaded.bytes < total_bytes {
            loaded.bytes += objects[count].bytes();
            loaded.objects += 1;
            count += 1;
        }
        objects.truncate(count);
        objects
    }))
}

async fn put(mut client: Client, batch: Vec<Object>) -> Result<i64> {
    let first = batch.first().map(|object| object.key.clone()).unwrap_or_default();
    let puts: Vec<TxnOp> = batch.into_iter().map(|object| TxnOp::put(object.key, object.value, None)).collect();
    let answer = client.txn(Txn::new().and_then(puts)).await;
    let answer = answer.with_context(|| format!("failed to put {first} and on"))?;
    Ok(answer.header().context("etcd's answer has no header")?.revision())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_reached_and_no_object_more() {
        let mut loaded = Loaded { seed: 1, objects: 0, bytes: 0, revision: 0 };
        let mut taken = 0;
        for batch in 0.. {
            match take(&mut loaded, Ok(make(1, batch)), 500_000) {
                Some(objects) => taken += objects.expect("it was given").len() as u64,
                None => break,
            }
        }
        assert_eq!(taken, loaded.objects);
        let last = object(1, loaded.objects - 1).bytes();
        assert!(loaded.bytes >= 500_000 && loaded.bytes - last < 500_000, "{loaded:?}");
    }
}
