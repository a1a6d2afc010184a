//! etcd with one member or several.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use etcd_client::{Client, Txn, TxnOp};

use crate::folder::Folder;
use crate::port::{Port, free_port, on_free_ports};
use crate::process::{Process, program};
use crate::releases::Release;
use crate::supervisor::Supervisor;
use crate::wait::eventually;

/// With 8 GiB on a busy machine it takes more than a minute.
const READY: Duration = Duration::from_secs(180);
/// What every release logs when it listens for clients.
const SERVES: &str = "ready to serve client requests";
const ANSWER: Duration = Duration::from_secs(2);
/// etcd takes at most 128 operations in a transaction, and 1.5 MiB.
const BATCH: usize = 100;

/// How an [`Etcd`] is set up.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// 1 or 3 as a rule.
    pub members: usize,
    /// `--quota-backend-bytes`; etcd's default is 2 GiB.
    pub quota_bytes: Option<u64>,
    /// Further arguments of every member.
    pub arguments: Vec<String>,
    /// The etcd to run; `None`: the chosen release's.
    pub program: Option<PathBuf>,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self { members: 1, quota_bytes: None, arguments: Vec::new(), program: None }
    }
}

impl EtcdOptions {
    /// So many members of this release.
    pub fn of(release: &Release, members: usize) -> Self {
        Self { members, program: Some(release.program("etcd")), ..Self::default() }
    }
}

/// A cluster of etcd's.
#[derive(Debug)]
pub struct Etcd {
    pub members: Vec<EtcdMember>,
    options: EtcdOptions,
    folder: Folder,
}

/// One member: a process, its two ports, its data.
#[derive(Debug)]
pub struct EtcdMember {
    /// `m1`, `m2`, …
    pub name: String,
    pub client_url: String,
    pub peer_url: String,
    pub data_dir: PathBuf,
    process: Option<Process>,
    program: Option<PathBuf>,
    arguments: Vec<String>,
    log: PathBuf,
    _ports: [Port; 2],
}

impl Etcd {
    /// Starts a cluster and waits until every member serves.
    pub async fn start(members: usize) -> Result<Self> {
        Self::start_with(EtcdOptions { members, ..EtcdOptions::default() }).await
    }

    pub async fn start_with(options: EtcdOptions) -> Result<Self> {
        on_free_ports(|| async {
            let mut etcd = Self::prepare(options.clone())?;
            etcd.run().await?;
            Ok(etcd)
        })
        .await
    }

    /// A cluster that [`Etcd::run`] starts: its data folders, which are not there yet, can be filled before.
    pub fn prepare(options: EtcdOptions) -> Result<Self> {
        let folder = Folder::new("etcd")?;
        let mut members = Vec::new();
        for number in 1..=options.members {
            members.push(EtcdMember::prepare(&format!("m{number}"), &folder, &options)?);
        }
        let mut etcd = Self { members, options, folder };
        let cluster = etcd.initial_cluster();
        for member in &mut etcd.members {
            member.arguments = member.settings(&etcd.options, &cluster, "new");
        }
        Ok(etcd)
    }

