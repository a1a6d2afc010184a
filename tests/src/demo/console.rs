//! What a person would see: headings, commands as typed, what they print. Commands run in bash, in a folder of
//! their own, with this workspace's programs in `PATH` and `BACKSTAY_NATS_URL` set.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_tests::daemon::{bare_command, binary};
use backstay_tests::{Output, eventually, releases};

const COMMAND: Duration = Duration::from_secs(60);

/// A terminal, as it were.
pub struct Console {
    folder: PathBuf,
    programs: PathBuf,
    nats: String,
    steps: Cell<usize>,
}

impl Console {
    /// Commands run in `folder`.
    pub fn new(folder: &Path, nats: &str) -> Result<Self> {
        let own = binary("backstayctl")?;
        let programs = own.parent().context("a program lies in a folder")?.to_owned();
        Ok(Self { folder: folder.to_owned(), programs, nats: nats.to_owned(), steps: Cell::new(0) })
    }

    /// Where commands run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where this workspace's programs lie.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The next step's heading.
    pub fn heading(&self, text: &str) {
        self.steps.set(self.steps.get() + 1);
        println!("\n== {}. {text}", self.steps.get());
    }

    /// A remark.
    pub fn say(&self, text: &str) {
        println!("# {text}");
    }

    /// Shows a command and what it prints, which is the answer. It must succeed.
    pub async fn run(&self, command: &str) -> Result<String> {
        show(command);
        let output = self.quiet(command).await?;
        print!("{}{}", output.stdout, output.stderr);
        ensure!(output.status.success(), "`{command}` ended with {}", output.status);
        Ok(output.stdout)
    }

    /// Shows a command that must fail with exit code 1, and its errors, which are the answer.
    pub async fn refused(&self, command: &str) -> Result<String> {
        show(command);
        let output = self.quiet(command).await?;
        print!("{}{}", output.stdout, output.stderr);
        ensure!(output.status.code() == Some(1), "`{command}` ended with {} instead of 1", output.status);
        Ok(output.stderr)
    }

    /// Repeats a command unseen until it succeeds and `check` takes what it prints; then shows it once.
    pub async fn run_until(
        &self,
        deadline: Duration,
        command: &str,
        check: impl Fn(&str) -> Result<()>,
    ) -> Result<String> {
        let wanted = eventually(deadline, || async { check(&self.quiet(command).await?.ok()?) }).await;
        wanted.with_context(|| format!("`{command}` does not show what it should"))?;
        let shown = self.run(command).await?;
        check(&shown)?;
        Ok(shown)
    }

    /// Runs a command to its end, unseen.
    pub async fn quiet(&self, command: &str) -> Result<Output> {
        let mut bash = bare_command(Path::new("bash"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD")) {
            bash.env_remove(name);
        }
        bash.args(["-euo", "pipefail", "-c", command]).current_dir(&self.folder).stdin(Stdio::null());
        bash.env("PATH", self.path()?).env("BACKSTAY_NATS_URL", &self.nats).env("ETCDCTL_API", "3");
        let ended = tokio::process::Command::from(bash).kill_on_drop(true).output();
        let ended = tokio::time::timeout(COMMAND, ended).await;
        let ended = ended.with_context(|| format!("`{command}` did not end within {COMMAND:?}"))?;
        let ended = ended.with_context(|| format!("failed to run `{command}` in bash"))?;
        let (stdout, stderr) = (String::from_utf8(ended.stdout)?, String::from_utf8(ended.stderr)?);
        Ok(Output { status: ended.status, stdout, stderr })
    }

    fn path(&self) -> Result<OsString> {
        releases::path(std::slice::from_ref(&self.programs))
    }
}

/// Shows a command as typed.
pub fn show(command: &str) {
    println!("$ {command}");
}
