//! What can be seen of the etcd that was started, by what runs it: how it is, and what it said last.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use backstay_archive::blocking::blocking;
use tokio::process::Command;
use tokio::time::timeout;

use super::control::{Control, is_free};
use super::life::{Look, Unit};
use super::settings::ControlKind;
use super::words::last_words;

/// How long a query of systemd or its journal may take.
const ASK: Duration = Duration::from_secs(5);
/// How many bytes at the end of a log are read.
const LOG_BYTES: u64 = 64 * 1024;
/// The same for the journal, in lines.
const LOG_LINES: &str = "60";
/// Where the kubelet stores the output of containers.
const POD_LOGS: &str = "/var/log/pods";

/// What the log had before etcd was started; everything after it is from the new etcd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Before {
    /// A position in systemd's journal.
    cursor: String,
    /// The highest number of a container's log, for each folder.
    containers: BTreeMap<PathBuf, u32>,
    log_bytes: u64,
}

/// Where etcd's log is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Log {
    File(PathBuf),
    Journal,
    /// One file for each container that was started, `0.log`, `1.log` and so on, in one of these folders.
    Containers(Vec<PathBuf>),
    /// In the output of the start command, or wherever that sends it.
    Command,
}

impl Control {
    /// Records what the log has before etcd is started.
    pub async fn before_start(&self) -> Before {
        match self.log() {
            Log::File(path) => {
                Before { log_bytes: fs::metadata(path).map_or(0, |file| file.len()), ..Before::default() }
            }
            Log::Journal => {
                let shown = ask("journalctl", &["--lines", "0", "--show-cursor", "--quiet"]).await.unwrap_or_default();
                let cursor = shown.lines().find_map(|line| line.strip_prefix("-- cursor: ")).unwrap_or_default();
                Before { cursor: cursor.trim().to_owned(), ..Before::default() }
            }
            Log::Containers(folders) => Before {
                containers: folders.into_iter().filter_map(|f| Some((f.clone(), newest(&f)?))).collect(),
                ..Before::default()
            },
            Log::Command => Before::default(),
        }
    }

    /// Observes an etcd that does not answer.
    pub async fn look(&self, before: &Before, database: &Path) -> Look {
        let path = database.to_owned();
        let open = blocking(move || is_free(&path)).await;
        let unit = match self.kind() {
            ControlKind::Systemd => self.unit().await,
            ControlKind::StaticPod | ControlKind::Commands => None,
        };
        let containers = match self.log() {
            Log::Containers(folders) if !folders.is_empty() => Some(started(&folders, before)),
            _ => None,
        };
        Look { serves: false, open: open.ok().map(|free| !free), unit, containers }
    }

    /// What systemd reports about the unit.
    pub(super) async fn unit(&self) -> Option<Unit> {
        let unit = self.settings().unit.as_str();
        unit_of(&ask("systemctl", &["show", unit, "--property=ActiveState,Result,NRestarts"]).await.ok()?)
    }

    /// etcd's last messages, or where its log is, as the end of a sentence.
    pub async fn last_words(&self, before: &Before) -> String {
        let (text, place) = match self.log() {
            Log::File(path) => (end(&path, before.log_bytes), format!("see its log {}", path.display())),
            Log::Journal => {
                let unit = self.settings().unit.as_str();
                let after = format!("--after-cursor={}", before.cursor);
                let mut words = vec!["--unit", unit, "--lines", LOG_LINES, "--output", "cat", "--no-pager", "--quiet"];
                if !before.cursor.is_empty() {
                    words.push(&after);
                }
                let shown = ask("journalctl", &words).await;
                (shown, format!("see its log with `journalctl --unit {unit}` on that machine"))
            }
            Log::Containers(folders) => (ends(&folders), format!("see its log below {POD_LOGS} on that machine")),
            Log::Command => {
                let place = "its log is wherever the start command sends it (`log` in [restore] of agent.toml can name \
                    the file)";
                (end(self.command_log(), 0), place.to_owned())
            }
        };
        match text.map(|text| last_words(&text)) {
            Ok(words) if !words.is_empty() => format!("its last lines: {words}"),
            Ok(_) => place,
            Err(error) => format!("{place} ({error})"),
        }
    }

