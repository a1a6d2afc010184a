//! The releases of etcd and nats-server that tests run on: one list for all of them.
//!
//! `tests/releases.txt` says which; `tests/releases.sh` brings them into the build's folder and writes down what it
//! found. All that a test starts — etcd, etcdctl, etcdutl, nats-server — is of one release: the first of the list
//! that is within reach, or the one that `BACKSTAY_TEST_ETCD` names (`trixie`, `3.5.16`, `3.4`).
//! `BACKSTAY_TEST_ETCD_DIR` adds a release to the list: the folder that holds its `etcd`, `etcdctl` and perhaps
//! `etcdutl`; it is called `named`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};

/// The list as it is written down: suite, etcd, nats-server.
pub const LIST: &str = include_str!("../releases.txt");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/releases.sh");
/// Chooses a release for a run.
pub const CHOICE: &str = "BACKSTAY_TEST_ETCD";
/// Adds one to the list.
pub const ADDED: &str = "BACKSTAY_TEST_ETCD_DIR";

/// A version as far as tests ask: major, minor, patch.
pub type Version = (u32, u32, u32);

/// A line of `tests/releases.txt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedRelease<'a> {
    pub suite: &'a str,
    pub etcd: &'a str,
    pub nats: &'a str,
}

/// What the list says, whatever was found.
pub fn listed() -> impl Iterator<Item = ListedRelease<'static>> {
    let lines = LIST.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [suite, etcd, nats] => Some(ListedRelease { suite, etcd, nats }),
        _ => None,
    })
}

/// A release that is within reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The suite of Debian that has it, or `named`.
    pub name: String,
    /// As its etcd says it.
    pub etcd: String,
    /// As its nats-server says it; that of the first release for one that has none.
    pub nats: String,
    /// Where its programs lie.
    pub folder: PathBuf,
}

/// A row of the table of what a run found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub wanted: [String; 2],
    /// etcd and nats-server; `None`: out of reach.
    pub found: Option<[String; 2]>,
    pub from: String,
    /// Why it is out of reach.
    pub reason: String,
}

/// All releases that are within reach, the list's first one first.
pub fn all() -> Result<&'static [Release]> {
    Ok(&known()?.releases)
}

/// The release that this run is about.
pub fn chosen() -> Result<&'static Release> {
    let all = all()?;
    let Some(choice) = std::env::var(CHOICE).ok().filter(|choice| !choice.is_empty()) else {
        return all.first().context("no release of etcd is within reach: tests/releases.sh says why");
    };
    let found = all.iter().find(|release| release.is(&choice));
    found.with_context(|| {
        let names: Vec<String> = all.iter().map(|r| format!("{} ({})", r.name, r.etcd)).collect();
        format!("{CHOICE}={choice}: there is no such release within reach, only {}", names.join(", "))
    })
}

/// Those of this run that are not the chosen one.
pub fn others() -> Result<Vec<&'static Release>> {
    let chosen = chosen()?;
    Ok(all()?.iter().filter(|release| *release != chosen).collect())
}

/// The first that is at least of this version.
pub fn at_least(version: Version) -> Result<&'static Release> {
    let found = all()?.iter().find(|release| release.version() >= version);
    found.with_context(|| format!("no release of etcd from {version:?} on is within reach"))
}

/// What was found and what was not, also the release that was added.
pub fn table() -> Result<&'static [Row]> {
    Ok(&known()?.rows)
}

/// The path of one of the chosen release's programs; `None` where it has none of that name.
pub fn program(name: &str) -> Result<Option<PathBuf>> {
    Ok(folders()?.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file()))
}

/// `PATH` with these folders first, then the chosen release's.
pub fn path(first: &[PathBuf]) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = first.iter().cloned().chain(folders()?).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context("a folder of programs cannot stand in PATH")
}

/// Where the chosen release's programs are looked for: one that was added has no nats-server.
fn folders() -> Result<Vec<PathBuf>> {
    let mut folders = vec![chosen()?.folder.clone()];
    folders.extend(all()?.first().map(|first| first.folder.clone()));
    folders.dedup();
    Ok(folders)
}

impl Release {
    /// Whether it is called that: its name, its version, or how that begins.
    pub fn is(&self, name: &str) -> bool {
        let rest = self.etcd.strip_prefix(name);
        self.name == name || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    pub fn version(&self) -> Version {
        let mut numbers = self.etcd.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or_default());
        let mut next = || numbers.next().unwrap_or_default();
        (next(), next(), next())
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The program that reads and restores snapshot files: `etcdutl`, which came with 3.5, or `etcdctl`.
    pub fn snapshot_tool(&self) -> &'static str {
        if self.program("etcdutl").is_file() { "etcdutl" } else { "etcdctl" }
    }
}

