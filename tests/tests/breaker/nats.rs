//! NATS away, and NATS without its memory.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_archive::{Key, Store, catalog, reader, seal};
use backstay_protocol::ClusterUuid;
use backstay_tests::{Op, eventually};

use super::LONG;
use super::raw_commands::{RawCommands, failure, is_finished};
use super::rig::{Rig, builder};

const A_MINUTE: Duration = Duration::from_secs(60);

impl Rig {
    /// Reports that wait on the disk of the only agent.
    fn outbox(&self) -> Result<Vec<PathBuf>> {
        let folder = self.cluster("a").agents[0].state_dir.join("outbox");
        let files = std::fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))?;
        let paths = files.map(|file| Ok(file?.path())).collect::<Result<Vec<PathBuf>>>()?;
        Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "report")).collect())
    }

    /// Waits until the coordinator has noticed, since the mark, that it leads no more.
    async fn not_leading(&self, mark: usize) -> Result<()> {
        eventually(LONG, || async {
            let log = self.coordinators[0].daemon.log();
            ensure!(log[mark..].contains("no longer leading"), "it still leads");
            Ok(())
        })
        .await
    }

    /// Stops NATS while the agent's upload is held, until the coordinator has given up leading.
    async fn lose_nats(&mut self) -> Result<()> {
        let mark = self.coordinators[0].daemon.log().len();
        self.nats.stop();
        self.not_leading(mark).await
    }
}

#[tokio::test]
async fn the_report_of_a_backup_that_ended_without_nats_arrives_afterwards() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    let mut raw = RawCommands::new(&rig).await?;
    let uuid = rig.uuid("a").await?;
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    rig.lose_nats().await?;
    gate.open();
    rig.manifest_appears(&uuid).await?;
    eventually(LONG, || async {
        ensure!(!rig.outbox()?.is_empty(), "nothing waits");
        Ok(())
    })
    .await?;
    // What is tested is that the time passes: the pauses between tries grow meanwhile.
    tokio::time::sleep(A_MINUTE).await;
    rig.nats.restart().await?;
    ensure!(is_finished(&raw.final_report(|_| true).await?), "the report says that the attempt failed");
    let status = rig.end(&round).await?;
    ensure!(status.is_ok(), "{status:?}");
    eventually(LONG, || async {
        ensure!(rig.outbox()?.is_empty(), "it waits for ever");
        Ok(())
    })
    .await?;
    rig.proven("a", 1).await?;
    Ok(())
}

#[tokio::test]
async fn the_outbox_survives_a_restart_of_the_agent_without_nats() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    let mut raw = RawCommands::new(&rig).await?;
    let uuid = rig.uuid("a").await?;
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    rig.lose_nats().await?;
    gate.open();
    rig.manifest_appears(&uuid).await?;
    // Not only the backup: its report is on the disk, and the journal is closed.
    let agent = &mut rig.agent("a", 0).daemon;
    agent.wait_for_log("the backup is verified and stored", LONG).await?;
    eventually(LONG, || async {
        ensure!(!rig.outbox()?.is_empty(), "nothing waits");
        Ok(())
    })
    .await?;
    rig.agent("a", 0).daemon.kill9();
    rig.agent("a", 0).daemon.start_and_wait(LONG).await?;
    rig.nats.restart().await?;
    raw.final_report(|_| true).await?;
    let status = rig.end(&round).await?;
    ensure!(status.is_ok(), "{status:?}");
    rig.proven("a", 1).await?;

    // The same with an attempt that the restart cuts off: one error, and nothing is left of it.
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    rig.lose_nats().await?;
    rig.agent("a", 0).daemon.kill9();
    rig.s3.clear_faults();
    rig.agent("a", 0).daemon.start_and_wait(LONG).await?;
    rig.nats.restart().await?;
    let report = raw.final_report(|_| true).await?;
    ensure!(failure(&report)?.text.contains("restarted during the attempt"), "{report:?}");
    let status = rig.end(&round).await?;
    ensure!(status.is_error() && status.error.contains("restarted"), "{status:?}");
    rig.must_back_up("a").await?;
    rig.proven("a", 2).await?;
    Ok(())
}

