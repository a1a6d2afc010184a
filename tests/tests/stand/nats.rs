//! nats-server: JetStream, restarts, and the loss of its disk.

use anyhow::Result;
use async_nats::jetstream;
use backstay_tests::Nats;

use super::runs;

async fn store(nats: &Nats) -> Result<jetstream::stream::Stream> {
    let context = jetstream::new(nats.client().await?);
    let config = jetstream::stream::Config { name: "S".into(), subjects: vec!["s.*".into()], ..Default::default() };
    Ok(context.create_stream(config).await?)
}

#[tokio::test]
async fn it_serves_and_is_gone_when_dropped() -> Result<()> {
    let nats = Nats::start().await?;
    store(&nats).await?;
    let (id, folder) = (nats.process_id().expect("it runs"), nats.folder().to_owned());
    assert!(runs(id) && folder.join("store").is_dir());
    drop(nats);
    assert!(!runs(id) && !folder.exists());
    Ok(())
}

#[tokio::test]
async fn data_outlives_a_restart_and_not_a_wipe() -> Result<()> {
    let mut nats = Nats::start().await?;
    let url = nats.url();
    store(&nats).await?;
    jetstream::new(nats.client().await?).publish("s.a", "text".into()).await?.await?;
    nats.restart().await?;
    assert_eq!(nats.url(), url);
    let context = jetstream::new(nats.client().await?);
    assert_eq!(context.get_stream("S").await?.info().await?.state.messages, 1);
    nats.wipe().await?;
    assert_eq!(nats.url(), url);
    let context = jetstream::new(nats.client().await?);
    assert!(context.get_stream("S").await.is_err());
    Ok(())
}

#[tokio::test]
async fn nobody_answers_while_it_is_stopped() -> Result<()> {
    let mut nats = Nats::start().await?;
    nats.stop();
    assert!(nats.process_id().is_none());
    assert!(nats.client().await.is_err());
    nats.restart().await?;
    nats.client().await?;
    Ok(())
}
