//! The workspace's own programs as processes: found in cargo's target folder, started with a clean environment,
//! ready when they say so.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::process::Process;
use crate::releases;
use crate::wait::eventually;

/// The path of one of the workspace's programs: beside the running one, or one folder above (tests run in `deps`).
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find the running program's path")?;
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("no {name} near {}: run cargo build --workspace first", own.display()))
}

/// A command without the variables that would change what Backstay's programs do, and with the chosen release of etcd
/// and NATS first in its `PATH`.
pub fn bare_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    // Without any release whatever is started here says so by itself.
    if let Ok(path) = releases::path(&[]) {
        command.env("PATH", path);
    }
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["BACKSTAY_", "AWS_"].iter().any(|p| text.starts_with(p)) || text == "NOTIFY_SOCKET" {
            command.env_remove(&name);
        }
    }
    // Whoever runs the tests may have connections of their own.
    command.env("BACKSTAYCTL_CONFIG", "/dev/null");
    command
}

/// A daemon that can be started, ended and started again with the same arguments.
#[derive(Debug)]
pub struct Daemon {
    label: String,
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    folder: PathBuf,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    /// Where it says that it is ready, as it would to systemd.
    notices: UnixDatagram,
    is_ready: bool,
}

impl Daemon {
    /// `binary` with these arguments; the log and the socket for notices, named by `label`, go to `folder`.
    pub fn new(binary_name: &str, label: &str, folder: &Path, arguments: &[&str]) -> Result<Self> {
        Ok(Self {
            label: label.to_owned(),
            program: binary(binary_name)?,
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
            variables: Vec::new(),
            folder: folder.to_owned(),
            running: None,
        })
    }

    /// Sets a variable for the starts to come.
    pub fn set_variable(&mut self, name: &str, value: &str) -> &mut Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it (killing it where it runs), and does not wait.
    pub fn start(&mut self) -> Result<()> {
        self.kill9();
        let path = self.folder.join(format!("{}.notices", self.label));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("failed to remove {}", path.display()));
            }
            _ => {}
        }
        let notices = UnixDatagram::bind(&path).with_context(|| format!("failed to listen on {}", path.display()))?;
        notices.set_nonblocking(true)?;
        let mut command = bare_command(&self.program);
        command.args(&self.arguments).env("NOTIFY_SOCKET", &path);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let process = Process::spawn(&self.label, command, &self.folder.join(format!("{}.log", self.label)))?;
        self.running = Some(Running { process, notices, is_ready: false });
        Ok(())
    }

    /// Waits until it has said `READY=1`. Its end, or the deadline, is an error that shows its log.
    pub async fn ready(&mut self, deadline: Duration) -> Result<()> {
        let running = self.running()?;
        let waited = eventually(deadline, || std::future::ready(running.look())).await;
        waited.and_then(|early_end| early_end).with_context(|| {
            let tail = self.running.as_ref().map(|r| r.process.tail()).unwrap_or_default();
            format!("{} does not get ready; its log ends:\n{tail}", self.label)
        })
    }

    /// [`Daemon::start`], then [`Daemon::ready`].
    pub async fn start_and_wait(&mut self, deadline: Duration) -> Result<()> {
        self.start()?;
        self.ready(deadline).await
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.running = None;
    }

    /// SIGTERM; the answer is how it ended.
    pub async fn sigterm_and_wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.running()?.process.sigterm_and_wait(deadline).await
    }

    /// Waits for its own end.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.running()?.process.wait(deadline).await
    }

    /// Waits until it has logged `text` since it was first started; the answer is the line.
    pub async fn wait_for_log(&mut self, text: &str, deadline: Duration) -> Result<String> {
        self.running()?.process.wait_for_log(text, deadline).await
    }

    /// SIGSTOP.
    pub fn pause(&mut self) -> Result<()> {
        self.running()?.process.pause()
    }

    /// SIGCONT.
    pub fn resume(&mut self) -> Result<()> {
        self.running()?.process.resume()
    }

    /// Its process; `None` before a start and after [`Daemon::kill9`].
    pub fn process(&self) -> Option<&Process> {
        self.running.as_ref().map(|running| &running.process)
    }

    /// Everything that it logged, over all starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join(format!("{}.log", self.label))).unwrap_or_default()
    }

    fn running(&mut self) -> Result<&mut Running> {
        self.running.as_mut().with_context(|| format!("{} was not started", self.label))
    }
}

impl Running {
    /// The inner error is final: there is nothing to wait for any more.
    fn look(&mut self) -> Result<Result<()>> {
        let mut buffer = [0; 1024];
        while let Ok(length) = self.notices.recv(&mut buffer) {
            self.is_ready |= String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == "READY=1");
        }
        if self.is_ready {
            return Ok(Ok(()));
        }
        match self.process.ended() {
            Some(status) => Ok(Err(anyhow!("it ended with {status}"))),
            None => bail!("it has not said READY=1"),
        }
    }
}
