//! What is refused: the error's text, exit code 1, and nothing changed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_tests::daemon::bare_command;
use backstay_tests::{Stand, daemon::binary, free_port};

use crate::terminal::Terminal;
use crate::world::{CLUSTER, configured, listed, now, resources, stand, start};

/// Longer than a command may take to find out that nobody is there, on a machine that is busy.
const ABSENT: Duration = Duration::from_secs(60);

/// What comes before the reason in the error of an `apply`.
fn prefix(file: &str, kind: &str, address: &str) -> String {
    format!("Error: failed to apply {file}: {kind}.omni.sidero.dev({address}): ")
}

/// Applies a text that must be refused; the answer is the reason.
pub async fn reason(terminal: &Terminal, kind: &str, address: &str, yaml: &str) -> Result<String> {
    std::fs::write(terminal.folder().join("refused.yaml"), yaml)?;
    let error = terminal.refused("backstayctl apply -f refused.yaml").await?;
    let prefix = prefix("refused.yaml", kind, address);
    let reason = error.strip_prefix(&prefix);
    reason.map(str::to_owned).with_context(|| format!("the error does not begin with {prefix:?}: {error}"))
}

async fn manual_reason(terminal: &Terminal, cluster: &str, seconds: i64) -> Result<String> {
    let yaml = Stand::manual_backup(cluster, seconds);
    reason(terminal, "EtcdManualBackups", &format!("ephemeral/{cluster}"), &yaml).await
}

#[tokio::test]
async fn manual_backups_that_cannot_be_taken() -> Result<()> {
    let mut stand = start(stand().cluster(CLUSTER, 1).cluster("silent", 1)).await?;
    let terminal = Terminal::new(&stand)?;
    stand.cluster_mut("silent").agents[0].daemon.kill9();
    let reason_of = |cluster: &'static str, seconds: i64| manual_reason(&terminal, cluster, seconds);

    let early = reason_of(CLUSTER, now()).await?;
    assert_eq!(early, "backup storage is not configured yet: apply its configuration (`backstayctl apply -f FILE`)");
    stand.configure_s3().await?;

    let past = reason_of(CLUSTER, now() - 61).await?;
    assert_eq!(past, "backup time must not be more than 1 minute in the past");
    // The command takes a while, so the future is tried further out than by a second.
    let future = reason_of(CLUSTER, now() + 90).await?;
    assert_eq!(future, "backup time must not be more than 1 minute in the future");
    assert_eq!(reason_of("nowhere", now()).await?, "cluster \"nowhere\" does not exist");
    let nanos = Stand::manual_backup(CLUSTER, now()).replace("nanos: 0", "nanos: 1");
    let address = format!("ephemeral/{CLUSTER}");
    assert_eq!(reason(&terminal, "EtcdManualBackups", &address, &nanos).await?, "nanos must be 0");
    let no_time = Stand::manual_backup(CLUSTER, 0);
    let no_time = no_time.split("spec:").next().unwrap_or_default();
    assert_eq!(reason(&terminal, "EtcdManualBackups", &address, no_time).await?, "backup time must be specified");
    let gone = backstay_tests::eventually(crate::world::SOON, || async {
        let reason = reason_of("silent", now()).await?;
        ensure!(reason.contains("connected"), "{reason}");
        Ok(reason)
    });
    assert_eq!(gone.await?, "no agent of cluster \"silent\" is connected");

    ensure!(listed(&stand, CLUSTER).await?.is_empty(), "a refused backup was taken");
    ensure!(resources(&stand, &["etcdmanualbackup"]).await?.is_empty(), "a refused backup was stored");
    Ok(())
}

#[tokio::test]
async fn a_minute_off_is_allowed() -> Result<()> {
    let stand = configured().await?;
    // The command itself takes a moment, so the past is tried well within its minute.
    for seconds in [now() - 45, now() + 55] {
        stand.apply(&Stand::manual_backup(CLUSTER, seconds)).await?.ok()?;
    }
    crate::world::at_least(&stand, CLUSTER, 2).await?;
    Ok(())
}