    fn log(&self) -> Log {
        let settings = self.settings();
        match (&settings.log, self.kind()) {
            (Some(log), ControlKind::StaticPod) if log.is_dir() => Log::Containers(vec![log.clone()]),
            (Some(log), _) => Log::File(log.clone()),
            (None, ControlKind::Systemd) => Log::Journal,
            (None, ControlKind::StaticPod) => Log::Containers(pods(Path::new(POD_LOGS), &settings.manifest)),
            (None, ControlKind::Commands) => Log::Command,
        }
    }
}

/// The output of a program, if it succeeds in time.
async fn ask(program: &str, words: &[&str]) -> io::Result<String> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("{program} does not answer"));
    let output = timeout(ASK, command.output()).await.map_err(late)??;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(io::Error::other(format!("{program} ended with {}", output.status))),
    }
}

/// Reads the output of `systemctl show`.
fn unit_of(shown: &str) -> Option<Unit> {
    let value = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    Some(Unit {
        active: value("ActiveState")?.to_owned(),
        result: value("Result").unwrap_or_default().to_owned(),
        restarts: value("NRestarts").and_then(|count| count.parse().ok()),
    })
}

/// The folders with logs of the pod's containers. A static pod is named after its manifest's name and the node's:
/// `kube-system_etcd-node1_UID/etcd`, where the manifest is `etcd.yaml`, as kubeadm has it.
fn pods(base: &Path, manifest: &Path) -> Vec<PathBuf> {
    let name = manifest.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let is_its = |folder: &PathBuf| {
        let folder = folder.file_name().unwrap_or_default().to_string_lossy();
        folder.split('_').nth(1).is_some_and(|pod| pod.strip_prefix(name.as_str()).is_some_and(|r| r.starts_with('-')))
    };
    let inside = entries(base).into_iter().filter(is_its).flat_map(|folder| {
        let own = folder.join(&name);
        if own.is_dir() { vec![own] } else { entries(&folder) }
    });
    inside.collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> = found.collect();
    found.sort();
    found
}

/// The number of a container's log: how many were started before it.
fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()
}

fn newest(folder: &Path) -> Option<u32> {
    entries(folder).iter().filter_map(|path| number(path)).max()
}

/// How many containers were started since the mark.
fn started(folders: &[PathBuf], before: &Before) -> u32 {
    let in_folder = |folder: &PathBuf| {
        let next = |newest: u32| newest.saturating_add(1);
        let then = before.containers.get(folder).map_or(0, |newest| next(*newest));
        newest(folder).map_or(0, |newest| next(newest).saturating_sub(then))
    };
    folders.iter().map(in_folder).sum()
}

/// The ends of the last two containers' logs, since the last container may have just been started.
fn ends(folders: &[PathBuf]) -> io::Result<String> {
    let logs = folders.iter().flat_map(|folder| entries(folder)).filter(|path| number(path).is_some());
    let mut logs: Vec<_> = logs.map(|path| (fs::metadata(&path).and_then(|m| m.modified()).ok(), path)).collect();
    logs.sort();
    let last = logs.iter().rev().take(2).rev().map(|(_, path)| end(path, 0));
    Ok(last.collect::<io::Result<Vec<_>>>()?.concat())
}

