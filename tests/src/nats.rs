//! A nats-server with JetStream.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use futures::future::try_join_all;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use crate::folder::Folder;
use crate::login::Login;
use crate::port::{Port, free_port, on_free_ports};
use crate::process::{Process, program};
use crate::wait::eventually;

const READY: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(2);

/// In a configuration: where JetStream keeps what it keeps.
pub const STORE: &str = "{store}";

/// How a [`Nats`] is set up.
#[derive(Debug, Clone, Default)]
pub struct NatsOptions {
    /// The text of its configuration, in which [`STORE`] stands for its folder of data. Address and port are the
    /// stand's in any case.
    pub configuration: Option<String>,
    /// Variables of its process, which the configuration may name.
    pub variables: Vec<(String, String)>,
}

/// One nats-server on its own port. It keeps port and data over [`Nats::stop`] and [`Nats::restart`].
#[derive(Debug)]
pub struct Nats {
    process: Option<Process>,
    port: Port,
    /// Where the others of its cluster connect to.
    _route: Option<Port>,
    folder: Folder,
    options: NatsOptions,
}

impl Nats {
    /// Starts a server that lets everybody do everything, and waits until JetStream answers.
    pub async fn start() -> Result<Self> {
        Self::start_with(NatsOptions::default()).await
    }

    /// Starts a server with a configuration and waits until it greets those who connect.
    pub async fn start_with(options: NatsOptions) -> Result<Self> {
        on_free_ports(|| async {
            let mut nats = Self::prepare(options.clone())?;
            nats.run().await?;
            Ok(nats)
        })
        .await
    }

    /// A server that [`Nats::restart`] starts, on the port that it has already.
    pub fn prepare(options: NatsOptions) -> Result<Self> {
        Ok(Self { process: None, port: free_port()?, _route: None, folder: Folder::new("nats")?, options })
    }

    /// Starts so many servers that are one cluster, and waits until JetStream answers.
    pub async fn cluster(servers: usize) -> Result<Vec<Self>> {
        on_free_ports(|| async {
            let routes = (0..servers).map(|_| free_port()).collect::<Result<Vec<Port>>>()?;
            let urls: Vec<String> = routes.iter().map(|route| format!("nats-route://{}", route.address())).collect();
            let mut cluster = Vec::new();
            for (number, route) in (1..).zip(routes) {
                let configuration = format!(
                    "server_name: n{number}\njetstream {{ store_dir: \"{STORE}\" }}\ncluster {{\n  name: stand\n  \
                     listen: \"{}\"\n  routes: {urls:?}\n}}\n",
                    route.address()
                );
                let options = NatsOptions { configuration: Some(configuration), ..NatsOptions::default() };
                cluster.push(Self { _route: Some(route), ..Self::prepare(options)? });
            }
            try_join_all(cluster.iter_mut().map(Self::restart)).await?;
            // Not before they have chosen who leads.
            for server in &cluster {
                eventually(READY, || answers(server.url()))
                    .await
                    .context("JetStream does not answer in the cluster")?;
            }
            Ok(cluster)
        })
        .await
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.port.address())
    }

    /// A client of its own.
    pub async fn client(&self) -> Result<async_nats::Client> {
        async_nats::connect(self.url()).await.with_context(|| format!("failed to connect to {}", self.url()))
    }

    /// A client of its own that logs in.
    pub async fn client_as(&self, login: &Login) -> Result<async_nats::Client> {
        let options = async_nats::ConnectOptions::with_user_and_password(login.user.clone(), login.password.clone());
        let connected = options.connect(self.url()).await;
        connected.with_context(|| format!("failed to connect to {} as {}", self.url(), login.user))
    }

    /// SIGKILL: what it had not written is lost, as when a machine dies.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Stops it where it runs, and starts it again on the same port with the same data.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop();
        self.run().await
    }

    /// Stops it, deletes everything that JetStream kept, and starts it on the same port.
    pub async fn wipe(&mut self) -> Result<()> {
        self.stop();
        let store = self.store();
        fs::remove_dir_all(&store).with_context(|| format!("failed to delete {}", store.display()))?;
        self.run().await
    }

    /// SIGSTOP: connections stay open and nobody answers.
    pub fn pause(&mut self) -> Result<()> {
        self.running()?.pause()
    }

    /// SIGCONT.
    pub fn resume(&mut self) -> Result<()> {
        self.running()?.resume()
    }

    /// The id of its process; `None` while it is stopped.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The folder of its data and its log.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    fn running(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("nats-server is stopped")
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn run(&mut self) -> Result<()> {
        let mut command = Command::new(program("nats-server")?);
        command.args(["-a", "127.0.0.1", "-p", &self.port.number().to_string()]);
        match &self.options.configuration {
            Some(text) => {
                let file = self.folder.path().join("nats.conf");
                let text = text.replace(STORE, &self.store().display().to_string());
                fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))?;
                command.arg("-c").arg(file);
            }
            None => {
                command.args(["-js", "-sd"]).arg(self.store());
            }
        }
        command.envs(self.options.variables.iter().map(|(name, value)| (name, value)));
        self.process = Some(Process::spawn("nats-server", command, &self.folder.path().join("log"))?);
        let (url, address, open) = (self.url(), self.port.address(), self.options.configuration.is_none());
        eventually(READY, || {
            let ended = self.process.as_mut().and_then(Process::ended);
            let url = url.clone();
            async move {
                if let Some(status) = ended {
                    return Ok(Err(anyhow!("it ended with {status}")));
                }
                if open { answers(url).await.map(Ok) } else { greets(address).await.map(Ok) }
            }
        })
        .await
        // The inner error is final: there is nothing to wait for any more.
        .and_then(|early_end| early_end)
        .with_context(|| format!("nats-server does not serve; its log:\n{}", self.log()))
    }
}

/// Whether JetStream answers. Asked raw: the typed answer lacks fields in servers of 2.9.
async fn answers(url: String) -> Result<()> {
    let asked = async {
        let client = async_nats::connect(&url).await?;
        client.request("$JS.API.INFO", bytes::Bytes::new()).await?;
        anyhow::Ok(())
    };
    tokio::time::timeout(ANSWER, asked).await.context("no answer")?
}

/// Whether it says its first word, to which nobody needs to log in. It listens only when JetStream is there.
async fn greets(address: std::net::SocketAddr) -> Result<()> {
    let heard = async {
        let mut line = String::new();
        BufReader::new(TcpStream::connect(address).await?).read_line(&mut line).await?;
        ensure!(line.starts_with("INFO "), "it says {line:?}");
        Ok(())
    };
    tokio::time::timeout(ANSWER, heard).await.context("no greeting")?
}
