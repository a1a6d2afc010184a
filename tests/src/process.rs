//! A child process: its log, its signals, its end. It is killed and reaped by its own id when dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::releases;
use crate::wait::eventually;

/// How many lines of its log a process shows when its test panics.
const TAIL_LINES: usize = 40;

/// A running (or ended) child. What it prints, on either stream, goes to its log.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; its output is added to the file `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("failed to open the log {}", log.display()))?;
        let err = out.try_clone().with_context(|| format!("failed to open the log {} twice", log.display()))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().with_context(|| format!("failed to start {name} ({:?})", command.get_program()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), ended: None })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; `None` while it runs (or is paused).
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// SIGKILL, and waits for the end. Fine where it has ended already.
    pub fn kill9(&mut self) {
        if self.ended().is_none() {
            // It fails only where the process is gone, which is what is wanted.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// SIGTERM; the answer is how it ended, or an error if it did not within `deadline`.
    pub async fn sigterm_and_wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(deadline).await
    }

    /// Waits for its own end.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        eventually(deadline, || {
            let ended = self.ended();
            std::future::ready(ended.with_context(|| format!("{} still runs", self.name)))
        })
        .await
    }

    /// SIGSTOP: its sockets stay open and nobody answers.
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.ended() {
            bail!("failed to signal {}: it has ended with {status}", self.name);
        }
        // Not reaped yet, so the id is still its own.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a child has a positive id")?;
        kill_process(pid, signal).with_context(|| format!("failed to signal {}", self.name))
    }

    /// Everything that it printed so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Where its log ends now: give it to [`Process::wait_for_log_after`] to overlook what is old.
    pub fn log_mark(&self) -> usize {
        self.log().len()
    }

    /// Waits until it has printed `text`; the answer is the line that holds it.
    pub async fn wait_for_log(&mut self, text: &str, deadline: Duration) -> Result<String> {
        self.wait_for_log_after(0, text, deadline).await
    }

    /// Waits until it has printed `text` behind the mark.
    pub async fn wait_for_log_after(&mut self, mark: usize, text: &str, deadline: Duration) -> Result<String> {
        eventually(deadline, || {
            let ended = self.ended();
            let log = self.log();
            let found = log.get(mark..).unwrap_or_default().lines().find(|line| line.contains(text));
            let found = found.map(str::to_owned).with_context(|| {
                let state = ended.map_or("runs".to_owned(), |status| format!("ended with {status}"));
                format!("{} {state} and never printed {text:?}; its log ends:\n{}", self.name, self.tail())
            });
            // Whoever has ended prints no more.
            std::future::ready(if ended.is_some() { Ok(found) } else { found.map(Ok) })
        })
        .await?
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Its peak memory in bytes (resident), while it runs.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = self.proc_file("status")?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("no VmHWM in the status")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmHWM is no number")?;
        Ok(kib * 1024)
    }

    /// The CPU time that it took so far, user and system, while it runs.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = self.proc_file("stat")?;
        // The name in brackets may hold anything; the fields behind it are plain.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).context("no CPU time in the stat");
        let total = ticks(11)? + ticks(12)?;
        Ok(Duration::from_millis(total * 1000 / rustix::param::clock_ticks_per_second()))
    }

    fn proc_file(&self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.id());
        fs::read_to_string(&path).with_context(|| format!("failed to read {path} of {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let before = self.ended();
        self.kill9();
        if std::thread::panicking() {
            let state = before.map_or("ran".to_owned(), |status| format!("had ended with {status}"));
            eprintln!("--- {} {state}; its log ends:\n{}\n---", self.name, self.tail());
        }
    }
}

/// The path of a program: etcd's and NATS's from the chosen release, others from `PATH`, or from where Debian puts
/// servers, which the `PATH` of a user may lack.
pub fn program(name: &str) -> Result<PathBuf> {
    if let Some(found) = releases::program(name)? {
        return Ok(found);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("{name} is not installed: run tests/setup.sh"))
}
