//! What fails before the switch changes nothing; what fails after it is put back; what is refused is not begun.

use anyhow::{Context, Result, ensure};
use backstay_tests::{Sabotage, eventually};

use super::LONG;
use super::ground::{CLUSTER, Ground, restorable};
use super::rig::once_heard;

const SWITCH_TIMEOUT: &str = "BACKSTAY_RESTORE__SWITCH_TIMEOUT";

/// With the clocks that people have: what fails, or ends at once, is missed long before they run out.
fn patient(members: usize) -> backstay_tests::StandBuilder {
    restorable(members).coordinator_variable(SWITCH_TIMEOUT, "10m")
}

/// With a clock that runs out before an agent itself misses an etcd that was not started.
fn impatient(members: usize) -> backstay_tests::StandBuilder {
    restorable(members).coordinator_variable(SWITCH_TIMEOUT, "15s")
}

#[tokio::test]
async fn a_machine_that_cannot_prepare_changes_nothing_on_any() -> Result<()> {
    let ground = Ground::start(patient(3)).await?;
    // One machine's etcd looks as if it kept its log elsewhere.
    let member = &ground.cluster(CLUSTER).etcd.members[1];
    let wal = member.data_dir.join("member/wal");
    let hidden = member.data_dir.join("member/elsewhere");
    std::fs::rename(&wal, &hidden)?;
    let output = ground.restore(&[]).await?;
    std::fs::rename(&hidden, &wal)?;
    ensure!(output.stderr.contains("--wal-dir") && output.stderr.contains("machine m2: "), "{output:?}");
    ensure!(output.stderr.contains("the cluster is back as it was before"), "{output:?}");
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
    let ground = Ground::start(patient(1).agent_variable("BACKSTAY_RESTORE__DATA_DIR", &data_dir)).await?;
    let output = ground.restore(&[]).await?;
    ensure!(output.stderr.contains("data_dir in [restore] is not its data directory"), "{output:?}");
    ensure!(ground.cluster(CLUSTER).supervisors[0].asked().is_empty(), "etcd was stopped or started");
    ground.is_as_before().await
}

async fn put_back(builder: backstay_tests::StandBuilder, sabotage: Sabotage, reason: &str) -> Result<()> {
    let mut ground = Ground::start(builder).await?;
    ground.cluster(CLUSTER).supervisors[2].sabotage(sabotage);
    let output = ground.restore(&[]).await?;
    ensure!(output.stderr.contains(reason), "{output:?}");
    ensure!(ground.ended().await? == "failed");
    ground.is_as_before().await?;
    ground.is_clean()?;
    ground.folders("before-restore", false)?;
    // All is as before: it takes backups, and can be restored, with time enough for a good start.
    ground.coordinators[0].daemon.set_variable(SWITCH_TIMEOUT, "10m").start_and_wait(LONG).await?;
    ground.must_back_up(CLUSTER).await?;
    once_heard(LONG, || ground.restore(&[])).await?.ok()?;
    ground.is_restored().await
}

#[tokio::test]
async fn an_etcd_that_does_not_start_puts_all_machines_back() -> Result<()> {
    put_back(patient(3), Sabotage::FailsToStart, "it was told to fail to start").await
}

#[tokio::test]
async fn an_etcd_that_ends_at_once_puts_all_machines_back_and_is_quoted() -> Result<()> {
    let ground = Ground::start(patient(3)).await?;
    ground.cluster(CLUSTER).supervisors[2].sabotage(Sabotage::EndsAtOnce);
    let output = ground.restore(&[]).await?;
    for part in [
        "machine m3: etcd is not running: no process has had its database open",
        "no-such-flag",
        "the cluster is back as it was before",
    ] {
        ensure!(output.stderr.contains(part), "no {part:?}: {output:?}");
    }
    ensure!(output.stderr.matches(": its old data is back and etcd is serving").count() == 3, "{output:?}");
    ensure!(ground.ended().await? == "failed");
    ground.is_as_before().await?;
    // What etcd had run on is kept, and named.
    let spec = ground.spec().await?;
    let mut left = 0;
    for machine in spec["machines"].as_array().context("no machines")? {
        ensure!(machine["etcd"] == "serves", "{machine}");
        for folder in machine["left"].as_array().context("nothing is left")? {
            let folder = folder.as_str().context("no text")?;
            ensure!(folder.ends_with(".restored-and-put-back") && std::path::Path::new(folder).is_dir(), "{folder}");
            ensure!(output.stderr.contains(folder), "{folder} is not in {output:?}");
            left += 1;
        }
    }
    ensure!(left >= 1, "{spec}");
    Ok(())
}

