//! The parts of the demo: those of the stand, and S3 as a process of its own at the page's address.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use backstay_tests::daemon::{bare_command, binary};
use backstay_tests::{Folder, Process, Stand, loader, releases};

use super::console::{Console, show};

const S3_ADDRESS: &str = "127.0.0.1:9000";
const MEMBERS: usize = 3;
const LOAD_BYTES: u64 = 64 << 20;
const SEED: u64 = 1;
const READY: Duration = Duration::from_secs(10);
const LOG_LINES: usize = 12;

/// The page's cluster.
pub const CLUSTER: &str = "talos-default";

/// Everything that runs. Parts stop before what they stand on, and the folder goes last.
pub struct System {
    pub console: Console,
    pub stand: Stand,
    _s3: Process,
    folder: Folder,
}

impl System {
    pub async fn start() -> Result<Self> {
        port_must_be_free()?;
        let folder = Folder::new("demo")?;
        let releases::Release { etcd, nats, .. } = releases::chosen()?;
        println!(
            "Starting etcd {etcd} with {MEMBERS} members, an agent each, nats-server {nats}, S3 at {S3_ADDRESS}, and a \
             coordinator …"
        );
        let s3 = start_s3(&folder).await?;
        let stand = Stand::builder().cluster(CLUSTER, MEMBERS).s3_at(&format!("http://{S3_ADDRESS}"));
        // Otherwise the shortest interval is a minute, and whoever watches would wait for it.
        let stand = stand.coordinator_variable("BACKSTAY_BACKUP__MIN_INTERVAL", "5s");
        let stand = stand.coordinator_variable("BACKSTAY_BACKUP__JITTER", "0s").start().await?;
        let console = Console::new(&folder.sub("work")?, &stand.nats.url())?;
        let system = Self { console, stand, _s3: s3, folder };
        system.introduce().await?;
        Ok(system)
    }

    /// Shows how the coordinator was set up, and fills etcd.
    async fn introduce(&self) -> Result<()> {
        let coordinator = self.coordinator();
        show(&format!("backstay-coordinator init --dir {} --nats {}", coordinator.display(), self.stand.nats.url()));
        print!("{}", self.stand.init.stdout);
        self.console.run(&format!("mv {}/recovery.key .", coordinator.display())).await?;
        let loaded = loader::load(self.live(), LOAD_BYTES, SEED).await?;
        let (objects, size) = (loaded.objects, mib(loaded.bytes));
        println!("Loaded {objects} objects like those of Kubernetes, {size:.1} MiB; revision {}.", loaded.revision);
        Ok(())
    }

    /// A client URL of the cluster that is backed up.
    pub fn live(&self) -> &str {
        &self.stand.cluster(CLUSTER).etcd.members[0].client_url
    }

    /// The machines' UUIDs.
    pub fn machines(&self) -> Vec<String> {
        self.stand.cluster(CLUSTER).agents.iter().map(|agent| agent.machine.to_string()).collect()
    }

    /// The bucket's folder on the disk of the S3 server.
    pub fn bucket(&self) -> PathBuf {
        self.s3_data().join(self.stand.s3.bucket())
    }

    /// Where the S3 server keeps its data: buckets, and parts of uploads.
    pub fn s3_data(&self) -> PathBuf {
        self.folder.path().join("s3/data")
    }

    fn coordinator(&self) -> &Path {
        &self.stand.coordinators[0].folder
    }

    /// The ends of the daemons' logs, for whoever looks for a cause.
    pub fn log_tails(&self) -> String {
        let agents = self.stand.clusters.iter().flat_map(|cluster| &cluster.agents).map(|agent| &agent.daemon);
        let daemons = self.stand.coordinators.iter().map(|coordinator| &coordinator.daemon).chain(agents);
        let mut text = String::new();
        for process in daemons.filter_map(|daemon| daemon.process()) {
            let log = process.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            text.push_str(&format!("--- {}'s log ends:\n{last}\n", process.name()));
        }
        text
    }

    /// For `KEEP=1`.
    pub fn how_to_talk(&self) -> String {
        let endpoints = self.stand.cluster(CLUSTER).etcd.endpoints().join(",");
        let (programs, work) = (self.console.programs().display(), self.console.folder().display());
        format!(
            "Everything runs until Ctrl-C. To talk to it from another terminal:\n\
             \x20 export PATH={programs}:$PATH\n\
             \x20 export BACKSTAY_NATS_URL={nats}\n\
             \x20 export ETCDCTL_API=3 ETCDCTL_ENDPOINTS={endpoints}\n\
             \x20 cd {work}      # the page's files, recovery.key, snapshot.db\n\
             For example:\n\
             \x20 backstayctl get etcdbackupstatus -o yaml\n\
             \x20 backstayctl get etcdbackup --selector omni.sidero.dev/cluster={CLUSTER}\n\
             \x20 sed -i \"s/seconds: .*/seconds: $(date +%s)/\" etcd-manual-backup.yaml\n\
             \x20 backstayctl apply -f etcd-manual-backup.yaml\n\
             The coordinator's configuration and key: {coordinator}\n\
             The agents' configurations and all logs: {stand}\n\
             S3: http://{S3_ADDRESS}, bucket {bucket}, on disk in {disk}",
            nats = self.stand.nats.url(),
            coordinator = self.coordinator().display(),
            stand = self.stand.folder().display(),
            bucket = self.stand.s3.bucket(),
            disk = self.bucket().display(),
        )
    }
}

/// The page names the port, so there is no other to go to.
fn port_must_be_free() -> Result<()> {
    let bound = TcpListener::bind(S3_ADDRESS);
    bound.map(drop).with_context(|| {
        format!(
            "failed to listen on {S3_ADDRESS}, which the page gives as its S3 endpoint. Stop what listens there \
             (`ss -ltnp 'sport = :9000'` names it), then run the demo again"
        )
    })
}

async fn start_s3(folder: &Folder) -> Result<Process> {
    let mut command = bare_command(&binary("backstay-test-s3")?);
    command.args(["--listen", S3_ADDRESS, "--dir"]).arg(folder.sub("s3")?);
    let mut s3 = Process::spawn("backstay-test-s3", command, &folder.path().join("s3.log"))?;
    s3.wait_for_log("serving bucket", READY).await?;
    Ok(s3)
}

pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}
