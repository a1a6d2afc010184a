//! Operators ask for everything that the API offers, readers look; neither speaks as an agent or touches the state.

use anyhow::{Context, Result, ensure};
use backstay_protocol::types;
use futures::StreamExt;
use tokio::time::timeout;

use crate::raw::{COMMANDS, Raw, SOON, Server, heard, owned, state};

/// What no person may publish.
fn daemons_words(server: &Server) -> Vec<String> {
    let mut subjects = state();
    for kind in ["beat", "progress", "report"] {
        subjects.push(server.subject(kind, 0));
    }
    subjects.extend(COMMANDS.map(|word| format!("{}.{word}", server.subject("agent", 0))));
    subjects.extend(owned(&["_INBOX.backstay.coordinator.x", "_INBOX.x", "_R_.x.y"]));
    subjects
}

/// What no person may hear.
fn daemons_ears(server: &Server) -> Vec<String> {
    let mut subjects = owned(&[
        ">",
        "backstay.v1.>",
        "backstay.v1.agent.*.*.*",
        "backstay.v1.report.*.*",
        "backstay.v1.beat.*.*",
        "backstay.v1.progress.*.*",
        "backstay.v1.api.*.*",
        "backstay.v1.api.get.*",
        "$KV.backstay.>",
        "$JS.>",
        "_R_.>",
        "$SRV.>",
    ]);
    subjects.push(format!("{}.*", server.subject("agent", 0)));
    subjects
}

/// Answers one request with `text`; the answer is its subject.
async fn answer_one(requests: &mut async_nats::Subscriber, client: &async_nats::Client, text: &str) -> Result<String> {
    let request = timeout(SOON, requests.next()).await?.context("a request")?;
    client.publish(request.reply.context("a request wants an answer")?, text.to_owned().into()).await?;
    Ok(request.subject.to_string())
}

/// Asks as `raw` while the coordinator's user answers.
async fn asks(server: &Server, raw: &Raw, subject: &str) -> Result<()> {
    let coordinator = server.coordinator().await?;
    let mut requests = coordinator.client.subscribe("backstay.v1.api.*.*").await?;
    heard(&coordinator.client).await?;
    let (asked, heard) = tokio::join!(
        raw.client.request(subject.to_owned(), "".into()),
        answer_one(&mut requests, &coordinator.client, "yes")
    );
    ensure!(heard? == subject && asked?.payload == "yes");
    Ok(())
}

#[tokio::test]
async fn a_reader_gets_and_nothing_else() -> Result<()> {
    let server = Server::start().await?;
    let mut reader = server.reader().await?;
    asks(&server, &reader, "backstay.v1.api.get.etcdbackupstatuses").await?;
    for verb in ["apply", "delete"] {
        let subjects: Vec<String> =
            types::ALL.iter().map(|d| format!("backstay.v1.api.{verb}.{}", d.plural())).collect();
        reader.may_not_publish(&subjects).await?;
    }
    reader.may_not_publish(&owned(&["backstay.v1.api.gets.clusters", "backstay.v1.api.get.a.b"])).await?;
    reader.may_not_publish(&daemons_words(&server)).await?;
    reader.may_not_subscribe(&daemons_ears(&server)).await
}

#[tokio::test]
async fn an_operator_asks_for_everything_and_is_no_daemon() -> Result<()> {
    let server = Server::start().await?;
    let mut operator = server.operator().await?;
    for subject in [
        "backstay.v1.api.get.clusters",
        "backstay.v1.api.apply.etcdmanualbackups",
        "backstay.v1.api.delete.machinesets",
    ] {
        asks(&server, &operator, subject).await?;
    }
    operator.may_not_publish(&daemons_words(&server)).await?;
    operator.may_not_subscribe(&daemons_ears(&server)).await
}

#[tokio::test]
async fn the_coordinator_cannot_speak_as_an_agent_and_nobody_comes_in_without_a_password() -> Result<()> {
    let server = Server::start().await?;
    let mut coordinator = server.coordinator().await?;
    coordinator.may_not_publish(&["beat", "progress", "report"].map(|kind| server.subject(kind, 0))).await?;
    coordinator.may_not_publish(&owned(&["backstay.v1.api.apply.clusters", "$KV.other.x"])).await?;
    ensure!(server.nats.client().await.is_err(), "somebody without a name came in");
    let mut wrong = server.users.operator.clone();
    wrong.password.push('x');
    ensure!(server.nats.client_as(&wrong).await.is_err(), "somebody with a wrong password came in");
    Ok(())
}
