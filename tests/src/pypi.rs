//! What tests need from PyPI: a venv beside the built programs, made where it is not there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::daemon::binary;

/// A venv and a download may take this long.
const LONG: Duration = Duration::from_secs(300);
const REQUIREMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/requirements.txt");

/// The venv's Python, which has what `tests/requirements.txt` lists.
pub async fn python() -> Result<PathBuf> {
    static MADE: OnceCell<PathBuf> = OnceCell::const_new();
    MADE.get_or_try_init(make).await.cloned()
}

async fn make() -> Result<PathBuf> {
    let venv = binary("backstayctl")?.with_file_name("python");
    let python = venv.join("bin/python");
    // Tests of another program may be at it.
    let lock = File::create(venv.with_extension("lock")).context("failed to make a lock beside the programs")?;
    lock.lock().context("failed to wait for the lock beside the programs")?;
    // One that was interrupted has a Python, and no pip.
    if run(&python, &["-m", "pip", "--version"]).await.is_err() {
        let made = run("python3".as_ref(), &["-m", "venv", "--clear", &venv.display().to_string()]).await;
        made.context("cannot make a venv: tests/setup.sh installs what that needs (Debian: python3-venv)")?;
    }
    let installed = run(&python, &["-m", "pip", "install", "--quiet", "-r", REQUIREMENTS]).await;
    installed.with_context(|| format!("cannot install from PyPI what {REQUIREMENTS} lists"))?;
    Ok(python)
}

/// What a program printed; an error where it fails, with all that it said.
pub async fn run(program: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let what = format!("{} {}", program.display(), arguments.first().unwrap_or(&""));
    let output = timeout(LONG, command.output()).await.with_context(|| format!("{what} does not end"))?;
    let output = output.with_context(|| format!("failed to start {what}"))?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    ensure!(output.status.success(), "{what} ended with {}\n{out}{err}", output.status);
    Ok(out)
}
