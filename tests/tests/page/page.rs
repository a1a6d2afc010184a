//! The page's commands in their order, with `backstayctl` for `omnictl`, and exactly what each prints.

use anyhow::{Context, Result, ensure};
use backstay_tests::{Stand, eventually};
use uuid::Uuid;

use crate::terminal::Terminal;
use crate::world::{CLUSTER, SOON, start};

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

const OVERALL_HEADER: &str = "NAMESPACE   TYPE                      ID                          VERSION   \
    CONFIGURATION NAME   CONFIGURATION ERROR   LAST BACKUP STATUS   LAST BACKUP ERROR   LAST BACKUP TIME   \
    CONFIGURATION ATTEMPT";

#[tokio::test]
async fn the_page_can_be_followed_literally() -> Result<()> {
    let stand = start(Stand::builder().cluster(CLUSTER, 1)).await?;
    let terminal = Terminal::new(&stand)?;
    check_backup_status(&terminal).await?;
    configure_s3(&stand, &terminal).await?;
    let manual = manual_backup(&terminal).await?;
    cluster_template(&stand, &terminal, manual).await?;
    cluster_resource(&terminal).await
}

async fn check_backup_status(terminal: &Terminal) -> Result<()> {
    let yaml = terminal.prints("backstayctl get etcdbackupoverallstatus -o yaml").await?;
    for line in ["  version: 1\n", "  configurationname: s3\n", "  configurationerror: not initialized\n"] {
        ensure!(yaml.contains(line), "{line:?} is not in\n{yaml}");
    }
    let printed = terminal.prints("backstayctl get etcdbackupoverallstatus").await?;
    assert_eq!(
        printed,
        format!(
            "{OVERALL_HEADER}\n\
             ephemeral   EtcdBackupOverallStatus   etcdbackup-overall-status   1         s3                   not initialized\n"
        )
    );
    Ok(())
}

async fn configure_s3(stand: &Stand, terminal: &Terminal) -> Result<()> {
    let endpoint = stand.s3.endpoint();
    let config = format!(
        "cat <<EOF > etcd-backup-s3-conf.yaml
metadata:
  namespace: default
  type: EtcdBackupS3Configs.omni.sidero.dev
  id: etcd-backup-s3-conf
spec:
  bucket: {bucket}
  region: {region}
  endpoint: {endpoint}
  accesskeyid: {id}
  secretaccesskey: {secret}
  sessiontoken: \"\"
EOF",
        bucket = stand.s3.bucket(),
        region = stand.s3.region(),
        id = stand.s3.access_key_id(),
        secret = stand.s3.secret_access_key(),
    );
    terminal.silent(&config).await?;
    terminal.silent("backstayctl apply -f etcd-backup-s3-conf.yaml").await?;
    let printed = terminal.prints("backstayctl get etcdbackupoverallstatus").await?;
    let row = "ephemeral   EtcdBackupOverallStatus   etcdbackup-overall-status   2         s3";
    let attempt = OVERALL_HEADER.find("CONFIGURATION ATTEMPT").context("the last column")?;
    assert_eq!(printed, format!("{OVERALL_HEADER}\n{row:<attempt$}1\n"));
    Ok(())
}

/// The answer is the time that was asked for.
async fn manual_backup(terminal: &Terminal) -> Result<i64> {
    terminal.silent(MANUAL_BACKUP).await?;
    terminal.silent("backstayctl apply -f etcd-manual-backup.yaml").await?;
    let printed = eventually(SOON, || async {
        let printed = terminal.prints("backstayctl get etcdbackupstatus -o yaml").await?;
        ensure!(printed.contains("\n  status: 1\n"), "the backup has not ended well yet:\n{printed}");
        Ok(printed)
    });
    let status = "\
metadata:
  namespace: ephemeral
  type: EtcdBackupStatuses.omni.sidero.dev
  id: talos-default
  version: 2
  owner: EtcdBackupController
  phase: running
  created: TIME
  updated: TIME
spec:
  status: 1
  error: \"\"
  lastbackuptime:
    seconds: N
    nanos: N
  lastbackupattempt:
    seconds: N
    nanos: N
";
    assert_eq!(masked(&printed.await?), status);
    let overall = "\
metadata:
  namespace: ephemeral
  type: EtcdBackupOverallStatuses.omni.sidero.dev
  id: etcdbackup-overall-status
  version: 4
  owner: EtcdBackupOverallStatusController
  phase: running
  created: TIME
  updated: TIME
spec:
  configurationname: s3
  configurationerror: \"\"
  configurationattempt: 1
  lastbackupstatus:
    status: 1
    error: \"\"
    lastbackuptime:
      seconds: N
      nanos: N
    lastbackupattempt:
      seconds: N
      nanos: N
";
    // It follows the cluster's own status.
    eventually(SOON, || async {
        let printed = masked(&terminal.prints("backstayctl get etcdbackupoverallstatus -o yaml").await?);
        ensure!(printed == overall, "it prints\n{printed}instead of\n{overall}");
        Ok(())
    })
    .await?;
    let file = std::fs::read_to_string(terminal.folder().join("etcd-manual-backup.yaml"))?;
    let seconds = file.lines().find_map(|line| line.strip_prefix("    seconds: "));
    seconds.and_then(|s| s.parse().ok()).context("the file names no time")
}

