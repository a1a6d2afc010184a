//! The way back, from a bucket to an etcd that serves: `backstayctl restore`, which fetches, decrypts, decompresses,
//! checks, inspects and writes at once, beside a plain tool that fetches the bare snapshot and `etcdctl snapshot restore`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use backstay_tests::daemon::{bare_command, binary};
use backstay_tests::process::program;
use backstay_tests::{Etcd, EtcdOptions, S3};

use super::measure::{Measured, measure};
use super::source::{QUOTA_BYTES, Source, etcdctl_command};
use super::statistics::Summary;

/// The project's figures.
const WALL_RATIO: f64 = 0.5;
const PEAK_MIB: f64 = 64.0;

const MIB: f64 = (1u64 << 20) as f64;
const PART_BYTES: u64 = 16 << 20;
/// Where the bare snapshot lies in the bucket.
const PLAIN_KEY: &str = "plain/snapshot.db";

/// What fetches the bare snapshot: AWS's own tool, or curl where that is not installed.
#[derive(Debug, Clone)]
pub enum Fetcher {
    Aws(PathBuf),
    Curl(PathBuf),
}

impl Fetcher {
    /// `None` where neither is installed.
    pub fn find() -> Option<Self> {
        program("aws").map(Self::Aws).or_else(|_| program("curl").map(Self::Curl)).ok()
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Aws(_) => "aws s3 cp + etcdctl",
            Self::Curl(_) => "curl + etcdctl",
        }
    }

    fn command(&self, s3: &S3, to: &Path) -> Command {
        match self {
            Self::Aws(program) => {
                let mut command = bare_command(program);
                command.args(["s3", "cp", "--only-show-errors"]);
                command.arg(format!("s3://{}/{PLAIN_KEY}", s3.bucket())).arg(to);
                command.envs(s3.variables());
                command
            }
            Self::Curl(program) => {
                let mut command = bare_command(program);
                command.args(["-sSf", "--aws-sigv4", &format!("aws:amz:{}:s3", s3.region()), "--user"]);
                command.arg(format!("{}:{}", s3.access_key_id(), s3.secret_access_key()));
                command.arg(format!("{}/{}/{PLAIN_KEY}", s3.endpoint(), s3.bucket())).arg("-o").arg(to);
                command
            }
        }
    }
}

/// One way back, once.
#[derive(Debug, Clone)]
struct Way {
    /// Until the data folder is there.
    restore: Duration,
    /// From then on, until etcd answers a linearizable read.
    start: Duration,
    cpu: Duration,
    /// Of the largest of its processes.
    peak_bytes: u64,
}

impl Way {
    fn of(parts: &[Measured], start: Duration) -> Self {
        Self {
            restore: parts.iter().map(|part| part.wall).sum(),
            start,
            cpu: parts.iter().map(|part| part.cpu).sum(),
            peak_bytes: parts.iter().map(|part| part.peak_bytes).max().unwrap_or_default(),
        }
    }

    fn wall(&self) -> f64 {
        (self.restore + self.start).as_secs_f64()
    }
}

/// Both ways, with their one backup in the bucket.
pub struct Restores<'a> {
    s3: &'a S3,
    folder: &'a Path,
    identity: PathBuf,
    fetcher: Fetcher,
    backstayctl: PathBuf,
    revision: i64,
    mib: u64,
    rounds: Vec<[Way; 2]>,
}

impl<'a> Restores<'a> {
    /// Puts a sealed backup, by `once`, and the bare snapshot into the bucket. `once` is the command for the former.
    pub async fn prepare(
        s3: &'a S3,
        folder: &'a Path,
        identity: PathBuf,
        fetcher: Fetcher,
        source: &Source,
        mut once: Command,
        mib: u64,
    ) -> Result<Self> {
        let output = once.output().context("failed to run backstay-agent once")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let file = folder.join("plain.db");
        source.save(folder, &file).await?;
        upload(s3, &file).await.context("failed to put the bare snapshot into the bucket")?;
        fs::remove_file(&file)?;
        let (backstayctl, revision) = (binary("backstayctl")?, source.revision().await?);
        Ok(Self { s3, folder, identity, fetcher, backstayctl, revision, mib, rounds: Vec::new() })
    }

    /// One round: both ways, in turning order.
    pub async fn round(&mut self, number: usize) -> Result<()> {
        let (plain, ours) = if number.is_multiple_of(2) {
            let plain = self.plain().await?;
            (plain, self.ours().await?)
        } else {
            let ours = self.ours().await?;
            (self.plain().await?, ours)
        };
        println!(
            "restore, round {}: {} {:.2} s, backstayctl {:.2} s",
            number + 1,
            self.fetcher.name(),
            plain.wall(),
            ours.wall()
        );
        self.rounds.push([plain, ours]);
        Ok(())
    }

