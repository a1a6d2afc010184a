//! Measures one child: wall time, CPU time, peak memory, and the regular files that it writes.
//!
//! CPU time is exact (clock ticks): it is read when the child has ended and is not reaped yet. Peak memory is the
//! kernel's own mark (VmHWM), which is gone by then, so it is sampled; what a child grows in its last moment, up
//! to one period, is missed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use backstay_tests::Process;
use backstay_tests::process::program;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// How often a child is looked at.
pub const PERIOD: Duration = Duration::from_millis(10);

/// What one child took.
#[derive(Debug, Clone)]
pub struct Measured {
    pub wall: Duration,
    /// User and system.
    pub cpu: Duration,
    pub peak_bytes: u64,
    /// Regular files that it had open for writing and that are not its result.
    pub temporary: BTreeSet<PathBuf>,
}

/// The same command in a session of its own, as systemd starts services and a terminal its shell. The kernel shares
/// the cores between sessions before it shares them between threads: within one session, many threads of a client
/// take from the server that they wait for.
pub fn in_own_session(command: &Command) -> Result<Command> {
    // Being no leader of a process group, `setsid` makes no child: it becomes the program, under the same id.
    let mut own = Command::new(program("setsid")?);
    own.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => own.env(name, value),
            None => own.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        own.current_dir(folder);
    }
    Ok(own)
}

/// Runs a command to its end, in a session of its own; it must succeed. Files below `results` are what it is there to
/// write; what it prints goes to `log`.
pub async fn measure(name: &str, command: Command, log: &Path, results: &Path) -> Result<Measured> {
    let command = in_own_session(&command)?;
    let begun = Instant::now();
    let mut process = Process::spawn(name, command, log)?;
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw).context("a child has a positive id")?;
    let (stop, stopped) = channel::<()>();
    let mut sampler = Sampler::new(process.id(), [log, results].map(Path::to_owned).to_vec());
    let sampler = tokio::task::spawn_blocking(move || {
        sampler.sample_until(&stopped);
        sampler
    });
    let ended = tokio::task::spawn_blocking(move || {
        // Its id stays its own, and /proc goes on to tell its CPU time, until it is reaped.
        let ended = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        ended.map(|_| begun.elapsed())
    });
    let wall = ended.await?.with_context(|| format!("failed to wait for {name}"))?;
    drop(stop);
    let sampler = sampler.await?;
    let cpu = process.cpu_time()?;
    let status = process.ended().with_context(|| format!("{name} has ended and cannot be reaped"))?;
    ensure!(status.success(), "{name} ended with {status}:\n{}", process.tail());
    ensure!(sampler.peak_bytes > 0, "{name} ended before it could be looked at");
    Ok(Measured { wall, cpu, peak_bytes: sampler.peak_bytes, temporary: sampler.temporary })
}

struct Sampler {
    proc: PathBuf,
    results: Vec<PathBuf>,
    peak_bytes: u64,
    temporary: BTreeSet<PathBuf>,
}

impl Sampler {
    fn new(id: u32, results: Vec<PathBuf>) -> Self {
        Self { proc: PathBuf::from(format!("/proc/{id}")), results, peak_bytes: 0, temporary: BTreeSet::new() }
    }

    fn sample_until(&mut self, stopped: &Receiver<()>) {
        loop {
            self.sample();
            if stopped.recv_timeout(PERIOD) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// A child that ends meanwhile leaves gaps, which is no error.
    fn sample(&mut self) {
        let status = fs::read_to_string(self.proc.join("status")).unwrap_or_default();
        if let Some(kib) = peak_kib(&status) {
            self.peak_bytes = self.peak_bytes.max(kib * 1024);
        }
        for entry in fs::read_dir(self.proc.join("fd")).into_iter().flatten().flatten() {
            if let Some(file) = self.written_file(&entry.path()) {
                self.temporary.insert(file);
            }
        }
    }

    /// The regular file behind a descriptor, if it is open for writing and no result. A file that has no name any
    /// more, or never had one, counts too.
    fn written_file(&self, descriptor: &Path) -> Option<PathBuf> {
        let file = fs::read_link(descriptor).ok()?;
        if !fs::metadata(descriptor).ok()?.is_file() || self.results.iter().any(|result| file.starts_with(result)) {
            return None;
        }
        let info = fs::read_to_string(self.proc.join("fdinfo").join(descriptor.file_name()?)).ok()?;
        is_writable(&info).then_some(file)
    }
}

fn peak_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// By the flags of `open`, which fdinfo gives in octal: the lowest two bits are 0 for reading alone.
fn is_writable(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u64::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & 3 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        assert_eq!(peak_kib("Name:\tx\nVmPeak:\t  9 kB\nVmHWM:\t   4672 kB\nVmRSS:\t 1 kB\n"), Some(4672));
        assert_eq!(peak_kib("Name:\tx\nState:\tZ (zombie)\n"), None);
        assert!(is_writable("pos:\t0\nflags:\t0100002\nmnt_id:\t1\n") && is_writable("flags:\t0100001\n"));
        assert!(!is_writable("flags:\t0100000\n") && !is_writable(""));
    }

    fn shell(script: &str, folder: &Path) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", script]).current_dir(folder);
        command
    }

    #[tokio::test]
    async fn files_that_are_not_the_result_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let (log, results) = (folder.path().join("log"), folder.path().join("results"));
        fs::create_dir(&results).expect("a folder");
        // `read -t` waits without a child of its own; the first file loses its name at once.
        let script = "exec 3>gone 4>results/kept 5</etc/passwd; rm gone; read -t 0.3 <> <(:) || true";
        let measured = measure("bash", shell(script, folder.path()), &log, &results).await.expect("measured");
        let (gone, lost) = (folder.path().join("gone"), folder.path().join("gone (deleted)"));
        assert!(measured.temporary.contains(&lost), "{:?}", measured.temporary);
        assert!(measured.temporary.iter().all(|file| [&gone, &lost].contains(&file)), "{:?}", measured.temporary);
        assert!(measured.peak_bytes > 0);
    }

    #[tokio::test]
    async fn a_child_that_fails_is_an_error_that_shows_its_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let measured = measure("bash", shell("echo no luck; exit 3", folder.path()), &log, &log).await;
        let error = format!("{:#}", measured.expect_err("it failed"));
        assert!(error.contains("no luck") && error.contains('3'), "{error}");
    }
}
