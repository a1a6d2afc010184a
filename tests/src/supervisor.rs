//! What systemd or the kubelet is to an etcd member on a real machine: stops it and starts it when asked, over a
//! socket, by a small client that agents run as their commands.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::daemon::binary;
use crate::process::Process;

/// etcd ends within this, or is killed.
const END: Duration = Duration::from_secs(20);

/// Starts a process anew, with further arguments; the stand's members know how.
pub type Spawn = Box<dyn FnMut(&[&str]) -> Result<Process> + Send>;

/// No etcd starts with this.
const NO_FLAG: &str = "--no-such-flag";

/// Something that goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The next start says that all is well, and nothing runs.
    StartsNothing,
    /// The next start fails.
    FailsToStart,
    /// The next start says that all is well, and what it started ends at once.
    EndsAtOnce,
    /// The next stop fails.
    FailsToStop,
}

struct State {
    process: Option<Process>,
    spawn: Spawn,
    sabotage: Vec<Sabotage>,
    /// What was asked for, in its order.
    asked: Vec<String>,
}

/// One member's supervisor; its process ends with it.
pub struct Supervisor {
    state: Arc<Mutex<State>>,
    socket: PathBuf,
    log: PathBuf,
    _task: JoinSet<()>,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Supervisor {
    /// Takes over a running process, which logs to `log`.
    pub fn start(process: Process, spawn: Spawn, log: PathBuf, folder: &Path, label: &str) -> Result<Self> {
        let socket = folder.join(format!("{label}.sock"));
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("failed to listen on {}", socket.display()))?;
        let state = State { process: Some(process), spawn, sabotage: Vec::new(), asked: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let mut task = JoinSet::new();
        task.spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { state, socket, log, _task: task })
    }

    /// The `[restore]` of an agent whose member this is.
    pub fn settings(&self, data_dir: &Path) -> Result<String> {
        let client = binary("backstay-test-supervise")?;
        let command = |word: &str| format!("[\"{}\", \"{}\", \"{word}\"]", client.display(), self.socket.display());
        Ok(format!(
            "\n[restore]\ncontrol = \"commands\"\ndata_dir = \"{}\"\nlog = \"{}\"\nstop = {}\nstart = {}\n",
            data_dir.display(),
            self.log.display(),
            command("stop"),
            command("start")
        ))
    }

    /// Lets something go wrong once.
    pub fn sabotage(&self, sabotage: Sabotage) {
        self.sabotage_all(&[sabotage]);
    }

    /// Lets each of these go wrong once, in their order.
    pub fn sabotage_all(&self, sabotage: &[Sabotage]) {
        lock(&self.state).sabotage = sabotage.to_vec();
    }

    /// Where its process logs to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What was asked for since the last look.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.state).asked)
    }

    /// Ends the process as a crash does.
    pub fn kill(&self) {
        lock(&self.state).process = None;
    }

    /// Starts it as whoever looks after it would.
    pub fn revive(&self) -> Result<()> {
        let mut state = lock(&self.state);
        state.process = Some((state.spawn)(&[])?);
        Ok(())
    }

    pub fn runs(&self) -> bool {
        lock(&self.state).process.as_mut().is_some_and(|process| process.ended().is_none())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: UnixListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        // Whoever hangs up before its answer has none.
        let _ = answer(stream, &state).await;
    }
}

async fn answer(stream: UnixStream, state: &Mutex<State>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut word = String::new();
    stream.read_line(&mut word).await?;
    let reply = match act(word.trim(), state).await {
        Ok(()) => "ok\n".to_owned(),
        Err(error) => format!("{error:#}\n"),
    };
    stream.get_mut().write_all(reply.as_bytes()).await?;
    Ok(())
}

async fn act(word: &str, state: &Mutex<State>) -> Result<()> {
    let sabotage = {
        let mut state = lock(state);
        if word == "status" {
            let runs = state.process.as_mut().is_some_and(|process| process.ended().is_none());
            return if runs { Ok(()) } else { anyhow::bail!("it does not run") };
        }
        state.asked.push(word.to_owned());
        let fits = |s: &Sabotage| (*s == Sabotage::FailsToStop) == (word == "stop");
        let is_next = state.sabotage.first().is_some_and(fits);
        is_next.then(|| state.sabotage.remove(0))
    };
    match (word, sabotage) {
        ("stop", Some(_)) => anyhow::bail!("it was told to fail to stop"),
        ("stop", None) => {
            let Some(mut process) = lock(state).process.take() else { return Ok(()) };
            if process.sigterm_and_wait(END).await.is_err() {
                process.kill9();
            }
            Ok(())
        }
        ("start", Some(Sabotage::StartsNothing)) => Ok(()),
        ("start", Some(Sabotage::EndsAtOnce)) => {
            let mut state = lock(state);
            state.process = Some((state.spawn)(&[NO_FLAG])?);
            Ok(())
        }
        ("start", Some(_)) => anyhow::bail!("it was told to fail to start"),
        ("start", None) => {
            let mut state = lock(state);
            if state.process.as_mut().is_none_or(|process| process.ended().is_some()) {
                state.process = Some((state.spawn)(&[])?);
            }
            Ok(())
        }
        _ => anyhow::bail!("{word:?} is no command"),
    }
}