#[tokio::test]
async fn nats_that_is_restarted_again_and_again_loses_nothing() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    for number in 1..=3 {
        let round = rig.begin("a").await?;
        rig.nats.restart().await?;
        let status = rig.end(&round).await?;
        ensure!(status.is_ok(), "{number}: {status:?}");
        rig.holds("a", number).await?;
    }
    rig.proven("a", 3).await?;
    Ok(())
}

#[tokio::test]
async fn nats_that_hangs_for_a_while_loses_nothing() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    let uuid = rig.uuid("a").await?;
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    let mark = rig.marks()[0];
    // Every connection stays open, and nobody answers.
    rig.nats.pause()?;
    rig.not_leading(mark).await?;
    gate.open();
    rig.manifest_appears(&uuid).await?;
    rig.nats.resume()?;
    let status = rig.end(&round).await?;
    ensure!(status.is_ok(), "{status:?}");
    rig.must_back_up("a").await?;
    rig.proven("a", 2).await?;
    Ok(())
}

#[tokio::test]
async fn a_wiped_nats_loses_no_backup() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1).cluster("b", 1)).await?;
    rig.must_back_up("a").await?;
    rig.must_back_up("a").await?;
    rig.must_back_up("b").await?;
    let (a, b) = (rig.uuid("a").await?, rig.uuid("b").await?);
    let listed = rig.listed("a").await?;
    // b has no agent any more: only the bucket knows it.
    rig.agent("b", 0).daemon.kill9();
    let marks = rig.marks();
    rig.nats.wipe().await?;
    // What it answers before is what it had in memory.
    rig.leader_of(&[0], &marks).await?;

    eventually(LONG, || async {
        let (now_a, now_b) = (rig.uuid("a").await?, rig.uuid("b").await?);
        ensure!(now_a == a && now_b == b, "{a} became {now_a}, {b} became {now_b}");
        let now = rig.listed("a").await?;
        ensure!(now == listed && rig.listed("b").await?.len() == 1, "listed: {now:?}");
        Ok(())
    })
    .await?;
    let stored = rig.get(&["etcdbackups3config"]).await?;
    ensure!(stored.len() == 1 && stored[0]["spec"]["bucket"] == rig.s3.bucket(), "{stored:?}");
    let overall = rig.get(&["etcdbackupoverallstatus"]).await?;
    ensure!(overall[0]["spec"]["configurationerror"] == "", "{overall:?}");

    eventually(LONG, || async { rig.agents_beat("a").await }).await?;
    rig.must_back_up("a").await?;
    ensure!(rig.proven("a", 3).await?.len() == 3 && rig.proven("b", 1).await?.len() == 1, "the counts differ");
    rig.cluster_key_opens(&a, 3).await
}

impl Rig {
    /// An agent of the cluster is connected: a manual backup that changes nothing is not refused for want of one.
    async fn agents_beat(&self, cluster: &str) -> Result<()> {
        let raw = RawCommands::new(self).await?;
        let machine = self.cluster(cluster).agents[0].machine.to_string();
        raw.beat(&machine).await.map(drop)
    }

    /// The key in the bucket, which the coordinator's identity opens, opens every backup of the cluster.
    async fn cluster_key_opens(&self, uuid: &str, expected: usize) -> Result<()> {
        let (store, uuid) = (self.store().await?, uuid.parse::<ClusterUuid>()?);
        let sealed = store.get(&Key::cluster_key(uuid), 65_536).await?;
        let text = seal::open_bytes(&self.key_file("coordinator.key")?, &sealed)?;
        let identity = seal::parse_identity(std::str::from_utf8(&text)?)?;
        let entries = catalog::list(&store, uuid).await?;
        ensure!(entries.len() == expected, "{entries:?}");
        for entry in entries {
            let manifest = catalog::manifest(&store, uuid, entry.snapshot).await?.context("it is listed")?;
            reader::open(&store, &manifest, Some(&identity), tokio::io::sink()).await?;
        }
        Ok(())
    }
}
