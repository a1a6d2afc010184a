//! The documentation page, step by step: its commands with `backstayctl` for `omnictl`, and what each must show.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

use super::system::{CLUSTER, System};
use super::table::Table;

/// How soon the coordinator must have taken up its work.
const UP: Duration = Duration::from_secs(30);
/// How soon a backup must show: "a few seconds", with room for a machine that is busy.
const BACKUP: Duration = Duration::from_secs(60);

const OVERALL: &str = "backstayctl get etcdbackupoverallstatus";
const OVERALL_HEADER: &str = "NAMESPACE   TYPE                      ID                          VERSION   \
    CONFIGURATION NAME   CONFIGURATION ERROR   LAST BACKUP STATUS   LAST BACKUP ERROR   LAST BACKUP TIME   \
    CONFIGURATION ATTEMPT";

const S3_CONFIG: &str = r#"cat <<EOF > etcd-backup-s3-conf.yaml
metadata:
  namespace: default
  type: EtcdBackupS3Configs.omni.sidero.dev
  id: etcd-backup-s3-conf
spec:
  bucket: mybucket
  region: us-east-1
  endpoint: http://127.0.0.1:9000
  accesskeyid: access
  secretaccesskey: secret123
  sessiontoken: ""
EOF"#;

const MANUAL_BACKUP: &str = "cat <<EOF > etcd-manual-backup.yaml
metadata:
  namespace: ephemeral
  type: EtcdManualBackups.omni.sidero.dev
  id: talos-default
spec:
  backupat:
    seconds: $(date +%s)
    nanos: 0
EOF";

/// What the page shows as the first difference: these lines and no others.
const DIFF: [&str; 7] = [
    "--- Clusters.omni.sidero.dev(default/talos-default)",
    "+++ Clusters.omni.sidero.dev(default/talos-default)",
    "-  backupconfiguration: null",
    "+  backupconfiguration:",
    "+    interval:",
    "+      seconds: 3600",
    "+      nanos: 0",
];

/// "Check backup status".
pub async fn check_status(system: &System) -> Result<()> {
    system.console.heading("Check backup status");
    let shown = system.console.run_until(UP, OVERALL, |text| overall(text, "1", "not initialized")).await?;
    ensure!(shown.lines().next() == Some(OVERALL_HEADER), "the header is not the page's:\n{OVERALL_HEADER}");
    Ok(())
}

/// "Apply the S3 configuration".
pub async fn configure_s3(system: &System) -> Result<()> {
    let console = &system.console;
    console.heading("Configure S3 backup storage");
    console.run(S3_CONFIG).await?;
    prints_nothing(&console.run("backstayctl apply -f etcd-backup-s3-conf.yaml").await?)?;
    let shown = console.run(OVERALL).await?;
    overall(&shown, "2", "")
}

/// "If validation fails, the resource will not be created and an error will be returned."
pub async fn refuse_a_wrong_secret(system: &System) -> Result<()> {
    let console = &system.console;
    const CONFIG: &str = "backstayctl get etcdbackups3config etcd-backup-s3-conf -o yaml";
    console.heading("A wrong secret is refused, and what was in force stays in force");
    let before = console.quiet(CONFIG).await?.ok()?;
    console.run("sed s/secret123/wrong-secret/ etcd-backup-s3-conf.yaml > wrong.yaml").await?;
    let error = console.refused("backstayctl apply -f wrong.yaml").await?;
    for part in ["failed to apply wrong.yaml", "failed to list objects in bucket \"mybucket\"", "SignatureDoesNotMatch"]
    {
        ensure!(error.contains(part), "the error does not say {part:?}");
    }
    ensure!(!error.contains("wrong-secret"), "the error quotes the secret");
    let after = console.run(CONFIG).await?;
    ensure!(before == after, "the configuration in force was another before:\n{before}");
    ensure!(after.contains("<hidden>") && !after.contains("secret123"), "the secret is not hidden");
    let shown = console.run(OVERALL).await?;
    ensure!(Table::parse(&shown)?.cell("CONFIGURATION ERROR")?.is_empty(), "the status shows an error");
    Ok(())
}

/// "Create a manual backup". The answer is when it may have begun, in Unix seconds.
pub async fn manual_backup(system: &System) -> Result<RangeInclusive<i64>> {
    const STATUS: &str = "backstayctl get etcdbackupstatus -o yaml";
    let console = &system.console;
    console.heading("Create a manual backup");
    console.run(MANUAL_BACKUP).await?;
    prints_nothing(&console.run("backstayctl apply -f etcd-manual-backup.yaml").await?)?;
    let succeeded = |text: &str| {
        for line in ["  id: talos-default", "  owner: EtcdBackupController", "  status: 1", "  error: \"\""] {
            ensure!(text.lines().any(|l| l == line), "the status does not say {line:?}:\n{text}");
        }
        Ok(())
    };
    console.run_until(BACKUP, STATUS, succeeded).await?;
    let shown = console.run("backstayctl get etcdbackupoverallstatus -o yaml").await?;
    for line in ["  configurationname: s3", "  configurationerror: \"\"", "    status: 1"] {
        ensure!(shown.lines().any(|l| l == line), "the overall status does not say {line:?}");
    }
    console.say("The same file once more asks for nothing new: the listing below shows one backup.");
    prints_nothing(&console.run("backstayctl apply -f etcd-manual-backup.yaml").await?)?;
    let applied = std::fs::read_to_string(console.folder().join("etcd-manual-backup.yaml"))?;
    let asked = applied.lines().find_map(|line| line.strip_prefix("    seconds: "));
    let asked: i64 = asked.and_then(|s| s.parse().ok()).context("the manual backup's file names no time")?;
    // It is named by the second in which it was begun: after the request, and before its attempt was made.
    let taken = shown.split("lastbackuptime:").nth(1).and_then(|rest| rest.split("seconds: ").nth(1)?.lines().next());
    let taken: i64 = taken.and_then(|s| s.trim().parse().ok()).context("the overall status names no time")?;
    Ok(asked..=taken)
}

