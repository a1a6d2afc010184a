//! A template as data: read strictly, and checked as a whole.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use backstay_protocol::duration;
use backstay_protocol::validate::nearest;
use backstay_protocol::{ClusterName, ClusterUuid, MachineId, NameError, SnapshotName};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::TemplateError;
use super::shapes;
use crate::reader::{self, Kind, Node, Problem};

/// How labels and annotations begin that are the system's own.
pub(super) const SYSTEM: &str = "omni.sidero.dev/";

/// The part after the cluster's name in the id of the control plane's machine set.
pub const CONTROL_PLANES: &str = "control-planes";
/// The same for workers without a name.
pub const WORKERS: &str = "workers";

/// A cluster and its machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub cluster: Cluster,
    /// The control plane first, then the workers in the order of the file.
    pub sets: Vec<MachineSet>,
}

/// Labels and annotations in the template.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Marks {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub name: ClusterName,
    pub marks: Marks,
    /// Versions without the leading `v`; empty if the template has none.
    pub kubernetes: String,
    pub talos: String,
    pub features: RawFeatures,
    /// `None`: the template has no automatic backups.
    pub backups: Option<Backups>,
}

/// The automatic backups of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backups {
    /// Above 0; `None` only where they are off.
    pub interval: Option<Duration>,
    /// `None`: on, as the interval alone says.
    pub enabled: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    ControlPlane,
    Worker,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSet {
    pub role: Role,
    /// The part after the cluster's name in the id.
    pub name: String,
    pub marks: Marks,
    pub machines: Vec<Machine>,
    /// The backup that the control plane is to be started from.
    pub bootstrap: Option<Bootstrap>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    pub cluster: ClusterUuid,
    pub snapshot: SnapshotName,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub id: MachineId,
    pub marks: Marks,
    pub locked: bool,
}

/// The documents' own forms; their shapes have already refused every other field.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawCluster {
    name: String,
    kubernetes: RawVersion,
    talos: RawVersion,
    features: RawFeatures,
    #[serde(flatten)]
    marks: Marks,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawVersion {
    version: String,
}

/// The features in a template; absent ones are off.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RawFeatures {
    pub enable_workload_proxy: bool,
    pub disk_encryption: bool,
    pub use_embedded_discovery_service: bool,
    backup_configuration: RawBackup,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
