//! The resources that a template describes. Pure.

use backstay_protocol::resource::{LABEL_CLUSTER, Resource};
use backstay_protocol::spec::{
    BackupConfiguration, BootstrapSpec, ClusterSpec, Features, MachineSetNodeSpec, MachineSetSpec, Spec,
};

use super::model::{Cluster, Machine, MachineSet, Marks, Role, Template};

pub(super) const MANAGED: &str = "omni.sidero.dev/managed-by-cluster-templates";
pub(super) const LOCKED: &str = "omni.sidero.dev/locked";
pub(super) const LABEL_MACHINE_SET: &str = "omni.sidero.dev/machine-set";

impl Role {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::ControlPlane => "omni.sidero.dev/role-controlplane",
            Self::Worker => "omni.sidero.dev/role-worker",
        }
    }
}

/// The cluster, then each machine set with its machines.
pub fn resources(template: &Template) -> Vec<Resource> {
    let name = template.cluster.name.as_str();
    let mut resources = vec![cluster(&template.cluster)];
    for set in &template.sets {
        let id = format!("{name}-{}", set.name);
        resources.push(machine_set(name, &id, set));
        resources.extend(set.machines.iter().map(|machine| node(name, &id, set.role, machine)));
    }
    resources
}

fn cluster(cluster: &Cluster) -> Resource {
    let spec = ClusterSpec {
        installimage: String::new(),
        kubernetesversion: cluster.kubernetes.clone(),
        talosversion: cluster.talos.clone(),
        features: Features {
            enableworkloadproxy: cluster.features.enable_workload_proxy,
            diskencryption: cluster.features.disk_encryption,
            useembeddeddiscoveryservice: cluster.features.use_embedded_discovery_service,
            ..Features::default()
        },
        backupconfiguration: cluster.backups.map(|backups| BackupConfiguration {
            interval: backups.interval.map(Into::into),
            enabled: backups.enabled,
        }),
    };
    let mut resource = marked(cluster.name.as_str(), &spec, &cluster.marks);
    resource.metadata.annotations.insert(MANAGED.into(), String::new());
    resource
}

fn machine_set(cluster: &str, id: &str, set: &MachineSet) -> Resource {
    let bootstrapspec = set.bootstrap.map(|bootstrap| BootstrapSpec {
        clusteruuid: bootstrap.cluster.to_string(),
        snapshot: bootstrap.snapshot.to_string(),
    });
    let mut resource = marked(id, &MachineSetSpec { bootstrapspec }, &set.marks);
    label(&mut resource, &[(LABEL_CLUSTER, cluster), (set.role.label(), "")]);
    resource
}

fn node(cluster: &str, set: &str, role: Role, machine: &Machine) -> Resource {
    let mut resource = marked(&machine.id.to_string(), &MachineSetNodeSpec {}, &machine.marks);
    label(&mut resource, &[(LABEL_CLUSTER, cluster), (LABEL_MACHINE_SET, set), (role.label(), "")]);
    if machine.locked {
        resource.metadata.annotations.insert(LOCKED.into(), String::new());
    }
    resource
}

fn marked<S: Spec>(id: &str, spec: &S, marks: &Marks) -> Resource {
    let mut resource = Resource::of(id, spec);
    resource.metadata.labels.clone_from(&marks.labels);
    resource.metadata.annotations.clone_from(&marks.annotations);
    resource
}

fn label(resource: &mut Resource, labels: &[(&str, &str)]) {
    let own = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    resource.metadata.labels.extend(own);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::yaml;

    const TEMPLATE: &str = include_str!("testdata/talos-default.yaml");
    const EXPECTED: &str = include_str!("testdata/talos-default.resources.yaml");

    #[test]
    fn the_documented_template() {
        let template = Template::parse("t", TEMPLATE).expect("a template");
        assert_eq!(yaml::stream(&resources(&template)), EXPECTED);
    }

    #[test]
    fn every_field_has_its_place() {
        let template = Template::parse("t", include_str!("testdata/full.yaml")).expect("a template");
        assert_eq!(yaml::stream(&resources(&template)), include_str!("testdata/full.resources.yaml"));
    }
}