async fn cluster_template(stand: &Stand, terminal: &Terminal, manual: i64) -> Result<()> {
    let machine = stand.cluster(CLUSTER).agents[0].machine;
    let workers = [Uuid::new_v4(), Uuid::new_v4()];
    // The page's cluster is managed by its template already.
    terminal.silent(&template(machine, workers, "")).await?;
    terminal.prints("backstayctl cluster template -f etcd-backup.yaml sync").await?;
    let block = "# add the backupConfiguration block to your cluster templates
features:
  backupConfiguration:
    interval: 1h
";
    terminal.silent(&template(machine, workers, block)).await?;
    let diff = terminal.prints("backstayctl cluster template -f etcd-backup.yaml diff").await?;
    assert_eq!(
        diff,
        "\
--- Clusters.omni.sidero.dev(default/talos-default)
+++ Clusters.omni.sidero.dev(default/talos-default)
@@ -16,4 +16,7 @@
   features:
     enableworkloadproxy: false
     diskencryption: false
-  backupconfiguration: null
+  backupconfiguration:
+    interval:
+      seconds: 3600
+      nanos: 0
"
    );
    let synced = terminal.prints("backstayctl cluster template -f etcd-backup.yaml sync").await?;
    assert_eq!(synced, "* updating Clusters.omni.sidero.dev(talos-default)\n");
    terminal.silent("backstayctl cluster template -f etcd-backup.yaml diff").await?;
    let list = "backstayctl get etcdbackup --selector omni.sidero.dev/cluster=talos-default";
    let printed = terminal.prints(list).await?;
    let seconds = printed.split("talos-default-").nth(1).and_then(|t| t.split(' ').next()).context("no row")?;
    let snapshot = format!("{:016X}.snapshot", -seconds.parse::<i64>()?);
    assert_eq!(
        printed,
        format!(
            "NAMESPACE   TYPE         ID                         VERSION     CREATED AT                         SNAPSHOT\n\
             external    EtcdBackup   talos-default-{seconds}   undefined   {{\"nanos\":0,\"seconds\":{seconds}}}   {snapshot}\n"
        )
    );
    ensure!(seconds.parse::<i64>()? >= manual, "the one backup is not the manual one");
    Ok(())
}

/// The page's template for these machines.
fn template(machine: Uuid, [one, two]: [Uuid; 2], block: &str) -> String {
    format!(
        "cat <<EOF > etcd-backup.yaml
kind: Cluster
name: talos-default
kubernetes:
  version: v1.28.2
talos:
  version: v1.5.5
{block}---
kind: ControlPlane
machines:
  - {machine} # control plane machine uuid
---
kind: Workers
machines:
  - {one} # worker machine uuid
  - {two} # worker machine uuid
EOF"
    )
}

async fn cluster_resource(terminal: &Terminal) -> Result<()> {
    terminal.silent("backstayctl get cluster talos-default -o yaml > cluster-backup.yaml").await?;
    terminal.silent("sed -i 's/seconds: 3600/seconds: 7200/' cluster-backup.yaml").await?;
    terminal.silent("backstayctl apply -f cluster-backup.yaml").await?;
    let printed = terminal.prints("backstayctl get cluster talos-default -o yaml").await?;
    assert_eq!(
        masked_times(&printed),
        "\
metadata:
  namespace: default
  type: Clusters.omni.sidero.dev
  id: talos-default
  version: 4
  owner:
  phase: running
  created: TIME
  updated: TIME
  annotations:
    omni.sidero.dev/managed-by-cluster-templates:
spec:
  installimage: \"\"
  kubernetesversion: 1.28.2
  talosversion: 1.5.5
  features:
    enableworkloadproxy: false
    diskencryption: false
  backupconfiguration:
    interval:
      seconds: 7200
      nanos: 0
"
    );
    // The file that was applied is older than what the server has by now.
    let error = terminal.refused("backstayctl apply -f cluster-backup.yaml").await?;
    assert_eq!(
        error,
        "Error: failed to apply cluster-backup.yaml: Clusters.omni.sidero.dev(default/talos-default): the file has version 3, but the server has version 4: get it again and apply your change to that version"
    );
    Ok(())
}

/// Times of metadata and of the spec in place of what they are.
fn masked(yaml: &str) -> String {
    let line = |line: &str| match line.split_once(": ") {
        Some((key, number)) if matches!(key.trim_start(), "seconds" | "nanos") && number.parse::<i64>().is_ok() => {
            format!("{key}: N\n")
        }
        _ => format!("{line}\n"),
    };
    masked_times(yaml).lines().map(line).collect()
}

/// Only the times of metadata; they must look like times.
fn masked_times(yaml: &str) -> String {
    let line = |line: &str| match line.split_once(": ") {
        Some((key @ ("  created" | "  updated"), time)) if time.len() == 20 && time.ends_with('Z') => {
            format!("{key}: TIME\n")
        }
        _ => format!("{line}\n"),
    };
    yaml.lines().map(line).collect()
}