#[tokio::test]
async fn intervals_owners_and_misspelt_fields() -> Result<()> {
    let stand = start(Stand::builder().cluster(CLUSTER, 1)).await?;
    let terminal = Terminal::new(&stand)?;
    let cluster = |backup: &str| {
        format!("metadata:\n  namespace: default\n  type: Clusters.omni.sidero.dev\n  id: {CLUSTER}\nspec:\n{backup}")
    };
    let interval =
        |seconds: u64| cluster(&format!("  backupconfiguration:\n    interval:\n      seconds: {seconds}\n"));
    let address = format!("default/{CLUSTER}");
    let refused = async |yaml: &str| reason(&terminal, "Clusters", &address, yaml).await;
    let before = terminal.prints("backstayctl get cluster -o yaml").await?;

    assert_eq!(refused(&interval(30)).await?, "backup interval must be at least 1m0s, got 30s");
    assert_eq!(refused(&interval(90_000)).await?, "backup interval must be at most 24h0m0s, got 25h0m0s");
    let enabled = cluster("  backupconfiguration:\n    enabled: true\n");
    assert_eq!(refused(&enabled).await?, "automatic backups are enabled without an interval");
    let misspelt = cluster("  backupconfiguration:\n    intervall:\n      seconds: 3600\n");
    let misspelt = refused(&misspelt).await?;
    ensure!(misspelt.contains("intervall") && misspelt.contains("did you mean \"interval\"?"), "{misspelt}");

    for (kind, address) in [
        ("EtcdBackupStatuses", format!("ephemeral/{CLUSTER}")),
        ("EtcdBackupOverallStatuses", "ephemeral/etcdbackup-overall-status".to_owned()),
        ("EtcdBackups", format!("external/{CLUSTER}-1702166400")),
    ] {
        let (namespace, id) = address.split_once('/').context("namespace and id")?;
        let yaml =
            format!("metadata:\n  namespace: {namespace}\n  type: {kind}.omni.sidero.dev\n  id: {id}\nspec: {{}}\n");
        let reason = reason(&terminal, kind, &address, &yaml).await?;
        assert_eq!(reason, format!("{kind}.omni.sidero.dev is read-only"));
    }
    let after = terminal.prints("backstayctl get cluster -o yaml").await?;
    assert_eq!(before, after, "a refusal changed the cluster");
    Ok(())
}

#[tokio::test]
async fn a_template_with_too_short_an_interval_changes_nothing() -> Result<()> {
    let stand = start(Stand::builder().cluster(CLUSTER, 1)).await?;
    let terminal = Terminal::new(&stand)?;
    let before = terminal.prints("backstayctl get cluster -o yaml").await?;
    let template = format!(
        "cat <<EOF > etcd-backup.yaml\nkind: Cluster\nname: {CLUSTER}\nkubernetes:\n  version: v1.28.2\ntalos:\n  \
         version: v1.5.5\nfeatures:\n  backupConfiguration:\n    interval: 30s\n---\nkind: ControlPlane\nmachines:\n  \
         - {}\nEOF",
        stand.cluster(CLUSTER).agents[0].machine
    );
    terminal.silent(&template).await?;
    let sync = terminal.run("backstayctl cluster template -f etcd-backup.yaml sync").await?;
    assert_eq!(sync.status.code(), Some(1), "{sync:?}");
    ensure!(sync.stderr.contains("backup interval must be at least 1m0s, got 30s"), "{}", sync.stderr);
    let after = terminal.prints("backstayctl get cluster -o yaml").await?;
    assert_eq!(before, after, "a refusal changed the cluster");
    Ok(())
}

#[tokio::test]
async fn an_absent_coordinator_and_an_absent_nats_are_said_soon_and_without_the_password() -> Result<()> {
    // NATS is there and nobody serves the API; then not even NATS is there.
    let stand = stand().cluster(CLUSTER, 1).idle().start().await?;
    let nobody = free_port()?;
    let there = (stand.nats.url().replace("nats://", ""), "no coordinator answers on");
    for (address, says) in [there, (nobody.address().to_string(), "cannot reach NATS on")] {
        for arguments in [&["get", "etcdbackupoverallstatus"][..], &["get", "cluster", "-o", "yaml"][..]] {
            let url = format!("nats://me:hunter2@{address}");
            let mut command = tokio::process::Command::from(bare_command(&binary("backstayctl")?));
            command.args(["--nats", &url]).args(arguments).kill_on_drop(true);
            let ended = tokio::time::timeout(ABSENT, command.output()).await;
            let ended = ended.context("the command does not notice that nobody is there")??;
            let (out, err) = (String::from_utf8(ended.stdout)?, String::from_utf8(ended.stderr)?);
            let start = format!("Error: {says} nats://{address} (");
            ensure!(ended.status.code() == Some(1) && out.is_empty() && err.starts_with(&start), "{out}{err}");
            ensure!(!err.contains("hunter2") && !err.contains("me:"), "the password is shown: {err}");
        }
    }
    Ok(())
}
