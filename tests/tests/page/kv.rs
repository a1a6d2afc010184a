//! What the coordinator reads first when it begins to lead must be whole, whatever changes meanwhile: its own
//! lease does.

use anyhow::{Context, Result, ensure};
use backstay_coordinator::config::JetStreamSettings;
use backstay_coordinator::kv::{self, Kv, KvError};
use backstay_tests::Nats;
use tokio::task::JoinSet;

use crate::world::SOON;

const CLUSTERS: usize = 20;
/// The client's own listing went wrong in two of three rounds.
const ROUNDS: usize = 300;

#[tokio::test]
async fn keys_are_listed_whole_while_entries_change() -> Result<()> {
    let nats = Nats::start().await?;
    let store = kv::nats::open(&kv::nats::context(&nats.client().await?), &JetStreamSettings::default()).await?;
    let mut expected: Vec<String> = (0..CLUSTERS).map(|n| format!("cluster.c{n:02}")).collect();
    for key in &expected {
        store.create(key, &0).await?;
    }
    store.create("lease", &0).await?;
    let mut busy = JoinSet::new();
    for key in ["lease", "cluster.c03", "cluster.c19"] {
        busy.spawn(change(store.clone(), key));
    }
    for round in 0..ROUNDS {
        let listed = tokio::time::timeout(SOON, store.keys("cluster.")).await;
        let listed = listed.with_context(|| format!("round {round} never ends"))??;
        assert_eq!(listed, expected, "round {round}");
        ensure!(busy.try_join_next().is_none(), "nothing changes any more");
    }
    busy.shutdown().await;
    store.delete("cluster.c07").await?;
    expected.retain(|key| key != "cluster.c07");
    let mut there = Vec::new();
    for key in store.keys("cluster.").await? {
        if store.get::<u64>(&key).await?.is_some() {
            there.push(key);
        }
    }
    assert_eq!(there, expected, "an entry that was deleted");
    Ok(())
}

#[tokio::test]
async fn a_kv_that_is_full_says_what_to_set_and_still_takes_changes() -> Result<()> {
    let nats = Nats::start().await?;
    let settings = JetStreamSettings { kv_max_bytes: Some(1024 * 1024), ..JetStreamSettings::default() };
    let store = kv::nats::open(&kv::nats::context(&nats.client().await?), &settings).await?;
    let lease = store.create("lease", &0).await?;
    let text = "x".repeat(100_000);
    let mut full = None;
    for n in 0..20 {
        if let Err(error) = store.create(&format!("cluster.c{n:02}"), &text).await {
            full = Some(error.to_string());
            break;
        }
    }
    let error = full.context("it holds more than it may")?;
    ensure!(error.contains("raise [jetstream] kv_max_bytes"), "{error}");
    store.update("lease", &1, lease).await?;
    Ok(())
}

/// Changes an entry over and over.
async fn change(store: Kv, key: &'static str) -> Result<(), KvError> {
    for number in 1_u64.. {
        let revision = store.get::<u64>(key).await?.map_or(0, |found| found.revision);
        store.update(key, &number, revision).await?;
    }
    Ok(())
}
