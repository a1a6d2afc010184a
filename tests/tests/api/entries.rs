//! Entries in a bucket of JetStream mean what entries in memory mean: the suite is that of the coordinator's own tests.

use anyhow::Result;
use backstay_coordinator::config::JetStreamSettings;
use backstay_coordinator::kv::nats;
use backstay_tests::Nats;

#[path = "../../../coordinator/tests/heart/entries.rs"]
mod suite;

#[tokio::test]
async fn entries_in_a_bucket_mean_what_entries_mean() -> Result<()> {
    let server = Nats::start().await?;
    let context = nats::context(&server.client().await?);
    let entries = nats::entries(&context, &JetStreamSettings::default()).await?;
    suite::suite(&*entries).await;
    Ok(())
}
