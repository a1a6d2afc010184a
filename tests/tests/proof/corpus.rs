//! The corpus of `snapshot/tests/corpus`: small snapshots of a real etcd, for the tests that run without one. It is
//! written anew by `BACKSTAY_TEST_WRITE_CORPUS=1 cargo test -p backstay-tests --test proof corpus`.

use std::path::Path;

use anyhow::{Context, Result};
use backstay_tests::Etcd;
use etcd_client::{CompactionOptions, DeleteOptions};

use crate::look::{Snapshot, agrees, revision};

/// zstd's level: the corpus is small, and written once.
const LEVEL: i32 = 19;

async fn write(name: &str, etcd: &Etcd) -> Result<()> {
    let mut client = etcd.client().await?;
    let at = revision(&mut client).await?;
    agrees(&etcd.members[0], &etcd.members[0], at).await?;
    let snapshot = Snapshot::of(&mut client).await?;
    if std::env::var_os("BACKSTAY_TEST_WRITE_CORPUS").is_some() {
        let answer = client.hash_kv(at).await?;
        let name = format!("{name}.{at}.{}.{:08x}.db.zst", answer.compact_version(), answer.hash());
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../snapshot/tests/corpus");
        std::fs::create_dir_all(&folder)?;
        let packed = zstd::encode_all(snapshot.database(), LEVEL)?;
        std::fs::write(folder.join(&name), packed).with_context(|| format!("failed to write {name}"))?;
    }
    Ok(())
}

/// Each stage of a database's life is one file; its name says the revision, and HashKV there with its compact revision.
#[tokio::test]
async fn corpus() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    let mut client = etcd.client().await?;
    write("empty", &etcd).await?;
    etcd.put_many("a/", 40, 20).await?;
    write("inline", &etcd).await?;
    etcd.put_many("a/", 400, 40).await?;
    client.delete("a/000001", Some(DeleteOptions::new().with_prefix())).await?;
    client.lease_grant(3600, None).await?;
    client.role_add("a-role").await?;
    write("tombstones", &etcd).await?;
    let now = revision(&mut client).await?;
    client.compact(now - 1, Some(CompactionOptions::new().with_physical())).await?;
    client.put("after", "compaction", None).await?;
    write("compacted", &etcd).await?;
    etcd.put_many("large/", 6, 9000).await?;
    write("overflow", &etcd).await?;
    client.defragment().await?;
    write("defragmented", &etcd).await
}
