//! The way back with Backstay: from the bucket and the recovery key, with one command, to an etcd that serves.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_tests::{LoneEtcd, eventually};

use super::console::show;
use super::contents::{self, Contents};
use super::open::Opened;
use super::system::System;

const READY: Duration = Duration::from_secs(60);

const ENVIRONMENT: &str = "export AWS_ENDPOINT_URL=http://127.0.0.1:9000 AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=access \
                           AWS_SECRET_ACCESS_KEY=secret123";
const FOLDER: &str = "data";

/// Restores the newest backup, starts etcd on it, and compares it with what was opened before. The answer is the
/// revision that it begins with.
pub async fn newest_backup(system: &System, opened: &Opened) -> Result<i64> {
    let console = &system.console;
    console.heading("Restore it with one command: the bucket and the recovery key are enough");
    console.say("No coordinator and no NATS is asked: this is how it goes when nothing else is left.");
    console.run(&format!("{ENVIRONMENT}; unset BACKSTAY_NATS_URL\nbackstayctl list --store s3://mybucket")).await?;
    let restore = "backstayctl restore --store s3://mybucket --snapshot latest --identity recovery.key";
    let shown = console.run(&format!("{ENVIRONMENT}; unset BACKSTAY_NATS_URL\n{restore} --data-dir {FOLDER}")).await?;
    ensure!(shown.contains(&opened.name), "it restored another backup than {}", opened.name);
    let (contents, revision) = serve(system).await?;
    ensure!(contents == opened.contents, "it holds {contents:?}, the opened backup {:?}", opened.contents);
    ensure!(revision > opened.revision, "its revision {revision} did not jump from {}", opened.revision);
    Ok(revision)
}

/// Starts an etcd on the restored folder and reads it.
async fn serve(system: &System) -> Result<(Contents, i64)> {
    let console = &system.console;
    let etcd = LoneEtcd::start(console.folder(), FOLDER, "http", &[]).await?;
    let url = &etcd.client_url;
    show(&format!("etcd --data-dir {FOLDER} --listen-client-urls {url} … &"));
    let revision = eventually(READY, || contents::revision(url)).await;
    let revision =
        revision.with_context(|| format!("the restored etcd does not serve; its log ends:\n{}", etcd.tail()))?;
    console.run(&format!("etcdctl --endpoints {url} endpoint status -w table")).await?;
    console.run(&format!("etcdctl --endpoints {url} get /registry/ --prefix --keys-only --limit 3")).await?;
    Ok((contents::at(url, revision).await?, revision))
}
