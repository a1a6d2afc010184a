//! A separate etcd on a restored folder: started on loopback ports, queried, and stopped. It has no authentication:
//! while it runs, everybody on this machine can read it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use backstay_archive::restore::NewMember;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::etcd::sample::Sampled;
use crate::etcd::{CALL_TIMEOUT, Etcd, EtcdError, EtcdSettings, HashKv};

/// How often to check whether it serves.
const LOOK: Duration = Duration::from_millis(200);
const LOG: &str = "etcd.log";
/// How many bytes of its log are searched for the reason; a panic with all goroutines is long.
const LOG_BYTES: u64 = 64 * 1024;
/// How many bytes of its log are in the error.
const TAIL_BYTES: usize = 600;
/// How many keys are read one by one.
const SAMPLE: u32 = 64;
/// A quota that is enough for any database, since one above its quota raises an alarm.
const QUOTA_BYTES: u64 = 64 * 1024 * 1024 * 1024;
pub const MEMBER: &str = "scratch";

/// Why it did not serve, or what was wrong with its answers.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error("no etcd was found on the PATH: set [verify] etcd in agent.toml, or omit --boot")]
    NoProgram,
    #[error("cannot start {}: {cause}", .program.display())]
    Start { program: PathBuf, cause: io::Error },
    #[error("no free port: {0}")]
    Port(io::Error),
    #[error("the etcd on the restored data ended with {status}: {tail}")]
    Ended {
        status: std::process::ExitStatus,
        tail: String,
        /// More of its log than is shown.
        log: String,
    },
    #[error("the etcd on the restored data did not serve within {}s ({cause}): {tail}", .patience.as_secs())]
    TooLong { patience: Duration, cause: String, tail: String },
    #[error(transparent)]
    Etcd(#[from] EtcdError),
}

/// URLs with two ports of 127.0.0.1 that were free a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    client: String,
    peer: String,
}

impl Ports {
    /// Two ports of 127.0.0.1 that are free at this moment.
    ///
    /// # Errors
    /// [`BootError::Port`] if there are none.
    pub fn find() -> Result<Self, BootError> {
        // Both at once: the second is another one.
        let bound = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").and_then(|l| Ok((l.local_addr()?, l))));
        let [client, peer] = bound;
        let (client, peer) = (client.map_err(BootError::Port)?, peer.map_err(BootError::Port)?);
        Ok(Self { client: format!("http://{}", client.0), peer: format!("http://{}", peer.0) })
    }

    /// The only member of the temporary cluster.
    pub fn member(&self) -> NewMember {
        NewMember { name: MEMBER.into(), peer_urls: vec![self.peer.clone()] }
    }
}

/// The program in the settings, or the first `etcd` on the `PATH`.
///
/// # Errors
/// [`BootError::NoProgram`] if there is neither.
pub fn program(set: Option<&Path>) -> Result<PathBuf, BootError> {
    if let Some(path) = set {
        return Ok(path.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("etcd")).find(|file| file.is_file());
    found.ok_or(BootError::NoProgram)
}

/// The version that the program reports, such as `3.5.30`; `None` if it reports none.
pub async fn version(program: &Path) -> Option<String> {
    let asked = Command::new(program).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(CALL_TIMEOUT, asked).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| Some(line.strip_prefix("etcd Version:")?.trim().to_owned()))
}

/// Its answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    pub version: String,
    /// `Err`: why there is no hash.
    pub hash: Result<HashKv, String>,
    pub sampled: Sampled,
}

/// The revisions for which it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revisions {
    /// For HashKV.
    pub hash: i64,
    /// For its keys: the last revision in the database, since leases that expire while it serves make later ones.
    /// `None` if that is not known; then its current revision is used.
    pub keys: Option<i64>,
}

/// Starts etcd on `data`, which is below `scratch`, reads from it, and stops it in every case. `patience` bounds the start.
///
/// # Errors
/// The program does not start, ends by itself, or does not serve in time.
pub async fn serve(
    program: &Path,
    scratch: &Path,
    data: &Path,
    ports: &Ports,
    patience: Duration,
    at: Revisions,
) -> Result<Served, BootError> {
    let log = scratch.join(LOG);
    let mut child = start(program, data, ports, &log)?;
    let served = ask(&mut child, ports, &log, patience, at).await;
    // It holds nothing that anybody wants to keep.
    let _ = child.kill().await;
    served
}

fn start(program: &Path, data: &Path, ports: &Ports, log: &Path) -> Result<Child, BootError> {
    let cannot = |cause| BootError::Start { program: program.to_owned(), cause };
    let out = File::create(log).map_err(cannot)?;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD")) {
        command.env_remove(name);
    }
    let data = data.display().to_string();
    let cluster = format!("{MEMBER}={}", ports.peer);
    let quota = QUOTA_BYTES.to_string();
    for (flag, value) in [
        ("--name", MEMBER),
        ("--data-dir", &data),
        ("--listen-client-urls", &ports.client),
        ("--advertise-client-urls", &ports.client),
        ("--listen-peer-urls", &ports.peer),
        ("--initial-advertise-peer-urls", &ports.peer),
        ("--initial-cluster", &cluster),
        ("--quota-backend-bytes", &quota),
    ] {
        command.args([flag, value]);
    }
    let error = out.try_clone().map_err(cannot)?;
    command.stdin(Stdio::null()).stdout(out).stderr(error).kill_on_drop(true);
    command.spawn().map_err(cannot)
}

async fn ask(
    child: &mut Child,
    ports: &Ports,
    log: &Path,
    patience: Duration,
    at: Revisions,
) -> Result<Served, BootError> {
    let etcd = Etcd::new(EtcdSettings { endpoints: vec![ports.client.clone()], ..EtcdSettings::default() })?;
    let begun = Instant::now();
    let (mut connection, now) = loop {
        let tried = async {
            let mut connection = etcd.connect().await?;
            let now = connection.revision().await?;
            Ok::<_, EtcdError>((connection, now))
        };
        let cause = match tried.await {
            Ok(served) => break served,
            Err(error) => error.to_string(),
        };
        if let Ok(Some(status)) = child.try_wait() {
            let log = last_of(log);
            return Err(BootError::Ended { status, tail: tail(&log), log });
        }
        if begun.elapsed() > patience {
            return Err(BootError::TooLong { patience, cause, tail: tail(&last_of(log)) });
        }
        sleep(LOOK).await;
    };
    let version = connection.member().await?.etcd_version;
    let hash = connection.hash_at(at.hash).await.map_err(|e| e.to_string());
    let sampled = connection.sample(at.keys.map_or(now, |keys| keys.min(now)), SAMPLE).await?;
    Ok(Served { version, hash, sampled })
}

/// The last [`LOG_BYTES`] of a log, or as much of them as can be read.
fn last_of(log: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let begin = file.metadata()?.len().saturating_sub(LOG_BYTES);
        file.seek(SeekFrom::Start(begin))?;
        file.take(LOG_BYTES).read_to_end(&mut bytes)
    });
    if let Err(cause) = read {
        tracing::warn!(log = %log.display(), %cause, "the log of the etcd on the restored data cannot be read");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(log: &str) -> String {
    log[log.ceil_char_boundary(log.len().saturating_sub(TAIL_BYTES))..].trim().replace('\n', " ")
}
