//! The whole system: what people are told of a backup's verdict, and of members that disagree.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use backstay_tests::{Stand, eventually};
use serde_json::Value;

use crate::backup::{damage, id, places};

const CLUSTER: &str = "talos-default";
const SOON: Duration = Duration::from_secs(90);

async fn specs(stand: &Stand, arguments: &[&str]) -> Result<Vec<Value>> {
    let arguments: Vec<&str> = ["get"].iter().chain(arguments).chain(&["-o", "json"]).copied().collect();
    let text = stand.ctl(&arguments).await?.ok()?;
    let read = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    read.map(|resource| Ok(resource?["spec"].clone())).collect()
}

/// Asks for a backup now, or a moment later: a second one in the same second would be the same.
#[expect(clippy::disallowed_methods, reason = "a test is a shell: its commands need the time that a person would type")]
async fn ask_for_a_backup(stand: &Stand, after: i64) -> Result<i64> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?.max(after + 1);
    stand.apply(&Stand::manual_backup(CLUSTER, now)).await?.ok()?;
    Ok(now)
}

/// Waits until every attempt has ended, at least one with this verdict.
async fn verdict(stand: &Stand, wanted: &str) -> Result<Value> {
    eventually(SOON, || async {
        let runs = specs(stand, &["backuprun"]).await?;
        ensure!(runs.iter().all(|run| run["state"] != "running"), "{runs:?}");
        let Some(run) = runs.iter().find(|run| run["verdict"] == wanted) else {
            bail!("{runs:?} {:?}", specs(stand, &["etcdbackupstatus"]).await?);
        };
        Ok(run.clone())
    })
    .await
}

#[tokio::test]
async fn runs_say_the_verdict_and_the_status_names_members_that_disagree() -> Result<()> {
    let mut stand = Stand::builder().brisk().cluster(CLUSTER, 2).start().await?;
    eventually(SOON, || async { specs(&stand, &["cluster", CLUSTER]).await }).await?;
    stand.configure_s3().await?;
    stand.cluster(CLUSTER).etcd.put_many("a/", 300, 100).await?;
    let first = ask_for_a_backup(&stand, 0).await?;
    let run = verdict(&stand, "equal").await?;
    let ids = [id(&stand.cluster(CLUSTER).etcd.members[0]).await?, id(&stand.cluster(CLUSTER).etcd.members[1]).await?];
    ensure!(ids.iter().any(|id| run["comparedwith"] == id.as_str()) && run["livekeys"].as_u64() >= Some(300), "{run}");

    damage(&mut stand.cluster_mut(CLUSTER).etcd, 0, |database| {
        for at in places(database, b"a/00000123") {
            database[at + 60] ^= 1;
        }
    })
    .await?;
    stand.cluster(CLUSTER).etcd.put_many("b/", 1, 1).await?;
    ask_for_a_backup(&stand, first).await?;
    let run = verdict(&stand, "differs").await?;
    ensure!(run["state"] == "failed", "{run}");
    let status = eventually(SOON, || async {
        let statuses = specs(&stand, &["etcdbackupstatus", CLUSTER]).await?;
        let status = statuses.first().context("a status")?.clone();
        ensure!(status["status"] == 2, "{status}");
        Ok(status)
    })
    .await?;
    let error = status["error"].as_str().context("text")?;
    ensure!(error.contains("disagree") && ids.iter().all(|id| error.contains(id.as_str())), "{error}");
    Ok(())
}
