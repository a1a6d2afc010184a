//! The page: delete the control plane, name the backup in the template, sync, look at the status.

use anyhow::{Result, ensure};
use backstay_tests::{Output, eventually};

use super::LONG;
use super::ground::{CLUSTER, Ground, restorable};

/// The page's template, with a bootstrap spec where there is one.
pub fn template(ground: &Ground, bootstrap: Option<(&str, &str)>) -> Result<String> {
    let machines = ground.cluster(CLUSTER).agents.iter().map(|agent| format!("  - {}\n", agent.machine));
    let bootstrap =
        bootstrap.map(|(uuid, snapshot)| format!("bootstrapSpec:\n  clusterUUID: {uuid}\n  snapshot: {snapshot}\n"));
    let text = format!(
        "kind: Cluster\nname: {CLUSTER}\nkubernetes:\n  version: v1.28.2\ntalos:\n  version: v1.5.5\n---\n\
         kind: ControlPlane\n{}machines:\n{}---\nkind: Workers\nmachines: []\n",
        bootstrap.unwrap_or_default(),
        machines.collect::<String>()
    );
    let path = ground.folder().join("template.yaml");
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

async fn verb(ground: &Ground, verb: &str, file: &str) -> Result<Output> {
    ground.ctl(&["cluster", "template", verb, "-f", file]).await
}

#[tokio::test]
async fn the_page_is_followed_to_its_end() -> Result<()> {
    let ground = Ground::start(restorable(3)).await?;
    let uuid = ground.uuid(CLUSTER).await?;
    let snapshot = ground.snapshot.clone();
    let plain = template(&ground, None)?;
    verb(&ground, "sync", &plain).await?.ok()?;

    // A control plane that is there is not restored by a change of the template alone.
    let restoring = template(&ground, Some((&uuid, &snapshot)))?;
    let refused = verb(&ground, "sync", &restoring).await?;
    ensure!(refused.stderr.contains("bootstrap spec is immutable after creation"), "{refused:?}");

    let set = format!("{CLUSTER}-control-planes");
    ground.ctl(&["delete", "machineset", &set]).await?.ok()?;
    verb(&ground, "sync", &restoring).await?.ok()?;
    let status = verb(&ground, "status", &restoring).await?;
    ensure!(status.stdout.contains("restore is ") && status.status.code() == Some(3), "{status:?}");
    let during = ground.ctl(&["delete", "machineset", &set]).await?;
    ensure!(during.stderr.contains("is running"), "{during:?}");

    ensure!(ground.ended().await? == "restored");
    ground.is_restored().await?;
    let status = verb(&ground, "status", &restoring).await?.ok()?;
    ensure!(status.contains("restored from"), "{status}");
    // Once it is done, the template may go on without it, and nothing is restored again.
    ensure!(verb(&ground, "sync", &restoring).await?.ok()?.is_empty());
    verb(&ground, "sync", &template(&ground, None)?).await?.ok()?;
    ground.is_restored().await
}

#[tokio::test]
async fn what_cannot_be_restored_is_refused_by_the_sync() -> Result<()> {
    let ground = Ground::start(restorable(1)).await?;
    let uuid = ground.uuid(CLUSTER).await?;
    let other = "7d3a5a4c-9a0d-4c39-9b3c-3a2f1d9c2f10";
    for (uuid, snapshot, part) in [
        (uuid.as_str(), "FFFFFFFF9A8AF980.snapshot", "failed to get backup"),
        (other, ground.snapshot.as_str(), "failed to get backup"),
    ] {
        let refused = verb(&ground, "sync", &template(&ground, Some((uuid, snapshot)))?).await?;
        ensure!(refused.stderr.contains(part) && !refused.status.success(), "{refused:?}");
    }
    // Nobody deleted its control plane: a template that lies about does not bring it back to an old backup.
    let template = template(&ground, Some((&uuid, &ground.snapshot)))?;
    let refused = verb(&ground, "sync", &template).await?;
    ensure!(refused.stderr.contains("is serving: run `backstayctl delete machineset"), "{refused:?}");
    let workers = format!(
        "metadata:\n  namespace: default\n  type: MachineSets.omni.sidero.dev\n  id: {CLUSTER}-workers\nspec:\n  \
         bootstrapspec:\n    clusteruuid: {uuid}\n    snapshot: {}\n",
        ground.snapshot
    );
    let refused = ground.apply(&workers).await?;
    ensure!(refused.stderr.contains("bootstrap spec is not allowed for worker machine sets"), "{refused:?}");
    eventually(LONG, || ground.is_as_before()).await?;
    ensure!(ground.spec().await?.is_null(), "a restore was begun");
    // Its machine set is not kept: whoever means it says so all the same.
    let set = format!("{CLUSTER}-control-planes");
    ground.ctl(&["delete", "machineset", &set]).await?.ok()?;
    verb(&ground, "sync", &template).await?.ok()?;
    ensure!(ground.ended().await? == "restored");
    Ok(())
}
