//! What is deleted is gone, and what must stay stays.

use anyhow::{Result, ensure};
use backstay_tests::eventually;
use serde_json::Value;

use crate::world::{CLUSTER, SOON, back_up, configured, listed, resources};

#[tokio::test]
async fn a_deleted_cluster_loses_its_settings_and_keeps_its_backups() -> Result<()> {
    let stand = configured().await?;
    let before = back_up(&stand, CLUSTER).await?;
    let uuid = resources(&stand, &["clusteruuid", CLUSTER]).await?[0]["spec"]["uuid"].clone();
    stand.configure_backups(CLUSTER, "{interval: {seconds: 3600, nanos: 0}}").await?;
    stand.ctl(&["delete", "cluster", CLUSTER]).await?.ok()?;

    // Its agent is still there, so it comes back: as a cluster that nobody has configured, and with its own UUID.
    eventually(SOON, || async {
        let cluster = resources(&stand, &["cluster", CLUSTER]).await?.remove(0);
        ensure!(cluster["spec"]["backupconfiguration"] == Value::Null, "it is the old one: {cluster}");
        let now = resources(&stand, &["clusteruuid", CLUSTER]).await?[0]["spec"]["uuid"].clone();
        ensure!(now == uuid, "the UUID is {now}, not {uuid}");
        Ok(())
    })
    .await?;
    assert_eq!(listed(&stand, CLUSTER).await?, before);
    let refused = stand.ctl(&["delete", "cluster", "nobody"]).await?;
    ensure!(!refused.status.success(), "nobody's cluster was deleted");
    ensure!(refused.stderr.contains("Clusters.omni.sidero.dev(default/nobody) doesn't exist"), "{}", refused.stderr);
    Ok(())
}

#[tokio::test]
async fn a_manual_backup_can_be_deleted_and_made_again() -> Result<()> {
    let stand = configured().await?;
    let first = back_up(&stand, CLUSTER).await?;
    stand.ctl(&["delete", "etcdmanualbackup", CLUSTER]).await?.ok()?;
    ensure!(resources(&stand, &["etcdmanualbackup"]).await?.is_empty(), "it is gone");
    assert_eq!(listed(&stand, CLUSTER).await?, first, "the backup is not");
    assert_eq!(back_up(&stand, CLUSTER).await?.len(), 2);
    Ok(())
}
