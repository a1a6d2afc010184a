//! The variants that are compared, and one run of one of them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_tests::daemon::{bare_command, binary};
use backstay_tests::process::program;
use backstay_tests::{Folder, Process, S3};
use tempfile::TempDir;

use super::measure::{Measured, in_own_session, measure};
use super::restore::{Fetcher, Restores};
use super::source::{Source, etcdctl_command};

const MEMORY_FOLDER: &str = "/dev/shm";
const READY: Duration = Duration::from_secs(10);

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// To a file in the temporary folder, which etcdctl syncs: as people run it.
    Etcdctl,
    /// To a file in memory: what merely reading etcd costs with what people have.
    Memory,
    S3,
    File,
    /// Without inspection: what that costs is the difference to [`Variant::S3`].
    Bare,
}

impl Variant {
    pub const ALL: [Self; 5] = [Self::Etcdctl, Self::Memory, Self::S3, Self::File, Self::Bare];
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Etcdctl => "etcdctl snapshot save",
            Self::Memory => "etcdctl, to memory",
            Self::S3 => "once --store s3://",
            Self::File => "once --store file://",
            Self::Bare => "s3://, no inspection",
        })
    }
}

/// What one run took.
#[derive(Debug, Clone)]
pub struct Run {
    pub wall: Duration,
    pub client_cpu: Duration,
    pub etcd_cpu: Duration,
    pub s3_cpu: Duration,
    /// The part of the machine's CPU time that went to nothing of ours, 0 to 1.
    pub others: f64,
    pub peak_bytes: u64,
    pub stored_bytes: u64,
    /// Files that were written and are not the result, open at some time or left behind.
    pub temporary: BTreeSet<PathBuf>,
}

/// What all runs share: an S3 server, folders, a recipient.
pub struct Bench {
    recipient: String,
    agent: PathBuf,
    s3: S3,
    server: Process,
    memory: TempDir,
    folder: Folder,
}

impl Bench {
    pub async fn start() -> Result<Self> {
        let (agent, folder) = (binary("backstay-agent")?, Folder::new("bench")?);
        let memory = tempfile::Builder::new().prefix("backstay-bench-").tempdir_in(MEMORY_FOLDER);
        let memory = memory.with_context(|| format!("failed to make a folder in {MEMORY_FOLDER}"))?;
        let mut command = bare_command(&binary("backstay-test-s3")?);
        command.args(["--listen", "127.0.0.1:0", "--dir"]).arg(folder.sub("s3")?);
        let command = in_own_session(&command)?;
        let mut server = Process::spawn("backstay-test-s3", command, &folder.path().join("s3.log"))?;
        let line = server.wait_for_log("serving bucket", READY).await?;
        let s3 = S3::at(line.rsplit(' ').next().context("the line ends with the endpoint")?);
        Ok(Self { recipient: recipient(folder.path())?, agent, s3, server, memory, folder })
    }

    /// Runs a variant once, and removes what it stored.
    pub async fn run(&self, variant: Variant, source: &Source) -> Result<Run> {
        let results = match variant {
            Variant::Memory => self.memory.path().to_owned(),
            _ => self.folder.sub("store")?,
        };
        let empty = self.folder.sub("empty")?;
        let mut command = self.command(variant, source, &results)?;
        command.current_dir(&empty).env("TMPDIR", &empty).env("HOME", &empty);
        let log = self.folder.path().join("run.log");
        let before = self.cpu(source)?;
        let Measured { wall, cpu, peak_bytes, mut temporary } =
            measure(&variant.to_string(), command, &log, &results).await?;
        let after = self.cpu(source)?;
        temporary.extend(files(&empty)?.into_keys());
        let (etcd_cpu, s3_cpu) = (after.etcd - before.etcd, after.s3 - before.s3);
        let ours = cpu + etcd_cpu + s3_cpu + (after.own - before.own);
        let others = (after.busy - before.busy).saturating_sub(ours).as_secs_f64() / cores() / wall.as_secs_f64();
        let stored_bytes = self.take_away(variant, &results).await?;
        Ok(Run { wall, client_cpu: cpu, etcd_cpu, s3_cpu, others, peak_bytes, stored_bytes, temporary })
    }

