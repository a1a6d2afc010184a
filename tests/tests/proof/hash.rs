//! HashKV where members are not in the same state: one is compacted further, was restarted, or is behind.

use anyhow::{Context, Result, ensure};
use backstay_snapshot::inspect::Unknown;
use backstay_tests::Etcd;
use etcd_client::{CompactionOptions, DeleteOptions};

use crate::look::{Snapshot, agrees, revision};

#[tokio::test]
async fn a_member_that_is_compacted_further_than_the_file() -> Result<()> {
    let etcd = Etcd::start(3).await?;
    let mut client = etcd.client().await?;
    etcd.put_many("a/", 600, 50).await?;
    etcd.put_many("a/", 300, 60).await?;
    client.delete("a/000001", Some(DeleteOptions::new().with_prefix())).await?;
    etcd.put_many("a/", 200, 70).await?;
    let at = revision(&mut client).await?;
    let inspection = Snapshot::of_member(&etcd.members[0]).await?.looked_at(Some(at))?;
    for compact in [2, at / 2, at - 1] {
        client.compact(compact, Some(CompactionOptions::new().with_physical())).await?;
        for member in &etcd.members {
            let mut asked = member.client().await?;
            revision(&mut asked).await?;
            let answer = asked.hash_kv(at).await?;
            ensure!(inspection.hash_kv(answer.compact_version())?.is(answer.hash()), "{answer:?} {inspection:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_compacted_further_than_the_member_is_no_difference() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    let (member, mut client) = (&etcd.members[0], etcd.client().await?);
    etcd.put_many("a/", 300, 50).await?;
    let at = revision(&mut client).await?;
    let before = client.hash_kv(at).await?;
    etcd.put_many("a/", 100, 50).await?;
    client.compact(at - 1, Some(CompactionOptions::new().with_physical())).await?;
    let inspection = Snapshot::of_member(member).await?.looked_at(Some(at))?;
    let unknown = inspection.hash_kv(before.compact_version());
    ensure!(unknown == Err(Unknown::CompactedFurther { file: at - 1, member: -1 }), "{unknown:?}");
    agrees(member, member, at).await?;
    Ok(())
}

#[tokio::test]
async fn a_member_that_was_restarted() -> Result<()> {
    let mut etcd = Etcd::start(3).await?;
    etcd.put_many("a/", 500, 50).await?;
    etcd.put_many("a/", 500, 50).await?;
    let at = revision(&mut etcd.client().await?).await?;
    etcd.client().await?.compact(at - 3, Some(CompactionOptions::new().with_physical())).await?;
    // It is killed once it has done all this: releases before 3.5.3 may lose data where they die in the middle.
    revision(&mut etcd.members[1].client().await?).await?;
    etcd.members[1].restart().await?;
    agrees(&etcd.members[0], &etcd.members[1], at).await?;
    agrees(&etcd.members[1], &etcd.members[2], at).await?;
    Ok(())
}

#[tokio::test]
async fn a_changed_byte_of_a_value_shows_in_no_status_but_in_the_hash() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    etcd.put_many("a/", 500, 200).await?;
    let mut client = etcd.client().await?;
    let at = revision(&mut client).await?;
    let snapshot = Snapshot::of(&mut client).await?;
    let answer = client.hash_kv(at).await?;
    let mut database = snapshot.database().to_vec();
    let needle = b"a/00000123";
    let place = database.windows(needle.len()).rposition(|w| w == needle).context("the key is there")?;
    database[place + 40] ^= 1;
    let inspection = crate::look::look(&database, Some(at))?;
    ensure!(!inspection.hash_kv(answer.compact_version())?.is(answer.hash()), "{inspection:?}");
    Ok(())
}
