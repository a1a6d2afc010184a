//! Proofs by an etcd that serves the backup, of databases as people have them: restored with a jump of the revision, by us and
//! by etcd's own tool, with large values, leases, alarms, authentication, and compacted at the newest revision.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_tests::{EtcdOptions, Folder, Stand, eventually, releases};
use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, ConnectOptions, GetOptions, LeaseGrantOptions,
    PutOptions,
};

use crate::look::{Snapshot, revision};

const CLUSTER: &str = "lived";
const SOON: Duration = Duration::from_secs(90);
const PASSWORD: &str = "hunter2";

/// A cluster of one, whose etcd takes values of up to 20 MB.
async fn start() -> Result<Stand> {
    let etcd = EtcdOptions { arguments: vec!["--max-request-bytes=20000000".into()], ..EtcdOptions::default() };
    let builder = Stand::builder().brisk();
    let stand = builder.cluster(CLUSTER, 1).local().etcd(etcd).start().await?;
    stand.cluster(CLUSTER).etcd.put_many("small/", 150, 200).await?;
    Ok(stand)
}

/// Takes a backup and has it proven; what was found, in one line.
async fn proof(stand: &Stand) -> Result<String> {
    let taken = eventually(SOON, || async { stand.ctl(&["backup", CLUSTER, "--wait"]).await?.ok() });
    taken.await.context("no backup")?;
    let printed = stand.ctl(&["verify", CLUSTER, "--boot"]).await?.ok()?;
    Ok(printed.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The same where no user is needed: etcd counts as many keys as the client does.
async fn proven(stand: &Stand) -> Result<String> {
    let all = GetOptions::new().with_from_key().with_count_only();
    let keys = stand.cluster(CLUSTER).etcd.client().await?.get("\0", Some(all)).await?.count();
    let found = proof(stand).await?;
    ensure!(found.contains(&format!(", {keys} live keys")), "not {keys}: {found}");
    ensure!(found.contains(" started on it, and 64 keys were read back"), "{found}");
    Ok(found)
}

fn has_equal_hash(found: &str) -> Result<()> {
    ensure!(found.contains(" matches"), "{found}");
    Ok(())
}

#[tokio::test]
async fn values_that_are_larger_than_an_answer_may_be() -> Result<()> {
    let stand = start().await?;
    let mut client = stand.cluster(CLUSTER).etcd.client().await?;
    // The first in the list: three that are large together, and two that are large alone.
    for number in 0..3 {
        client.put(format!("a/{number}"), vec![b'v'; 1_400_000], None).await?;
    }
    for (name, bytes) in [("b", 6_000_000), ("c", 17_000_000)] {
        client.put(name, vec![b'w'; bytes], None).await?;
    }
    client.put("k".repeat(1_000_000), "a long key", None).await?;
    has_equal_hash(&proven(&stand).await?)
}

#[tokio::test]
async fn leases_alarms_and_a_compaction_at_the_newest_revision() -> Result<()> {
    let stand = start().await?;
    let mut client = stand.cluster(CLUSTER).etcd.client().await?;
    // Some run out while they are served, some stay.
    for (lease, seconds) in [(1, 2), (2, 2), (3, 3), (4, 3600)] {
        client.lease_grant(seconds, Some(LeaseGrantOptions::new().with_id(lease))).await?;
        for number in 0..40 {
            let key = format!("leased/{lease}/{number}");
            client.put(key, "leased", Some(PutOptions::new().with_lease(lease))).await?;
        }
    }
    // How many there are when the backup is taken is for the leases to decide: what is seen must be served.
    let found = proof(&stand).await.context("leased")?;
    ensure!(found.contains(" started on it, and 64 keys were read back") && found.contains(" matches"), "{found}");

    let now = revision(&mut client).await?;
    client.compact(now, Some(CompactionOptions::new().with_physical())).await?;
    client.defragment().await?;
    proof(&stand).await.context("compacted at its newest revision")?;

    let id = client.status().await?.header().context("a header")?.member_id();
    let mut nospace = AlarmOptions::new();
    nospace.with_member(id);
    client.alarm(AlarmAction::Activate, AlarmType::Nospace, Some(nospace)).await?;
    client.put("x", "y", None).await.expect_err("there is no space");
    proof(&stand).await.context("with an alarm")?;
    Ok(())
}

#[tokio::test]
async fn authentication_is_set_aside_and_that_is_said() -> Result<()> {
    let mut stand = start().await?;
    let mut client = stand.cluster(CLUSTER).etcd.client().await?;
    let found = proven(&stand).await?;
    ensure!(!found.contains("without its users"), "{found}");
    client.user_add("root", PASSWORD, None).await?;
    client.role_add("root").await.ok();
    client.user_grant_role("root", "root").await?;
    client.auth_enable().await?;
    let agent = &mut stand.cluster_mut(CLUSTER).agents[0].daemon;
    agent.set_variable("BACKSTAY_ETCD__USER", "root").set_variable("BACKSTAY_ETCD__PASSWORD", PASSWORD);
    agent.start_and_wait(SOON).await?;
    let found = proof(&stand).await?;
    ensure!(found.contains("150 live keys"), "{found}");
    ensure!(found.contains("without its users and roles), and 64 keys were read back"), "{found}");
    has_equal_hash(&found)?;
    // The cluster itself has its users all the same.
    let options = ConnectOptions::new().with_user("root", PASSWORD);
    let member = &stand.cluster(CLUSTER).etcd.members[0];
    Client::connect([member.client_url.as_str()], Some(options)).await?.auth_disable().await?;
    Ok(())
}

/// What the member ran on is set aside, and it runs on what `restore` makes of the newest backup, whose file is at hand.
async fn restored<F: Future<Output = Result<()>>>(
    stand: &mut Stand,
    restore: impl FnOnce(Restoration) -> F,
) -> Result<()> {
    let store = format!("file://{}", stand.local_path().display());
    let key = stand.coordinators[0].folder.join("recovery.key").display().to_string();
    let etcd = &mut stand.cluster_mut(CLUSTER).etcd;
    let initial_cluster = etcd.initial_cluster();
    let snapshot = Snapshot::of_member(&etcd.members[0]).await?;
    let member = &mut etcd.members[0];
    member.kill();
    std::fs::remove_dir_all(&member.data_dir)?;
    let (name, peer_url) = (member.name.clone(), member.peer_url.clone());
    let data_dir = member.data_dir.clone();
    restore(Restoration { store, key, initial_cluster, name, peer_url, data_dir, snapshot }).await?;
    member.restart().await
}

struct Restoration {
    store: String,
    key: String,
    initial_cluster: String,
    name: String,
    peer_url: String,
    data_dir: PathBuf,
    snapshot: Snapshot,
}

impl Restoration {
    /// Our own, with its defaults.
    async fn by_us(self) -> Result<()> {
        let Self { store, key, initial_cluster, name, data_dir, .. } = &self;
        let data_dir = data_dir.display().to_string();
        let arguments =
            ["restore", "--store", store, "--snapshot", "latest", "--identity", key, "--data-dir", &data_dir];
        let arguments = [&arguments[..], &["--name", name, "--initial-cluster", initial_cluster]].concat();
        backstay_tests::stand::run("backstayctl", &arguments).await?.ok().map(drop)
    }

    /// By etcd's own tool, which makes the same jump.
    fn by(self, etcdutl: &Path) -> Result<()> {
        let folder = Folder::new("proof")?;
        let file = folder.path().join("snapshot.db");
        self.snapshot.save(&file)?;
        let mut command = Command::new(etcdutl);
        command.args(["snapshot", "restore"]).arg(file).arg("--data-dir").arg(&self.data_dir);
        command.args(["--bump-revision", "1000000000", "--mark-compacted", "--name", &self.name]);
        command.args(["--initial-cluster", &self.initial_cluster, "--initial-advertise-peer-urls", &self.peer_url]);
        let output = command.output().context("failed to run etcdutl")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

/// etcd's own tool, where this release's can make a jump.
fn jumping_etcdutl() -> Result<Option<PathBuf>> {
    let Some(program) = releases::program("etcdutl")? else { return Ok(None) };
    let help = Command::new(&program).args(["snapshot", "restore", "--help"]).output()?;
    Ok(String::from_utf8_lossy(&help.stdout).contains("--bump-revision").then_some(program))
}

#[tokio::test]
async fn restored_clusters_whose_revision_jumped_once_and_again() -> Result<()> {
    let mut stand = start().await?;
    proven(&stand).await.context("before any restore")?;
    for round in 1..=2 {
        restored(&mut stand, Restoration::by_us).await?;
        proven(&stand).await.with_context(|| format!("restored {round} times"))?;
        // Once somebody has written, HashKV can be compared on every release.
        stand.cluster(CLUSTER).etcd.put_many(&format!("new/{round}/"), 10, 100).await?;
        has_equal_hash(&proven(&stand).await?)?;
    }
    match jumping_etcdutl()? {
        Some(etcdutl) => {
            restored(&mut stand, |restoration| std::future::ready(restoration.by(&etcdutl))).await?;
            proven(&stand).await.context("restored by etcdutl")?;
            stand.cluster(CLUSTER).etcd.put_many("last/", 10, 100).await?;
            has_equal_hash(&proven(&stand).await?)
        }
        None => {
            println!("etcd {} has no tool that jumps: not tried", releases::chosen()?.etcd);
            Ok(())
        }
    }
}
