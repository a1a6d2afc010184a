//! Stopping and starting etcd by way of what runs it: systemd, a static pod, or commands. Doing either twice is harmless.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::settings::{ControlKind, RestoreSettings};
use super::words::plain;

/// How often to check whether etcd has closed its database; the kernel does not notify anybody.
const LOOK: Duration = Duration::from_millis(50);
/// How soon the kubelet notices that a manifest is gone: without a notification, it looks every 20 s.
const KUBELET: Duration = Duration::from_secs(25);
/// How many bytes of a failed command's output are in the error.
const TAIL_BYTES: usize = 300;

/// Why etcd was not stopped or started.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("cannot run {program:?}: {cause}")]
    Run { program: String, cause: io::Error },
    #[error("{command:?} ended with {status}{tail}")]
    Failed { command: String, status: std::process::ExitStatus, tail: String },
    #[error("{command:?} did not finish within {}s", .patience.as_secs_f32())]
    TooLong { command: String, patience: Duration },
    #[error("cannot move etcd's manifest {} to {}: {cause}", .from.display(), .to.display())]
    Manifest { from: PathBuf, to: PathBuf, cause: io::Error },
    #[error("etcd's manifest is neither in {} nor in {}", .0.display(), .1.display())]
    NoManifest(PathBuf, PathBuf),
    #[error("etcd was stopped, but still has {} open after {}s", .path.display(), .patience.as_secs_f32())]
    StillRuns { path: PathBuf, patience: Duration },
    #[error("cannot determine whether etcd has {} open: {cause}", .path.display())]
    Lock { path: PathBuf, cause: io::Error },
}

/// Stops and starts this machine's etcd.
#[derive(Debug, Clone)]
pub struct Control {
    kind: ControlKind,
    settings: RestoreSettings,
    /// The file for what commands print on stderr; a daemon that they start may continue to write there.
    log: PathBuf,
    kubelet: Duration,
}

impl Control {
    /// `None` if the settings name no way.
    pub fn new(settings: &RestoreSettings, log: PathBuf) -> Option<Self> {
        Some(Self { kind: settings.control?, settings: settings.clone(), log, kubelet: KUBELET })
    }

    pub fn kind(&self) -> ControlKind {
        self.kind
    }

    pub(super) fn settings(&self) -> &RestoreSettings {
        &self.settings
    }

    /// What the last command printed.
    pub(super) fn command_log(&self) -> &Path {
        &self.log
    }

    /// Checks in advance whether stopping and starting is possible.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(&self) -> Result<(), String> {
        if self.kind != ControlKind::StaticPod {
            return Ok(());
        }
        let (manifest, aside) = self.manifests();
        if !manifest.exists() && !aside.exists() {
            return Err(ControlError::NoManifest(manifest, aside).to_string());
        }
        use std::os::unix::fs::MetadataExt;
        let device = |path: &Path| fs::metadata(path.parent().unwrap_or(path)).map(|m| m.dev());
        match (device(&manifest), device(&aside)) {
            (Ok(a), Ok(b)) if a == b => Ok(()),
            (Ok(_), Ok(_)) => Err(format!("{} is on another file system than {}", aside.display(), manifest.display())),
            (Err(e), _) | (_, Err(e)) => Err(format!("cannot find etcd's manifest: {e}")),
        }
    }

    /// Stops etcd and waits until it has closed all of `databases`.
    ///
    /// # Errors
    /// The command cannot be run, fails or takes too long; the manifest cannot be moved; etcd still has a database open
    /// when the time is over.
    pub async fn stop(&self, databases: &[PathBuf]) -> Result<(), ControlError> {
        let patience = self.settings.stop_timeout;
        match self.kind {
            ControlKind::Systemd => self.run(&systemctl("stop", &self.settings.unit), patience).await?,
            ControlKind::Commands => self.run(&self.settings.stop, patience).await?,
            ControlKind::StaticPod => {
                let (manifest, aside) = self.manifests();
                let gone = shift(&manifest, &aside)?;
                // An etcd that does not run just now, as between two ends of it, may be started once more until then.
                if gone && databases.iter().all(|database| is_free(database).unwrap_or(false)) {
                    tokio::time::sleep(self.kubelet.min(patience)).await;
                }
            }
        }
        for database in databases {
            let gone = async {
                while !is_free(database)? {
                    tokio::time::sleep(LOOK).await;
                }
                Ok(())
            };
            let still = || ControlError::StillRuns { path: database.clone(), patience };
            timeout(patience, gone).await.unwrap_or_else(|_| Err(still()))?;
        }
        Ok(())
    }

    /// Starts etcd, without waiting until it serves.
    ///
    /// # Errors
    /// The command cannot be run, fails or takes too long, or the manifest cannot be moved.
    pub async fn start(&self) -> Result<(), ControlError> {
        let patience = self.settings.start_timeout;
        match self.kind {
            ControlKind::Systemd => match self.run(&systemctl("start", &self.settings.unit), patience).await {
                // The first start ended; systemd begins another, which may be good.
                Err(ControlError::Failed { .. }) if self.unit().await.is_some_and(|unit| unit.goes_on()) => Ok(()),
                started => started,
            },
            ControlKind::Commands => self.run(&self.settings.start, patience).await,
            ControlKind::StaticPod => {
                let (manifest, aside) = self.manifests();
                shift(&aside, &manifest).map(drop)
            }
        }
    }

    fn manifests(&self) -> (PathBuf, PathBuf) {
        let manifest = self.settings.manifest.clone();
        let aside = self.settings.manifest_aside.clone().unwrap_or_else(|| {
            let above = manifest.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
            above.join(format!("backstay-{}", manifest.file_name().unwrap_or_default().to_string_lossy()))
        });
        (manifest, aside)
    }

    async fn run(&self, words: &[String], patience: Duration) -> Result<(), ControlError> {
        let (program, arguments) = words.split_first().expect("settings were checked");
        let cannot = |cause| ControlError::Run { program: program.clone(), cause };
        let log = File::create(&self.log).map_err(cannot)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().map_err(cannot)?;
        let shown = words.join(" ");
        match timeout(patience, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(ControlError::Failed { command: shown, status, tail: self.tail() }),
            Ok(Err(cause)) => Err(cannot(cause)),
            Err(_) => Err(ControlError::TooLong { command: shown, patience }),
        }
    }

    /// The end of what the last command printed.
    fn tail(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let text = plain(&String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]));
        if text.is_empty() { text } else { format!(": {text}") }
    }
}

