//! A whole system: etcd clusters with an agent per member, NATS, S3, a coordinator, and `backstayctl`.
//!
//! It is put together by the command lines and settings that are documented for people, nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use uuid::Uuid;

use crate::daemon::{Daemon, bare_command, binary};
use crate::etcd::{Etcd, EtcdOptions};
use crate::folder::Folder;
use crate::login::Login;
use crate::nats::{Nats, NatsOptions};
use crate::permissions::Users;
use crate::s3::S3;
use crate::supervisor::Supervisor;

const READY: Duration = Duration::from_secs(60);
const COMMAND: Duration = Duration::from_secs(300);

/// What a finished command left.
#[derive(Debug, Clone)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// What it printed; an error that shows all of it where it did not succeed.
    pub fn ok(self) -> Result<String> {
        let Self { status, stdout, stderr } = self;
        ensure!(status.success(), "the command ended with {status}\n{stdout}{stderr}");
        Ok(stdout)
    }
}

/// One etcd cluster and its agents; agent `i` belongs to member `i`.
#[derive(Debug)]
pub struct Cluster {
    pub name: String,
    pub agents: Vec<Agent>,
    /// Of each member, where the stand was built with [`StandBuilder::restorable`].
    pub supervisors: Vec<Supervisor>,
    pub etcd: Etcd,
}

/// One agent: a daemon, its machine, its files.
#[derive(Debug)]
pub struct Agent {
    pub machine: Uuid,
    pub daemon: Daemon,
    pub config: PathBuf,
    pub state_dir: PathBuf,
}

/// One coordinator: a daemon and its folder with configuration and keys.
#[derive(Debug)]
pub struct Coordinator {
    pub daemon: Daemon,
    pub folder: PathBuf,
}

/// The system. Parts stop before what they stand on, and the folder goes last.
pub struct Stand {
    pub coordinators: Vec<Coordinator>,
    pub clusters: Vec<Cluster>,
    pub s3: S3,
    pub nats: Nats,
    /// The other servers of its cluster, where the stand was built with [`StandBuilder::nats_servers`].
    pub nats_peers: Vec<Nats>,
    /// Who may log in, if the stand was built with [`StandBuilder::with_permissions`].
    pub users: Option<Users>,
    /// What `backstay-coordinator init` said.
    pub init: Output,
    builder: StandBuilder,
    folder: Folder,
}

/// What a [`Stand`] shall consist of.
#[derive(Debug, Clone, Default)]
pub struct StandBuilder {
    clusters: Vec<(String, usize)>,
    standbys: usize,
    local: bool,
    s3: Option<String>,
    idle: bool,
    permissions: bool,
    nats: Option<NatsOptions>,
    nats_servers: usize,
    restorable: bool,
    init: Vec<String>,
    coordinator: Vec<(String, String)>,
    agents: Vec<(String, String)>,
    etcd: EtcdOptions,
}

impl StandBuilder {
    /// An etcd cluster of so many members, each with an agent.
    pub fn cluster(mut self, name: &str, members: usize) -> Self {
        self.clusters.push((name.to_owned(), members));
        self
    }

    /// Backups go to a folder ([`Stand::local_path`]) instead of S3.
    pub fn local(self) -> Self {
        Self { local: true, ..self }
    }

    /// The S3 endpoint at this URL, with the page's bucket and keys, instead of a server of the stand's own.
    pub fn s3_at(self, endpoint: &str) -> Self {
        Self { s3: Some(endpoint.to_owned()), ..self }
    }

    /// A second coordinator beside the first.
    pub fn standby(self) -> Self {
        Self { standbys: self.standbys + 1, ..self }
    }

    /// Neither coordinator nor agents are started: the test does.
    pub fn idle(self) -> Self {
        Self { idle: true, ..self }
    }

    /// NATS has the users and the permissions of `deploy/nats/backstay.conf`.
    pub fn with_permissions(self) -> Self {
        Self { permissions: true, ..self }
    }

    /// How NATS is set up; everybody must be able to log in without a name.
    pub fn nats(self, nats: NatsOptions) -> Self {
        Self { nats: Some(nats), ..self }
    }

    /// So many nats-servers that are one cluster, open to everybody.
    pub fn nats_servers(self, servers: usize) -> Self {
        Self { nats_servers: servers, ..self }
    }

    /// Beats and leases that let a test see soon who has gone, and leave a busy machine the time to show that it has not.
    pub fn brisk(self) -> Self {
        self.agent_variable("BACKSTAY_BEAT_INTERVAL", "2s").coordinator_variable("BACKSTAY_LEASE__TTL", "8s")
    }

