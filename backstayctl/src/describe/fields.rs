//! A resource's metadata and spec as lines: readable times and sizes, and no secrets. Pure.

use std::time::Duration;

use backstay_daemon::terminal;
use backstay_daemon::units;
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::{HIDDEN, Interval};
use backstay_protocol::types::{self, TypeDefinition};
use backstay_protocol::{Timestamp, duration};
use serde_json::{Map, Value};

use crate::output::json;

/// Keys that are never shown, wherever they come from.
const SECRETS: [&str; 2] = ["secretaccesskey", "sessiontoken"];
/// Fields that are amounts of bytes.
const BYTES: [&str; 9] =
    ["dbsize", "size", "stored", "bytes", "sealedbytes", "bytesread", "bytestotal", "bytesstored", "bytesdone"];
/// The states of a backup, by their numbers.
const STATES: [&str; 4] = ["unknown", "ok", "error", "running"];
/// The column in which values begin.
const VALUES_AT: usize = 23;

/// The whole resource.
pub fn text(definition: &TypeDefinition, resource: &Resource, now: Timestamp) -> String {
    let metadata = &resource.metadata;
    let version = metadata.version.to_string();
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
    };
    let (labels, annotations) = (pairs(&metadata.labels), pairs(&metadata.annotations));
    let known = [
        ("Name", metadata.id.as_str()),
        ("Type", definition.name),
        ("Namespace", &metadata.namespace),
        ("Version", &version),
        ("Owner", &metadata.owner),
        ("Phase", &metadata.phase),
        ("Created", metadata.created.as_deref().unwrap_or_default()),
        ("Updated", metadata.updated.as_deref().unwrap_or_default()),
        ("Labels", &labels),
        ("Annotations", &annotations),
    ];
    // A resource whose spec has a phase of its own is not in two of them.
    let has_phase = resource.spec.get("phase").is_some();
    let is_shown = |name: &str, value: &str| name == "Name" || !(value.is_empty() || name == "Phase" && has_phase);
    let mut text = String::new();
    for (name, value) in known.into_iter().filter(|(name, value)| is_shown(name, value)) {
        line(&mut text, 0, name, value);
    }
    match &resource.spec {
        Value::Object(fields) if !fields.is_empty() => {
            text.push_str("Spec:\n");
            Shown { definition, now }.map(&mut text, 2, "", fields);
        }
        _ => {}
    }
    text
}

/// The lines of a part, indented; empty values are left out.
pub fn lines<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    rows.filter(|(_, value)| !value.is_empty()).for_each(|(name, value)| line(&mut text, 2, name, value));
    text
}

fn line(text: &mut String, indent: usize, name: &str, value: &str) {
    let head = format!("{:indent$}{}:", "", terminal::line(name));
    let value = if value.is_empty() { "-" } else { value };
    let line = format!("{head:VALUES_AT$} {}", terminal::line(value));
    text.push_str(&line);
    text.push('\n');
}

struct Shown<'a> {
    definition: &'a TypeDefinition,
    now: Timestamp,
}