fn systemctl(verb: &str, unit: &str) -> Vec<String> {
    ["systemctl", verb, unit].map(str::to_owned).to_vec()
}

/// Moves a manifest unless it is there already; returns whether it was moved now.
fn shift(from: &Path, to: &Path) -> Result<bool, ControlError> {
    let failed = |cause| ControlError::Manifest { from: from.to_owned(), to: to.to_owned(), cause };
    match (from.exists(), to.exists()) {
        (false, true) => Ok(false),
        (false, false) => Err(ControlError::NoManifest(from.to_owned(), to.to_owned())),
        // Whoever put a second one there means something by it.
        (true, true) => Err(failed(io::ErrorKind::AlreadyExists.into())),
        (true, false) => fs::rename(from, to).map(|()| true).map_err(failed),
    }
}

/// Whether no process has the database open: bbolt keeps it locked while it does.
pub(super) fn is_free(database: &Path) -> Result<bool, ControlError> {
    let failed = |cause| ControlError::Lock { path: database.to_owned(), cause };
    let file = match File::open(database) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(failed(error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(folder: &Path, change: impl FnOnce(&mut RestoreSettings)) -> Control {
        let mut settings = RestoreSettings { data_dir: Some("/d".into()), ..RestoreSettings::default() };
        change(&mut settings);
        Control { kubelet: Duration::ZERO, ..Control::new(&settings, folder.join("log")).expect("a way") }
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn a_manifest_goes_out_of_the_folder_and_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let manifests = folder.path().join("manifests");
        fs::create_dir(&manifests).expect("writable");
        let manifest = manifests.join("etcd.yaml");
        let control = control(folder.path(), |s| {
            (s.control, s.manifest) = (Some(ControlKind::StaticPod), manifest.clone());
        });
        assert!(control.check().is_err_and(|e| e.contains("neither")));
        fs::write(&manifest, "kind: Pod").expect("writable");
        control.check().expect("there");
        let nothing = folder.path().join("none");
        for _ in 0..2 {
            control.stop(std::slice::from_ref(&nothing)).await.expect("stopped");
            assert!(!manifest.exists() && folder.path().join("backstay-etcd.yaml").exists());
        }
        for _ in 0..2 {
            control.start().await.expect("started");
            assert_eq!(fs::read_to_string(&manifest).expect("back"), "kind: Pod");
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_or_hangs_is_named_with_what_it_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let control = |start: &str| {
            control(folder.path(), |s| {
                (s.control, s.stop, s.start) = (Some(ControlKind::Commands), words("true"), words(start));
                s.start_timeout = Duration::from_millis(300);
            })
        };
        control("true").start().await.expect("fine");
        let error = control("ls /nowhere-at-all").start().await.expect_err("not there").to_string();
        assert!(
            error.contains("ls /nowhere-at-all") && error.contains("exit status") && error.contains("No such"),
            "{error}"
        );
        let error = control("sleep 60").start().await.expect_err("too long").to_string();
        assert!(error.contains("did not finish within 0.3s"), "{error}");
        assert!(matches!(control("/no/such/program").start().await, Err(ControlError::Run { .. })));
    }

    #[tokio::test]
    async fn stopping_ends_when_the_database_is_let_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("db");
        let holder = File::create(&database).expect("writable");
        holder.lock().expect("free");
        let control = control(folder.path(), |s| {
            (s.control, s.stop, s.start) = (Some(ControlKind::Commands), words("true"), words("true"));
            s.stop_timeout = Duration::from_millis(300);
        });
        assert!(matches!(control.stop(std::slice::from_ref(&database)).await, Err(ControlError::StillRuns { .. })));
        drop(holder);
        control.stop(std::slice::from_ref(&database)).await.expect("let go");
    }
}