/// The end of a file, from a position on, unless the file was replaced since.
fn end(path: &Path, from: u64) -> io::Result<String> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        file => file?,
    };
    let bytes = file.metadata()?.len();
    let from = if from > bytes { 0 } else { from };
    file.seek(SeekFrom::Start(from.max(bytes.saturating_sub(LOG_BYTES))))?;
    let mut text = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::RestoreSettings;

    fn control(folder: &Path, change: impl FnOnce(&mut RestoreSettings)) -> Control {
        let mut settings = RestoreSettings { data_dir: Some(folder.join("etcd")), ..RestoreSettings::default() };
        change(&mut settings);
        Control::new(&settings, folder.join("restore.log")).expect("a way")
    }

    #[test]
    fn systemd_is_understood() {
        let shown = "ActiveState=activating\nResult=exit-code\nNRestarts=3\n";
        let unit = unit_of(shown).expect("a unit");
        assert_eq!((unit.active.as_str(), unit.result.as_str(), unit.restarts), ("activating", "exit-code", Some(3)));
        assert!(unit.goes_on());
        let old = unit_of("Result=success\nActiveState=inactive\n").expect("a unit");
        assert!(old.restarts.is_none() && !old.goes_on());
        assert_eq!(unit_of("Unknown operation show\n"), None);
    }

    #[tokio::test]
    async fn a_pod_s_containers_are_counted_and_the_last_ones_quoted() {
        let home = tempfile::tempdir().expect("a folder");
        let pod = home.path().join("kube-system_etcd-node1_0a1b");
        for folder in ["etcd", "pause"] {
            fs::create_dir_all(pod.join(folder)).expect("writable");
        }
        for other in ["kube-system_etcdctl_1", "kube-system_kube-apiserver-node1_2", "other"] {
            fs::create_dir_all(home.path().join(other).join("etcd")).expect("writable");
        }
        let manifest = Path::new("/etc/kubernetes/manifests/etcd.yaml");
        let folders = pods(home.path(), manifest);
        assert_eq!(folders, [pod.join("etcd")]);
        assert_eq!(pods(Path::new("/no/such/folder"), manifest), [] as [PathBuf; 0]);

        let control =
            control(home.path(), |s| (s.control, s.log) = (Some(ControlKind::StaticPod), Some(pod.join("etcd"))));
        let database = home.path().join("db");
        fs::write(pod.join("etcd/4.log"), "2026-11-28T22:00:00Z stderr F panic: of the old one\n").expect("writable");
        let before = control.before_start().await;
        assert_eq!(control.look(&before, &database).await.containers, Some(0));
        fs::write(pod.join("etcd/5.log"), "2026-11-28T22:00:01Z stderr F panic: no\n").expect("writable");
        assert_eq!(control.look(&before, &database).await.containers, Some(1));
        fs::write(pod.join("etcd/6.log"), "").expect("writable");
        fs::remove_file(pod.join("etcd/4.log")).expect("the kubelet removes what is old");
        assert_eq!(control.look(&before, &database).await.containers, Some(2));
        assert_eq!(control.last_words(&before).await, "its last lines: panic: no");
    }

    #[tokio::test]
    async fn only_what_was_written_since_the_start_is_quoted() {
        let home = tempfile::tempdir().expect("a folder");
        let log = home.path().join("etcd.log");
        let control = control(home.path(), |s| {
            (s.control, s.log) = (Some(ControlKind::Commands), Some(log.clone()));
            (s.stop, s.start) = (vec!["true".into()], vec!["true".into()]);
        });
        fs::write(&log, "panic: before\n").expect("writable");
        let before = control.before_start().await;
        let place = format!("see its log {}", log.display());
        assert_eq!(control.last_words(&before).await, place, "nothing was written since");
        fs::write(&log, "panic: before\npanic: after\n").expect("writable");
        assert_eq!(control.last_words(&before).await, "its last lines: panic: after");
        fs::write(&log, "panic: a\n").expect("writable");
        assert_eq!(control.last_words(&before).await, "its last lines: panic: a", "it was written anew");
        fs::remove_file(&log).expect("there");
        assert_eq!(control.last_words(&before).await, place);
        fs::create_dir(&log).expect("writable");
        assert!(control.last_words(&before).await.starts_with(&format!("{place} (")));
    }

    #[tokio::test]
    async fn whoever_names_no_log_is_told_how() {
        let home = tempfile::tempdir().expect("a folder");
        let control = control(home.path(), |s| s.control = Some(ControlKind::Commands));
        let words = control.last_words(&Before::default()).await;
        assert!(words.contains("`log` in [restore]"), "{words}");
        fs::write(home.path().join("restore.log"), "flag provided but not defined: -bogus\n").expect("writable");
        let words = control.last_words(&Before::default()).await;
        assert_eq!(words, "its last lines: flag provided but not defined: -bogus");
    }
}