struct RawBackup {
    interval: String,
    enabled: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawSet {
    name: String,
    #[serde(rename = "bootstrapSpec")]
    bootstrap: Option<RawBootstrap>,
    #[serde(flatten)]
    marks: Marks,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawBootstrap {
    #[serde(rename = "clusterUUID")]
    cluster: String,
    snapshot: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawMachine {
    name: String,
    locked: bool,
    #[serde(flatten)]
    marks: Marks,
}

impl Template {
    /// Reads a template; `file` is for errors.
    ///
    /// # Errors
    /// It is not YAML, or not a template; with the line.
    pub fn parse(file: &str, text: &str) -> Result<Self, TemplateError> {
        let invalid = |problem: Problem| TemplateError::at(file, &problem);
        let mut parts = Parts::default();
        for node in &reader::documents(text).map_err(invalid)? {
            parts.take(node).map_err(invalid)?;
        }
        parts.assemble(file)
    }
}

/// What has been read so far.
#[derive(Default)]
struct Parts {
    clusters: Vec<Cluster>,
    control_planes: Vec<MachineSet>,
    workers: Vec<MachineSet>,
    /// Machine documents with their lines.
    machines: Vec<(usize, Machine)>,
    /// Where each machine is listed.
    listed: HashMap<MachineId, usize>,
}

impl Parts {
    fn take(&mut self, node: &Node) -> Result<(), Problem> {
        let kind = node.get("kind").and_then(Node::text).unwrap_or_default();
        let shape = shapes::of(kind).ok_or_else(|| unknown_kind(node, kind))?;
        let value = shape.value(node, "")?.unwrap_or_default();
        match kind {
            "Cluster" => self.clusters.push(cluster(node, typed(node, value)?)?),
            "ControlPlane" => {
                let set = self.set(node, Role::ControlPlane, typed(node, value)?)?;
                self.control_planes.push(set);
            }
            "Workers" => {
                let set = self.set(node, Role::Worker, typed(node, value)?)?;
                self.workers.push(set);
            }
            _ => self.machines.push((node.line, machine(node, typed(node, value)?)?)),
        }
        Ok(())
    }

    fn set(&mut self, node: &Node, role: Role, raw: RawSet) -> Result<MachineSet, Problem> {
        check_marks(node, &raw.marks)?;
        let name = match role {
            Role::ControlPlane => CONTROL_PLANES.to_owned(),
            Role::Worker => worker_name(node, raw.name)?,
        };
        if role == Role::Worker && self.workers.iter().any(|w| w.name == name) {
            return Err(Problem::new(node.line, format!("duplicate workers with name {name:?}")));
        }
        let machines = match node.get("machines").map(|m| &m.kind) {
            Some(Kind::List(items)) => items.iter().map(|item| self.listed(item)).collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        let bootstrap = raw.bootstrap.map(|raw| bootstrap(node, &raw)).transpose()?;
        Ok(MachineSet { role, name, marks: raw.marks, machines, bootstrap })
    }

    fn listed(&mut self, item: &Node) -> Result<Machine, Problem> {
        let id = machine_id(item, item.text().unwrap_or_default())?;
        match self.listed.insert(id, item.line) {
            Some(first) => Err(Problem::new(
                item.line,
                format!(
                    "machine {id} is listed twice; the first is on line \
                {first}"
                ),
            )),
            None => Ok(Machine { id, marks: Marks::default(), locked: false }),
        }
    }

    fn assemble(mut self, file: &str) -> Result<Template, TemplateError> {
        let invalid = |reason: String| TemplateError::Invalid { file: file.to_owned(), reason };
        for (what, got) in [("cluster", self.clusters.len()), ("controlplane", self.control_planes.len())] {
            if got != 1 {
                return Err(invalid(format!("template should contain 1 {what}, got {got}")));
            }
        }
        let mut sets: Vec<MachineSet> = self.control_planes.into_iter().chain(self.workers).collect();
        let mut described = HashSet::new();
        for (line, machine) in self.machines {
            settle(&mut sets, &mut described, machine)
                .map_err(|reason| TemplateError::at(file, &Problem::new(line, reason)))?;
        }
        let cluster = self.clusters.remove(0);
        Ok(Template { cluster, sets })
    }
}

/// Moves the content of a Machine document to where the machine is listed.
fn settle(sets: &mut [MachineSet], described: &mut HashSet<MachineId>, machine: Machine) -> Result<(), String> {
    let id = machine.id;
    if !described.insert(id) {
        return Err(format!("machine {id} has two Machine documents"));
    }
    for set in sets {
        if let Some(place) = set.machines.iter_mut().find(|m| m.id == id) {
            if machine.locked && set.role == Role::ControlPlane {
                return Err(format!("machine {id} is locked and used in controlplane, which is not allowed"));
            }
            *place = machine;
            return Ok(());
        }
    }
    Err(format!("machine {id} is not used in controlplane or workers"))
}

fn unknown_kind(node: &Node, kind: &str) -> Problem {
    let line = node.get("kind").map_or(node.line, |k| k.line);
    if kind.is_empty() {
        return Problem::new(line, format!("kind is missing: use one of {}", shapes::KINDS.join(", ")));
    }
    let hint = nearest(kind, shapes::KINDS.into_iter()).map(|k| format!(": did you mean {k:?}?"));
    Problem::new(line, format!("unknown model kind {kind:?}{}", hint.unwrap_or_default()))
}

fn typed<T: DeserializeOwned>(node: &Node, value: serde_json::Value) -> Result<T, Problem> {
    serde_json::from_value(value).map_err(|e| Problem::new(node.line, e.to_string()))
}

fn cluster(node: &Node, raw: RawCluster) -> Result<Cluster, Problem> {
    check_marks(node, &raw.marks)?;
    let at = |path: &[&str]| line_of(node, path);
    let name = raw.name.parse().map_err(|e| Problem::new(at(&["name"]), format!("{e}")))?;
    let backups = backups(node, &raw.features.backup_configuration)?;
    Ok(Cluster {
        name,
        kubernetes: version("kubernetes", &raw.kubernetes, at(&["kubernetes", "version"]))?,
        talos: version("talos", &raw.talos, at(&["talos", "version"]))?,
        backups,
        features: raw.features,
        marks: raw.marks,
    })
}

/// Refuses an empty block, which would look like a schedule without being one.
fn backups(node: &Node, raw: &RawBackup) -> Result<Option<Backups>, Problem> {
    let block = node.get("features").and_then(|features| features.get("backupConfiguration"));
    let Some(block) = block else { return Ok(None) };
    let given = block.get("interval");
    let line = given.map_or(block.line, |interval| interval.line);
    let interval = match raw.interval.as_str() {
        "" => None,
        text => Some(duration::parse(text).map_err(|e| Problem::new(line, e.to_string()))?),
    };
    let none = "to disable automatic backups, remove the block or set enabled: false";
    let what = match interval {
        Some(interval) if !interval.is_zero() => {
            return Ok(Some(Backups { interval: Some(interval), enabled: raw.enabled }));
        }
        None if given.is_none() && raw.enabled == Some(false) => {
            return Ok(Some(Backups { interval: None, enabled: Some(false) }));
        }
        Some(_) => "must be more than 0",
        None if given.is_some() => "is empty",
        None => "is missing",
    };
    Err(Problem::new(line, format!("features.backupConfiguration.interval {what}: {none}")))
}

/// The line of the value at `path`, or of the nearest value above it that exists.
fn line_of(node: &Node, path: &[&str]) -> usize {
    match path.split_first().and_then(|(key, rest)| node.get(key).map(|n| (n, rest))) {
        Some((inner, rest)) => line_of(inner, rest),
        None => node.line,
    }
}

/// A version as it is stored: without its `v`; empty if the template has none.
fn version(what: &str, raw: &RawVersion, line: usize) -> Result<String, Problem> {
    let given = &raw.version;
    if given.is_empty() {
        return Ok(String::new());
    }
    match given.strip_prefix('v') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => Ok(rest.to_owned()),
        Some(_) => Err(Problem::new(line, format!("{what}.version {given:?} must be a version, such as v1.28.2"))),
        None => Err(Problem::new(line, format!("{what}.version {given:?} should start with 'v'"))),
    }
}

fn bootstrap(node: &Node, raw: &RawBootstrap) -> Result<Bootstrap, Problem> {
    let at = |field: &str| line_of(node, &["bootstrapSpec", field]);
    let missing = |field: &str| Problem::new(at(field), format!("bootstrapSpec.{field} is missing"));
    let wrong = |field: &str, error: NameError| Problem::new(at(field), format!("bootstrapSpec.{field}: {error}"));
    match (raw.cluster.as_str(), raw.snapshot.as_str()) {
        ("", _) => Err(missing("clusterUUID")),
        (_, "") => Err(missing("snapshot")),
        (cluster, snapshot) => Ok(Bootstrap {
            cluster: cluster.parse().map_err(|e| wrong("clusterUUID", e))?,
            snapshot: snapshot.parse().map_err(|e| wrong("snapshot", e))?,
        }),
    }
}

fn worker_name(node: &Node, name: String) -> Result<String, Problem> {
    let holds = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    match name.as_str() {
        "" => Ok(WORKERS.to_owned()),
        CONTROL_PLANES => Err(Problem::new(line_of(node, &["name"]), format!("workers cannot be named {name:?}"))),
        _ if holds => Ok(name),
        _ => Err(Problem::new(
            line_of(node, &["name"]),
            format!("the name {name:?} of the workers can only have letters, digits, '-' and '_'"),
        )),
    }
}

fn machine(node: &Node, raw: RawMachine) -> Result<Machine, Problem> {
    check_marks(node, &raw.marks)?;
    let id = machine_id(node.get("name").unwrap_or(node), &raw.name)?;
    Ok(Machine { id, marks: raw.marks, locked: raw.locked })
}

fn machine_id(node: &Node, text: &str) -> Result<MachineId, Problem> {
    text.parse().map_err(|e| Problem::new(node.line, format!("{e}")))
}

fn check_marks(node: &Node, marks: &Marks) -> Result<(), Problem> {
    match marks.labels.keys().chain(marks.annotations.keys()).find(|key| key.starts_with(SYSTEM)) {
        Some(key) => Err(Problem::new(node.line, format!("{key:?} begins with {SYSTEM}, which is reserved"))),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
