//! The page's other way to automatic backups: the cluster resource, for a cluster that no template manages.

use anyhow::{Result, ensure};
use backstay_tests::eventually;

use crate::terminal::Terminal;
use crate::world::{SOON, configured};

/// The page's file, as it stands there, for a cluster that no template manages and that has no backup yet.
const RESOURCE: &str = "cat <<EOF > cluster-backup.yaml
# cluster-backup.yaml
metadata:
  namespace: default
  type: Clusters.omni.sidero.dev
  id: talos-default
  finalizers:
    - KubernetesUpgradeStatusController
    - TalosUpgradeStatusController
    - SecretsController
    - ClusterController
spec:
  installimage: \"\"
  kubernetesversion: 1.28.2
  talosversion: 1.5.5
  features:
    enableworkloadproxy: false
    diskencryption: false
  # add the backupconfiguration block
  backupconfiguration:
    interval:
      seconds: 3600
      nanos: 0
EOF";

#[tokio::test]
async fn the_page_s_file_takes_the_first_backup_at_once() -> Result<()> {
    let stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    eventually(SOON, || terminal.prints("backstayctl get cluster talos-default -o yaml")).await?;
    terminal.silent(RESOURCE).await?;
    terminal.silent("backstayctl apply -f cluster-backup.yaml").await?;
    let list = "backstayctl get etcdbackup --selector omni.sidero.dev/cluster=talos-default";
    eventually(SOON, || async {
        let printed = terminal.prints(list).await?;
        ensure!(printed.lines().count() == 2, "not one backup:\n{printed}");
        Ok(())
    })
    .await?;
    let shown = terminal.prints("backstayctl get cluster talos-default -o yaml").await?;
    ensure!(shown.contains("    - SecretsController\n"), "existing fields are not preserved:\n{shown}");
    Ok(())
}