#[tokio::test]
async fn a_machine_whose_old_etcd_does_not_start_is_named_with_its_cause() -> Result<()> {
    let ground = Ground::start(patient(3)).await?;
    ground.cluster(CLUSTER).supervisors[2].sabotage_all(&[Sabotage::EndsAtOnce, Sabotage::EndsAtOnce]);
    let output = ground.restore(&[]).await?;
    ensure!(!output.stderr.contains("the cluster is back as it was before"), "{output:?}");
    let is_m3_s = |line: &str| {
        line.trim_start().starts_with("machine m3") && line.contains("its old data is back, but etcd IS NOT RUNNING")
    };
    ensure!(output.stderr.lines().any(is_m3_s), "{output:?}");
    for part in ["NOT everything is back as it was before", "no-such-flag"] {
        ensure!(output.stderr.contains(part), "no {part:?}: {output:?}");
    }
    ensure!(output.stderr.matches(": its old data is back and etcd is serving").count() == 2, "{output:?}");
    let spec = ground.spec().await?;
    let down = spec["machines"].as_array().and_then(|all| all.iter().find(|m| m["member"] == "m3")).context("no m3")?;
    ensure!(down["etcd"] == "down" && down["etcdtext"].as_str().is_some_and(|t| t.contains("no-such-flag")), "{down}");
    ground.cluster(CLUSTER).supervisors[2].revive()?;
    ground.is_as_before().await
}

#[tokio::test]
async fn an_etcd_that_ends_once_and_is_started_again_is_no_reason_to_go_back() -> Result<()> {
    let ground = Ground::start(patient(1)).await?;
    let supervisor = &ground.cluster(CLUSTER).supervisors[0];
    supervisor.sabotage(Sabotage::EndsAtOnce);
    let (output, revived) = tokio::join!(ground.restore(&[]), async {
        // Whatever looks after it starts it again.
        eventually(LONG, || async {
            let log = ground.cluster(CLUSTER).agents[0].daemon.log();
            ensure!(log.contains("step=Switched") && !supervisor.runs(), "it has not ended yet");
            Ok(())
        })
        .await?;
        supervisor.revive()
    });
    revived?;
    output?.ok()?;
    ground.is_restored().await
}

#[tokio::test]
async fn a_backup_that_an_etcd_does_not_start_on_is_refused_before_anything_is_stopped() -> Result<()> {
    let mut ground = Ground::start(restorable(1)).await?;
    let version = ground.get(&["agents"]).await?[0]["spec"]["etcdversion"].as_str().context("no version")?.to_owned();
    // Its etcd says that it is 3.6, the first to refuse what later ones marked, and the backup is of 3.7.
    let later = version.replacen(['4', '5', '7'], "6", 1);
    let url = ground.cluster(CLUSTER).etcd.members[0].client_url.clone();
    let proxy = backstay_tests::Proxy::start(url.trim_start_matches("http://").parse()?).await?;
    proxy.rewrite(&version, &later);
    let agent = ground.agent(CLUSTER, 0);
    let text = std::fs::read_to_string(&agent.config)?.replace(&url, &format!("http://{}", proxy.address()));
    std::fs::write(&agent.config, text)?;
    agent.daemon.start_and_wait(LONG).await?;
    eventually(LONG, || async {
        let agents = ground.get(&["agents"]).await?;
        ensure!(agents.first().is_some_and(|a| a["spec"]["etcdversion"] == later.as_str()), "{agents:?}");
        Ok(())
    })
    .await?;
    let uuid = ground.uuid(CLUSTER).await?;
    let manifest = ground.s3.path_of(&format!("{uuid}/{}", ground.snapshot.replace(".snapshot", ".manifest.json")));
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&manifest)?)?;
    json["origin"]["etcd_version"] = "3.7.1".into();
    json["inspection"]["contents"]["storage_version"] = "3.7.0".into();
    std::fs::write(&manifest, serde_json::to_vec(&json)?)?;
    let refused = ground.restore(&[]).await?;
    for part in [
        format!("machine m1: its etcd is {later}"),
        "etcd 3.7.1".into(),
        "marked 3.7.0".into(),
        "update etcd there".into(),
    ] {
        ensure!(refused.stderr.contains(&part), "no {part:?}: {refused:?}");
    }
    ensure!(ground.spec().await?.is_null(), "a restore was begun");
    ensure!(ground.cluster(CLUSTER).supervisors[0].asked().is_empty(), "etcd was stopped or started");
    // What is only older is warned of: the manifest says that the database is not marked so late.
    json["inspection"]["contents"]["storage_version"] = "3.6.0".into();
    std::fs::write(&manifest, serde_json::to_vec(&json)?)?;
    let restored = ground.restore(&[]).await?;
    ensure!(restored.stderr.contains("older than etcd 3.7.1"), "{restored:?}");
    ensure!(restored.stdout.contains("etcd:      3.7.1; the database is marked 3.6.0"), "{restored:?}");
    restored.ok()?;
    ground.is_restored().await
}

