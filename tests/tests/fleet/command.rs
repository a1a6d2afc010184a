//! `backstayctl restore CLUSTER`: the plan, the refusals, and the good end.

use anyhow::{Context, Result, ensure};

use super::ground::{BUMP, CLUSTER, Ground, restorable};

#[tokio::test]
async fn three_members_go_back_to_the_backup() -> Result<()> {
    let ground = Ground::start(restorable(3)).await?;
    let printed = ground.restore(&[]).await?.ok()?;
    for part in
        ["Restore of cluster one", "SET ASIDE AS", "before-restore-", "one is restored", "3 member(s) serve and agree"]
    {
        ensure!(printed.contains(part), "no {part:?} in {printed}");
    }
    ground.is_restored().await?;
    ground.is_clean()?;
    let mut client = ground.client().await?;
    let revision = client.get("key", None).await?.header().context("no header")?.revision();
    ensure!(revision >= ground.revision + BUMP, "the revision is {revision}");
    ground.watcher_sees_a_compaction().await?;
    // The cluster lives: it takes writes and backups, and nobody is warned of a cluster id that was meant to change.
    ground.write_later().await?;
    let mut ground = ground;
    ground.must_back_up(CLUSTER).await?;
    let log = ground.coordinators[0].daemon.log();
    ensure!(!log.contains("etcd's cluster id was") && !log.contains("two etcd clusters"), "{log}");
    Ok(())
}

#[tokio::test]
async fn one_member_alone() -> Result<()> {
    let ground = Ground::start(restorable(1)).await?;
    ground.restore(&["--bump-revision", "5000"]).await?.ok()?;
    ground.is_restored().await
}