    /// Agents can stop and start their members.
    pub fn restorable(self) -> Self {
        Self { restorable: true, ..self }
    }

    /// A further argument of `backstay-coordinator init`.
    pub fn init_argument(mut self, argument: &str) -> Self {
        self.init.push(argument.to_owned());
        self
    }

    /// A setting of every coordinator, by its variable: `BACKSTAY_BACKUP__MIN_INTERVAL`, `1s`.
    pub fn coordinator_variable(mut self, name: &str, value: &str) -> Self {
        self.coordinator.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A setting of every agent, by its variable.
    pub fn agent_variable(mut self, name: &str, value: &str) -> Self {
        self.agents.push((name.to_owned(), value.to_owned()));
        self
    }

    /// How etcd is set up; the number of members comes from [`StandBuilder::cluster`].
    pub fn etcd(self, etcd: EtcdOptions) -> Self {
        Self { etcd, ..self }
    }

    /// Starts everything and waits until all daemons are ready.
    pub async fn start(self) -> Result<Stand> {
        // Before anything starts: without the programs there is nothing to do.
        for program in ["backstay-coordinator", "backstay-agent", "backstayctl"] {
            binary(program)?;
        }
        let folder = Folder::new("stand")?;
        let etcds = self.clusters.iter().map(|(_, members)| {
            let options = EtcdOptions { members: *members, ..self.etcd.clone() };
            Etcd::start_with(options)
        });
        // Permissions name machines, so those are known before anything starts.
        let machines: Vec<Vec<Uuid>> =
            self.clusters.iter().map(|(_, members)| (0..*members).map(|_| Uuid::new_v4()).collect()).collect();
        let named = self.clusters.iter().zip(&machines);
        let named = named.flat_map(|((name, _), machines)| machines.iter().map(|m| (name.clone(), *m)));
        let users = self.permissions.then(|| Users::new(named));
        let ((nats, nats_peers), etcds) = tokio::try_join!(self.start_nats(users.as_ref()), try_join_all(etcds))?;
        let s3 = self.s3.as_deref().map_or_else(S3::start, |endpoint| Ok(S3::at(endpoint)))?;
        let init = init(&self, &folder, &urls(&nats, &nats_peers)).await?;
        let (coordinators, clusters) = (Vec::new(), Vec::new());
        let mut stand = Stand { coordinators, clusters, s3, nats, nats_peers, users, init, builder: self, folder };
        for number in 1..=1 + stand.builder.standbys {
            let coordinator = stand.prepare_coordinator(number)?;
            stand.coordinators.push(coordinator);
        }
        for ((mut etcd, (name, _)), machines) in etcds.into_iter().zip(stand.builder.clusters.clone()).zip(machines) {
            let agents = etcd.endpoints().into_iter().zip(machines).enumerate();
            let agents =
                agents.map(|(i, (url, id))| stand.prepare_machine(&name, &format!("{name}-m{}", i + 1), &url, id));
            let agents = agents.collect::<Result<Vec<Agent>>>()?;
            let supervisors = match stand.builder.restorable {
                true => supervise(&name, &mut etcd, &agents, stand.folder.path())?,
                false => Vec::new(),
            };
            stand.clusters.push(Cluster { name, agents, supervisors, etcd });
        }
        if !stand.builder.idle {
            stand.start_daemons().await?;
        }
        Ok(stand)
    }
}

impl StandBuilder {
    /// The first server, and the others of its cluster.
    async fn start_nats(&self, users: Option<&Users>) -> Result<(Nats, Vec<Nats>)> {
        if self.nats_servers > 1 {
            let mut servers = Nats::cluster(self.nats_servers).await?;
            return Ok((servers.remove(0), servers));
        }
        let options = users.map(Users::options).transpose()?.or_else(|| self.nats.clone()).unwrap_or_default();
        Ok((Nats::start_with(options).await?, Vec::new()))
    }
}

/// All servers, as settings name them.
fn urls(nats: &Nats, peers: &[Nats]) -> String {
    let urls: Vec<String> = std::iter::once(nats).chain(peers).map(Nats::url).collect();
    urls.join(",")
}

/// `backstay-coordinator init` into the first coordinator's folder.
async fn init(builder: &StandBuilder, folder: &Folder, nats: &str) -> Result<Output> {
    let dir = coordinator_folder(folder.path(), 1).display().to_string();
    let mut arguments = vec!["init".to_owned(), "--dir".into(), dir, "--nats".into(), nats.to_owned()];
    if builder.local {
        arguments.extend(["--local".into(), folder.sub("backups")?.display().to_string()]);
    }
    arguments.extend(builder.init.iter().cloned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = run("backstay-coordinator", &arguments).await?;
    ensure!(output.status.success(), "backstay-coordinator init failed: {output:?}");
    // Many stands run on one machine: a test that wants to look inside says so.
    let file = coordinator_folder(folder.path(), 1).join("coordinator.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
    let text = text.replace("\n[encryption]", "\n[http]\nlisten = \"\"\n\n[encryption]");
    fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))?;
    Ok(output)
}

fn coordinator_folder(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("coordinator-{number}"))
}

