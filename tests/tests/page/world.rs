//! What the tests ask a stand: what it lists, what it says of a cluster, what lies in its store.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use backstay_tests::{Process, Stand, StandBuilder, eventually};
use serde_json::Value;

/// Long enough for anything on a busy machine; no test waits it out.
pub const SOON: Duration = Duration::from_secs(90);

/// The page's cluster.
pub const CLUSTER: &str = "talos-default";

/// A stand whose agents are noticed soon, and whose leases end soon.
pub fn stand() -> StandBuilder {
    Stand::builder()
        .brisk()
        .coordinator_variable("BACKSTAY_BACKUP__JITTER", "0s")
        .coordinator_variable("BACKSTAY_BACKUP__MIN_INTERVAL", "1s")
}

/// Starts a stand and waits until its coordinator leads (ready it is before that) and knows every cluster.
pub async fn start(builder: StandBuilder) -> Result<Stand> {
    let stand = builder.start().await?;
    eventually(SOON, || async {
        for cluster in &stand.clusters {
            resources(&stand, &["cluster", &cluster.name]).await?;
        }
        Ok(())
    })
    .await?;
    Ok(stand)
}

/// Waits until a coordinator answers.
pub async fn leads(stand: &Stand) -> Result<()> {
    let answers = eventually(SOON, || async { overall(stand).await.map(drop) }).await;
    answers.with_context(|| {
        let tail = stand.coordinators[0].daemon.process().map(Process::tail).unwrap_or_default();
        format!("the coordinator does not answer; its log ends:\n{tail}")
    })
}

/// The page's cluster with one member, and the page's S3 configuration applied.
pub async fn configured() -> Result<Stand> {
    let stand = start(stand().cluster(CLUSTER, 1)).await?;
    stand.configure_s3().await?;
    Ok(stand)
}

/// A backup as `get etcdbackup` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub id: String,
    pub seconds: i64,
    pub snapshot: String,
    pub size: u64,
    pub uuid: String,
}

impl Listed {
    /// The key of the sealed object.
    pub fn key(&self) -> String {
        format!("{}/{}", self.uuid, self.snapshot)
    }

    /// The key of the manifest beside it.
    pub fn manifest_key(&self) -> String {
        self.key().replace(".snapshot", ".manifest.json")
    }
}

/// What `-o json` prints: an object for each item, one after the other.
pub fn objects(text: &str) -> Result<Vec<Value>> {
    let read: serde_json::Result<Vec<Value>> = serde_json::Deserializer::from_str(text).into_iter().collect();
    read.with_context(|| format!("no JSON: {text}"))
}

/// The resources of a `get`, read from its JSON.
pub async fn resources(stand: &Stand, arguments: &[&str]) -> Result<Vec<Value>> {
    let arguments: Vec<&str> = ["get"].iter().chain(arguments).chain(&["-o", "json"]).copied().collect();
    let text = stand.ctl(&arguments).await?.ok()?;
    objects(&text).with_context(|| format!("{arguments:?}"))
}

/// The backups of a cluster, in the order of the listing.
pub async fn listed(stand: &Stand, cluster: &str) -> Result<Vec<Listed>> {
    let selector = format!("omni.sidero.dev/cluster={cluster}");
    let found = resources(stand, &["etcdbackup", "--selector", &selector]).await?;
    found.iter().map(|resource| read(resource).with_context(|| format!("not a backup: {resource}"))).collect()
}

fn read(resource: &Value) -> Option<Listed> {
    let (metadata, spec) = (&resource["metadata"], &resource["spec"]);
    Some(Listed {
        id: metadata["id"].as_str()?.to_owned(),
        uuid: metadata["labels"]["omni.sidero.dev/cluster-uuid"].as_str()?.to_owned(),
        seconds: spec["createdat"]["seconds"].as_i64()?,
        snapshot: spec["snapshot"].as_str()?.to_owned(),
        size: spec["size"].as_u64()?,
    })
}

/// Waits until so many backups of a cluster are listed, or more.
pub async fn at_least(stand: &Stand, cluster: &str, count: usize) -> Result<Vec<Listed>> {
    eventually(SOON, || async {
        let listed = listed(stand, cluster).await?;
        ensure!(listed.len() >= count, "{} of {count} backups of {cluster} are listed", listed.len());
        Ok(listed)
    })
    .await
}