    /// The way back of one size, prepared; `None` where nothing is installed to compare it with.
    pub async fn restores(&self, source: &Source, mib: u64) -> Result<Option<Restores<'_>>> {
        let Some(fetcher) = Fetcher::find() else { return Ok(None) };
        let once = self.command(Variant::S3, source, self.folder.path())?;
        let (folder, identity) = (self.folder.path(), self.folder.path().join("key"));
        Restores::prepare(&self.s3, folder, identity, fetcher, source, once, mib).await.map(Some)
    }

    /// Removes everything from the bucket.
    pub async fn empty_bucket(&self) -> Result<()> {
        self.take_away(Variant::S3, self.folder.path()).await.map(drop)
    }

    fn command(&self, variant: Variant, source: &Source, results: &Path) -> Result<Command> {
        let mut command = match variant {
            Variant::Etcdctl | Variant::Memory => etcdctl_command()?,
            _ => bare_command(&self.agent),
        };
        let once = ["once", "--cluster", "bench", "--etcd", source.url(), "--recipient", &self.recipient, "--store"];
        match variant {
            Variant::Etcdctl | Variant::Memory => {
                command.args(["--endpoints", source.url(), "snapshot", "save"]).arg(results.join("snapshot.db"));
            }
            Variant::File => {
                command.args(once).arg(format!("file://{}", results.display()));
            }
            Variant::S3 | Variant::Bare => {
                command.args(once).arg(format!("s3://{}", self.s3.bucket()));
                command.envs(self.s3.variables());
            }
        }
        if variant == Variant::Bare {
            command.arg("--no-inspection");
        }
        Ok(command)
    }

    /// Removes the result; the answer is how many bytes it had. Nothing unfinished may be among it.
    async fn take_away(&self, variant: Variant, results: &Path) -> Result<u64> {
        let stored: u64 = match variant {
            Variant::S3 | Variant::Bare => {
                let (objects, client) = (self.s3.objects().await?, self.s3.client());
                for key in objects.keys() {
                    let deleted = client.delete_object().bucket(self.s3.bucket()).key(key).send().await;
                    deleted.with_context(|| format!("failed to delete {key}"))?;
                }
                let unfinished = self.s3.unfinished().await?;
                ensure!(unfinished.is_empty(), "unfinished uploads were left: {unfinished:?}");
                objects.values().sum()
            }
            Variant::Etcdctl | Variant::Memory | Variant::File => {
                let files = files(results)?;
                for entry in fs::read_dir(results)? {
                    let path = entry?.path();
                    if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
                        .with_context(|| format!("failed to remove {}", path.display()))?;
                }
                files.values().sum()
            }
        };
        ensure!(stored > 0, "{variant} stored nothing");
        Ok(stored)
    }

    fn cpu(&self, source: &Source) -> Result<Cpu> {
        let (etcd, s3) = (source.process()?.cpu_time()?, self.server.cpu_time()?);
        Ok(Cpu { etcd, s3, own: own_time()?, busy: busy_time()? })
    }
}

/// CPU time so far.
struct Cpu {
    etcd: Duration,
    s3: Duration,
    own: Duration,
    /// Of the whole machine.
    busy: Duration,
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1000 / rustix::param::clock_ticks_per_second())
}

fn own_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").context("failed to read /proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // User and system; what the reaped children took stands behind and is counted elsewhere.
    Ok(ticks(fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()))
}

fn busy_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("failed to read /proc/stat")?;
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let fields: Vec<u64> = fields.take(8).filter_map(|field| field.parse().ok()).collect();
    ensure!(fields.len() == 8, "/proc/stat begins with something unknown");
    // All but idle and iowait.
    Ok(ticks(fields.iter().sum::<u64>() - fields[3] - fields[4]))
}

fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64)
}

/// All regular files below a folder, with their sizes.
fn files(folder: &Path) -> Result<std::collections::BTreeMap<PathBuf, u64>> {
    let mut found = std::collections::BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.insert(entry.path(), metadata.len());
        }
    }
    Ok(found)
}

/// A recipient whose key goes with the folder.
fn recipient(folder: &Path) -> Result<String> {
    let file = folder.join("key");
    let made =
        Command::new(program("age-keygen")?).arg("-o").arg(&file).output().context("failed to run age-keygen")?;
    ensure!(made.status.success(), "age-keygen failed: {}", String::from_utf8_lossy(&made.stderr));
    let text = fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
    let public = text.lines().find_map(|line| line.strip_prefix("# public key: "));
    public.map(str::to_owned).context("age-keygen wrote no public key")
}
