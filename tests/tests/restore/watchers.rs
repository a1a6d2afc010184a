//! Whoever watched the old cluster, and knows revisions that the backup lacks.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_snapshot::restore::{DEFAULT_BUMP, Options};
use backstay_tests::Etcd;
use etcd_client::WatchOptions;

use super::source::{backup, lived, restored};

const SOON: Duration = Duration::from_secs(60);
/// How long is listened for what must not come.
const SILENCE: Duration = Duration::from_secs(2);

/// The revision from which a watch that begins at `from` is told to begin anew; `None`: it heard of nothing.
async fn told_to_begin_anew(etcd: &Etcd, from: i64, patience: Duration) -> Result<Option<i64>> {
    let options = WatchOptions::new().with_start_revision(from).with_prefix();
    let mut stream = etcd.client().await?.watch("/", Some(options)).await?;
    let heard = async {
        while let Some(answer) = stream.message().await? {
            if answer.compact_revision() > 0 {
                return anyhow::Ok(answer.compact_revision());
            }
            ensure!(answer.events().is_empty(), "an event before the watch was told");
        }
        anyhow::bail!("the watch ended")
    };
    match tokio::time::timeout(patience, heard).await {
        Ok(heard) => heard.map(Some),
        Err(_) => Ok(None),
    }
}

#[tokio::test]
async fn a_watcher_from_before_is_told_and_waits_in_silence_without_the_jump() -> Result<()> {
    let etcd = lived().await?;
    let source = backup(&etcd).await?;
    // What the backup lacks, and the watcher saw.
    let seen = etcd.put_many("/lost/", 300, 10).await?;
    drop(etcd);

    let (back, _) = restored(1, &source, |options| options).await?;
    assert_eq!(told_to_begin_anew(&back, seen + 1, SILENCE).await?, None, "a jump is needed");

    for members in [1, 3] {
        let jump = |options| Options { bump: Some(DEFAULT_BUMP), ..options };
        let (etcd, told) = restored(members, &source, jump).await?;
        let anew = told_to_begin_anew(&etcd, seen + 1, SOON).await?.context("it was not told")?;
        assert_eq!(anew, told.revision_after);
        // From there on it hears of everything.
        let written = etcd.put_many("/new/", 1, 1).await?;
        assert_eq!(written, told.revision_after + 1);
        let options = WatchOptions::new().with_start_revision(written).with_prefix();
        let mut stream = etcd.client().await?.watch("/new/", Some(options)).await?;
        let heard = async {
            loop {
                let answer = stream.message().await?.context("the watch ended")?;
                if let Some(event) = answer.events().first() {
                    return anyhow::Ok(event.kv().context("a key")?.mod_revision());
                }
            }
        };
        assert_eq!(tokio::time::timeout(SOON, heard).await??, written);
    }
    Ok(())
}
