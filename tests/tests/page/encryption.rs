//! Keys: without a recovery recipient nothing starts, `init` keeps secrets to itself and overwrites nothing,
//! and without encryption backups are plain zstd.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use backstay_tests::{Stand, eventually};

use crate::terminal::{Terminal, snapshot_tool};
use crate::world::{CLUSTER, SOON, back_up, leads, manifest, object, resources, stand};

/// The configuration without its section on encryption, which is its last.
fn without_encryption(stand: &Stand) -> Result<String> {
    let file = stand.coordinators[0].folder.join("coordinator.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
    let (rest, _) = text.split_once("[encryption]").context("init writes a section on encryption")?;
    Ok(rest.to_owned())
}

#[tokio::test]
async fn without_a_recovery_recipient_the_coordinator_refuses_to_start() -> Result<()> {
    let stand = stand().cluster(CLUSTER, 1).idle().start().await?;
    let terminal = Terminal::new(&stand)?;
    for (text, says) in [
        ("", "there is no recovery recipient, so if the coordinator is lost, every backup is lost"),
        ("[encryption]\nrecovery_recipients = []\n", "there is no recovery recipient"),
        ("[encryption]\nrecovery_recipients = [\"age1nonsense\"]\n", "recovery_recipients: "),
        ("[encryption]\nmode = \"none\"\n", "unknown variant"),
        ("[encryption]\nmode = \"off\"\nrecovery_recipients = [\"age1x\"]\n", "choose one"),
    ] {
        std::fs::write(terminal.folder().join("coordinator.toml"), format!("{}{text}", without_encryption(&stand)?))?;
        let error = terminal.refused("timeout 60 backstay-coordinator serve --config coordinator.toml").await?;
        ensure!(error.starts_with("Error: ") && error.contains(says), "{text:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn without_encryption_backups_are_plain_zstd() -> Result<()> {
    let mut stand = stand().cluster(CLUSTER, 1).idle().start().await?;
    let config = stand.coordinators[0].folder.join("coordinator.toml");
    std::fs::write(&config, format!("{}[encryption]\nmode = \"off\"\n", without_encryption(&stand)?))?;
    stand.start_daemons().await?;
    leads(&stand).await?;
    stand.configure_s3().await?;
    // Its agent's first beat makes the cluster known.
    eventually(SOON, || async {
        ensure!(!resources(&stand, &["agents"]).await?.is_empty(), "no agent is heard yet");
        Ok(())
    })
    .await?;
    let backup = back_up(&stand, CLUSTER).await?.remove(0);
    let manifest = manifest(&stand, &backup).await?;
    assert_eq!(manifest["seal"]["encryption"], "none");
    assert_eq!(manifest["seal"]["recipients"], serde_json::json!([]));
    let terminal = Terminal::new(&stand)?;
    std::fs::write(terminal.folder().join("plain.zst"), object(&stand, &backup.key()).await?)?;
    terminal.silent("zstd -d -q < plain.zst > snapshot.db").await?;
    terminal.prints(&format!("{} snapshot status snapshot.db", snapshot_tool()?)).await?;
    let keys: Vec<String> = stand.s3.objects().await?.into_keys().filter(|key| key.ends_with("key.age")).collect();
    ensure!(keys.is_empty(), "a key of no use: {keys:?}");
    Ok(())
}

#[tokio::test]
async fn init_keeps_secrets_to_itself_and_never_overwrites() -> Result<()> {
    let stand = stand().cluster(CLUSTER, 1).idle().start().await?;
    let terminal = Terminal::new(&stand)?;
    let said = terminal.prints("umask 000; backstay-coordinator init --dir new").await?;
    let folder = terminal.folder().join("new");
    assert_eq!(mode(&folder)?, 0o700);
    let before = contents(&folder)?;
    assert_eq!(before.keys().collect::<Vec<_>>(), ["coordinator.key", "coordinator.toml", "recovery.key"]);
    for name in before.keys() {
        assert_eq!(mode(&folder.join(name))?, 0o600, "{name}");
        ensure!(said.contains(&folder.join(name).display().to_string()), "it does not say where {name} is:\n{said}");
    }
    ensure!(!said.contains("AGE-SECRET-KEY"), "it prints a secret");
    ensure!(!before["coordinator.toml"].contains("AGE-SECRET-KEY"), "the configuration holds a secret");
    for name in ["coordinator.key", "recovery.key"] {
        ensure!(before[name].contains("AGE-SECRET-KEY-1"), "{name} is no age key");
    }

    let again = terminal.refused("backstay-coordinator init --dir new").await?;
    ensure!(again.contains("already exists: init never overwrites"), "{again}");
    // Not even where a part is missing: the rest would not fit it any more.
    terminal.silent("rm new/coordinator.toml").await?;
    terminal.refused("backstay-coordinator init --dir new --local /srv/backups").await?;
    let after = contents(&folder)?;
    ensure!(after.iter().all(|(name, text)| before[name] == *text) && after.len() == 2, "it wrote something");
    let relative = terminal.refused("backstay-coordinator init --dir other --local backups").await?;
    ensure!(relative.contains("must be an absolute path"), "{relative}");
    ensure!(!terminal.folder().join("other").exists(), "it wrote before it checked");
    Ok(())
}

fn mode(path: &Path) -> Result<u32> {
    let metadata = std::fs::metadata(path).with_context(|| format!("failed to look at {}", path.display()))?;
    Ok(metadata.permissions().mode() & 0o777)
}

/// The files of a folder and what they say.
fn contents(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), std::fs::read_to_string(entry.path())?);
    }
    Ok(files)
}