    /// Starts every member and waits until it serves.
    pub async fn run(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.spawn()?;
        }
        for member in &mut self.members {
            member.ready().await?;
        }
        Ok(())
    }

    /// As `--initial-cluster` says it.
    pub fn initial_cluster(&self) -> String {
        let members: Vec<String> = self.members.iter().map(|m| format!("{}={}", m.name, m.peer_url)).collect();
        members.join(",")
    }

    /// The client URLs of all members.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|m| m.client_url.clone()).collect()
    }

    /// A client of all members.
    pub async fn client(&self) -> Result<Client> {
        connect(&self.endpoints()).await
    }

    /// The index in `members` of the leader, as soon as there is one that runs.
    pub async fn leader(&self) -> Result<usize> {
        eventually(READY, || async {
            for (index, member) in self.members.iter().enumerate().filter(|(_, m)| m.process.is_some()) {
                let Ok(mut client) = connect(std::slice::from_ref(&member.client_url)).await else { continue };
                let Ok(Ok(status)) = tokio::time::timeout(ANSWER, client.status()).await else { continue };
                if status.header().is_some_and(|h| h.member_id() == status.leader() && !status.is_learner()) {
                    return Ok(index);
                }
            }
            bail!("no member says that it leads")
        })
        .await
    }

    /// Puts `count` keys `PREFIX00000000`, … with values of `value_bytes` pseudo-random text each, in
    /// transactions. The answer is the revision after the last.
    pub async fn put_many(&self, prefix: &str, count: usize, value_bytes: usize) -> Result<i64> {
        let mut client = self.client().await?;
        let batch = BATCH.min(1_000_000 / (value_bytes + 64)).max(1);
        let mut revision = 0;
        for from in (0..count).step_by(batch) {
            let numbers = from..count.min(from + batch);
            let puts = numbers.map(|n| TxnOp::put(format!("{prefix}{n:08}"), filler(n as u64, value_bytes), None));
            let answer = client.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).await;
            let answer = answer.with_context(|| format!("failed to put keys {from} and on below {prefix}"))?;
            revision = answer.header().context("etcd's answer has no header")?.revision();
        }
        Ok(revision)
    }

    /// Adds a member that learns and never votes, and starts it. It may take a moment to catch up.
    pub async fn add_learner(&mut self) -> Result<&mut EtcdMember> {
        let learner = self.add(Some(etcd_client::MemberAddOptions::new().with_is_learner())).await?;
        let url = [learner.client_url.clone()];
        // A learner refuses linearizable reads, so its status is all that it can be asked for.
        eventually(READY, || async { Ok(connect(&url).await?.status().await?) }).await?;
        Ok(self.members.last_mut().expect("it was just added"))
    }

    /// Lets the learner that was added last vote, and waits until it serves. The answer is its id.
    pub async fn promote_learner(&mut self) -> Result<u64> {
        // A learner itself refuses such questions.
        let client = self.members[0].client().await?;
        let listed = client.clone().member_list().await?;
        let learner = listed.members().iter().find(|member| member.is_learner()).context("there is a learner")?.id();
        // Refused until it has caught up.
        eventually(READY, || {
            let mut client = client.clone();
            async move { Ok(client.member_promote(learner).await?) }
        })
        .await
        .context("failed to promote the learner")?;
        self.members.last_mut().context("a cluster has members")?.ready().await?;
        Ok(learner)
    }

    /// Adds a member that votes, and waits until it serves.
    pub async fn add_voter(&mut self) -> Result<&mut EtcdMember> {
        self.add(None).await?.ready().await?;
        Ok(self.members.last_mut().expect("it was just added"))
    }

    async fn add(&mut self, options: Option<etcd_client::MemberAddOptions>) -> Result<&mut EtcdMember> {
        let name = format!("m{}", self.members.len() + 1);
        let mut added = EtcdMember::prepare(&name, &self.folder, &self.options)?;
        let answer = eventually(READY, || async {
            // Refused until the members have been connected to each other for a while.
            Ok(self.client().await?.member_add([added.peer_url.as_str()], options.clone()).await?)
        });
        answer.await.with_context(|| format!("failed to add the member {name}"))?;
        let cluster = format!("{},{name}={}", self.initial_cluster(), added.peer_url);
        added.arguments = added.settings(&self.options, &cluster, "existing");
        added.spawn()?;
        self.members.push(added);
        Ok(self.members.last_mut().expect("it was just pushed"))
    }
}

impl EtcdMember {
    fn prepare(name: &str, folder: &Folder, options: &EtcdOptions) -> Result<Self> {
        let ports = [free_port()?, free_port()?];
        Ok(Self {
            name: name.to_owned(),
            client_url: format!("http://{}", ports[0].address()),
            peer_url: format!("http://{}", ports[1].address()),
            data_dir: folder.path().join(name),
            process: None,
            program: options.program.clone(),
            arguments: Vec::new(),
            log: folder.path().join(format!("{name}.log")),
            _ports: ports,
        })
    }

