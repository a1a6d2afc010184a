//! A cluster with a backup and later writes, and what both outcomes of a restore look like.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use backstay_tests::stand::StandBuilder;
use backstay_tests::{Output, eventually};
use etcd_client::{Client, WatchOptions};
use serde_json::Value;

use super::LONG;
use super::rig::{Rig, builder};

pub const CLUSTER: &str = "one";
const KEPT: &str = "in the backup";
const PUT_BACK: &str = ".restored-and-put-back";
const LATER: &str = "written later";
/// How far revisions move on.
pub const BUMP: i64 = 1_000_000_000;

/// A stand whose cluster has a backup.
pub struct Ground {
    rig: Rig,
    /// The revision of the last write that the backup has.
    pub revision: i64,
    pub snapshot: String,
}

impl Deref for Ground {
    type Target = Rig;

    fn deref(&self) -> &Rig {
        &self.rig
    }
}

impl DerefMut for Ground {
    fn deref_mut(&mut self) -> &mut Rig {
        &mut self.rig
    }
}

/// A stand with one cluster that can be restored.
pub fn restorable(members: usize) -> StandBuilder {
    builder().cluster(CLUSTER, members).restorable()
}

impl Ground {
    /// Puts keys, takes a backup, and puts another key.
    pub async fn start(builder: StandBuilder) -> Result<Self> {
        let mut rig = Rig::start(builder).await?;
        let mut client = rig.cluster(CLUSTER).etcd.client().await?;
        rig.cluster(CLUSTER).etcd.put_many("key", 200, 100).await?;
        let put = client.put(KEPT, "old", None).await?;
        let revision = put.header().context("no header")?.revision();
        rig.must_back_up(CLUSTER).await?;
        let selector = format!("omni.sidero.dev/cluster={CLUSTER}");
        let listed = rig.get(&["etcdbackup", "--selector", &selector]).await?;
        let snapshot = listed[0]["spec"]["snapshot"].as_str().context("no snapshot")?.to_owned();
        let ground = Self { rig, revision, snapshot };
        ground.write_later().await?;
        Ok(ground)
    }

    /// Writes what the backup does not have.
    pub async fn write_later(&self) -> Result<()> {
        let mut client = self.client().await?;
        eventually(LONG, || {
            let mut client = client.clone();
            async move { Ok(client.put(LATER, "new", None).await?) }
        })
        .await?;
        client.put(KEPT, "new", None).await?;
        Ok(())
    }

    pub async fn client(&self) -> Result<Client> {
        self.cluster(CLUSTER).etcd.client().await
    }

    /// `backstayctl restore` of the cluster from its backup, to the end.
    pub async fn restore(&self, more: &[&str]) -> Result<Output> {
        let arguments = [&["restore", CLUSTER, "--snapshot", &self.snapshot, "--yes"], more].concat();
        self.ctl(&arguments).await
    }

    /// The restore as the coordinator tells it; null where there is none.
    pub async fn spec(&self) -> Result<Value> {
        let found = self.get(&["restore"]).await?;
        Ok(found.iter().find(|r| r["metadata"]["id"] == CLUSTER).map(|r| r["spec"].clone()).unwrap_or_default())
    }

    /// Waits until the restore has ended; its phase.
    pub async fn ended(&self) -> Result<String> {
        eventually(LONG * 2, || async {
            let spec = self.spec().await?;
            match spec["phase"].as_str() {
                Some(phase @ ("restored" | "failed")) => Ok(phase.to_owned()),
                _ => bail!("it is {spec}"),
            }
        })
        .await
    }

    /// The value of a key by each member's own, not linearizable word.
    async fn values(&self, key: &str) -> Result<Vec<Option<String>>> {
        let mut values = Vec::new();
        for member in &self.cluster(CLUSTER).etcd.members {
            let mut client = member.client().await?;
            let found = tokio::time::timeout(Duration::from_secs(2), client.get(key, None)).await??;
            values.push(found.kvs().first().map(|kv| kv.value_str().map(str::to_owned)).transpose()?);
        }
        Ok(values)
    }

    async fn holds(&self, kept: &str, later: Option<&str>) -> Result<()> {
        let all = |value: Option<&str>| vec![value.map(str::to_owned); self.cluster(CLUSTER).etcd.members.len()];
        let expected = (all(Some(kept)), all(later));
        eventually(LONG, || async {
            let found = (self.values(KEPT).await?, self.values(LATER).await?);
            ensure!(found == expected, "members have {found:?}, not {expected:?}");
            Ok(())
        })
        .await
    }

    /// Every member has the backup's data, and nothing later.
    pub async fn is_restored(&self) -> Result<()> {
        self.holds("old", None).await?;
        self.folders("before-restore", true)
    }

    /// Every member has what it had before.
    pub async fn is_as_before(&self) -> Result<()> {
        self.holds("new", Some("new")).await
    }

    /// No machine has anything left of what was prepared.
    pub fn is_clean(&self) -> Result<()> {
        self.folders(".restore-", false)
    }

    /// Whether each member has a neighbour of its data folder with this in its name; what etcd had run on before it was
    /// put back is kept, and does not count.
    pub fn folders(&self, part: &str, there: bool) -> Result<()> {
        for member in &self.cluster(CLUSTER).etcd.members {
            let parent = member.data_dir.parent().context("no parent")?;
            let name = member.data_dir.file_name().context("no name")?.to_string_lossy().into_owned();
            let found = std::fs::read_dir(parent)?
                .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
                .any(|entry| {
                    entry.starts_with(&format!("{name}.")) && entry.contains(part) && !entry.contains(PUT_BACK)
                });
            ensure!(found == there, "{part} beside {}: {found}", member.data_dir.display());
        }
        Ok(())
    }

    /// What a watch from before the restore is told: a compaction.
    pub async fn watcher_sees_a_compaction(&self) -> Result<()> {
        let mut client = self.client().await?;
        let options = WatchOptions::new().with_start_revision(self.revision + 1);
        let mut stream = client.watch(KEPT, Some(options)).await?;
        loop {
            let message = tokio::time::timeout(LONG, stream.message()).await??.context("the watch ended")?;
            if message.canceled() {
                ensure!(message.compact_revision() > self.revision, "cancelled at {}", message.compact_revision());
                return Ok(());
            }
        }
    }
}
