//! One cluster that is stuck delays no other, and is noticed.

use anyhow::{Context, Result, ensure};
use backstay_tests::stand::StandBuilder;
use backstay_tests::{Op, Proxy, Wire, eventually};

use super::LONG;
use super::rig::{Rig, builder};

/// Enough that a snapshot does not fit into the windows and buffers between etcd and the agent.
const VALUES: usize = 400;
const VALUE_BYTES: usize = 64 * 1024;
/// What has passed when the wire freezes: the stream is open by then.
const PASSED: u64 = 3 * 1024 * 1024;

/// Manual and automatic backups of a cluster go on.
async fn goes_on(rig: &mut Rig, cluster: &str) -> Result<()> {
    let before = rig.count(cluster).await?;
    rig.set_interval(cluster, 1).await?;
    eventually(LONG, || async {
        let count = rig.count(cluster).await?;
        ensure!(count >= before + 2, "{cluster} waits for another cluster: it has {count} backups and had {before}");
        Ok(())
    })
    .await?;
    rig.must_back_up(cluster).await?;
    rig.set_interval(cluster, 3600).await
}

/// A backup that is stuck has not ended.
async fn still_running(rig: &Rig, cluster: &str) -> Result<()> {
    let status = rig.status(cluster).await?;
    ensure!(status.is_running(), "the backup of {cluster} ended while it was stuck: {status:?}");
    Ok(())
}

/// Two clusters; the etcd of `a` is behind a wire.
async fn behind_a_wire(builder: StandBuilder) -> Result<(Rig, Proxy)> {
    let mut rig = Rig::start_bare(builder.cluster("a", 1).cluster("b", 1).idle()).await?;
    let url = rig.cluster("a").etcd.members[0].client_url.clone();
    let address = url.trim_start_matches("http://").to_owned();
    let proxy = Proxy::start(address.parse()?).await?;
    let config = rig.cluster("a").agents[0].config.clone();
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text.replace(&address, &proxy.address().to_string()))?;
    rig.cluster("a").etcd.put_many("k", VALUES, VALUE_BYTES).await?;
    rig.start_daemons().await?;
    rig.set_up().await?;
    Ok((rig, proxy))
}

#[tokio::test]
async fn a_stuck_upload_delays_no_other_cluster() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1).cluster("b", 1)).await?;
    let a = rig.uuid("a").await?;
    let gate = rig.s3.hold(Op::UploadPart.always().key(&a));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    goes_on(&mut rig, "b").await?;
    still_running(&rig, "a").await?;
    gate.open();
    ensure!(rig.end(&round).await?.is_ok(), "it failed");
    rig.proven("a", 1).await?;
    rig.proven("b", rig.count("b").await?).await?;
    Ok(())
}

#[tokio::test]
async fn a_stuck_snapshot_delays_no_other_cluster() -> Result<()> {
    // The stream may be silent for as long as the other cluster takes.
    let patient = builder().coordinator_variable("BACKSTAY_BACKUP__STALL", "10m");
    let (mut rig, wire) = behind_a_wire(patient).await?;
    wire.set(Wire::Slow(4 * PASSED));
    let before = wire.passed();
    let round = rig.begin("a").await?;
    eventually(LONG, || async {
        ensure!(wire.passed() > before + PASSED, "{}", wire.passed());
        Ok(())
    })
    .await?;
    // Nothing ends, nothing is refused: the connection just brings no byte any more.
    rig.cluster_mut("a").etcd.members[0].pause()?;
    goes_on(&mut rig, "b").await?;
    still_running(&rig, "a").await?;
    rig.cluster_mut("a").etcd.members[0].resume()?;
    let status = rig.end(&round).await?;
    ensure!(status.is_ok(), "the snapshot did not go on when its etcd did: {status:?}");
    rig.proven("a", 1).await?;
    rig.proven("b", rig.count("b").await?).await?;
    Ok(())
}

#[tokio::test]
async fn a_snapshot_that_brings_no_byte_is_noticed_by_the_deadline_on_bytes() -> Result<()> {
    let stall = builder().coordinator_variable("BACKSTAY_BACKUP__STALL", "10s");
    let (mut rig, wire) = behind_a_wire(stall).await?;
    wire.set(Wire::Slow(4 * PASSED));
    let before = wire.passed();
    let round = rig.begin("a").await?;
    eventually(LONG, || async {
        ensure!(wire.passed() > before + PASSED, "{}", wire.passed());
        Ok(())
    })
    .await?;
    wire.set(Wire::Frozen);
    let status = rig.end(&round).await?;
    ensure!(status.is_error() && status.error.contains("for 10s"), "{status:?}");
    rig.holds("a", 0).await.context("after a stream that brought no byte")?;
    wire.set(Wire::Open);
    eventually(LONG, || async { wire_is_back(&rig).await }).await?;

    // A stream that breaks off is no snapshot either.
    wire.cut_after(PASSED);
    let status = rig.back_up("a").await?;
    ensure!(status.is_error() && status.error.contains("etcd"), "{status:?}");
    rig.holds("a", 0).await.context("after a stream that broke off")?;
    wire.mend();
    eventually(LONG, || async { wire_is_back(&rig).await }).await?;
    rig.must_back_up("a").await?;
    rig.proven("a", 1).await?;
    Ok(())
}

/// The agent sees its etcd again.
async fn wire_is_back(rig: &Rig) -> Result<()> {
    let raw = super::raw_commands::RawCommands::new(rig).await?;
    let beat = raw.beat(&rig.cluster("a").agents[0].machine.to_string()).await?;
    ensure!(beat.member.is_some(), "{}", beat.etcd_error);
    Ok(())
}
