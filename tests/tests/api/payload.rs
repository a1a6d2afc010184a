//! A NATS that lets only small messages through: everything is answered all the same, in pages, and what cannot be is
//! said.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use async_nats::Client;
use backstay_protocol::VERSION;
use backstay_protocol::api::{Answer, ErrorCode, GetRequest, GetResponse};
use backstay_protocol::bus::Beat;
use backstay_protocol::codec::ContentType;
use backstay_protocol::resource::Resource;
use backstay_tests::daemon::{bare_command, binary};
use backstay_tests::{NatsOptions, Stand, eventually};
use prost::Message;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use uuid::Uuid;

use crate::ask;
use crate::world::{CLUSTER, Listed, SOON, back_up, listed, resources, stand, start};

const MAX_PAYLOAD: usize = 64 * 1024;
const MANY: i64 = 400;
const MACHINES: usize = 150;
const CLUSTERS: usize = 20;

async fn small(max_payload: usize) -> Result<Stand> {
    let configuration =
        format!("max_payload: {max_payload}\njetstream {{ store_dir: \"{}\" }}\n", backstay_tests::nats::STORE);
    let nats = NatsOptions { configuration: Some(configuration), ..NatsOptions::default() };
    start(stand().cluster(CLUSTER, 1).local().nats(nats)).await
}

/// A list as another program asks for it, page by page; and how many pages it took.
async fn paged(
    client: &Client,
    content_type: ContentType,
    plural: &str,
    selector: &str,
) -> Result<(Vec<Resource>, usize)> {
    let subject = format!("backstay.v1.api.get.{plural}");
    let mut request = GetRequest { selector: selector.to_owned(), ..GetRequest::default() };
    let (mut items, mut pages) = (Vec::new(), 0);
    loop {
        let answer = ask(client, &subject, content_type.as_str(), content_type.encode(&request)?).await?;
        let body: Answer<GetResponse> = content_type.decode(&answer.payload)?;
        let page = body.into_result()?;
        // NATS lets no larger one through; a smaller one would be a page more than needed.
        ensure!(page.next.is_empty() || answer.length > MAX_PAYLOAD / 2, "a page of {} bytes", answer.length);
        items.extend(page.items);
        pages += 1;
        if page.next.is_empty() {
            return Ok((items, pages));
        }
        request.after = page.next;
    }
}

/// The same backup under `count` names, an hour apart.
fn copy_into_the_past(stand: &Stand, real: &Listed, count: i64) -> Result<()> {
    let folder = stand.local_path().join(&real.uuid);
    let path = |snapshot: &str| (folder.join(snapshot), folder.join(snapshot.replace(".snapshot", ".manifest.json")));
    let (sealed, manifest) = path(&real.snapshot);
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest)?)?;
    for n in 1..=count {
        let snapshot = format!("{:016X}.snapshot", -(real.seconds - n * 3600));
        let (copy, copied) = path(&snapshot);
        std::fs::copy(&sealed, copy)?;
        let mut manifest = manifest.clone();
        manifest["snapshot"] = snapshot.into();
        std::fs::write(copied, manifest.to_string())?;
    }
    Ok(())
}

/// A machine of the cluster that says of its etcd, of its release and of its attempt what it is told to say.
async fn beat(client: &Client, text: &str) -> Result<Uuid> {
    let machine = Uuid::new_v4();
    let beat = Beat {
        version: VERSION,
        cluster: CLUSTER.into(),
        machine: machine.to_string(),
        agent_version: text.into(),
        etcd_error: text.into(),
        attempt: text.into(),
        beat_interval_ms: 600_000,
        ..Beat::default()
    };
    client.publish(format!("backstay.v1.beat.{CLUSTER}.{machine}"), beat.encode_to_vec().into()).await?;
    client.flush().await?;
    Ok(machine)
}

#[tokio::test]
async fn everything_is_answered_where_messages_are_small() -> Result<()> {
    let stand = small(MAX_PAYLOAD).await?;
    let client = stand.nats.client().await?;
    let real = back_up(&stand, CLUSTER).await?.remove(0);
    copy_into_the_past(&stand, &real, MANY)?;
    let all = listed(&stand, CLUSTER).await?;
    ensure!(all.len() as i64 == MANY + 1, "{} backups are listed", all.len());
    for _ in 0..MACHINES {
        beat(&client, &"not reached: ".repeat(100)).await?;
    }
    for n in 0..CLUSTERS {
        let text = "x".repeat(10_000);
        let yaml = format!(
            "metadata: {{type: Clusters.omni.sidero.dev, id: c{n:02}, annotations: {{text: {text}}}}}\nspec: {{}}\n"
        );
        stand.apply(&yaml).await?.ok()?;
    }
    let of_cluster = format!("omni.sidero.dev/cluster={CLUSTER}");
    for content_type in [ContentType::Json, ContentType::MessagePack, ContentType::Protobuf] {
        let (backups, pages) = paged(&client, content_type, "etcdbackups", &of_cluster).await?;
        let ids = |resources: &[Resource]| resources.iter().map(|r| r.metadata.id.clone()).collect::<Vec<_>>();
        ensure!(ids(&backups) == all.iter().map(|b| b.id.clone()).collect::<Vec<_>>() && pages > 1, "{pages} pages");
        let (agents, pages) = paged(&client, content_type, "agents", "").await?;
        ensure!(agents.len() == MACHINES + 1 && pages > 2, "{} agents in {pages} pages", agents.len());
        let (clusters, pages) = paged(&client, content_type, "clusters", "").await?;
        ensure!(clusters.len() == CLUSTERS + 1 && pages > 2, "{} clusters in {pages} pages", clusters.len());
    }
    ensure!(resources(&stand, &["etcdbackupstatus"]).await?.len() == 1, "one status");
    ensure!(stand.ctl(&["runs", CLUSTER]).await?.ok()?.contains("ok"), "its run is shown");
    watch(&stand, CLUSTERS + 1).await
}

