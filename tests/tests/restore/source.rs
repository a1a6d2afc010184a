//! Clusters with a history, their backups, and the two ways back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use backstay_snapshot::restore::{NewMember, Options, RestoreError, Restored, Restorer};
use backstay_tests::releases::Release;
use backstay_tests::{Etcd, EtcdOptions, Folder};
use etcd_client::{Client, CompactionOptions, GetOptions, PutOptions};

/// Bytes of the sha256 behind the database.
const TRAILER_BYTES: usize = 32;

/// Whether the release writes members and the last record of the log as etcd 3.5 does.
pub fn writes_as_3_5(release: &Release) -> bool {
    release.version() >= (3, 5, 0)
}

/// `snapshot restore` by the release's own tool.
pub fn restore_by(release: &Release, backup: &Backup, cluster: &Etcd, member: usize, folder: &Path) -> Result<()> {
    let of = &cluster.members[member];
    let mut command = Command::new(release.program(release.snapshot_tool()));
    command.env("ETCDCTL_API", "3").args(["snapshot", "restore"]).arg(&backup.file);
    command.arg("--data-dir").arg(folder).args(["--name", &of.name]);
    command.args(["--initial-cluster", &cluster.initial_cluster(), "--initial-cluster-token", TOKEN]);
    command.args(["--initial-advertise-peer-urls", &of.peer_url]);
    let output = command.output().context("failed to run etcd's own restore")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

const TOKEN: &str = "restored";

/// A snapshot file, and what the member that sent it said.
#[derive(Debug)]
pub struct Backup {
    _folder: Folder,
    /// The database and its trailer, as `etcdctl snapshot save` writes it.
    pub file: PathBuf,
    /// Without the trailer.
    pub database: Vec<u8>,
    pub revision: i64,
    /// HashKV at that revision; `None` where the member refuses, as at the revision of a compaction.
    pub hash: Option<u32>,
    pub keys: Vec<Found>,
    pub leases: Vec<i64>,
}

/// A key as a client sees it: key, value, created, modified, version, lease.
pub type Found = (Vec<u8>, Vec<u8>, i64, i64, i64, i64);

/// Every key of a cluster.
pub async fn keys(client: &mut Client) -> Result<Vec<Found>> {
    let answer = client.get("\0", Some(GetOptions::new().with_from_key())).await?;
    let found = answer.kvs().iter().map(|kv| {
        let (key, value) = (kv.key().to_vec(), kv.value().to_vec());
        (key, value, kv.create_revision(), kv.mod_revision(), kv.version(), kv.lease())
    });
    Ok(found.collect())
}

pub async fn leases(client: &mut Client) -> Result<Vec<i64>> {
    let mut leases: Vec<i64> = client.leases().await?.leases().iter().map(|lease| lease.id()).collect();
    leases.sort_unstable();
    Ok(leases)
}

/// A cluster of one that has seen puts, overwriting, deletes, leases and a compaction.
pub async fn lived() -> Result<Etcd> {
    let etcd = Etcd::start(1).await?;
    etcd.put_many("/a/", 700, 300).await?;
    let mut client = etcd.client().await?;
    for lease in [111, 222] {
        client.lease_grant(3600, Some(etcd_client::LeaseGrantOptions::new().with_id(lease))).await?;
        client.put(format!("/leased/{lease}"), "kept", Some(PutOptions::new().with_lease(lease))).await?;
    }
    client.delete("/a/0000000", Some(etcd_client::DeleteOptions::new().with_prefix())).await?;
    let at = etcd.put_many("/a/", 300, 500).await?;
    client.compact(at - 2, Some(CompactionOptions::new().with_physical())).await?;
    etcd.put_many("/large/", 2, 300_000).await?;
    client.delete("/a/00000042", None).await?;
    Ok(etcd)
}

/// Takes a backup of its first member.
pub async fn backup(etcd: &Etcd) -> Result<Backup> {
    backup_by(etcd.members[0].client().await?).await
}

/// Takes a backup by a client of one member.
pub async fn backup_by(mut client: Client) -> Result<Backup> {
    let revision = client.get("any", None).await?.header().context("a header")?.revision();
    let mut stream = client.snapshot().await?;
    let mut whole = Vec::new();
    while let Some(frame) = stream.message().await? {
        whole.extend_from_slice(frame.blob());
    }
    let folder = Folder::new("restore")?;
    let file = folder.path().join("snapshot.db");
    fs::write(&file, &whole)?;
    whole.truncate(whole.len() - TRAILER_BYTES);
    let hash = client.hash_kv(revision).await.ok().map(|answer| answer.hash());
    let (keys, leases) = (keys(&mut client).await?, leases(&mut client).await?);
    Ok(Backup { _folder: folder, file, database: whole, revision, hash, keys, leases })
}

/// What every member of the new cluster is restored with; the revision stays.
pub fn options(cluster: &Etcd, member: usize) -> Options {
    let member_of =
        |m: &backstay_tests::EtcdMember| NewMember { name: m.name.clone(), peer_urls: vec![m.peer_url.clone()] };
    let members = cluster.members.iter().map(member_of).collect();
    Options { token: TOKEN.into(), bump: None, ..Options::new(&cluster.members[member].name, members) }
}

pub fn restore(database: &[u8], folder: &Path, options: Options) -> Result<Restored, RestoreError> {
    let mut restorer = Restorer::create(folder, options)?;
    for piece in database.chunks(100_000) {
        restorer.write(piece)?;
    }
    restorer.finish()
}

/// A cluster that is restored from the backup and serves; `change` changes the options of each member.
pub async fn restored(
    members: usize,
    backup: &Backup,
    change: impl Fn(Options) -> Options,
) -> Result<(Etcd, Restored)> {
    let mut etcd = Etcd::prepare(EtcdOptions { members, ..EtcdOptions::default() })?;
    let mut last = None;
    for index in 0..members {
        last = Some(restore(&backup.database, &etcd.members[index].data_dir, change(options(&etcd, index)))?);
    }
    etcd.run().await?;
    Ok((etcd, last.context("a cluster has members")?))
}