/// The spec of a cluster's backup status.
pub async fn status(stand: &Stand, cluster: &str) -> Result<Value> {
    let found = resources(stand, &["etcdbackupstatus", cluster]).await?;
    found.first().map(|resource| resource["spec"].clone()).with_context(|| format!("no status of {cluster}"))
}

/// The spec of the overall status.
pub async fn overall(stand: &Stand) -> Result<Value> {
    let found = resources(stand, &["etcdbackupoverallstatus"]).await?;
    found.first().map(|resource| resource["spec"].clone()).context("no overall status")
}

/// Waits until the latest attempt of a cluster has ended well.
pub async fn succeeds(stand: &Stand, cluster: &str) -> Result<Value> {
    eventually(SOON, || async {
        let status = status(stand, cluster).await?;
        ensure!(status["status"] == 1 && status["error"] == "", "the status is {status}");
        Ok(status)
    })
    .await
}

/// Waits until the latest attempt of a cluster has failed; the answer is the error.
pub async fn fails(stand: &Stand, cluster: &str) -> Result<String> {
    eventually(SOON, || async {
        let status = status(stand, cluster).await?;
        ensure!(status["status"] == 2, "the status is {status}");
        status["error"].as_str().map(str::to_owned).context("an error is a text")
    })
    .await
}

/// Asks for a manual backup of a cluster and waits until it is listed.
pub async fn back_up(stand: &Stand, cluster: &str) -> Result<Vec<Listed>> {
    // Two in one second would be one.
    let at = fresh_seconds(stand, cluster).await?;
    back_up_at(stand, cluster, at).await
}

/// Asks for a manual backup at a time for which none was asked, and waits until it is listed.
pub async fn back_up_at(stand: &Stand, cluster: &str, at: i64) -> Result<Vec<Listed>> {
    let before = listed(stand, cluster).await?.len();
    stand.apply(&Stand::manual_backup(cluster, at)).await?.ok()?;
    at_least(stand, cluster, before + 1).await
}

/// A time of now, later than the one that was asked for last and than what is listed: the request may be deleted.
async fn fresh_seconds(stand: &Stand, cluster: &str) -> Result<i64> {
    let asked = resources(stand, &["etcdmanualbackup"]).await?;
    let asked = asked.iter().find(|r| r["metadata"]["id"] == cluster);
    let asked = asked.and_then(|r| r["spec"]["backupat"]["seconds"].as_i64());
    let newest = listed(stand, cluster).await?.first().map(|backup| backup.seconds);
    Ok(now().max(asked.max(newest).unwrap_or_default() + 1))
}

/// The time now, in Unix seconds.
#[expect(clippy::disallowed_methods, reason = "a test is a shell: its commands need the time that a person would type")]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.ok().and_then(|d| i64::try_from(d.as_secs()).ok()).expect("the clock is past 1970")
}

/// The bytes of an object of the stand's bucket.
pub async fn object(stand: &Stand, key: &str) -> Result<Vec<u8>> {
    let answer = stand.s3.client().get_object().bucket(stand.s3.bucket()).key(key).send().await;
    let answer = answer.with_context(|| format!("failed to get {key}"))?;
    Ok(answer.body.collect().await.with_context(|| format!("failed to read {key}"))?.to_vec())
}

/// A backup's manifest.
pub async fn manifest(stand: &Stand, backup: &Listed) -> Result<Value> {
    let key = backup.manifest_key();
    serde_json::from_slice(&object(stand, &key).await?).with_context(|| format!("{key} is no JSON"))
}

/// Fails unless the bucket holds pairs of backup and manifest, keys of clusters, and nothing that is unfinished
/// or left over. The answer is how many backups there are.
pub async fn only_whole_backups(stand: &Stand) -> Result<usize> {
    let objects: BTreeMap<String, u64> = stand.s3.objects().await?;
    let mut backups = 0;
    for key in objects.keys() {
        if let Some(stem) = key.strip_suffix(".snapshot") {
            ensure!(objects.contains_key(&format!("{stem}.manifest.json")), "{key} has no manifest");
            backups += 1;
        } else if let Some(stem) = key.strip_suffix(".manifest.json") {
            ensure!(objects.contains_key(&format!("{stem}.snapshot")), "{key} has no backup");
        } else {
            ensure!(key.ends_with("/key.age") || key.starts_with("names/"), "{key} should not be there");
        }
    }
    let unfinished = stand.s3.unfinished().await?;
    ensure!(unfinished.is_empty(), "unfinished: {unfinished:?}");
    Ok(backups)
}
