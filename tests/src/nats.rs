//! A nats-server with JetStream.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::folder::Folder;
use crate::port::{Port, free_port};
use crate::process::{Process, program};
use crate::wait::eventually;

const READY: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(2);
/// How many ports are tried before a start fails.
const STARTS: usize = 5;

/// One nats-server on its own port. It keeps port and data over [`Nats::stop`] and [`Nats::restart`].
#[derive(Debug)]
pub struct Nats {
    process: Option<Process>,
    port: Port,
    folder: Folder,
}

impl Nats {
    /// Starts a server and waits until JetStream answers.
    pub async fn start() -> Result<Self> {
        let mut last = None;
        for _ in 0..STARTS {
            let mut nats = Self { process: None, port: free_port()?, folder: Folder::new("nats")? };
            match nats.run().await {
                Ok(()) => return Ok(nats),
                Err(error) if nats.log().contains("address already in use") => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.expect("at least one start was tried"))
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.port.address())
    }

    /// A client of its own.
    pub async fn client(&self) -> Result<async_nats::Client> {
        async_nats::connect(self.url()).await.with_context(|| format!("failed to connect to {}", self.url()))
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
        command.args(["-a", "127.0.0.1", "-p", &self.port.number().to_string(), "-js", "-sd"]).arg(self.store());
        self.process = Some(Process::spawn("nats-server", command, &self.folder.path().join("log"))?);
        let url = self.url();
        eventually(READY, || {
            let ended = self.process.as_mut().and_then(Process::ended);
            answers(url.clone(), ended)
        })
        .await
        .with_context(|| format!("nats-server does not serve; its log:\n{}", self.log()))
    }
}

/// Whether JetStream answers. Asked raw: the typed answer lacks fields in servers of 2.9.
async fn answers(url: String, ended: Option<std::process::ExitStatus>) -> Result<()> {
    if let Some(status) = ended {
        bail!("it ended with {status}");
    }
    let asked = async {
        let client = async_nats::connect(&url).await?;
        client.request("$JS.API.INFO", bytes::Bytes::new()).await?;
        anyhow::Ok(())
    };
    tokio::time::timeout(ANSWER, asked).await.context("no answer")?
}
