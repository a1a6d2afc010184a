//! Commands as a person types them: in bash, in a folder of their own, with this workspace's programs in `PATH`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Child;

use crate::daemon::{bare_command, binary};
use crate::{Output, Stand, releases};

const COMMAND: Duration = Duration::from_secs(120);

/// A terminal whose `backstayctl` asks one stand.
pub struct Terminal {
    folder: PathBuf,
    nats: String,
}

impl Terminal {
    pub fn new(stand: &Stand) -> Result<Self> {
        let folder = stand.folder().join("work");
        std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        Ok(Self { folder, nats: stand.nats.url() })
    }

    /// Where commands run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What a command prints. It must succeed and say nothing on stderr.
    pub async fn prints(&self, command: &str) -> Result<String> {
        let Output { status, stdout, stderr } = self.run(command).await?;
        ensure!(status.success() && stderr.is_empty(), "`{command}` ended with {status}\n{stdout}{stderr}");
        Ok(stdout)
    }

    /// A command that must succeed and print nothing, as `apply` does.
    pub async fn silent(&self, command: &str) -> Result<()> {
        let printed = self.prints(command).await?;
        ensure!(printed.is_empty(), "`{command}` should print nothing, and printed\n{printed}");
        Ok(())
    }

    /// The error of a command that must end with exit code 1 and print nothing else; without its line end.
    pub async fn refused(&self, command: &str) -> Result<String> {
        let Output { status, stdout, stderr } = self.run(command).await?;
        let as_it_should = status.code() == Some(1) && stdout.is_empty();
        ensure!(as_it_should, "`{command}` should be refused, and ended with {status}\n{stdout}{stderr}");
        Ok(stderr.trim_end_matches('\n').to_owned())
    }

    /// Runs a command to its end.
    pub async fn run(&self, command: &str) -> Result<Output> {
        let ended = tokio::process::Command::from(self.bash(command)?).kill_on_drop(true).output();
        let ended = tokio::time::timeout(COMMAND, ended).await;
        let ended = ended.with_context(|| format!("`{command}` did not end within {COMMAND:?}"))?;
        let ended = ended.with_context(|| format!("failed to run `{command}` in bash"))?;
        let (stdout, stderr) = (String::from_utf8(ended.stdout)?, String::from_utf8(ended.stderr)?);
        Ok(Output { status: ended.status, stdout, stderr })
    }

    /// A command that goes on, with its output to be read.
    pub fn begin(&self, command: &str) -> Result<Child> {
        let mut bash = tokio::process::Command::from(self.bash(&format!("exec {command}"))?);
        let begun = bash.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn();
        begun.with_context(|| format!("failed to run `{command}` in bash"))
    }

    fn bash(&self, command: &str) -> Result<std::process::Command> {
        let mut bash = bare_command(Path::new("bash"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD")) {
            bash.env_remove(name);
        }
        bash.args(["-euo", "pipefail", "-c", command]).current_dir(&self.folder).stdin(Stdio::null());
        bash.env("PATH", path()?).env("BACKSTAY_NATS_URL", &self.nats).env("ETCDCTL_API", "3");
        Ok(bash)
    }
}

/// The program of the chosen release that reads and restores snapshot files.
pub fn snapshot_tool() -> Result<&'static str> {
    Ok(releases::chosen()?.snapshot_tool())
}

/// `PATH` with the workspace's programs before all others, and those of the chosen release of etcd and NATS behind them.
pub fn path() -> Result<OsString> {
    let own = binary("backstayctl")?;
    releases::path(&[own.parent().context("a program lies in a folder")?.to_owned()])
}