#[tokio::test]
async fn an_etcd_that_only_seems_to_start_puts_all_machines_back() -> Result<()> {
    put_back(impatient(3), Sabotage::StartsNothing, "did not come up in time").await
}

#[tokio::test]
async fn an_etcd_that_cannot_be_stopped_puts_all_machines_back() -> Result<()> {
    put_back(patient(3), Sabotage::FailsToStop, "it was told to fail to stop").await
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
    let versions = || async {
        let agents = ground.get(&["agents"]).await?;
        let version = |agent: &serde_json::Value| agent["spec"]["etcdversion"].as_str().unwrap_or_default().to_owned();
        anyhow::Ok(agents.iter().map(version).collect::<Vec<_>>())
    };
    let version = versions().await?.into_iter().next().context("no agent")?;
    for (member, supervisor) in ground.cluster(CLUSTER).etcd.members.iter().zip(&ground.cluster(CLUSTER).supervisors) {
        supervisor.kill();
        std::fs::remove_dir_all(member.data_dir.join("member")).context("the data is there")?;
    }
    eventually(LONG, || async {
        let versions = versions().await?;
        ensure!(versions.iter().all(String::is_empty), "they still answer: {versions:?}");
        Ok(())
    })
    .await?;
    // Their versions were kept, too.
    let printed = ground.restore(&[]).await?.ok()?;
    ensure!(printed.matches(&version).count() == 4 && !printed.contains("not known"), "{version} {printed}");
    ground.is_restored().await
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_all_reasons_before_anything_is_touched() -> Result<()> {
    let mut ground = Ground::start(restorable(3)).await?;
    let snapshot = ground.snapshot.clone();
    let unasked = ground.ctl(&["restore", CLUSTER, "--snapshot", &snapshot]).await?;
    ensure!(unasked.stderr.contains("pass --yes"), "{unasked:?}");
    ground.agent(CLUSTER, 1).daemon.kill9();
    let machine = ground.cluster(CLUSTER).agents[1].machine.to_string();
    eventually(LONG, || async {
        let connected = ground.ctl(&["agents", CLUSTER, "-o", "wide"]).await?.ok()?;
        ensure!(!connected.contains(&machine), "{connected}");
        Ok(())
    })
    .await?;
    let refused = ground.restore(&[]).await?;
    ensure!(refused.stderr.contains("no agent is connected for member m2"), "{refused:?}");
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
    ensure!(refused.stderr.contains("from another cluster, other"), "{refused:?}");
    let refused = ground.apply(&yaml("third")).await?;
    ensure!(refused.stderr.contains("is from cluster other, not from third"), "{refused:?}");
    ground.is_as_before().await?;
    let forced = ["restore", CLUSTER, "--snapshot", "latest", "--data-of-another-cluster", "other", "--yes"];
    ground.ctl(&forced).await?.ok()?;
    let mut client = ground.client().await?;
    let found = client.get("foreign00000009", None).await?;
    ensure!(found.kvs().len() == 1, "the other cluster's keys are not there");
    Ok(())
}
