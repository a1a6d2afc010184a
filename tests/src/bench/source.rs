//! The etcd that is backed up: one member, loaded from a seed, then started anew on a restored snapshot, so that
//! neither its memory nor its log still holds the loading.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use backstay_tests::process::program;
use backstay_tests::{Etcd, EtcdOptions, Folder, Process, loader};

use super::inspection::Inspected;

/// Far above what is loaded.
pub const QUOTA_BYTES: u64 = 8 << 30;
/// etcd's trailer behind the database in a snapshot.
const TRAILER_BYTES: u64 = 32;

/// A loaded etcd.
pub struct Source {
    /// How many were loaded, each under a key of its own.
    pub objects: u64,
    /// Bytes of the database, as a snapshot has it.
    pub database_bytes: u64,
    /// How fast it is looked into.
    pub inspection: Inspected,
    etcd: Etcd,
}

impl Source {
    /// With so many MiB of keys and values.
    pub async fn start(mib: u64, seed: u64) -> Result<Self> {
        let options = EtcdOptions { quota_bytes: Some(QUOTA_BYTES), ..EtcdOptions::default() };
        let mut etcd = Etcd::start_with(options).await?;
        let loaded = loader::load(&etcd.members[0].client_url, mib << 20, seed).await?;
        let folder = Folder::new("bench-source")?;
        let snapshot = folder.path().join("snapshot.db");
        save(&etcd, folder.path(), &snapshot).await?;
        let database_bytes = fs::metadata(&snapshot)?.len() - TRAILER_BYTES;
        let member = &mut etcd.members[0];
        member.kill();
        let inspection = Inspected::measure(&snapshot, database_bytes)?;
        fs::remove_dir_all(&member.data_dir)
            .with_context(|| format!("failed to remove {}", member.data_dir.display()))?;
        let cluster = format!("{}={}", member.name, member.peer_url);
        let data_dir = member.data_dir.display().to_string();
        let restore = ["--name", &member.name, "--initial-cluster", &cluster, "--initial-advertise-peer-urls"];
        let restore = [&restore[..], &[&member.peer_url, "--data-dir", &data_dir, "snapshot", "restore"]].concat();
        etcdctl(folder.path(), &restore, &snapshot).await?;
        member.restart().await?;
        Ok(Self { objects: loaded.objects, database_bytes, inspection, etcd })
    }

    /// Its client URL.
    pub fn url(&self) -> &str {
        &self.etcd.members[0].client_url
    }

    /// Saves its snapshot as etcdctl does; what that prints goes nowhere.
    pub async fn save(&self, folder: &Path, file: &Path) -> Result<()> {
        save(&self.etcd, folder, file).await
    }

    pub async fn revision(&self) -> Result<i64> {
        let answer = self.etcd.client().await?.get("any", None).await?;
        Ok(answer.header().context("etcd's answer has no header")?.revision())
    }

    /// The member's process.
    pub fn process(&self) -> Result<&Process> {
        self.etcd.members[0].process().context("the etcd of the benchmark runs")
    }
}

/// A command for etcdctl that nothing in the environment changes.
pub fn etcdctl_command() -> Result<Command> {
    let mut command = Command::new(program("etcdctl")?);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD")) {
        command.env_remove(name);
    }
    command.env("ETCDCTL_API", "3");
    Ok(command)
}

async fn save(etcd: &Etcd, folder: &Path, file: &Path) -> Result<()> {
    etcdctl(folder, &["--endpoints", &etcd.members[0].client_url, "snapshot", "save"], file).await
}

async fn etcdctl(folder: &Path, arguments: &[&str], file: &Path) -> Result<()> {
    let mut command = etcdctl_command()?;
    command.args(arguments).arg(file);
    let ended = tokio::process::Command::from(command).current_dir(folder).kill_on_drop(true).output().await;
    let ended = ended.context("failed to run etcdctl")?;
    let error = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "etcdctl {} ended with {}:\n{error}", arguments.join(" "), ended.status);
    Ok(())
}
