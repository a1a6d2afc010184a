//! `cluster template export`: the template of a cluster's resources; the inverse of [`super::render`].

use std::collections::{BTreeMap, BTreeSet};

use backstay_protocol::backstay_types::AgentSpec;
use backstay_protocol::duration;
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::{ClusterSpec, Features, MachineSetSpec};
use backstay_protocol::types;
use serde_json::{Map, Value, json};

use super::model::{CONTROL_PLANES, Role, SYSTEM, WORKERS};
use super::render::{LABEL_MACHINE_SET, LOCKED};
use super::sync;
use crate::api::{Api, Transport};
use crate::console::{Console, Failure};
use crate::output::yaml;
use crate::{listing, meant};

/// A template as text, and notes on what it cannot express.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Export {
    pub text: String,
    pub notes: Vec<String>,
}

/// Prints the template of a cluster.
///
/// # Errors
/// There is no such cluster; NATS or the coordinator does not answer, or the coordinator refuses the request.
pub async fn run<T: Transport>(api: &Api<T>, cluster: &str, console: &mut Console<'_>) -> Result<(), Failure> {
    let Some(found) = api.find(&types::CLUSTERS, cluster).await? else {
        return Err(meant::no_cluster(api, cluster).await);
    };
    let members = sync::members(api, cluster).await?;
    let agents = listing::of_cluster::<AgentSpec, T>(api, cluster).await?;
    let export = export(&found, &members, &agents);
    console.print(&export.text)?;
    export.notes.iter().try_for_each(|note| console.remark(&format!("Note: {note}")))?;
    Ok(())
}

/// The template of a cluster with these machine sets and machines; if there is no control plane, the agents' machines
/// are taken for it. Pure.
pub fn export(cluster: &Resource, members: &[Resource], agents: &[Resource]) -> Export {
    let mut notes = Vec::new();
    let mut documents = vec![cluster_document(cluster, &mut notes)];
    let of_kind = |kind: &'static str| members.iter().filter(move |member| member.metadata.kind == kind);
    let machines: Vec<&Resource> = of_kind(types::MACHINE_SET_NODES.name).collect();
    let sets: Vec<Set<'_>> =
        of_kind(types::MACHINE_SETS.name).filter_map(|set| Set::of(set, &cluster.metadata.id, &mut notes)).collect();
    let control_planes = sets.iter().filter(|set| set.role == Role::ControlPlane);
    let workers = sets.iter().filter(|set| set.role == Role::Worker);
    let known = match control_planes.clone().next() {
        Some(_) => Vec::new(),
        None => known(agents, |machine| sets.iter().any(|set| machines.iter().any(|m| set.has(m) && same(m, machine)))),
    };
    if control_planes.clone().next().is_none() {
        let whose = match known.is_empty() {
            true => "and none of its agents are connected: add its machines to ControlPlane by hand",
            false => "so the machines of its connected agents are listed as control planes",
        };
        notes.push(format!(
            "this cluster was not created from a template, {whose}. The first sync puts it under the template's \
             management; diff therefore shows new machine sets, machines and the annotation that marks them as managed"
        ));
        documents.push(json!({"kind": "ControlPlane", "machines": known}));
    }
    let sets: Vec<&Set<'_>> = control_planes.chain(workers).collect();
    documents.extend(sets.iter().map(|set| set.document(&machines)));
    for machine in machines {
        match sets.iter().any(|set| set.has(machine)) || known.contains(&machine.metadata.id) {
            true => documents.extend(machine_document(machine)),
            false => notes.push(format!("machine {} is not in any machine set of this cluster", machine.metadata.id)),
        }
    }
    let text = documents.iter().map(yaml::document).collect::<Vec<_>>().join("---\n");
    Export { text, notes }
}

/// The machines of agents, without those that are listed elsewhere.
fn known(agents: &[Resource], is_said: impl Fn(&Resource) -> bool) -> Vec<String> {
    let ids: BTreeSet<String> =
        agents.iter().filter(|agent| !is_said(agent)).map(|agent| agent.metadata.id.clone()).collect();
    ids.into_iter().collect()
}

fn same(a: &Resource, b: &Resource) -> bool {
    a.metadata.id == b.metadata.id
}

fn cluster_document(cluster: &Resource, notes: &mut Vec<String>) -> Value {
    let spec = cluster.typed::<ClusterSpec>().unwrap_or_default();
    let mut document = Map::new();
    document.insert("kind".into(), "Cluster".into());
    document.insert("name".into(), cluster.metadata.id.clone().into());
    marks(&mut document, cluster);
    for (what, version) in [("kubernetes", &spec.kubernetesversion), ("talos", &spec.talosversion)] {
        match version.starts_with(|c: char| c.is_ascii_digit()) {
            true => drop(document.insert(what.into(), json!({ "version": format!("v{version}") }))),
            false if version.is_empty() => {}
            false => notes.push(format!(
                "spec.{what}version {version:?} cannot be expressed in a template: sync leaves it \
                    unchanged"
            )),
        }
    }
    let features = features(&spec);
    if !features.is_empty() {
        document.insert("features".into(), Value::Object(features));
    }
    notes.extend(unsaid(&spec));
    Value::Object(document)
}

