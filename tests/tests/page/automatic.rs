//! Automatic backups: the first at once, the next by the interval, over restarts of everything.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use backstay_tests::{Stand, eventually};

use crate::terminal::Terminal;
use crate::world::{
    CLUSTER, Listed, SOON, at_least, back_up, configured, leads, listed, manifest, now, only_whole_backups, resources,
    stand, start, succeeds,
};

/// Of most schedules here, in seconds.
const INTERVAL: i64 = 3;

fn every(seconds: i64) -> String {
    format!("{{interval: {{seconds: {seconds}, nanos: 0}}}}")
}

#[tokio::test]
async fn a_template_takes_the_first_backup_at_once() -> Result<()> {
    let stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    let template = format!(
        "cat <<EOF > etcd-backup.yaml\nkind: Cluster\nname: {CLUSTER}\nkubernetes:\n  version: v1.28.2\ntalos:\n  \
         version: v1.5.5\nfeatures:\n  backupConfiguration:\n    interval: 1h\n---\nkind: ControlPlane\nmachines:\n  \
         - {}\nEOF",
        stand.cluster(CLUSTER).agents[0].machine
    );
    terminal.silent(&template).await?;
    terminal.prints("backstayctl cluster template -f etcd-backup.yaml sync").await?;
    let first = at_least(&stand, CLUSTER, 1).await?;
    assert_eq!(manifest(&stand, &first[0]).await?["trigger"], "interval");
    succeeds(&stand, CLUSTER).await?;
    // Asking for the same again, or for another long interval, takes none.
    terminal.prints("backstayctl cluster template -f etcd-backup.yaml sync").await?;
    stand.configure_backups(CLUSTER, &every(7200)).await?;
    assert_eq!(back_up(&stand, CLUSTER).await?.len(), 2, "the first one, and the one that was asked for now");
    Ok(())
}

#[tokio::test]
async fn where_a_backup_exists_enabling_waits_for_the_interval() -> Result<()> {
    let stand = configured().await?;
    back_up(&stand, CLUSTER).await?;
    stand.configure_backups(CLUSTER, &every(3600)).await?;
    assert_eq!(back_up(&stand, CLUSTER).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn before_storage_is_configured_nothing_is_lost() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1)).await?;
    stand.configure_backups(CLUSTER, &every(3600)).await?;
    stand.configure_s3().await?;
    at_least(&stand, CLUSTER, 1).await?;
    Ok(())
}

#[tokio::test]
async fn disabling_stops_it_and_enabling_goes_on() -> Result<()> {
    let stand = configured().await?;
    for (number, off) in
        (1..).zip(["null", "{interval: {seconds: 2, nanos: 0}, enabled: false}", "{interval: {seconds: 0, nanos: 0}}"])
    {
        let before = listed(&stand, CLUSTER).await?.len();
        stand.configure_backups(CLUSTER, &every(2)).await?;
        at_least(&stand, CLUSTER, before + 2).await?;
        stand.configure_backups(CLUSTER, off).await?;
        // One may still be under way. From its end on, a manual backup is all that comes in two intervals.
        succeeds(&stand, CLUSTER).await?;
        let stopped = listed(&stand, CLUSTER).await?.len();
        let newest = back_up(&stand, CLUSTER).await?;
        let later = eventually(SOON, || async {
            ensure!(now() > newest[0].seconds + 5, "two intervals have not passed");
            listed(&stand, CLUSTER).await
        });
        assert_eq!(later.await?.len(), stopped + 1, "case {number}: {off}");
    }
    Ok(())
}

#[tokio::test]
async fn an_enabled_interval_of_a_cluster_that_nobody_knows_waits_for_its_agent() -> Result<()> {
    let mut stand = configured().await?;
    stand.configure_backups("later", &every(3600)).await?;
    let url = stand.cluster(CLUSTER).etcd.members[0].client_url.clone();
    let mut agent = stand.prepare_agent("later", "later-m1", &url)?;
    agent.daemon.start_and_wait(SOON).await?;
    at_least(&stand, "later", 1).await?;
    stand.clusters[0].agents.push(agent);
    assert_eq!(resources(&stand, &["clusteruuid"]).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn restarts_of_anything_repeat_no_backup_and_lose_none() -> Result<()> {
    let mut stand = configured().await?;
    stand.configure_backups(CLUSTER, &every(INTERVAL)).await?;
    at_least(&stand, CLUSTER, 2).await?;
    for part in ["coordinator", "agent", "nats-server", "etcd", "coordinator and agent"] {
        restart(&mut stand, part).await.with_context(|| format!("after {part} was killed"))?;
        let before = listed(&stand, CLUSTER).await?.len();
        at_least(&stand, CLUSTER, before + 2).await.with_context(|| format!("after {part} was restarted"))?;
    }
    stand.configure_backups(CLUSTER, "null").await?;
    succeeds(&stand, CLUSTER).await?;
    let backups = back_up(&stand, CLUSTER).await?;
    each_slot_once(&stand, &backups).await?;
    assert_eq!(only_whole_backups(&stand).await?, backups.len());
    Ok(())
}

async fn restart(stand: &mut Stand, part: &str) -> Result<()> {
    match part {
        "coordinator" => stand.coordinators[0].daemon.start_and_wait(SOON).await?,
        "agent" => stand.cluster_mut(CLUSTER).agents[0].daemon.start_and_wait(SOON).await?,
        "nats-server" => stand.nats.restart().await?,
        "etcd" => stand.cluster_mut(CLUSTER).etcd.members[0].restart().await?,
        _ => {
            stand.coordinators[0].daemon.kill9();
            stand.cluster_mut(CLUSTER).agents[0].daemon.start_and_wait(SOON).await?;
            stand.coordinators[0].daemon.start_and_wait(SOON).await?;
        }
    }
    leads(stand).await
}

/// Automatic backups lie at least an interval apart, and no slot has two.
async fn each_slot_once(stand: &Stand, backups: &[Listed]) -> Result<()> {
    let (mut slots, mut automatic) = (BTreeSet::new(), Vec::new());
    for backup in backups {
        let manifest = manifest(stand, backup).await?;
        let slot = manifest["slot"].as_str().context("a manifest names its slot")?.to_owned();
        ensure!(slots.insert(slot), "{} has another backup's slot", backup.id);
        if manifest["trigger"] == "interval" {
            automatic.push(backup.seconds);
        }
    }
    // Newest first.
    let gaps: Vec<i64> = automatic.windows(2).map(|pair| pair[0] - pair[1]).collect();
    ensure!(gaps.iter().all(|gap| *gap >= INTERVAL), "a backup was repeated: {gaps:?} seconds lie between them");
    Ok(())
}

#[tokio::test]
async fn a_restart_within_the_interval_takes_no_backup() -> Result<()> {
    let mut stand = configured().await?;
    stand.configure_backups(CLUSTER, &every(3600)).await?;
    at_least(&stand, CLUSTER, 1).await?;
    succeeds(&stand, CLUSTER).await?;
    for part in ["coordinator", "agent", "nats-server", "etcd"] {
        restart(&mut stand, part).await?;
    }
    stand.nats.wipe().await?;
    // Whoever asks while the lease is being lost is told so, and asks again.
    eventually(SOON, || stand.configure_s3()).await.context("after NATS lost its disk")?;
    let listed = at_least(&stand, CLUSTER, 1).await?;
    assert_eq!(listed.len(), 1, "NATS lost its disk, the store lost nothing");
    assert_eq!(back_up(&stand, CLUSTER).await?.len(), 2, "the first one, and the one that was asked for now");
    Ok(())
}
