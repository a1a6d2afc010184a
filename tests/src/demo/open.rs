//! The way back without Backstay: Debian's age, zstd and etcd's own tool open the newest backup, an etcd starts on it,
//! and its contents are compared with the live cluster's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_tests::{LoneEtcd, eventually, releases};

use super::console::show;
use super::contents::{self, Contents};
use super::system::{CLUSTER, System};

const READY: Duration = Duration::from_secs(60);

/// A backup that was opened and found equal to its source.
pub struct Opened {
    /// The object's name in its cluster's folder.
    pub name: String,
    pub contents: Contents,
    pub revision: i64,
    pub database_bytes: u64,
}

/// Opens the newest backup of the bucket and compares it.
pub async fn newest_backup(system: &System) -> Result<Opened> {
    let (console, live) = (&system.console, system.live());
    let tool = releases::chosen()?.snapshot_tool();
    console.heading(&format!("Open the newest backup with age, zstd and {tool} alone"));
    console.say("The live cluster moves on first, so that the backup is not simply what is there now.");
    let put = "put /registry/configmaps/default/later 'not in any backup'";
    console.run(&format!("etcdctl --endpoints {live} {put}")).await?;
    console.say("Names sort newest first; the folder is the cluster's UUID.");
    let file = console.run(&format!("ls {}/*/*.snapshot | head -1", system.bucket().display())).await?;
    let file = file.trim();
    let name = file.rsplit('/').next().unwrap_or_default().to_owned();
    console.run(&format!("age -d -i recovery.key {file} | zstd -d -q > snapshot.db")).await?;
    console.say("The manifest beside it says what must come out.");
    let manifest = file.replace(".snapshot", ".manifest.json");
    let wanted = console.run(&format!("grep -E 'revision|snapshot_(bytes|sha256)' {manifest}")).await?;
    console
        .say(&format!("Behind the database are etcd's own 32 bytes: its sha256, which {tool} compares on restoring."));
    let digest = console.run("head -c -32 snapshot.db | sha256sum").await?;
    let digest = digest.split_whitespace().next().context("sha256sum printed nothing")?;
    ensure!(wanted.contains(digest), "the manifest gives another digest");
    console.run(&format!("{tool} snapshot status snapshot.db -w table")).await?;
    console.run(&format!("{tool} snapshot restore snapshot.db --data-dir restored 2> restore.log")).await?;
    let database_bytes = std::fs::metadata(console.folder().join("snapshot.db"))?.len();
    let (contents, revision) = compare(system).await?;
    Ok(Opened { name, contents, revision, database_bytes })
}

/// Starts an etcd on the restored folder, reads it and the live cluster at the same revision.
async fn compare(system: &System) -> Result<(Contents, i64)> {
    let (console, live) = (&system.console, system.live());
    let etcd = LoneEtcd::start(console.folder(), "restored", "http", &[]).await?;
    let url = &etcd.client_url;
    show(&format!("etcd {} &", etcd.arguments.join(" ")));
    let revision = eventually(READY, || contents::revision(url)).await;
    let revision = revision.with_context(|| format!("the restored etcd does not serve:\n{}", etcd.tail()))?;
    for endpoint in [live, url.as_str()] {
        let keys = format!("etcdctl --endpoints {endpoint} get / --prefix --keys-only --rev {revision}");
        console.run(&format!("{keys} | grep -c ^/")).await?;
    }
    let (restored, source) = tokio::try_join!(contents::at(url, revision), contents::at(live, revision))?;
    let now = contents::revision(live).await?;
    console.say(&format!("Everything at revision {revision}, read page by page (the live cluster is at {now}):"));
    for (what, contents) in [("restored", &restored), ("live", &source)] {
        println!("{what:9} {} keys, {} bytes, sha256 {}", contents.keys, contents.bytes, contents.sha256);
    }
    ensure!(restored.keys > 0 && now > revision, "there is nothing to compare");
    ensure!(restored == source, "the restored contents differ from the live cluster's at revision {revision}");
    Ok((restored, revision))
}

/// Looks at all of the bucket: pairs of backup and manifest, the cluster's key, and nothing that was left behind.
/// The answer is how many backups there are and how many bytes they have.
pub async fn nothing_else_in_the_bucket(system: &System) -> Result<(usize, u64)> {
    let (console, s3) = (&system.console, &system.stand.s3);
    console.heading("Nothing unfinished is left in the bucket");
    let listed = console.run(&super::page::listing()).await?.lines().count() - 1;
    let objects = s3.objects().await?;
    let mut backups = (0, 0);
    for (key, size) in &objects {
        println!("{size:>10}  {key}");
        if let Some(stem) = key.strip_suffix(".snapshot") {
            ensure!(objects.contains_key(&format!("{stem}.manifest.json")), "{key} has no manifest");
            backups = (backups.0 + 1, backups.1 + size);
        } else if let Some(stem) = key.strip_suffix(".manifest.json") {
            ensure!(objects.contains_key(&format!("{stem}.snapshot")), "{key} has no backup");
        } else {
            ensure!(key.ends_with("/key.age") || key.starts_with("names/"), "{key} should not be there");
        }
    }
    ensure!(backups.0 == listed, "the bucket holds {} backups of {CLUSTER} and {listed} are listed", backups.0);
    let unfinished = s3.unfinished().await?;
    ensure!(unfinished.is_empty(), "unfinished uploads: {unfinished:?}");
    let disk = std::fs::read_dir(system.s3_data()).context("failed to look at the S3 server's disk")?;
    for entry in disk {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ensure!(!name.starts_with(".upload"), "{name} was left on the S3 server's disk");
    }
    println!("unfinished uploads: 0");
    Ok(backups)
}