fn features(spec: &ClusterSpec) -> Map<String, Value> {
    let switches = [
        ("enableWorkloadProxy", spec.features.enableworkloadproxy),
        ("diskEncryption", spec.features.diskencryption),
        ("useEmbeddedDiscoveryService", spec.features.useembeddeddiscoveryservice),
    ];
    let mut features: Map<String, Value> =
        switches.into_iter().filter(|(_, on)| *on).map(|(name, on)| (name.to_owned(), on.into())).collect();
    if let Some(backups) = backups(spec) {
        features.insert("backupConfiguration".into(), backups.into());
    }
    features
}

/// The block of automatic backups; none if they were neither configured nor turned off.
fn backups(spec: &ClusterSpec) -> Option<Map<String, Value>> {
    let configuration = spec.backupconfiguration.as_ref()?;
    let interval = configuration.interval.map(|interval| interval.as_duration()).filter(|i| !i.is_zero());
    let mut block = Map::new();
    if let Some(interval) = interval {
        block.insert("interval".into(), duration::format(interval).into());
    }
    match configuration.enabled {
        Some(enabled) if interval.is_some() || !enabled => drop(block.insert("enabled".into(), enabled.into())),
        _ => {}
    }
    Some(block).filter(|block| !block.is_empty())
}

/// What is set in the cluster, but has no place in a template.
fn unsaid(spec: &ClusterSpec) -> Vec<String> {
    let mut unsaid = Vec::new();
    if !spec.installimage.is_empty() {
        unsaid.push("spec.installimage cannot be expressed in a template: sync leaves it unchanged".to_owned());
    }
    let Features { enablenodeauditskip, disablepublicdiscoveryservice, .. } = spec.features;
    for (name, on) in
        [("enablenodeauditskip", enablenodeauditskip), ("disablepublicdiscoveryservice", disablepublicdiscoveryservice)]
    {
        if on {
            unsaid.push(format!("spec.features.{name} cannot be expressed in a template: sync leaves it unchanged"));
        }
    }
    unsaid
}

/// A machine set that a template can express.
struct Set<'a> {
    role: Role,
    name: &'a str,
    resource: &'a Resource,
}

impl<'a> Set<'a> {
    fn of(resource: &'a Resource, cluster: &str, notes: &mut Vec<String>) -> Option<Self> {
        let metadata = &resource.metadata;
        let name = metadata.id.strip_prefix(cluster).and_then(|rest| rest.strip_prefix('-'));
        let role = [Role::ControlPlane, Role::Worker].into_iter().find(|r| metadata.labels.contains_key(r.label()));
        match (name, role) {
            (Some(name), Some(role)) if (name == CONTROL_PLANES) == (role == Role::ControlPlane) => {
                Some(Self { role, name, resource })
            }
            _ => {
                notes.push(format!(
                    "machine set {} cannot be expressed in a template: unsupported name or role",
                    metadata.id
                ));
                None
            }
        }
    }

    fn has(&self, machine: &Resource) -> bool {
        machine.metadata.labels.get(LABEL_MACHINE_SET) == Some(&self.resource.metadata.id)
    }

    fn document(&self, machines: &[&Resource]) -> Value {
        let mut document = Map::new();
        let kind = if self.role == Role::ControlPlane { "ControlPlane" } else { "Workers" };
        document.insert("kind".into(), kind.into());
        if self.role == Role::Worker && self.name != WORKERS {
            document.insert("name".into(), self.name.into());
        }
        marks(&mut document, self.resource);
        let spec = self.resource.typed::<MachineSetSpec>().unwrap_or_default();
        if let Some(bootstrap) = spec.bootstrapspec.filter(|_| self.role == Role::ControlPlane) {
            let said = json!({ "clusterUUID": bootstrap.clusteruuid, "snapshot": bootstrap.snapshot });
            document.insert("bootstrapSpec".into(), said);
        }
        let listed = machines.iter().filter(|machine| self.has(machine)).map(|m| m.metadata.id.clone().into());
        document.insert("machines".into(), Value::Array(listed.collect()));
        Value::Object(document)
    }
}

/// The document of a machine; `None` if there is nothing to say except that it exists.
fn machine_document(machine: &Resource) -> Option<Value> {
    let mut document = Map::new();
    document.insert("kind".into(), "Machine".into());
    document.insert("name".into(), machine.metadata.id.clone().into());
    if machine.metadata.annotations.contains_key(LOCKED) {
        document.insert("locked".into(), true.into());
    }
    marks(&mut document, machine);
    (document.len() > 2).then_some(Value::Object(document))
}

/// Labels and annotations, without those that are the system's own.
fn marks(document: &mut Map<String, Value>, resource: &Resource) {
    let own = |marks: &BTreeMap<String, String>| -> Map<String, Value> {
        let own = marks.iter().filter(|(key, _)| !key.starts_with(SYSTEM));
        own.map(|(key, value)| (key.clone(), value.clone().into())).collect()
    };
    for (name, marks) in [("labels", &resource.metadata.labels), ("annotations", &resource.metadata.annotations)] {
        let own = own(marks);
        if !own.is_empty() {
            document.insert(name.into(), Value::Object(own));
        }
    }
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
