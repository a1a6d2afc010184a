//! How the tests look in: a stand whose daemons serve HTTP, a request, and what `/metrics` says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_daemon::SystemClock;
use backstay_protocol::Clock;
pub use backstay_tests::http::{address, get};
use backstay_tests::{Stand, StandBuilder, eventually};
use serde_json::Value;

/// Long enough for anything on a busy machine; no test waits it out.
pub const SOON: Duration = Duration::from_secs(90);

pub const CLUSTER: &str = "talos-default";

/// A stand whose daemons are noticed soon and can be looked into, each on a port of its own.
pub fn stand() -> StandBuilder {
    Stand::builder()
        .cluster(CLUSTER, 1)
        .brisk()
        .agent_variable("BACKSTAY_HTTP__LISTEN", "127.0.0.1:0")
        .coordinator_variable("BACKSTAY_BACKUP__JITTER", "0s")
        .coordinator_variable("BACKSTAY_HTTP__LISTEN", "127.0.0.1:0")
}

/// Every sample of a daemon by its name and labels, as Prometheus would read them.
pub async fn scrape(address: &str) -> Result<BTreeMap<String, f64>> {
    let (status, body) = get(address, "/metrics").await?;
    ensure!(status == 200, "{status}: {body}");
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').with_context(|| format!("no sample: {line}"))?;
            Ok((name.to_owned(), value.parse().with_context(|| format!("no number: {line}"))?))
        })
        .collect()
}

/// The spec of the cluster's backup status.
pub async fn status(stand: &Stand) -> Result<Value> {
    let text = stand.ctl(&["get", "etcdbackupstatus", CLUSTER, "-o", "json"]).await?.ok()?;
    let resource: Value = serde_json::from_str(&text).with_context(|| format!("no status: {text:?}"))?;
    Ok(resource["spec"].clone())
}

/// The time of the cluster's last attempt; null where there was none.
async fn last_attempt(stand: &Stand) -> Result<Value> {
    let text = stand.ctl(&["get", "etcdbackupstatus", "-o", "json"]).await?.ok()?;
    let statuses = serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<Vec<Value>, _>>()?;
    let ours = statuses.iter().find(|status| status["metadata"]["id"] == CLUSTER);
    Ok(ours.map_or(Value::Null, |status| status["spec"]["lastbackupattempt"].clone()))
}

/// The second that was asked for last: each backup needs one of its own.
static ASKED: AtomicI64 = AtomicI64::new(0);

/// Asks for a backup now and waits until its status is `wanted`: 1 is ok, 2 is an error.
pub async fn back_up(stand: &Stand, wanted: u64) -> Result<Value> {
    let now = SystemClock.now().seconds;
    let last = ASKED.fetch_update(Relaxed, Relaxed, |last| Some(now.max(last + 1))).expect("always some");
    let yaml = Stand::manual_backup(CLUSTER, now.max(last + 1));
    // Told apart from one that ended before.
    let before = eventually(SOON, || last_attempt(stand)).await?;
    // An agent that was just started may not have been heard yet.
    eventually(SOON, || async { stand.apply(&yaml).await?.ok() }).await?;
    eventually(SOON, || async {
        let status = status(stand).await?;
        ensure!(status["lastbackupattempt"] != before, "no attempt has ended since: {status}");
        ensure!(status["status"] == wanted, "the status is {status}");
        Ok(status)
    })
    .await
}