impl Shown<'_> {
    fn map(&self, text: &mut String, indent: usize, path: &str, fields: &Map<String, Value>) {
        for (key, value) in fields {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let name = self.name(&path, key);
            match self.simple(key, value) {
                Some(simple) => line(text, indent, &name, &simple),
                None => {
                    text.push_str(&format!("{:indent$}{}:\n", "", terminal::line(&name)));
                    self.inner(text, indent + 2, &path, value);
                }
            }
        }
    }

    fn inner(&self, text: &mut String, indent: usize, path: &str, value: &Value) {
        match value {
            Value::Object(fields) => self.map(text, indent, path, fields),
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    match self.simple(path, item) {
                        Some(simple) => text.push_str(&format!("{:indent$}{}\n", "", terminal::line(&simple))),
                        None => {
                            text.push_str(&format!("{:indent$}{}.\n", "", at + 1));
                            self.inner(text, indent + 2, path, item);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// The name of a field: the heading of its column, otherwise its key.
    fn name(&self, path: &str, key: &str) -> String {
        let columns = self.definition.columns.iter().chain(self.definition.wide);
        let heading = columns.into_iter().find(|(_, at)| *at == path).map(|(heading, _)| words(heading));
        heading.unwrap_or_else(|| in_words(key))
    }

    /// A value on one line; `None` if it has parts of its own.
    fn simple(&self, key: &str, value: &Value) -> Option<String> {
        match value {
            Value::String(text) if SECRETS.contains(&key) && !text.is_empty() => Some(HIDDEN.into()),
            Value::String(text) => Some(text.clone()),
            Value::Null => Some(String::new()),
            Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.into()),
            Value::Number(number) => Some(self.number(key, number)),
            Value::Array(items) if items.is_empty() => Some(String::new()),
            Value::Object(fields) if fields.is_empty() => Some(String::new()),
            Value::Object(fields) if is_time(fields) && key.ends_with("interval") => {
                let interval: Interval = serde_json::from_value(value.clone()).ok()?;
                Some(duration::format(Duration::from_secs(interval.seconds)))
            }
            Value::Object(fields) if is_time(fields) => {
                let at: Timestamp = serde_json::from_value(value.clone()).ok()?;
                Some(format!("{} ({})", at.rfc3339(), units::ago(at, self.now)))
            }
            Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn number(&self, key: &str, number: &serde_json::Number) -> String {
        let told = number.as_u64();
        let of_backup = [&types::ETCD_BACKUP_STATUSES, &types::ETCD_BACKUP_OVERALL_STATUSES].contains(&self.definition);
        match told {
            Some(bytes) if BYTES.contains(&key) => units::bytes(bytes),
            Some(state) if of_backup && key == "status" => {
                let known = usize::try_from(state).ok().and_then(|state| STATES.get(state));
                known.map_or_else(|| state.to_string(), |state| (*state).to_owned())
            }
            _ => json::compact(&Value::Number(number.clone())),
        }
    }
}

fn is_time(fields: &Map<String, Value>) -> bool {
    fields.len() == 2 && fields.contains_key("seconds") && fields.contains_key("nanos")
}

/// Keys that are several words; others stand as they are.
const KEYS: [(&str, &str); 39] = [
    ("accesskeyid", "Access key ID"),
    ("agentversion", "Agent version"),
    ("backupat", "Backup at"),
    ("backupconfiguration", "Backup configuration"),
    ("bootstrapspec", "Bootstrap spec"),
    ("bytesdone", "Bytes done"),
    ("bytesread", "Bytes read"),
    ("bytesstored", "Bytes stored"),
    ("bytestotal", "Bytes in total"),
    ("clusteruuid", "Cluster UUID"),
    ("comparedwith", "Compared with"),
    ("configurationattempt", "Configuration attempt"),
    ("configurationerror", "Configuration error"),
    ("configurationname", "Configuration name"),
    ("createdat", "Created at"),
    ("dataofanothercluster", "Data of another cluster"),
    ("diskencryption", "Disk encryption"),
    ("enableworkloadproxy", "Enable workload proxy"),
    ("etcdclusterid", "etcd cluster ID"),
    ("etcdversion", "etcd version"),
    ("failedat", "Failed at"),
    ("faileddamaged", "Failed as damaged"),
    ("failederror", "Failed with"),
    ("failedsnapshot", "Failed snapshot"),
    ("kubernetesversion", "Kubernetes version"),
    ("lastproven", "Last verified"),
    ("livekeys", "Live keys"),
    ("natsoffsetms", "Ahead of NATS (ms)"),
    ("partsretried", "Parts retried"),
    ("provenhow", "Verified how"),
    ("provensnapshot", "Verified snapshot"),
    ("sealedbytes", "Sealed bytes"),
    ("secretaccesskey", "Secret access key"),
    ("sessiontoken", "Session token"),
    ("sourcecluster", "Source cluster"),
    ("storageversion", "Storage version"),
    ("storeoffsetms", "Ahead of the store (ms)"),
    ("takenat", "Taken at"),
    ("verdictreason", "Verdict reason"),
];

fn in_words(key: &str) -> String {
    let known = KEYS.iter().find(|(known, _)| *known == key);
    known.map_or_else(|| capital(key), |(_, words)| (*words).to_owned())
}

/// `LAST BACKUP` as `Last backup`; abbreviations stay in capitals.
fn words(heading: &str) -> String {
    const KEPT: [&str; 4] = ["UUID", "DB", "ID", "SHA256"];
    let word = |word: &str| if KEPT.contains(&word) { word.to_owned() } else { word.to_ascii_lowercase() };
    capital(&heading.split(' ').map(word).collect::<Vec<_>>().join(" "))
}

fn capital(text: &str) -> String {
    // A name that begins with a small letter by right.
    if text.starts_with("etcd") {
        return text.to_owned();
    }
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}
