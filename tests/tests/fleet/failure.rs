//! What fails before the switch changes nothing; what fails after it is put back; what is refused is not begun.

use anyhow::{Context, Result, ensure};
use backstay_tests::{Sabotage, eventually};

use super::LONG;
use super::ground::{CLUSTER, Ground, restorable};

/// The clocks of a restore, so that what does not come is missed soon.
fn impatient(members: usize) -> backstay_tests::StandBuilder {
    restorable(members)
        .coordinator_variable("BACKSTAY_RESTORE__SWITCH_TIMEOUT", "15s")
        .coordinator_variable("BACKSTAY_RESTORE__SILENCE", "5s")
}

#[tokio::test]
async fn a_machine_that_cannot_prepare_changes_nothing_on_any() -> Result<()> {
    let ground = Ground::start(impatient(3)).await?;
    // One machine's etcd looks as if it kept its log elsewhere.
    let member = &ground.cluster(CLUSTER).etcd.members[1];
    let wal = member.data_dir.join("member/wal");
    let hidden = member.data_dir.join("member/elsewhere");
    std::fs::rename(&wal, &hidden)?;
    let output = ground.restore(&[]).await?;
    std::fs::rename(&hidden, &wal)?;
    ensure!(output.stderr.contains("--wal-dir") && output.stderr.contains("(m2)"), "{output:?}");
    ensure!(output.stderr.contains("the cluster is as it was before"), "{output:?}");
    for supervisor in &ground.cluster(CLUSTER).supervisors {
        ensure!(supervisor.asked().is_empty(), "etcd was stopped or started");
    }
    ground.is_as_before().await?;
    ground.is_clean()?;
    ground.folders("before-restore", false)
}

#[tokio::test]
async fn a_data_folder_that_is_not_etcds_is_refused_while_etcd_runs() -> Result<()> {
    let typo = tempfile::tempdir()?;
    let data_dir = typo.path().join("ectd").display().to_string();
    let ground = Ground::start(impatient(1).agent_variable("BACKSTAY_RESTORE__DATA_DIR", &data_dir)).await?;
    let output = ground.restore(&[]).await?;
    ensure!(output.stderr.contains("data_dir in [restore] is not its data folder"), "{output:?}");
    ensure!(ground.cluster(CLUSTER).supervisors[0].asked().is_empty(), "etcd was stopped or started");
    ground.is_as_before().await
}

async fn put_back(sabotage: Sabotage, reason: &str) -> Result<()> {
    let mut ground = Ground::start(impatient(3)).await?;
    ground.cluster(CLUSTER).supervisors[2].sabotage(sabotage);
    let output = ground.restore(&[]).await?;
    ensure!(output.stderr.contains(reason), "{output:?}");
    ensure!(ground.ended().await? == "failed");
    ground.is_as_before().await?;
    ground.is_clean()?;
    ground.folders("before-restore", false)?;
    // All is as before: it takes backups, and can be restored.
    ground.must_back_up(CLUSTER).await?;
    ground.restore(&[]).await?.ok()?;
    ground.is_restored().await
}

#[tokio::test]
async fn an_etcd_that_does_not_start_puts_all_machines_back() -> Result<()> {
    put_back(Sabotage::FailsToStart, "it was told to fail to start").await
}

#[tokio::test]
async fn an_etcd_that_only_seems_to_start_puts_all_machines_back() -> Result<()> {
    put_back(Sabotage::StartsNothing, "did not come up in time").await
}

#[tokio::test]
async fn an_etcd_that_cannot_be_stopped_puts_all_machines_back() -> Result<()> {
    put_back(Sabotage::FailsToStop, "it was told to fail to stop").await
}

#[tokio::test]
async fn a_cluster_whose_members_are_all_dead_is_restored() -> Result<()> {
    let ground = Ground::start(restorable(3)).await?;
    // The member list is known to each agent before its etcd dies.
    eventually(LONG, || async {
        for agent in &ground.cluster(CLUSTER).agents {
            ensure!(agent.state_dir.join("members").exists(), "{} does not know its member", agent.machine);
        }
        Ok(())
    })
    .await?;
    for (member, supervisor) in ground.cluster(CLUSTER).etcd.members.iter().zip(&ground.cluster(CLUSTER).supervisors) {
        supervisor.kill();
        std::fs::remove_dir_all(member.data_dir.join("member")).context("the data is there")?;
    }
    ground.restore(&[]).await?.ok()?;
    ground.is_restored().await
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_all_reasons_before_anything_is_touched() -> Result<()> {
    let mut ground = Ground::start(restorable(3)).await?;
    let snapshot = ground.snapshot.clone();
    let unasked = ground.ctl(&["restore", CLUSTER, "--snapshot", &snapshot]).await?;
    ensure!(unasked.stderr.contains("say --yes"), "{unasked:?}");
    ground.agent(CLUSTER, 1).daemon.kill9();
    let machine = ground.cluster(CLUSTER).agents[1].machine.to_string();
    eventually(LONG, || async {
        let connected = ground.ctl(&["agents", CLUSTER]).await?.ok()?;
        ensure!(!connected.contains(&machine), "{connected}");
        Ok(())
    })
    .await?;
    let refused = ground.restore(&[]).await?;
    ensure!(refused.stderr.contains("no agent of member m2 is connected"), "{refused:?}");
    ensure!(ground.spec().await?.is_null(), "a restore was begun");
    ground.is_as_before().await
}

#[tokio::test]
async fn a_backup_of_another_cluster_needs_its_name_in_so_many_words() -> Result<()> {
    let mut ground = Ground::start(restorable(1).cluster("other", 1)).await?;
    ground.cluster("other").etcd.put_many("foreign", 10, 10).await?;
    ground.must_back_up("other").await?;
    let uuid = ground.uuid("other").await?;
    let listed = ground.get(&["etcdbackup", "--selector", "omni.sidero.dev/cluster=other"]).await?;
    let snapshot = listed[0]["spec"]["snapshot"].as_str().context("no snapshot")?;
    let yaml = |named: &str| {
        format!(
            "metadata:\n  namespace: default\n  type: Restores.backstay.dev\n  id: {CLUSTER}\nspec:\n  \
             clusteruuid: {uuid}\n  snapshot: {snapshot}\n  dataofanothercluster: \"{named}\"\n"
        )
    };
    let refused = ground.apply(&yaml("")).await?;
    ensure!(refused.stderr.contains("of another cluster, other"), "{refused:?}");
    let refused = ground.apply(&yaml("third")).await?;
    ensure!(refused.stderr.contains("is of cluster other, not of third"), "{refused:?}");
    ground.is_as_before().await?;
    let forced = ["restore", CLUSTER, "--snapshot", "latest", "--data-of-another-cluster", "other", "--yes"];
    ground.ctl(&forced).await?.ok()?;
    let mut client = ground.client().await?;
    let found = client.get("foreign00000009", None).await?;
    ensure!(found.kvs().len() == 1, "the other cluster's keys are not there");
    Ok(())
}
