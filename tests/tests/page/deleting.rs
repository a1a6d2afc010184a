//! What is deleted is gone, and what must stay stays.

use anyhow::{Result, ensure};
use backstay_tests::eventually;
use serde_json::Value;

use crate::world::{CLUSTER, SOON, back_up, configured, listed, resources, stand, start};

#[tokio::test]
async fn a_deleted_cluster_loses_its_settings_and_keeps_its_backups() -> Result<()> {
    let stand = configured().await?;
    let before = back_up(&stand, CLUSTER).await?;
    let uuid = resources(&stand, &["clusteruuid", CLUSTER]).await?[0]["spec"]["uuid"].clone();
    stand.configure_backups(CLUSTER, "{interval: {seconds: 3600, nanos: 0}}").await?;
    // Nobody can be asked; and its agent would bring it back without the schedule.
    for (arguments, says) in [
        (&[][..], "say --yes"),
        (&["--dry-run"], "1 agent of cluster \"talos-default\" is connected"),
        (&["--yes"], "delete it with --force"),
        (&["--force", "--dry-run"], "destroyed (dry run)"),
    ] {
        let said = stand.ctl(&[&["delete", "cluster", CLUSTER], arguments].concat()).await?;
        ensure!(said.stderr.contains(says), "{arguments:?}: {said:?}");
        let cluster = resources(&stand, &["cluster", CLUSTER]).await?.remove(0);
        ensure!(cluster["spec"]["backupconfiguration"] != Value::Null, "{arguments:?} deleted it: {cluster}");
    }
    let usage = stand.ctl(&["delete", "machineset", "x", "--force"]).await?;
    ensure!(usage.status.code() == Some(2) && usage.stderr.contains("for clusters alone"), "{usage:?}");
    let forced = stand.ctl(&["delete", "cluster", CLUSTER, "--force", "--yes"]).await?.ok()?;
    let kept = format!("its backups in the store, under {}/", uuid.as_str().unwrap_or_default());
    ensure!(forced.contains("a backup every 1h0m0s") && forced.contains(&kept), "{forced}");

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
    let refused = stand.ctl(&["delete", "cluster", "nobody", "--yes"]).await?;
    ensure!(!refused.status.success(), "nobody's cluster was deleted");
    ensure!(refused.stderr.contains("Clusters.omni.sidero.dev(default/nobody) doesn't exist"), "{}", refused.stderr);
    Ok(())
}

#[tokio::test]
async fn a_cluster_without_agents_is_deleted_and_stays_away() -> Result<()> {
    let mut stand = start(stand().cluster(CLUSTER, 1).local()).await?;
    stand.clusters[0].agents[0].daemon.kill9();
    eventually(SOON, || async {
        stand.ctl(&["delete", "cluster", CLUSTER, "--yes"]).await?.ok()?;
        Ok(())
    })
    .await?;
    ensure!(resources(&stand, &["cluster"]).await?.is_empty(), "it is still there");
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
