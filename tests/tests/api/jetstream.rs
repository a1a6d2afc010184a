//! JetStream as accounts have it: off, demanding sizes, with little room, with streams from earlier.

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{self, stream};
use backstay_tests::nats::STORE;
use backstay_tests::{NatsOptions, Stand, StandBuilder, eventually};
use futures::StreamExt;

use crate::world::{CLUSTER, SOON, back_up, leads, resources, stand, start};

const KV: &str = "KV_backstay";
const REPORTS: &str = "BACKSTAY_REPORTS";
const MIB: i64 = 1024 * 1024;

fn nats(configuration: &str) -> NatsOptions {
    NatsOptions { configuration: Some(configuration.replace("{store}", STORE)), ..NatsOptions::default() }
}

/// An account that demands sizes of its streams, and lets them have this many bytes each and twice that together.
fn demanding(mib: usize) -> StandBuilder {
    let account = format!(
        "jetstream {{ store_dir: \"{{store}}\" }}\nno_auth_user: everybody\naccounts {{ A {{\n  users: [{{user: everybody, \
         password: x}}]\n  jetstream {{ max_file: {}M, max_bytes_required: true, disk_max_stream_bytes: {mib}M }}\n}} }}\n",
        2 * mib
    );
    stand().cluster(CLUSTER, 1).local().nats(nats(&account))
}

async fn size(stand: &Stand, name: &str) -> Result<i64> {
    let context = jetstream::new(stand.nats.client().await?);
    Ok(context.get_stream(name).await?.cached_info().config.max_bytes)
}

#[tokio::test]
async fn an_account_that_demands_sizes_gets_what_it_has_room_for() -> Result<()> {
    let mut stand = start(demanding(40)).await?;
    back_up(&stand, CLUSTER).await?;
    ensure!((size(&stand, KV).await?, size(&stand, REPORTS).await?) == (32 * MIB, 32 * MIB), "the sizes differ");

    // What is set is carried over to a stream that is there.
    let coordinator = &mut stand.coordinators[0].daemon;
    coordinator.set_variable("BACKSTAY_JETSTREAM__KV_MAX_BYTES", &(8 * MIB).to_string());
    coordinator.kill9();
    coordinator.start_and_wait(SOON).await?;
    leads(&stand).await?;
    ensure!((size(&stand, KV).await?, size(&stand, REPORTS).await?) == (8 * MIB, 32 * MIB), "the sizes differ");
    // One that cannot be is told, and the stream works as it is.
    let coordinator = &mut stand.coordinators[0].daemon;
    coordinator.set_variable("BACKSTAY_JETSTREAM__KV_MAX_BYTES", &(400 * MIB).to_string());
    coordinator.kill9();
    coordinator.start_and_wait(SOON).await?;
    leads(&stand).await?;
    let log = stand.coordinators[0].daemon.log();
    ensure!(log.contains("could not change the size of the stream") && log.contains("kv_max_bytes"), "{log}");
    ensure!(back_up(&stand, CLUSTER).await?.len() == 2, "it does not work as it is");
    Ok(())
}

#[tokio::test]
async fn a_size_that_an_account_refuses_is_said_with_what_to_set() -> Result<()> {
    let mut stand =
        demanding(40).coordinator_variable("BACKSTAY_JETSTREAM__REPORTS_MAX_BYTES", "99000000").idle().start().await?;
    stand.start_daemons().await?;
    let coordinator = &mut stand.coordinators[0].daemon;
    let line = coordinator.wait_for_log("cannot take the lead yet", SOON).await?;
    ensure!(line.contains(REPORTS) && line.contains("lower [jetstream] reports_max_bytes"), "{line}");
    Ok(())
}

#[tokio::test]
async fn streams_of_an_earlier_build_are_taken_as_they_are() -> Result<()> {
    let mut stand = stand().cluster(CLUSTER, 1).local().idle().start().await?;
    let context = jetstream::new(stand.nats.client().await?);
    let earlier = |name: &str, subject: &str| stream::Config {
        name: name.into(),
        subjects: vec![subject.into()],
        max_bytes: -1,
        max_messages_per_subject: if name == KV { 1 } else { -1 },
        discard: if name == KV { stream::DiscardPolicy::New } else { stream::DiscardPolicy::Old },
        allow_rollup: name == KV,
        deny_delete: name == KV,
        ..stream::Config::default()
    };
    context.create_stream(earlier(KV, "$KV.backstay.>")).await?;
    context.create_stream(earlier(REPORTS, "backstay.v1.report.*.*")).await?;
    stand.start_daemons().await?;
    eventually(SOON, || async { resources(&stand, &["cluster", CLUSTER]).await.map(drop) }).await?;
    ensure!(back_up(&stand, CLUSTER).await?.len() == 1, "no backup");
    ensure!((size(&stand, KV).await?, size(&stand, REPORTS).await?) == (-1, -1), "they were changed");
    Ok(())
}

#[tokio::test]
async fn jetstream_that_is_off_is_said_once_with_the_server_and_what_to_set() -> Result<()> {
    let mut stand = stand().cluster(CLUSTER, 1).local().nats(nats("# no jetstream\n")).idle().start().await?;
    stand.start_daemons().await?;
    let url = stand.nats.url();
    let line = stand.coordinators[0].daemon.wait_for_log("cannot take the lead yet", SOON).await?;
    ensure!(
        line.contains(&url) && line.contains("JetStream is disabled") && line.contains("nats-server with -js"),
        "{line}"
    );
    let said = stand.ctl(&["status"]).await?.stderr;
    let expected = format!("Error: no coordinator answers on {url} (");
    ensure!(said.starts_with(&expected) && said.contains("start nats-server with -js"), "{said}");

    // Somebody who hears it and says nothing: three tries are seen, and each cause was told once.
    let mut asked = stand.nats.client().await?.subscribe("$JS.API.>").await?;
    for _ in 0..3 {
        tokio::time::timeout(SOON, asked.next()).await.context("it gave up")?.context("NATS has gone")?;
    }
    let log = stand.coordinators[0].daemon.log();
    let told = log.lines().filter(|line| line.contains("cannot take the lead yet")).count();
    ensure!((1..=2).contains(&told), "told {told} times:\n{log}");
    Ok(())
}

#[tokio::test]
async fn a_nats_that_is_down_is_told_with_growing_pauses() -> Result<()> {
    let mut stand = stand().cluster(CLUSTER, 1).local().idle().start().await?;
    stand.nats.stop();
    stand.start_daemons().await?;
    let url = stand.nats.url();
    for daemon in [&mut stand.coordinators[0].daemon, &mut stand.clusters[0].agents[0].daemon] {
        let line = daemon.wait_for_log("cannot connect to NATS", SOON).await?;
        ensure!(line.contains(&url) && line.contains("check that nats-server is running"), "{line}");
    }
    // Each try is a connection: several are seen.
    let listener = tokio::net::TcpListener::bind(url.trim_start_matches("nats://")).await?;
    for _ in 0..8 {
        drop(tokio::time::timeout(SOON, listener.accept()).await.context("nobody tries any more")??);
    }
    drop(listener);
    for daemon in [&stand.coordinators[0].daemon, &stand.clusters[0].agents[0].daemon] {
        let log = daemon.log();
        let told = log.lines().filter(|line| line.contains("cannot connect to NATS")).count();
        ensure!((1..=2).contains(&told), "told {told} times:\n{log}");
    }
    stand.nats.restart().await?;
    eventually(SOON, || async { leads(&stand).await }).await
}
