//! Listing: from the store, newest first, all of it.

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::primitives::ByteStream;
use backstay_tests::Stand;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use crate::terminal::Terminal;
use crate::world::{CLUSTER, Listed, back_up, configured, listed, object};

/// More than S3 gives in one page, twice over.
const MANY: i64 = 1_150;
/// Requests at a time.
const AT_ONCE: usize = 8;

#[tokio::test]
async fn the_cluster_must_be_given() -> Result<()> {
    let stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    let expected = "Error: cluster must be given: --selector omni.sidero.dev/cluster=NAME";
    assert_eq!(terminal.refused("backstayctl get etcdbackup").await?, expected);
    let other = "backstayctl get etcdbackup --selector omni.sidero.dev/cluster-uuid=x";
    assert_eq!(terminal.refused(other).await?, expected);
    let unknown = "backstayctl get etcdbackup --selector omni.sidero.dev/cluster=nowhere";
    assert_eq!(terminal.refused(unknown).await?, "Error: cluster \"nowhere\" does not exist");
    let empty = format!("backstayctl get etcdbackup --selector omni.sidero.dev/cluster={CLUSTER}");
    let header = "NAMESPACE   TYPE   ID   VERSION   CREATED AT   SNAPSHOT\n";
    assert_eq!(terminal.prints(&empty).await?, header);
    Ok(())
}

#[tokio::test]
async fn many_backups_are_all_listed_newest_first() -> Result<()> {
    let stand = configured().await?;
    let real = back_up(&stand, CLUSTER).await?.remove(0);
    copy_into_the_past(&stand, &real, MANY).await?;
    strangers(&stand, &real).await?;
    let all = listed(&stand, CLUSTER).await?;
    let expected: Vec<i64> = (0..=MANY).map(|n| real.seconds - n * 3600).collect();
    assert_eq!(all.len(), expected.len());
    assert_eq!(all.iter().map(|backup| backup.seconds).collect::<Vec<_>>(), expected);
    ensure!(all.iter().all(|backup| backup.size == real.size), "sizes differ from the objects'");

    let terminal = Terminal::new(&stand)?;
    let list = format!("backstayctl get etcdbackup --selector omni.sidero.dev/cluster={CLUSTER}");
    let table = terminal.prints(&list).await?;
    assert_eq!(table.lines().count(), expected.len() + 1);
    let oldest = &all[all.len() - 1];
    let one = terminal.prints(&format!("backstayctl get etcdbackup {} -o yaml", oldest.id)).await?;
    ensure!(one.contains(&format!("  snapshot: {}\n", oldest.snapshot)), "{one}");
    // The oldest of a page must not pass for the latest: nothing is due.
    assert_eq!(back_up(&stand, CLUSTER).await?.len(), expected.len() + 1);
    Ok(())
}

/// The same backup under `count` names, an hour apart.
async fn copy_into_the_past(stand: &Stand, real: &Listed, count: i64) -> Result<()> {
    let manifest: Value = serde_json::from_slice(&object(stand, &real.manifest_key()).await?)?;
    let sealed = object(stand, &real.key()).await?;
    stream::iter(1..=count)
        .map(|n| {
            let snapshot = format!("{:016X}.snapshot", -(real.seconds - n * 3600));
            let mut manifest = manifest.clone();
            manifest["snapshot"] = snapshot.clone().into();
            let copy = Listed { snapshot, ..real.clone() };
            let sealed = sealed.clone();
            async move {
                put(stand, &copy.key(), sealed).await?;
                put(stand, &copy.manifest_key(), manifest.to_string().into_bytes()).await
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

/// What is no backup of this cluster: half a pair, a foreign name, another folder.
async fn strangers(stand: &Stand, real: &Listed) -> Result<()> {
    let lone = format!("{}/{:016X}", real.uuid, -(real.seconds - 7));
    let names = [
        format!("{lone}.snapshot"),
        format!("{}/{:016X}.manifest.json", real.uuid, -(real.seconds - 8)),
        format!("{}/notes.txt", real.uuid),
        format!("{}/{}.bak", real.uuid, real.snapshot),
        format!("elsewhere/{}", real.snapshot),
    ];
    for name in names {
        put(stand, &name, b"stranger".to_vec()).await?;
    }
    Ok(())
}

async fn put(stand: &Stand, key: &str, body: Vec<u8>) -> Result<()> {
    let request = stand.s3.client().put_object().bucket(stand.s3.bucket()).key(key).body(ByteStream::from(body));
    request.send().await.with_context(|| format!("failed to put {key}"))?;
    Ok(())
}
