//! `backstayctl status` on real parts: each way in which a cluster is not as it should be has its word, its reason, the command
//! to run next, and exit code 3. And what a proof that failed leaves: in the status, the metrics and the plans of restores.

use anyhow::{Context, Result, ensure};
use backstay_tests::{eventually, http};
use serde_json::Value;

use super::LONG;
use super::ground::{CLUSTER, Ground, restorable};
use super::rig::{Rig, builder};
use super::template::template;

/// What `status` says of the cluster.
#[derive(Debug)]
struct Said {
    word: String,
    reason: String,
    next: String,
    code: Option<i32>,
}

async fn said(rig: &Rig) -> Result<Said> {
    let output = rig.ctl(&["status", CLUSTER, "-o", "json"]).await?;
    let one: Value = serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))?;
    let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
    Ok(Said { word: text("status"), reason: text("reason"), next: text("next"), code: output.status.code() })
}

/// Waits until `status` says this word, with this in its reason and in the next command.
pub async fn says(rig: &Rig, word: &str, reason: &str, next: &str) -> Result<()> {
    eventually(LONG, || async {
        let said = said(rig).await?;
        let fine = reason.is_empty();
        ensure!(said.word == word && said.code == Some(if fine { 0 } else { 3 }), "not {word:?} but {said:?}");
        ensure!(said.reason.contains(reason) && said.next.contains(next), "{said:?}");
        ensure!(said.reason.is_empty() == fine && said.next.is_empty() == fine, "{said:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn each_trouble_of_a_cluster_has_its_word() -> Result<()> {
    let mut rig = Rig::start_bare(builder().cluster(CLUSTER, 3)).await?;
    eventually(LONG, || rig.uuid(CLUSTER)).await?;
    says(&rig, "no storage", "not initialized", "backstayctl apply -f").await?;
    rig.set_up().await?;
    says(&rig, "never", "there is no backup", "backstayctl backup one --wait").await?;
    rig.must_back_up(CLUSTER).await?;
    says(&rig, "no schedule", "no interval is set", "backstayctl schedule one").await?;
    rig.configure_backups(CLUSTER, "{enabled: false}").await?;
    says(&rig, "off", "", "").await?;
    rig.set_interval(CLUSTER, 3600).await?;
    says(&rig, "ok", "", "").await?;

    // One agent of three is gone, and comes back.
    rig.agent(CLUSTER, 1).daemon.kill9();
    says(&rig, "2/3 agents", "no agent is connected for etcd member m2", "backstay-agent").await?;
    rig.agent(CLUSTER, 1).daemon.start_and_wait(LONG).await?;
    says(&rig, "ok", "", "").await?;

    // One member's etcd is down: its agent says so.
    rig.cluster_mut(CLUSTER).etcd.members[2].kill();
    says(&rig, "member down", ": etcd does not answer", "agents one").await?;
    rig.cluster_mut(CLUSTER).etcd.members[2].restart().await?;
    says(&rig, "ok", "", "").await?;

    for index in 0..3 {
        rig.agent(CLUSTER, index).daemon.kill9();
    }
    says(&rig, "no agent", "no agent is connected", "backstay-agent").await
}

/// The coordinator's metrics of proofs: of those that failed, and of those that could not be tried.
async fn metrics(ground: &Ground) -> Result<[f64; 2]> {
    let address = http::address(&ground.coordinators[0].daemon).await?;
    let (_, text) = http::get(&address, "/metrics").await?;
    let metric = |what: &str| -> Result<f64> {
        let name = format!("backstay_cluster_proof_{what}{{cluster=\"{CLUSTER}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name)).with_context(|| text.clone())?;
        Ok(value.trim().parse()?)
    };
    Ok([metric("failed")?, metric("not_tried")?])
}

/// Flips a bit in the middle of a backup where it rests.
async fn damage(ground: &Ground, snapshot: &str) -> Result<()> {
    let object = ground.s3.path_of(&format!("{}/{snapshot}", ground.uuid(CLUSTER).await?));
    let mut bytes = std::fs::read(&object).context("the sealed object")?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Ok(std::fs::write(&object, bytes)?)
}

#[tokio::test]
async fn a_proof_that_failed_stands_until_one_succeeds() -> Result<()> {
    let builder = restorable(1).coordinator_variable("BACKSTAY_HTTP__LISTEN", "127.0.0.1:0");
    let mut ground = Ground::start(builder).await?;
    ground.set_interval(CLUSTER, 3600).await?;
    let good = ground.snapshot.clone();
    ground.ctl(&["verify", CLUSTER]).await?.ok()?;
    says(&ground, "ok", "", "").await?;
    ensure!(metrics(&ground).await? == [0.0, 0.0]);

    ground.must_back_up(CLUSTER).await?;
    let listed = ground.get(&["etcdbackup", "--selector", &format!("omni.sidero.dev/cluster={CLUSTER}")]).await?;
    let bad = listed[0]["spec"]["snapshot"].as_str().context("no snapshot")?.to_owned();
    ensure!(bad != good, "one backup: {listed:?}");
    damage(&ground, &bad).await?;
    let refused = ground.ctl(&["verify", CLUSTER]).await?;
    ensure!(refused.status.code() == Some(3) && refused.stderr.contains(&bad), "{refused:?}");
    let table = ground.ctl(&["backups", CLUSTER]).await?.ok()?;
    let checked =
        |name: &str| table.lines().find(|line| line.starts_with(name)).map(|line| line.ends_with("   damaged"));
    ensure!((checked(&bad), checked(&good)) == (Some(true), Some(false)), "{table}");
    let stands = format!("the verification of {bad} failed");
    says(&ground, "damaged", &stands, "backstayctl verify one").await?;
    ensure!(metrics(&ground).await? == [1.0, 0.0]);

    // The plan says so, and names the backup before it.
    let planned = ground.ctl(&["restore", CLUSTER, "--snapshot", &bad, "--yes"]).await?;
    ensure!(planned.status.code() == Some(1), "{planned:?}");
    ensure!(planned.stdout.contains("Verified:  FAILED at "), "{planned:?}");
    for part in ["is damaged", &format!("the previous backup is {good}"), &format!("--snapshot {good}`")] {
        ensure!(planned.stderr.contains(part), "no {part:?} in {planned:?}");
    }

    // So does a template that would restore it.
    let file = template(&ground, Some((&ground.uuid(CLUSTER).await?, &bad)))?;
    ground.ctl(&["delete", "machineset", &format!("{CLUSTER}-control-planes")]).await?.ok()?;
    let synced = ground.ctl(&["cluster", "template", "sync", "-f", &file]).await?;
    ensure!(synced.status.success() && ground.ended().await? == "failed", "{synced:?}");
    for part in [format!("{bad} is damaged"), format!("--snapshot {good}`")] {
        ensure!(synced.stderr.contains(&part), "no {part:?} in {synced:?}");
    }

    // The template has no schedule.
    ground.set_interval(CLUSTER, 3600).await?;

    // Neither another coordinator nor the proof of an older backup makes it good.
    ground.coordinators[0].daemon.start_and_wait(LONG).await?;
    says(&ground, "damaged", &stands, "").await?;
    let of_the_older = ["verify", CLUSTER, "--snapshot", good.as_str()];
    super::rig::once_heard(LONG, || ground.ctl(&of_the_older)).await?.ok()?;
    says(&ground, "damaged", &stands, "").await?;
    let plan = ground.ctl(&["restore", CLUSTER, "--snapshot", &good, "--yes"]).await?.ok()?;
    ensure!(!plan.contains("FAILED"), "{plan}");

    // A later one does.
    ground.must_back_up(CLUSTER).await?;
    ground.ctl(&["verify", CLUSTER]).await?.ok()?;
    says(&ground, "ok", "", "").await?;
    ensure!(metrics(&ground).await? == [0.0, 0.0]);
    Ok(())
}

#[tokio::test]
async fn what_is_in_the_way_of_a_proof_is_no_damage() -> Result<()> {
    let builder = restorable(1).coordinator_variable("BACKSTAY_HTTP__LISTEN", "127.0.0.1:0");
    let ground = Ground::start(builder.agent_variable("BACKSTAY_VERIFY__ETCD", "/bin/false")).await?;
    ground.set_interval(CLUSTER, 3600).await?;
    let scratch = ground.cluster(CLUSTER).agents[0].state_dir.join("verify");
    // A file stands where the scratch folder goes.
    std::fs::write(&scratch, "")?;
    let refused = ground.ctl(&["verify", CLUSTER, "--boot"]).await?;
    ensure!(refused.stderr.contains("cannot use"), "{refused:?}");
    says(&ground, "unproven", "could not be run", "backstayctl verify one").await?;
    ensure!(metrics(&ground).await? == [0.0, 1.0]);
    ground.ctl(&["verify", CLUSTER]).await?.ok()?;
    says(&ground, "ok", "", "").await?;
    ensure!(metrics(&ground).await? == [0.0, 0.0]);
    // What is to be the etcd is none.
    std::fs::remove_file(&scratch)?;
    let refused = ground.ctl(&["verify", CLUSTER, "--boot"]).await?;
    ensure!(refused.stderr.contains("it does not print a version as etcd does"), "{refused:?}");
    says(&ground, "unproven", "could not be run", "backstayctl verify one").await
}
