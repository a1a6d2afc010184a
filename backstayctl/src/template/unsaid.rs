//! What a template cannot express stays as it is when the template is synced. Pure.

use std::collections::BTreeMap;

use backstay_protocol::resource::{LABEL_CLUSTER, Resource};
use backstay_protocol::spec::ClusterSpec;
use backstay_protocol::types;

use super::model::{Role, SYSTEM};
use super::render::{LABEL_MACHINE_SET, LOCKED, MANAGED};

/// Takes over from `before` what the template of `after` cannot express.
pub fn keep(after: &mut Resource, before: &Resource) {
    marks(&mut after.metadata.labels, &before.metadata.labels);
    marks(&mut after.metadata.annotations, &before.metadata.annotations);
    if after.metadata.kind != types::CLUSTERS.name {
        return;
    }
    if let (Ok(said), Ok(there)) = (after.typed::<ClusterSpec>(), before.typed::<ClusterSpec>()) {
        after.spec = serde_json::to_value(spec(said, there)).unwrap_or_default();
    }
}

/// Labels and annotations of the system that no template makes.
fn marks(after: &mut BTreeMap<String, String>, before: &BTreeMap<String, String>) {
    let made = [LABEL_CLUSTER, LABEL_MACHINE_SET, LOCKED, MANAGED, Role::ControlPlane.label(), Role::Worker.label()];
    let others = before.iter().filter(|(key, _)| key.starts_with(SYSTEM) && !made.contains(&key.as_str()));
    for (key, value) in others {
        after.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

fn spec(said: ClusterSpec, there: ClusterSpec) -> ClusterSpec {
    let or = |said: String, there: String| if said.is_empty() { there } else { said };
    let mut spec = said;
    spec.installimage = there.installimage.clone();
    spec.kubernetesversion = or(spec.kubernetesversion, there.kubernetesversion.clone());
    spec.talosversion = or(spec.talosversion, there.talosversion.clone());
    spec.features.enablenodeauditskip = there.features.enablenodeauditskip;
    spec.features.disablepublicdiscoveryservice = there.features.disablepublicdiscoveryservice;
    // Off by a switch is off, and on by a switch is on, unless the template says which.
    let says = spec.backupconfiguration.as_ref().is_some_and(|backups| backups.enabled.is_some());
    if !says && spec.backup_interval() == there.backup_interval() {
        spec.backupconfiguration = there.backupconfiguration;
    }
    spec
}