/// "Enable automatic backups", by a cluster template.
pub async fn cluster_template(system: &System, manual: RangeInclusive<i64>) -> Result<()> {
    let console = &system.console;
    console.heading("Enable automatic backups: cluster templates");
    let (masters, workers) = (system.machines(), [Uuid::new_v4(), Uuid::new_v4()].map(|id| id.to_string()));
    console.say("First the template without the block, so that the template manages the cluster.");
    console.run(&template(&masters, &workers, false)).await?;
    console.run("backstayctl cluster template -f etcd-backup.yaml sync").await?;
    console.say("Then the page's template, with the block.");
    console.run(&template(&masters, &workers, true)).await?;
    let diff = console.run("backstayctl cluster template -f etcd-backup.yaml diff").await?;
    let changed: Vec<&str> = diff.lines().filter(|line| line.starts_with(['+', '-'])).collect();
    ensure!(changed == DIFF, "the difference is not the page's:\n{}", DIFF.join("\n"));
    let synced = console.run("backstayctl cluster template -f etcd-backup.yaml sync").await?;
    ensure!(synced.trim() == "* updating Clusters.omni.sidero.dev(talos-default)", "sync did something else");
    let again = console.run("backstayctl cluster template -f etcd-backup.yaml diff").await?;
    prints_nothing(&again)?;
    let shown = console.run(&listing()).await?;
    let table = Table::parse(&shown)?;
    let id = table.cell("ID")?;
    let seconds = id.strip_prefix(&format!("{CLUSTER}-")).and_then(|seconds| seconds.parse::<i64>().ok());
    let seconds = seconds.filter(|seconds| manual.contains(seconds)).context("the listing is not the manual backup")?;
    ensure!(table.column("ID")?.len() == 1, "the listing is not the one manual backup");
    ensure!(table.cell("VERSION")? == "undefined", "the version is not the page's");
    ensure!(table.cell("CREATED AT")? == format!("{{\"nanos\":0,\"seconds\":{seconds}}}"), "the time is another");
    Ok(())
}

/// "Enable automatic backups", by the cluster resource; and one that the interval starts.
pub async fn cluster_resource(system: &System) -> Result<()> {
    let console = &system.console;
    console.heading("Enable automatic backups: the cluster resource");
    let get = format!("backstayctl get cluster {CLUSTER} -o yaml > cluster-backup.yaml");
    console.run(&get).await?;
    console.say("An interval of 10 s: this coordinator was told to allow that (backup.min_interval).");
    console.run("sed -i 's/seconds: 3600/seconds: 10/' cluster-backup.yaml && cat cluster-backup.yaml").await?;
    prints_nothing(&console.run("backstayctl apply -f cluster-backup.yaml").await?)?;
    console.say("The next backup is due 10 s after the manual one.");
    let backups = |text: &str| {
        let count = Table::parse(text)?.column("ID")?.len();
        ensure!(count >= 2, "{count} backups");
        Ok(())
    };
    console.run_until(BACKUP, &listing(), backups).await?;
    console.say("That will do: back to something longer.");
    let set = "sed -i 's/seconds: 10$/seconds: 7200/' cluster-backup.yaml";
    console.run(&format!("{get} && {set} && backstayctl apply -f cluster-backup.yaml")).await?;
    let interval = format!("backstayctl get cluster {CLUSTER} -o jsonpath='{{.spec.backupconfiguration}}'");
    let shown = console.run(&interval).await?;
    ensure!(shown.contains("7200"), "the interval is not the one that was applied");
    Ok(())
}

/// The command that lists the cluster's backups.
pub fn listing() -> String {
    format!("backstayctl get etcdbackup --selector omni.sidero.dev/cluster={CLUSTER}")
}

/// One row, `s3`, with this version and this error.
fn overall(text: &str, version: &str, error: &str) -> Result<()> {
    let table = Table::parse(text)?;
    let wanted = [("CONFIGURATION NAME", "s3"), ("VERSION", version), ("CONFIGURATION ERROR", error)];
    for (column, wanted) in wanted {
        let cell = table.cell(column)?;
        ensure!(cell == wanted, "{column} is {cell:?} instead of {wanted:?}");
    }
    Ok(())
}

fn prints_nothing(shown: &str) -> Result<()> {
    ensure!(shown.is_empty(), "it should print nothing");
    Ok(())
}

/// The page's template for these machines.
fn template(masters: &[String], workers: &[String], with_backups: bool) -> String {
    let features = "# add the backupConfiguration block to your cluster templates
features:
  backupConfiguration:
    interval: 1h
";
    let machines = |ids: &[String], what: &str| -> String {
        ids.iter().map(|id| format!("  - {id} # {what} machine uuid\n")).collect()
    };
    format!(
        "cat <<EOF > etcd-backup.yaml
kind: Cluster
name: {CLUSTER}
kubernetes:
  version: v1.28.2
talos:
  version: v1.5.5
{}---
kind: ControlPlane
machines:
{}---
kind: Workers
machines:
{}EOF",
        if with_backups { features } else { "" },
        machines(masters, "control plane"),
        machines(workers, "worker"),
    )
}
