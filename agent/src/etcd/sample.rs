//! Keys read back from a member, for a verification. Values are read one at a time: etcd takes values of any size that its
//! `--max-request-bytes` allows, so an answer with several of them could become very large.

use etcd_client::{GetOptions, KeyValue, KvClient};
use tokio::time::timeout;

use super::connection::{Connection, HASH_TIMEOUT};
use super::error::{EtcdError, describe, too_long};

/// A key is skipped if its value makes an answer larger than this, in bytes.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sampled {
    /// How many keys there were at that revision.
    pub keys: u64,
    /// How many were read one by one, and how many of those were as in the list.
    pub asked: u32,
    pub same: u32,
}

impl Connection {
    /// Counts the keys at `revision`, and reads the first `limit` of them one by one. Everything is read at that
    /// revision, so keys whose leases expire meanwhile are still there.
    ///
    /// # Errors
    /// The member does not answer.
    pub async fn sample(&mut self, revision: i64, limit: u32) -> Result<Sampled, EtcdError> {
        let client = self.client.kv_client().max_decoding_message_size(ANSWER_MAX);
        match timeout(HASH_TIMEOUT, sample(client, revision, limit)).await {
            Ok(Ok(sampled)) => Ok(sampled),
            Ok(Err(error)) => Err(self.failed("read keys back", describe(&error))),
            Err(_) => Err(self.failed("read keys back", too_long(HASH_TIMEOUT))),
        }
    }
}

async fn sample(mut client: KvClient, revision: i64, limit: u32) -> Result<Sampled, etcd_client::Error> {
    let from = || GetOptions::new().with_from_key().with_revision(revision);
    let count = client.get("\0", Some(from().with_count_only())).await?.count();
    let mut sampled = Sampled { keys: u64::try_from(count).unwrap_or(0), ..Sampled::default() };
    // In one request, since etcd counts all keys behind the first one for each.
    let first = client.get("\0", Some(from().with_keys_only().with_limit(i64::from(limit)))).await;
    let listed = match first {
        Ok(mut listed) => listed.take_kvs(),
        Err(error) if is_too_large(&error) => one_by_one(&mut client, from, limit).await?,
        Err(error) => return Err(error),
    };
    for listed in &listed {
        match client.get(listed.key(), Some(GetOptions::new().with_revision(revision))).await {
            Ok(alone) => {
                sampled.asked += 1;
                sampled.same += u32::from(alone.kvs().first().is_some_and(|alone| is_same(alone, listed)));
            }
            Err(error) if is_too_large(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sampled)
}

/// The list, if one answer cannot contain it: keys may be as large as a request to etcd.
async fn one_by_one(
    client: &mut KvClient,
    from: impl Fn() -> GetOptions,
    limit: u32,
) -> Result<Vec<KeyValue>, etcd_client::Error> {
    let (mut keys, mut next) = (Vec::new(), vec![0]);
    for _ in 0..limit {
        let mut listed = client.get(next, Some(from().with_keys_only().with_limit(1))).await?;
        let Some(listed) = listed.take_kvs().into_iter().next() else { break };
        // The first key behind it.
        next = [listed.key(), &[0]].concat();
        keys.push(listed);
    }
    Ok(keys)
}

/// The keys without their values.
fn is_same(alone: &KeyValue, listed: &KeyValue) -> bool {
    let told = |kv: &KeyValue| (kv.create_revision(), kv.mod_revision(), kv.version(), kv.lease());
    alone.key() == listed.key() && told(alone) == told(listed)
}

/// The answer was not read, since it has more than [`ANSWER_MAX`] bytes. (etcd itself uses the same code for a revision
/// that is compacted.)
fn is_too_large(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message().contains("message length too large"))
}
