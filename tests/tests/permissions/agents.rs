//! An agent speaks as its own cluster and machine, hears its own commands, and nothing else.

use anyhow::{Context, Result, ensure};
use async_nats::RequestErrorKind;
use backstay_tests::eventually;
use futures::StreamExt;
use tokio::time::timeout;

use crate::raw::{COMMANDS, SOON, Server, owned, state};

/// What an agent says of itself.
const KINDS: [&str; 3] = ["beat", "progress", "report"];

#[tokio::test]
async fn it_speaks_for_no_other_machine_or_cluster() -> Result<()> {
    let server = Server::start().await?;
    let mut heard = server.coordinator().await?.client.subscribe("backstay.v1.beat.*.*").await?;
    let mut agent = server.agent(0).await?;
    for other in [1, 2] {
        agent.may_not_publish(&KINDS.map(|kind| server.subject(kind, other))).await?;
    }
    // Its own machine in another cluster is not its own either.
    let (_, machine) = &server.machines[0];
    agent.may_not_publish(&KINDS.map(|kind| format!("backstay.v1.{kind}.test.{machine}"))).await?;
    agent.may_not_publish(&KINDS.map(|kind| format!("backstay.v1.{kind}"))).await?;

    // Its own words arrive, and nothing came before them.
    agent.client.publish(server.subject("beat", 0), "own".into()).await?;
    agent.client.flush().await?;
    let first = timeout(SOON, heard.next()).await?.context("a beat")?;
    ensure!(first.subject.as_str() == server.subject("beat", 0) && first.payload == "own", "{first:?}");
    Ok(())
}

#[tokio::test]
async fn it_hears_nobody_elses_commands_reports_or_answers() -> Result<()> {
    let server = Server::start().await?;
    let mut agent = server.agent(0).await?;
    let (cluster, machine) = &server.machines[1];
    let mut subjects = owned(&[
        ">",
        "*.>",
        "backstay.>",
        "backstay.v1.agent.>",
        "backstay.v1.agent.*.*.*",
        "backstay.v1.report.*.*",
        "backstay.v1.beat.*.*",
        "backstay.v1.api.*.*",
        "_INBOX.>",
        "_INBOX.backstay.coordinator.>",
        "_R_.>",
        "$KV.>",
        "$JS.>",
        "$SRV.>",
        "$SYS.>",
    ]);
    subjects.extend([1, 2].map(|other| format!("{}.*", server.subject("agent", other))));
    subjects.push(format!("_INBOX.backstay.agent.{cluster}.{machine}.>"));
    agent.may_not_subscribe(&subjects).await
}

#[tokio::test]
async fn it_commands_nobody_asks_nothing_and_touches_no_state() -> Result<()> {
    let server = Server::start().await?;
    let mut agent = server.agent(0).await?;
    for number in [0, 1, 2] {
        let commands = COMMANDS.map(|word| format!("{}.{word}", server.subject("agent", number)));
        agent.may_not_publish(&commands).await?;
    }
    agent.may_not_publish(&state()).await?;
    let others = owned(&[
        "backstay.v1.api.get.clusters",
        "backstay.v1.api.get.etcdbackups3configs",
        "backstay.v1.api.apply.etcdbackups3configs",
        "backstay.v1.api.delete.machinesets",
        "$SRV.PING",
        "_INBOX.backstay.coordinator.x",
        "_R_.x.y",
    ]);
    agent.may_not_publish(&others).await
}

#[tokio::test]
async fn commands_reach_it_and_its_one_answer_comes_back() -> Result<()> {
    let server = Server::start().await?;
    let (coordinator, mut agent) = (server.coordinator().await?, server.agent(0).await?);
    let command = format!("{}.start", server.subject("agent", 0));

    // Nobody there is an answer, and it comes at once: the next member is asked.
    let nobody = coordinator.client.request(command.clone(), "".into()).await;
    let nobody = nobody.err().context("nobody listens yet")?;
    ensure!(nobody.kind() == RequestErrorKind::NoResponders, "{nobody}");

    let mut commands = agent.client.subscribe(format!("{}.*", server.subject("agent", 0))).await?;
    // Until its subscription has arrived at the server, still nobody is there.
    let asked = eventually(SOON, || async {
        let answer = coordinator.client.request(command.clone(), "do".into()).await?;
        ensure!(answer.payload == "done", "{answer:?}");
        Ok(())
    });
    let answered = async {
        let heard = timeout(SOON, commands.next()).await?.context("a command")?;
        let reply = heard.reply.context("a command wants an answer")?;
        agent.client.publish(reply.clone(), "done".into()).await?;
        Ok(reply)
    };
    let ((), reply) = tokio::try_join!(asked, answered)?;
    // The right to answer is used up.
    agent.may_not_publish(&[reply.to_string()]).await
}
