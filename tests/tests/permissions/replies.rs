//! The answer as a weapon: who asks names the subject that the answer goes to, and whoever answers may publish
//! more than who asks. With the accounts of the sample, an answer stays in the asker's account.

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{self, stream};
use async_nats::{Client, Subscriber};
use backstay_tests::Nats;
use futures::StreamExt;
use tokio::time::timeout;

use crate::raw::{SOON, Server, heard};

/// Entries of the KV that the answers try to make.
const FORGED: [&str; 3] =
    ["$KV.backstay.forged-by-agent", "$KV.backstay.forged-by-reader", "$KV.backstay.forged-by-ping"];

/// The clients, and the subject that the agent reports on.
struct Cast {
    coordinator: Client,
    agent: Client,
    reader: Client,
    report: String,
}

/// The coordinator's streams.
async fn streams(coordinator: &Client) -> Result<(stream::Stream, stream::Stream)> {
    let context = jetstream::new(coordinator.clone());
    let stream = |name: &str, subject: &str| stream::Config {
        name: name.into(),
        subjects: vec![subject.into()],
        ..stream::Config::default()
    };
    let kv = context.create_stream(stream("KV_backstay", "$KV.backstay.>")).await?;
    let reports = context.create_stream(stream("BACKSTAY_REPORTS", "backstay.v1.report.*.*")).await?;
    Ok((kv, reports))
}

async fn answer_one(requests: &mut Subscriber, coordinator: &Client) -> Result<()> {
    let request = timeout(SOON, requests.next()).await?.context("a request")?;
    coordinator.publish(request.reply.context("it wants an answer")?, "{}".into()).await?;
    Ok(())
}

/// Everybody asks for answers into the KV; how many got there, once all answers were given.
async fn forge(cast: &Cast) -> Result<u64> {
    let (kv, _) = streams(&cast.coordinator).await?;
    let mut api = cast.coordinator.subscribe("backstay.v1.api.*.*").await?;
    let mut service = cast.coordinator.subscribe("$SRV.PING").await?;
    heard(&cast.coordinator).await?;
    cast.agent.publish_with_reply(cast.report.clone(), FORGED[0], "report".into()).await?;
    // JetStream answers in order: when this answer is here, the one before it was given.
    let context = jetstream::new(cast.agent.clone());
    context.publish(cast.report.clone(), "report".into()).await?.await.context("an own report is kept")?;
    cast.reader.publish_with_reply("backstay.v1.api.get.clusters", FORGED[1], "".into()).await?;
    cast.reader.publish_with_reply("$SRV.PING", FORGED[2], "".into()).await?;
    cast.reader.flush().await?;
    answer_one(&mut api, &cast.coordinator).await?;
    answer_one(&mut service, &cast.coordinator).await?;
    // An entry of one's own, kept after whatever came before it.
    let context = jetstream::new(cast.coordinator.clone());
    context.publish("$KV.backstay.own", "{}".into()).await?.await?;
    Ok(kv.get_info().await?.state.messages - 1)
}

#[tokio::test]
async fn answers_do_not_get_into_the_kv() -> Result<()> {
    let server = Server::start().await?;
    let cast = Cast {
        coordinator: server.coordinator().await?.client,
        agent: server.agent(0).await?.client,
        reader: server.reader().await?.client,
        report: server.subject("report", 0),
    };
    let forged = forge(&cast).await?;
    ensure!(forged == 0, "{forged} answers got into the KV");
    Ok(())
}

/// What the test above rests on: without accounts the trick works.
#[tokio::test]
async fn in_a_server_without_accounts_they_do() -> Result<()> {
    let nats = Nats::start().await?;
    let (coordinator, agent, reader) = (nats.client().await?, nats.client().await?, nats.client().await?);
    let report = "backstay.v1.report.prod.01234567-0123-4123-8123-0123456789ab".to_owned();
    let forged = forge(&Cast { coordinator, agent, reader, report }).await?;
    ensure!(forged == FORGED.len() as u64, "{forged} answers got into the KV");
    Ok(())
}