    async fn plain(&self) -> Result<Way> {
        let etcd = Etcd::prepare(options())?;
        let file = self.folder.join("fetched.db");
        let log = self.folder.join("restore.log");
        let fetched = measure(self.fetcher.name(), self.fetcher.command(self.s3, &file), &log, self.folder).await?;
        let member = &etcd.members[0];
        let mut restore = etcdctl_command()?;
        restore.args(["snapshot", "restore"]).arg(&file).arg("--data-dir").arg(&member.data_dir);
        restore.args(["--name", &member.name, "--initial-cluster", &etcd.initial_cluster()]);
        restore.args(["--initial-advertise-peer-urls", &member.peer_url]);
        let restored = measure("etcdctl snapshot restore", restore, &log, self.folder).await?;
        let start = self.serves(etcd, self.revision).await?;
        fs::remove_file(&file)?;
        Ok(Way::of(&[fetched, restored], start))
    }

    async fn ours(&self) -> Result<Way> {
        let etcd = Etcd::prepare(options())?;
        let member = &etcd.members[0];
        let mut restore = bare_command(&self.backstayctl);
        restore.args(["restore", "--snapshot", "latest", "--store"]).arg(format!("s3://{}", self.s3.bucket()));
        restore.arg("--identity").arg(&self.identity).arg("--data-dir").arg(&member.data_dir);
        restore.args(["--name", &member.name, "--initial-cluster", &etcd.initial_cluster()]);
        restore.envs(self.s3.variables());
        let restored = measure("backstayctl restore", restore, &self.folder.join("restore.log"), self.folder).await?;
        let start = self.serves(etcd, self.revision + 1).await?;
        Ok(Way::of(&[restored], start))
    }

    /// How long etcd takes until it answers; what it says must be at least at this revision.
    async fn serves(&self, mut etcd: Etcd, revision: i64) -> Result<Duration> {
        let begun = Instant::now();
        etcd.run().await?;
        let took = begun.elapsed();
        let answer = etcd.client().await?.get("any", None).await?;
        let is = answer.header().context("etcd's answer has no header")?.revision();
        ensure!(is >= revision, "the restored etcd is at revision {is}, before {revision}");
        Ok(took)
    }

    fn of(&self, way: usize, figure: impl Fn(&Way) -> f64) -> Summary {
        Summary::of(self.rounds.iter().map(|ways| figure(&ways[way])))
    }

    pub fn table(&self) -> String {
        let mut text = format!("restore of {} MiB of keys and values from S3, until etcd serves\n", self.mib);
        let heads = [self.fetcher.name(), "backstayctl restore"];
        text.push_str(&format!("{:27}   {:<24}   {}\n", "", heads[0], heads[1]));
        let mut line = |heading: &str, figure: &dyn Fn(&Way) -> f64, digits: usize| {
            let cell = |way| format!("{:.digits$}", self.of(way, figure));
            text.push_str(&format!("{heading:27}   {:<24}   {}\n", cell(0), cell(1)));
        };
        line("wall s", &Way::wall, 2);
        line("  until the folder is there", &|way| way.restore.as_secs_f64(), 2);
        line("  from there until it serves", &|way| way.start.as_secs_f64(), 2);
        line("client CPU s", &|way| way.cpu.as_secs_f64(), 2);
        line("client peak memory MiB", &|way| way.peak_bytes as f64 / MIB, 1);
        text
    }

    /// Each of the project's figures.
    pub fn verdicts(&self) -> String {
        let ratio = Summary::of(self.rounds.iter().map(|[plain, ours]| ours.wall() / plain.wall())).median;
        let peak = self.of(1, |way| way.peak_bytes as f64 / MIB).max;
        let verdicts = [
            (
                format!("at most {WALL_RATIO} of the wall time of {}: {ratio:.2}", self.fetcher.name()),
                ratio <= WALL_RATIO,
            ),
            (format!("at most {PEAK_MIB} MiB of peak memory: {peak:.1}"), peak <= PEAK_MIB),
        ];
        let line = |(figure, met): &(String, bool)| {
            format!("{:7} {:>4} MiB, restore: {figure}\n", if *met { "met" } else { "missed" }, self.mib)
        };
        verdicts.iter().map(line).collect()
    }
}

/// Puts a file into the bucket in parts: the server takes no more than a part's worth at once.
async fn upload(s3: &S3, file: &Path) -> Result<()> {
    let (client, bytes) = (s3.client(), fs::metadata(file)?.len());
    let begun = client.create_multipart_upload().bucket(s3.bucket()).key(PLAIN_KEY).send().await?;
    let id = begun.upload_id().context("an upload has an id")?;
    let mut parts = Vec::new();
    for (number, from) in (1..).zip((0..bytes).step_by(PART_BYTES as usize)) {
        let length = Length::Exact(PART_BYTES.min(bytes - from));
        let body = ByteStream::read_from().path(file).offset(from).length(length).build().await?;
        let part = client.upload_part().bucket(s3.bucket()).key(PLAIN_KEY).upload_id(id);
        let sent = part.part_number(number).body(body).send().await?;
        parts.push(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build());
    }
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete = client.complete_multipart_upload().bucket(s3.bucket()).key(PLAIN_KEY).upload_id(id);
    complete.multipart_upload(parts).send().await?;
    Ok(())
}

fn options() -> EtcdOptions {
    EtcdOptions { quota_bytes: Some(QUOTA_BYTES), ..EtcdOptions::default() }
}