    fn settings(&self, options: &EtcdOptions, cluster: &str, state: &str) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut set = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
        set("name", &self.name);
        set("data-dir", &self.data_dir.display().to_string());
        set("listen-client-urls", &self.client_url);
        set("advertise-client-urls", &self.client_url);
        set("listen-peer-urls", &self.peer_url);
        set("initial-advertise-peer-urls", &self.peer_url);
        set("initial-cluster", cluster);
        set("initial-cluster-state", state);
        set("logger", "zap");
        set("log-outputs", "stderr");
        if let Some(bytes) = options.quota_bytes {
            set("quota-backend-bytes", &bytes.to_string());
        }
        arguments.extend(options.arguments.iter().cloned());
        arguments
    }

    /// A client of this member alone.
    pub async fn client(&self) -> Result<Client> {
        connect(std::slice::from_ref(&self.client_url)).await
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Kills it where it runs, and starts it again with the same ports and data.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        self.spawn()?;
        self.ready().await
    }

    /// Like [`EtcdMember::restart`], but does not wait: without its peers a member does not get ready.
    pub fn restart_without_waiting(&mut self) -> Result<()> {
        self.kill();
        self.spawn()
    }

    /// SIGSTOP: connections stay open and nobody answers.
    pub fn pause(&mut self) -> Result<()> {
        self.running()?.pause()
    }

    /// SIGCONT.
    pub fn resume(&mut self) -> Result<()> {
        self.running()?.resume()
    }

    /// Its process, for its id, its log, and what it used; `None` after [`EtcdMember::kill`].
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    fn running(&mut self) -> Result<&mut Process> {
        self.process.as_mut().with_context(|| format!("etcd member {} was killed", self.name))
    }

    /// Gives the member to a supervisor, which starts it and ends it from now on.
    pub fn supervise(&mut self, folder: &Path, label: &str) -> Result<Supervisor> {
        let process = self.process.take().with_context(|| format!("etcd member {} does not run", self.name))?;
        let (name, arguments, log) = (self.name.clone(), self.arguments.clone(), self.log.clone());
        let etcd = self.program.clone();
        let file = log.clone();
        let spawn = Box::new(move |more: &[&str]| {
            let arguments: Vec<String> =
                arguments.iter().cloned().chain(more.iter().map(|m| (*m).to_owned())).collect();
            run(&name, etcd.as_deref(), &arguments, &log)
        });
        Supervisor::start(process, spawn, file, folder, label)
    }

    fn spawn(&mut self) -> Result<()> {
        self.process = Some(run(&self.name, self.program.as_deref(), &self.arguments, &self.log)?);
        Ok(())
    }

    /// Waits until it answers a linearizable read: so it has a leader and has caught up.
    pub async fn ready(&mut self) -> Result<()> {
        let url = [self.client_url.clone()];
        let result = eventually(READY, || {
            let ended = self.process.as_mut().and_then(Process::ended);
            let url = &url;
            async move {
                if let Some(status) = ended {
                    return Ok(Err(anyhow!("it ended with {status}")));
                }
                let read = async { anyhow::Ok(connect(url).await?.get("health", None).await?) };
                tokio::time::timeout(ANSWER, read).await.context("no answer")?.map(Ok)
            }
        });
        // The inner error is final: there is nothing to wait for any more.
        let result = result.await.and_then(|early_end| early_end);
        let tail = || self.process.as_ref().map(Process::tail).unwrap_or_default();
        result.map(drop).with_context(|| format!("etcd member {} does not serve; its log ends:\n{}", self.name, tail()))
    }
}

/// One etcd as somebody starts it by hand, on a folder that may have data already.
#[derive(Debug)]
pub struct LoneEtcd {
    pub client_url: String,
    /// Its command line but for the program.
    pub arguments: Vec<String>,
    process: Process,
    _ports: [Port; 2],
}

impl LoneEtcd {
    /// Starts it in `folder`, where its data is in `data_dir`, with further arguments, and waits until it says that it
    /// serves; `scheme` is that of its client URL.
    pub async fn start(folder: &Path, data_dir: &str, scheme: &str, more: &[&str]) -> Result<Self> {
        on_free_ports(|| async {
            let ports = [free_port()?, free_port()?];
            let (url, peers) = (format!("{scheme}://{}", ports[0].address()), format!("http://{}", ports[1].address()));
            let arguments = ["--data-dir", data_dir, "--listen-client-urls", &url, "--advertise-client-urls", &url];
            let arguments = [&arguments[..], &["--listen-peer-urls", &peers], more].concat();
            let mut command = Command::new(program("etcd")?);
            command.args(&arguments).current_dir(folder);
            let log = folder.join(format!("etcd-{}.log", ports[0].number()));
            let mut process = Process::spawn("the etcd of a folder", command, &log)?;
            process.wait_for_log(SERVES, READY).await?;
            let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
            Ok(Self { client_url: url, arguments, process, _ports: ports })
        })
        .await
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        self.process.tail()
    }
}

fn run(name: &str, etcd: Option<&Path>, arguments: &[String], log: &Path) -> Result<Process> {
    let mut command = match etcd {
        Some(etcd) => Command::new(etcd),
        None => Command::new(program("etcd")?),
    };
    let foreign = std::env::vars_os().map(|(name, _)| name).filter(|n| n.to_string_lossy().starts_with("ETCD"));
    for name in foreign {
        command.env_remove(name);
    }
    command.args(arguments);
    Process::spawn(&format!("etcd {name}"), command, log)
}

async fn connect(endpoints: &[String]) -> Result<Client> {
    Client::connect(endpoints, None).await.with_context(|| format!("failed to connect to etcd at {endpoints:?}"))
}

/// Text that does not compress to nothing, the same for the same number (splitmix64 in hexadecimal).
fn filler(number: u64, bytes: usize) -> String {
    let mut state = number;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        text.push_str(&format!("{:016x}", mixed ^ (mixed >> 31)));
    }
    text.truncate(bytes);
    text
}
