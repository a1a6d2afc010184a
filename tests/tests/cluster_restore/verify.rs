//! `backstayctl verify`: a backup is proven where it rests, and one that is damaged is not.

use anyhow::{Context, Result, ensure};

use super::ground::{CLUSTER, Ground, restorable};

#[tokio::test]
async fn a_backup_is_proven_by_an_etcd_that_serves_it() -> Result<()> {
    let ground = Ground::start(restorable(1)).await?;
    let printed = ground.ctl(&["verify", CLUSTER]).await?.ok()?;
    ensure!(printed.contains("was verified") && printed.contains("201 live keys"), "{printed}");
    let status = ground.ctl(&["status", "-o", "wide"]).await?.stdout;
    ensure!(status.contains("ago, inspected"), "{status}");

    let printed = ground.ctl(&["verify", CLUSTER, "--snapshot", &ground.snapshot, "--boot"]).await?.ok()?;
    for part in ["started on it, and 64 keys were read back", "HashKV", "matches"] {
        ensure!(printed.contains(part), "no {part:?} in {printed}");
    }
    let status = ground.ctl(&["status", "-o", "wide"]).await?.stdout;
    ensure!(status.contains("ago, booted"), "{status}");
    // Nothing is left of it on the machine.
    let scratch = ground.cluster(CLUSTER).agents[0].state_dir.join("verify");
    ensure!(!scratch.exists(), "{} stays", scratch.display());
    let found = ground.get(&["verification", CLUSTER]).await?;
    ensure!(found[0]["spec"]["state"] == "ok" && found[0]["spec"]["provenhow"] == "booted", "{found:?}");
    Ok(())
}

#[tokio::test]
async fn a_damaged_backup_is_not_proven_and_the_last_good_proof_is_kept() -> Result<()> {
    let ground = Ground::start(restorable(1)).await?;
    ground.ctl(&["verify", CLUSTER]).await?.ok()?;
    let uuid = ground.uuid(CLUSTER).await?;
    let object = ground.s3.path_of(&format!("{uuid}/{}", ground.snapshot));
    let mut bytes = std::fs::read(&object).context("the sealed object")?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&object, bytes)?;
    let refused = ground.ctl(&["verify", CLUSTER, "--boot"]).await?;
    ensure!(refused.status.code() == Some(3) && refused.stderr.contains("failed to verify a backup"), "{refused:?}");
    let found = ground.get(&["verification", CLUSTER]).await?;
    let spec = &found[0]["spec"];
    ensure!(spec["state"] == "failed" && spec["provenhow"] == "inspected", "{spec}");
    // Nor does it become a cluster's data.
    let refused = ground.restore(&[]).await?;
    ensure!(refused.stderr.contains("the cluster is back as it was before"), "{refused:?}");
    ground.is_as_before().await
}

#[tokio::test]
async fn an_agent_that_dies_begins_again() -> Result<()> {
    let mut ground = Ground::start(restorable(1)).await?;
    let id = uuid::Uuid::new_v4();
    let yaml = format!(
        "metadata:\n  namespace: default\n  type: Verifications.backstay.dev\n  id: {CLUSTER}\nspec:\n  verify: {id}\n  \
         boot: true\n"
    );
    ground.apply(&yaml).await?.ok()?;
    let agent = &mut ground.agent(CLUSTER, 0).daemon;
    agent.wait_for_log("verifying a backup", super::LONG).await?;
    agent.start_and_wait(super::LONG).await?;
    backstay_tests::eventually(super::LONG, || async {
        let found = ground.get(&["verification", CLUSTER]).await?;
        ensure!(found[0]["spec"]["state"] == "ok", "{found:?}");
        Ok(())
    })
    .await
}
