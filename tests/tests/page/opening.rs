//! Every backup that is listed opens with age, zstd and etcd's own tool alone, and is what its manifest says.

use anyhow::{Context, Result, ensure};
use backstay_tests::{LoneEtcd, Stand, eventually, loader};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::terminal::{Terminal, snapshot_tool};
use crate::world::{CLUSTER, Listed, SOON, back_up, configured, listed, manifest, object};

const LOAD_BYTES: u64 = 12 << 20;

#[tokio::test]
async fn every_backup_opens_with_either_key_and_is_what_its_manifest_says() -> Result<()> {
    let stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    // An empty etcd is at revision 1, and its file knows of no revision.
    stand.cluster(CLUSTER).etcd.put_many("/earlier/", 1, 100).await?;
    back_up(&stand, CLUSTER).await?;
    let endpoint = stand.cluster(CLUSTER).etcd.members[0].client_url.clone();
    let loaded = loader::load(&endpoint, LOAD_BYTES, 7).await?;
    back_up(&stand, CLUSTER).await?;
    stand.cluster(CLUSTER).etcd.put_many("/later/", 10, 100).await?;
    let backups = back_up(&stand, CLUSTER).await?;
    assert_eq!(backups.len(), 3);

    let coordinator = stand.coordinators[0].folder.display();
    let key = format!("{}/key.age", backups[0].uuid);
    std::fs::write(terminal.folder().join("key.age"), object(&stand, &key).await?)?;
    // The cluster's key opens to the coordinator and to the operator alike.
    terminal.silent(&format!("age -d -i {coordinator}/coordinator.key key.age > cluster.key")).await?;
    terminal.silent(&format!("age -d -i {coordinator}/recovery.key key.age | cmp - cluster.key")).await?;
    for backup in &backups {
        let manifest = manifest(&stand, backup).await?;
        let revision = opens(&stand, &terminal, backup, &manifest).await.with_context(|| format!("{manifest:#}"))?;
        ensure!(revision >= manifest["origin"]["revision"].as_i64().context("a revision")?, "it is too old");
    }
    let counts = restored(&terminal).await?;
    assert_eq!(counts, (loaded.objects, 10), "the newest holds what was loaded before it");
    Ok(())
}

/// Opens one backup with both keys, compares it with its manifest, and restores it. The answer is its revision.
/// The newest one's data stays in `restored`.
async fn opens(stand: &Stand, terminal: &Terminal, backup: &Listed, manifest: &Value) -> Result<i64> {
    let sealed = object(stand, &backup.key()).await?;
    assert_eq!(manifest["sealed_bytes"], sealed.len(), "sealed bytes");
    assert_eq!(backup.size, sealed.len() as u64, "the size that is listed");
    assert_eq!(manifest["sealed_sha256"], hex(&sealed), "digest of the sealed object");
    std::fs::write(terminal.folder().join("sealed"), sealed)?;
    let recovery = stand.coordinators[0].folder.join("recovery.key");
    terminal.silent(&format!("age -d -i {} sealed | zstd -d -q > snapshot.db", recovery.display())).await?;
    terminal.silent("age -d -i cluster.key sealed | zstd -d -q | cmp - snapshot.db").await?;

    let opened = std::fs::read(terminal.folder().join("snapshot.db"))?;
    let (database, trailer) = opened.split_last_chunk::<32>().context("the file is shorter than a trailer")?;
    assert_eq!(manifest["snapshot_bytes"], database.len(), "bytes of the database");
    assert_eq!(manifest["snapshot_sha256"], hex(database), "digest of the database");
    assert_eq!(trailer[..], Sha256::digest(database)[..], "the trailer, as etcd writes it");

    let tool = snapshot_tool()?;
    let status = terminal.prints(&format!("{tool} snapshot status snapshot.db -w json")).await?;
    let status: Value = serde_json::from_str(&status)?;
    let folder = if *backup == listed(stand, CLUSTER).await?[0] { "restored" } else { "older" };
    let restore = format!("rm -rf {folder} && {tool} snapshot restore snapshot.db --data-dir {folder} 2> restore.log");
    terminal.silent(&restore).await?;
    status["revision"].as_i64().with_context(|| format!("no revision: {status}"))
}

/// Starts etcd on the newest backup's data: how many keys Kubernetes would see, and how many came later.
async fn restored(terminal: &Terminal) -> Result<(u64, u64)> {
    let etcd = LoneEtcd::start(terminal.folder(), "restored", "http", &[]).await?;
    let url = &etcd.client_url;
    let count = async |prefix: &str| -> Result<u64> {
        let get = format!("etcdctl --endpoints {url} get {prefix} --prefix --keys-only -w fields");
        let answer = terminal.prints(&get).await?;
        let count = answer.lines().find_map(|line| line.strip_prefix("\"Count\" : "));
        count.and_then(|c| c.parse().ok()).with_context(|| format!("no count: {answer}"))
    };
    let later = eventually(SOON, || count("/later/")).await?;
    Ok((count("/registry/").await?, later))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
