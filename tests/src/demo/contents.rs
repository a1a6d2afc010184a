//! All that an etcd holds at one revision, as a digest, so that two can be compared.

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, GetOptions};
use sha2::{Digest, Sha256};

/// Keys in one answer: with values of at most 8 KiB it stays below gRPC's usual 4 MiB.
const PAGE: i64 = 200;

/// What was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Over every key in order: key, value, revisions, version, lease.
    pub sha256: String,
}

/// The newest revision of the etcd at `endpoint`.
pub async fn revision(endpoint: &str) -> Result<i64> {
    let answer = connect(endpoint).await?.get("/", None).await.with_context(|| format!("failed to read {endpoint}"))?;
    Ok(answer.header().context("etcd's answer has no header")?.revision())
}

/// Reads all keys and values of the etcd at `endpoint` as they were at `revision`.
pub async fn at(endpoint: &str, revision: i64) -> Result<Contents> {
    let mut client = connect(endpoint).await?;
    let mut contents = Contents { keys: 0, bytes: 0, sha256: String::new() };
    let mut hash = Sha256::new();
    let mut from = vec![0];
    loop {
        let page = GetOptions::new().with_from_key().with_limit(PAGE).with_revision(revision);
        let answer = client.get(from.clone(), Some(page)).await;
        let answer = answer.with_context(|| format!("failed to read {endpoint} at revision {revision}"))?;
        for kv in answer.kvs() {
            ensure!(kv.mod_revision() <= revision, "{endpoint} gave a key of revision {}", kv.mod_revision());
            for part in [kv.key(), kv.value()] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
                contents.bytes += part.len() as u64;
            }
            for number in [kv.create_revision(), kv.mod_revision(), kv.version(), kv.lease()] {
                hash.update(number.to_be_bytes());
            }
            contents.keys += 1;
        }
        match answer.kvs().last() {
            Some(last) if answer.more() => from = [last.key(), &[0]].concat(),
            _ => break,
        }
    }
    contents.sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(contents)
}

async fn connect(endpoint: &str) -> Result<Client> {
    Client::connect([endpoint], None).await.with_context(|| format!("failed to connect to etcd at {endpoint}"))
}