/// The watch shows all that there is.
async fn watch(stand: &Stand, clusters: usize) -> Result<()> {
    let mut command = tokio::process::Command::from(bare_command(&binary("backstayctl")?));
    command.args(["--nats", &stand.nats.url(), "get", "cluster", "--watch"]);
    let mut watch = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().context("failed to start the watch")?;
    let mut lines = BufReader::new(watch.stdout.take().context("its output is ours")?).lines();
    for n in 0..=clusters {
        let line = tokio::time::timeout(SOON, lines.next_line()).await.context("nothing more comes")??;
        ensure!(line.is_some(), "the watch ends after {n} lines");
    }
    Ok(())
}

#[tokio::test]
async fn no_beat_makes_an_answer_too_large() -> Result<()> {
    let stand = small(MAX_PAYLOAD).await?;
    let client = stand.nats.client().await?;
    // JSON makes six characters of each.
    let machine = beat(&client, &"\u{1}".repeat(20_000)).await?.to_string();
    eventually(SOON, || async {
        let agents = resources(&stand, &["agents"]).await?;
        let told = agents.iter().find(|agent| agent["metadata"]["id"] == machine.as_str());
        let error = told.and_then(|agent| agent["spec"]["error"].as_str()).unwrap_or_default();
        ensure!(error.len() > 1_000 && error.len() < 10_000, "it is not heard, or all of it is kept: {}", error.len());
        ensure!(agents.len() == 2, "{} agents", agents.len());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_fits_no_message_is_named_and_logged() -> Result<()> {
    const TINY: usize = 8 * 1024;
    let stand = small(TINY).await?;
    let client = stand.nats.client().await?;
    let machine = beat(&client, &"\u{1}".repeat(2_000)).await?.to_string();
    let refused = eventually(SOON, || async {
        let refused = stand.ctl(&["agents", CLUSTER]).await?;
        ensure!(!refused.status.success(), "it is not heard yet: {}", refused.stdout);
        Ok(refused.stderr)
    })
    .await?;
    ensure!(refused.contains(&machine) && refused.contains("raise max_payload"), "{refused}");
    // The real agent may stand before it, on a page of its own.
    let mut request = GetRequest::default();
    let error = loop {
        let answer = ask(&client, "backstay.v1.api.get.agents", "", serde_json::to_vec(&request)?).await?;
        match serde_json::from_slice::<Answer<GetResponse>>(&answer.payload)?.into_result() {
            Ok(page) => {
                ensure!(!page.next.is_empty(), "all of it is answered");
                request.after = page.next;
            }
            Err(error) => break error,
        }
    };
    ensure!(error.code == ErrorCode::Internal && error.text.contains(&machine), "{error}");
    ensure!(stand.coordinators[0].daemon.log().contains("a request failed"), "nothing is logged");
    Ok(())
}

#[tokio::test]
async fn what_is_asked_may_be_too_large_as_well() -> Result<()> {
    let stand = small(MAX_PAYLOAD).await?;
    // For NATS, or for what is kept.
    let cluster = |bytes: usize| {
        let text = "x".repeat(bytes);
        format!("metadata: {{type: Clusters.omni.sidero.dev, id: big, annotations: {{text: {text}}}}}\nspec: {{}}\n")
    };
    let refused = stand.apply(&cluster(MAX_PAYLOAD)).await?.stderr;
    ensure!(refused.contains("accepts at most 65536: raise max_payload"), "{refused}");
    let refused = stand.apply(&cluster(MAX_PAYLOAD / 3)).await?.stderr;
    ensure!(refused.contains("at most 16384 are allowed"), "{refused}");
    // Its answer holds it twice, and its record must be kept.
    stand.apply(&cluster(MAX_PAYLOAD / 5)).await?.ok()?;
    stand.apply(&cluster(MAX_PAYLOAD / 5 + 1)).await?.ok().map(drop)
}