/// Runs one of the workspace's programs to its end.
pub async fn run(program: &str, arguments: &[&str]) -> Result<Output> {
    run_with(program, arguments, &[]).await
}

/// [`run`] with these variables.
pub async fn run_with(program: &str, arguments: &[&str], variables: &[(String, String)]) -> Result<Output> {
    let mut command = tokio::process::Command::from(bare_command(&binary(program)?));
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let text = || format!("{program} {}", arguments.join(" "));
    let ended = tokio::time::timeout(COMMAND, command.output()).await;
    let ended = ended.with_context(|| format!("{} did not end within {COMMAND:?}", text()))?;
    let ended = ended.with_context(|| format!("failed to run {}", text()))?;
    let (stdout, stderr) = (String::from_utf8(ended.stdout)?, String::from_utf8(ended.stderr)?);
    Ok(Output { status: ended.status, stdout, stderr })
}

impl Stand {
    pub fn builder() -> StandBuilder {
        StandBuilder::default()
    }

    /// One cluster, one coordinator, S3.
    pub async fn start(cluster: &str, members: usize) -> Result<Self> {
        Self::builder().cluster(cluster, members).start().await
    }

    /// `backstayctl` with these arguments, against this stand's NATS; as the operator where it has users.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<Output> {
        self.ctl_as(self.users.as_ref().map(|users| &users.operator), arguments).await
    }

    /// `backstayctl` as a user of NATS.
    pub async fn ctl_as(&self, login: Option<&Login>, arguments: &[&str]) -> Result<Output> {
        let url = urls(&self.nats, &self.nats_peers);
        let arguments: Vec<&str> = ["--nats", &url].into_iter().chain(arguments.iter().copied()).collect();
        let variables = login.map(Login::variables);
        run_with("backstayctl", &arguments, variables.as_ref().map_or(&[], |v| v.as_slice())).await
    }

    /// `backstayctl apply -f` of this text.
    pub async fn apply(&self, yaml: &str) -> Result<Output> {
        let file = self.folder.path().join(format!("apply-{}.yaml", Uuid::new_v4()));
        fs::write(&file, yaml).with_context(|| format!("failed to write {}", file.display()))?;
        self.ctl(&["apply", "-f", &file.display().to_string()]).await
    }

    /// Applies a cluster with nothing but this `backupconfiguration`, in YAML's flow style.
    pub async fn configure_backups(&self, cluster: &str, backup: &str) -> Result<()> {
        let yaml = format!(
            "metadata:\n  namespace: default\n  type: Clusters.omni.sidero.dev\n  id: {cluster}\nspec:\n  \
             backupconfiguration: {backup}\n"
        );
        self.apply(&yaml).await?.ok().map(drop)
    }

    /// Applies the page's S3 configuration with this stand's values.
    pub async fn configure_s3(&self) -> Result<()> {
        self.apply(&self.s3_config()).await?.ok().map(drop).context("the S3 configuration was refused")
    }

    /// The page's S3 configuration with this stand's values.
    pub fn s3_config(&self) -> String {
        let (bucket, region, endpoint) = (self.s3.bucket(), self.s3.region(), self.s3.endpoint());
        let (id, secret) = (self.s3.access_key_id(), self.s3.secret_access_key());
        format!(
            "metadata:\n  namespace: default\n  type: EtcdBackupS3Configs.omni.sidero.dev\n  id: etcd-backup-s3-conf\n\
             spec:\n  bucket: {bucket}\n  region: {region}\n  endpoint: {endpoint}\n  accesskeyid: {id}\n  \
             secretaccesskey: {secret}\n  sessiontoken: \"\"\n"
        )
    }

    /// The page's manual backup of a cluster, at a Unix time in seconds.
    pub fn manual_backup(cluster: &str, seconds: i64) -> String {
        format!(
            "metadata:\n  namespace: ephemeral\n  type: EtcdManualBackups.omni.sidero.dev\n  id: {cluster}\n\
             spec:\n  backupat:\n    seconds: {seconds}\n    nanos: 0\n"
        )
    }

    /// One server of NATS by its place, from 0.
    pub fn nats_server(&mut self, index: usize) -> &mut Nats {
        if index == 0 { &mut self.nats } else { &mut self.nats_peers[index - 1] }
    }

    pub fn cluster(&self, name: &str) -> &Cluster {
        self.clusters.iter().find(|c| c.name == name).expect("the stand was built with that cluster")
    }

    pub fn cluster_mut(&mut self, name: &str) -> &mut Cluster {
        self.clusters.iter_mut().find(|c| c.name == name).expect("the stand was built with that cluster")
    }

    /// Where backups go if the stand was built with [`StandBuilder::local`].
    pub fn local_path(&self) -> PathBuf {
        self.folder.path().join("backups")
    }

    /// The stand's folder: logs, configurations, states.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts every daemon that was prepared, and waits for all.
    pub async fn start_daemons(&mut self) -> Result<()> {
        let coordinators = self.coordinators.iter_mut().map(|c| &mut c.daemon);
        let agents = self.clusters.iter_mut().flat_map(|c| &mut c.agents).map(|a| &mut a.daemon);
        try_join_all(coordinators.chain(agents).map(|daemon| daemon.start_and_wait(READY))).await?;
        Ok(())
    }

    /// A further coordinator has the keys of the first, and a state of its own. A standby may never say that it
    /// is ready before it leads; whether it does is for the daemon to decide.
    fn prepare_coordinator(&self, number: usize) -> Result<Coordinator> {
        let folder = coordinator_folder(self.folder.path(), number);
        if number > 1 {
            copy_folder(&coordinator_folder(self.folder.path(), 1), &folder)?;
        }
        let config = folder.join("coordinator.toml").display().to_string();
        let label = format!("coordinator-{number}");
        let arguments = ["serve", "--config", &config];
        let mut daemon = Daemon::new("backstay-coordinator", &label, self.folder.path(), &arguments)?;
        if number > 1 {
            // The copied configuration still names the first one's folder.
            daemon.set_variable("BACKSTAY_STATE_DIR", &folder.display().to_string());
        }
        for (name, value) in self.users.iter().flat_map(|users| users.coordinator.variables()) {
            daemon.set_variable(&name, &value);
        }
        for (name, value) in &self.builder.coordinator {
            daemon.set_variable(name, value);
        }
        Ok(Coordinator { daemon, folder })
    }

    /// Prepares an agent (and does not start it): also for a test that wants one more.
    pub fn prepare_agent(&self, cluster: &str, label: &str, etcd_url: &str) -> Result<Agent> {
        self.prepare_machine(cluster, label, etcd_url, Uuid::new_v4())
    }

    fn prepare_machine(&self, cluster: &str, label: &str, etcd_url: &str, machine: Uuid) -> Result<Agent> {
        let label = format!("agent-{label}");
        let state_dir = self.folder.sub(&format!("{label}-state"))?;
        let config = self.folder.path().join(format!("{label}.toml"));
        let nats = urls(&self.nats, &self.nats_peers);
        let state = state_dir.display();
        let text = format!(
            "cluster = \"{cluster}\"\nmachine = \"{machine}\"\nstate_dir = \"{state}\"\n\n\
             [nats]\nurl = \"{nats}\"\n\n[etcd]\nendpoints = [\"{etcd_url}\"]\n\n[http]\nlisten = \"\"\n"
        );
        fs::write(&config, text).with_context(|| format!("failed to write {}", config.display()))?;
        let arguments = ["run", "--config", &config.display().to_string()];
        let mut daemon = Daemon::new("backstay-agent", &label, self.folder.path(), &arguments)?;
        let login = self.users.as_ref().and_then(|users| users.agent(cluster, machine));
        for (name, value) in login.into_iter().flat_map(Login::variables) {
            daemon.set_variable(&name, &value);
        }
        for (name, value) in &self.builder.agents {
            daemon.set_variable(name, value);
        }
        Ok(Agent { machine, daemon, config, state_dir })
    }
}

/// Gives each member to a supervisor, and tells its agent.
fn supervise(cluster: &str, etcd: &mut Etcd, agents: &[Agent], folder: &Path) -> Result<Vec<Supervisor>> {
    let mut supervisors = Vec::new();
    for (member, agent) in etcd.members.iter_mut().zip(agents) {
        let supervisor = member.supervise(folder, &format!("{cluster}-{}", member.name.clone()))?;
        let mut text = fs::read_to_string(&agent.config)?;
        text.push_str(&supervisor.settings(&member.data_dir)?);
        fs::write(&agent.config, text).with_context(|| format!("failed to write {}", agent.config.display()))?;
        supervisors.push(supervisor);
    }
    Ok(supervisors)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("failed to make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("failed to read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("failed to copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}
