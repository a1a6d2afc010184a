//! Three nats-servers, and streams with three replicas: whichever of them dies, backups go on.

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use backstay_tests::{Op, eventually};

use super::LONG;
use super::rig::{Rig, builder};

const SERVERS: usize = 3;
const STREAMS: [&str; 2] = ["KV_backstay", "BACKSTAY_REPORTS"];

/// Waits until each stream has all its replicas, none of them behind.
async fn replicated(rig: &Rig) -> Result<()> {
    let context = jetstream::new(rig.nats.client().await?);
    eventually(LONG, || async {
        for name in STREAMS {
            let mut stream = context.get_stream(name).await?;
            let info = stream.info().await?;
            ensure!(info.config.num_replicas == SERVERS, "{name} has {} replicas", info.config.num_replicas);
            let cluster = info.cluster.as_ref().context("a stream of a cluster")?;
            let whole = cluster.replicas.len() == SERVERS - 1 && cluster.replicas.iter().all(|replica| replica.current);
            ensure!(whole && cluster.leader.is_some(), "{name}: {cluster:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn backups_go_on_whichever_server_dies() -> Result<()> {
    let three = builder().nats_servers(SERVERS).coordinator_variable("BACKSTAY_JETSTREAM__REPLICAS", "3");
    let mut rig = Rig::start(three.cluster("a", 1)).await?;
    let mut backups = 0;
    // One of them leads each stream, and one is whom the daemons are connected to.
    for dead in 0..SERVERS {
        replicated(&rig).await?;
        // In the middle of an attempt: its report and the record outlive the server.
        let gate = rig.s3.hold(Op::UploadPart.nth(1));
        let round = rig.begin("a").await?;
        gate.reached(LONG).await?;
        rig.nats_server(dead).stop();
        gate.open();
        rig.s3.clear_faults();
        let status = rig.end(&round).await?;
        ensure!(status.is_ok(), "server {dead} died: {status:?}");
        // While it is away.
        rig.must_back_up("a").await?;
        backups += 2;
        rig.holds("a", backups).await?;
        rig.nats_server(dead).restart().await?;
    }
    rig.proven("a", backups).await?;
    Ok(())
}
