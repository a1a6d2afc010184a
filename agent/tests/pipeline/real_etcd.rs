//! The same with the real thing: etcd as it is installed on this machine.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use backstay_agent::etcd::{Etcd, EtcdSettings};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::{Shelf, back_up};

struct RealEtcd {
    process: Child,
    url: String,
    _data: TempDir,
}

impl RealEtcd {
    /// Starts a member of its own; `None` where it could not come up, perhaps because a port was taken.
    async fn start() -> Option<Self> {
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let (url, peer) = (format!("http://{}", free()), format!("http://{}", free()));
        let data = tempfile::tempdir().expect("a folder");
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(data.path())
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is installed");
        let mut etcd = Self { process, url, _data: data };
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline && etcd.process.try_wait().is_ok_and(|end| end.is_none()) {
            if let Ok(mut connection) = etcd.etcd().connect().await
                && connection.revision().await.is_ok()
            {
                return Some(etcd);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    fn etcd(&self) -> Etcd {
        let settings = EtcdSettings { endpoints: vec![self.url.clone()], ..EtcdSettings::default() };
        Etcd::new(settings).expect("the settings fit")
    }
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_real_snapshot_becomes_a_backup() {
    let mut started = None;
    for _ in 0..3 {
        started = RealEtcd::start().await;
        if started.is_some() {
            break;
        }
    }
    let etcd = started.expect("etcd comes up");
    let mut client = etcd_client::Client::connect([&etcd.url], None).await.expect("it answers");
    for n in 0..200 {
        client.put(format!("/registry/pods/{n}"), vec![n as u8; 3000], None).await.expect("a write");
    }
    let member = etcd.etcd().connect().await.expect("it answers").member().await.expect("a status");
    assert_eq!((member.learner, member.alarms.len(), member.leader_id), (false, 0, member.member_id));
    assert!(!member.etcd_version.is_empty() && member.raft_applied_index > 200, "{member:?}");

    let shelf = Shelf::new();
    let taken = back_up(shelf.once(), &etcd.etcd()).await.expect("a backup");
    let opened = shelf.open(&taken.manifest).await;
    assert_eq!(opened.len() as u64, taken.manifest.snapshot_bytes);
    assert_eq!(taken.manifest.origin.revision, 201);
    assert_eq!(taken.manifest.origin.etcd_cluster_id, format!("{:016x}", member.cluster_id));
    assert!(opened.len() > 200 * 3000);
    let digest: String = Sha256::digest(&opened).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(digest, taken.manifest.snapshot_sha256);
}

#[tokio::test]
async fn an_alarm_shows_in_the_member() {
    let Some(etcd) = RealEtcd::start().await else { panic!("etcd comes up") };
    let mut client = etcd_client::Client::connect([&etcd.url], None).await.expect("it answers");
    let member = etcd.etcd().connect().await.expect("it answers").member().await.expect("a status");
    let mut options = etcd_client::AlarmOptions::new();
    options.with_member(member.member_id);
    client
        .alarm(etcd_client::AlarmAction::Activate, etcd_client::AlarmType::Nospace, Some(options))
        .await
        .expect("an alarm");
    let member = etcd.etcd().connect().await.expect("it answers").member().await.expect("a status");
    assert_eq!(member.alarms, ["NOSPACE"]);
    let shelf = Shelf::new();
    back_up(shelf.once(), &etcd.etcd()).await.expect("a member without space is worth a backup");
}