/// What a run found.
#[derive(Debug)]
struct Known {
    releases: Vec<Release>,
    rows: Vec<Row>,
}

/// Found once in a program. The script's own lock makes others wait that ask at the same time.
fn known() -> Result<&'static Known> {
    static KNOWN: OnceLock<Result<Known, String>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| find().map_err(|error| format!("{error:#}")));
    known.as_ref().map_err(|error| anyhow!("{error}"))
}

fn find() -> Result<Known> {
    let folder = folder()?;
    let file = folder.join("table");
    if !file.is_file() {
        let mut script = Command::new(SCRIPT);
        let ended = script.arg(&folder).stdin(Stdio::null()).status().context("failed to run tests/releases.sh")?;
        ensure!(ended.success(), "tests/releases.sh ended with {ended}");
    }
    let text = std::fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
    let mut rows = parse(&text)?;
    let mut releases: Vec<Release> = rows.iter().filter_map(|row| row.release(&folder)).collect();
    if let Some(added) = std::env::var_os(ADDED).filter(|added| !added.is_empty()).map(PathBuf::from) {
        let nats = releases.first().map(|first| first.nats.clone()).unwrap_or_default();
        let etcd = version(&added.join("etcd"))?;
        rows.push(Row {
            name: "named".to_owned(),
            wanted: [etcd.clone(), nats.clone()],
            found: Some([etcd.clone(), nats.clone()]),
            from: format!("{ADDED}={}", added.display()),
            reason: String::new(),
        });
        releases.push(Release { name: "named".to_owned(), etcd, nats, folder: added });
    }
    Ok(Known { releases, rows })
}

/// Beside the profiles' folders of the build, which cargo marks as one.
fn folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find the running program's path")?;
    let build = own.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    let build = build.with_context(|| format!("{} lies in no folder of cargo's", own.display()))?;
    Ok(build.join("releases"))
}

/// Reads what `tests/releases.sh` wrote.
pub fn parse(table: &str) -> Result<Vec<Row>> {
    let rows = table.lines().map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
        [name, etcd, nats, found_etcd, found_nats, from, reason] => Ok(Row {
            name: name.to_owned(),
            wanted: [etcd.to_owned(), nats.to_owned()],
            found: (found_etcd != "-").then(|| [found_etcd.to_owned(), found_nats.to_owned()]),
            from: from.to_owned(),
            reason: reason.to_owned(),
        }),
        _ => Err(anyhow!("the table of releases has the line {line:?}: remove it and run tests/releases.sh again")),
    });
    rows.collect()
}

impl Row {
    fn release(&self, folder: &Path) -> Option<Release> {
        let [etcd, nats] = self.found.clone()?;
        Some(Release { name: self.name.clone(), etcd, nats, folder: folder.join(&self.name) })
    }

    /// What else is to be said: that it is not what was wanted, or why it is not there.
    pub fn note(&self) -> String {
        let Some(found) = &self.found else { return self.reason.clone() };
        let gone =
            self.wanted.iter().zip(found).zip(["etcd", "nats-server"]).filter(|((wanted, found), _)| wanted != found);
        let gone: Vec<String> = gone.map(|((wanted, _), what)| format!("{what} {wanted} is gone")).collect();
        gone.join(", ")
    }
}

/// The table for people: which releases there are, and which of them this run is about.
pub fn shown(rows: &[Row], chosen: &str) -> String {
    let mut cells = vec![["release", "etcd", "nats-server", "from", "note"].map(str::to_owned)];
    for row in rows {
        let [etcd, nats] = row.found.clone().unwrap_or_else(|| row.wanted.clone());
        let mark = if row.name == chosen { "everything runs on it" } else { "" };
        let notes: Vec<String> = [row.note(), mark.to_owned()].into_iter().filter(|note| !note.is_empty()).collect();
        cells.push([row.name.clone(), etcd, nats, row.from.clone(), notes.join("; ")]);
    }
    let widths: Vec<usize> = (0..4).map(|c| cells.iter().map(|row| row[c].len()).max().unwrap_or_default()).collect();
    let line = |row: &[String; 5]| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        format!("{}{}", padded.collect::<String>(), row[4]).trim_end().to_owned()
    };
    cells.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn version(etcd: &Path) -> Result<String> {
    let output = Command::new(etcd).arg("--version").output();
    let output = output.with_context(|| format!("{ADDED}: failed to run {}", etcd.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.lines().next().and_then(|line| line.strip_prefix("etcd Version: "));
    Ok(found.with_context(|| format!("{ADDED}: {} does not say its version", etcd.display()))?.trim().to_owned())
}
