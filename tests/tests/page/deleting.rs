//! What is deleted is gone, and what must stay stays.

use anyhow::{Result, ensure};
use async_nats::jetstream;
use backstay_tests::{Stand, eventually};
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
        (&[][..], "delete it with --force"),
        (&["--force"], "pass --yes"),
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
    ensure!(usage.status.code() == Some(2) && usage.stderr.contains("can only be used with clusters"), "{usage:?}");
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

/// Its entry goes behind the coordinator's back.
async fn lose(stand: &Stand, cluster: &str) -> Result<()> {
    let store = jetstream::new(stand.nats.client().await?).get_key_value("backstay").await?;
    Ok(store.purge(format!("cluster.{cluster}")).await?)
}

#[tokio::test]
async fn a_deleted_cluster_with_backups_does_not_come_back_with_the_coordinator() -> Result<()> {
    // In the order of their names: when this one is back, the other has been looked at.
    const LOST: &str = "zz-lost";
    let mut stand = start(stand().cluster(CLUSTER, 1).cluster(LOST, 1).local()).await?;
    for cluster in [CLUSTER, LOST] {
        back_up(&stand, cluster).await?;
    }
    let uuid = resources(&stand, &["clusteruuid", CLUSTER]).await?[0]["spec"]["uuid"].clone();
    stand.clusters.iter_mut().for_each(|cluster| cluster.agents[0].daemon.kill9());
    eventually(SOON, || async { stand.ctl(&["delete", "cluster", CLUSTER, "--yes"]).await?.ok() }).await?;
    stand.coordinators[0].daemon.kill9();
    lose(&stand, LOST).await?;
    stand.coordinators[0].daemon.start_and_wait(SOON).await?;
    eventually(SOON, || async { resources(&stand, &["cluster", LOST]).await }).await?;
    let known = resources(&stand, &["cluster"]).await?;
    ensure!(known.len() == 1, "the deleted one is back: {known:?}");

    // Whoever applies it has it back, with its backups; and it stays, whatever was noted when it was deleted.
    let yaml = format!("metadata: {{type: Clusters.omni.sidero.dev, id: {CLUSTER}}}\nspec: {{}}\n");
    stand.apply(&yaml).await?.ok()?;
    let back = async |stand: &Stand| {
        eventually(SOON, || async {
            let now = resources(stand, &["clusteruuid", CLUSTER]).await?[0]["spec"]["uuid"].clone();
            ensure!(now == uuid, "the UUID is {now}, not {uuid}");
            Ok(())
        })
        .await
    };
    back(&stand).await?;
    stand.coordinators[0].daemon.kill9();
    lose(&stand, CLUSTER).await?;
    stand.coordinators[0].daemon.start_and_wait(SOON).await?;
    back(&stand).await?;

    // Where NATS lost its disk nobody knows that it was deleted.
    eventually(SOON, || async { stand.ctl(&["delete", "cluster", CLUSTER, "--yes"]).await?.ok() }).await?;
    stand.nats.wipe().await?;
    back(&stand).await
}

#[tokio::test]
async fn agents_that_register_nothing_keep_no_cluster_from_being_deleted() -> Result<()> {
    let builder = stand().cluster(CLUSTER, 1).local().coordinator_variable("BACKSTAY_AUTO_REGISTER_CLUSTERS", "false");
    let stand = builder.start().await?;
    let yaml = format!("metadata: {{type: Clusters.omni.sidero.dev, id: {CLUSTER}}}\nspec: {{}}\n");
    eventually(SOON, || async { stand.apply(&yaml).await?.ok() }).await?;
    eventually(SOON, || async {
        ensure!(resources(&stand, &["agents"]).await?.len() == 1, "its agent is not there");
        Ok(())
    })
    .await?;
    let said = stand.ctl(&["delete", "cluster", CLUSTER, "--yes"]).await?.ok()?;
    ensure!(said.contains("unless the coordinator's settings have auto_register_clusters = false"), "{said}");
    ensure!(resources(&stand, &["cluster"]).await?.is_empty(), "it is still there");
    ensure!(resources(&stand, &["agents"]).await?.len() == 1, "its agent is connected all the same");
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
