//! Exporting is the inverse of rendering; also status and delete of what a sync created.

use std::time::Duration;

use super::*;
use crate::apply::Mode;
use crate::template::model::{Backups, Cluster, Machine, MachineSet, Marks, RawFeatures};
use crate::template::{Template, delete, render, state};
use crate::testing::{Coordinator, capture};
use backstay_protocol::MachineId;
use backstay_protocol::spec::BackupConfiguration;
use proptest::prelude::*;
use uuid::Uuid;

const PAGE: &str = include_str!("testdata/talos-default.yaml");

fn parsed(text: &str) -> Template {
    Template::parse("t", text).expect(text)
}

/// As a coordinator lists them: by id.
fn kept(template: &Template) -> (Resource, Vec<Resource>) {
    let mut resources = render::resources(template);
    let cluster = resources.remove(0);
    resources.sort_by_key(|r| (r.metadata.kind.clone(), r.metadata.id.clone()));
    (cluster, resources)
}

#[test]
fn the_documented_template_comes_back() {
    let (cluster, members) = kept(&parsed(PAGE));
    let export = export(&cluster, &members, &[]);
    insta::assert_snapshot!("export", export.text);
    assert_eq!(export.notes, Vec::<String>::new());
}

#[test]
fn what_a_template_cannot_say_is_noted() {
    let spec: ClusterSpec = serde_json::from_value(json!({
        "installimage": "i",
        "features": {"enablenodeauditskip": true},
        "backupconfiguration": {"interval": {"seconds": 3600}, "enabled": false},
    }))
    .expect("a cluster");
    let (_, mut members) = kept(&parsed(&PAGE.replace("talos-default", "c")));
    members.retain(|m| !m.metadata.id.contains("control-planes"));
    let export = export(&Resource::of("c", &spec), &members, &[]);
    insta::assert_snapshot!("export-notes", format!("{}\n{}", export.text, export.notes.join("\n")));
}

fn marks() -> impl Strategy<Value = Marks> {
    let map = || prop::collection::btree_map("[a-z][a-z0-9./-]{0,8}", "[ -~]{0,8}|true|null|0x1F|é\n\t|1e3", 0..3);
    (map(), map()).prop_map(|(labels, annotations)| Marks { labels, annotations })
}

fn machines(locked: bool) -> impl Strategy<Value = Vec<Machine>> {
    let machine = (any::<u128>(), marks(), any::<bool>()).prop_map(move |(id, marks, lock)| Machine {
        id: MachineId(Uuid::from_u128(id)),
        marks,
        locked: locked && lock,
    });
    prop::collection::vec(machine, 0..4)
}

fn sets() -> impl Strategy<Value = Vec<MachineSet>> {
    let control_planes = (marks(), machines(false)).prop_map(|(marks, machines)| MachineSet {
        role: Role::ControlPlane,
        name: CONTROL_PLANES.into(),
        marks,
        machines,
        bootstrap: None,
    });
    let workers = prop::collection::btree_map("workers|[a-z][a-z0-9_-]{0,8}", (marks(), machines(true)), 0..3);
    (control_planes, workers).prop_map(|(first, workers)| {
        let worker =
            |(name, (marks, machines))| MachineSet { role: Role::Worker, name, marks, machines, bootstrap: None };
        std::iter::once(first).chain(workers.into_iter().map(worker)).collect()
    })
}

fn templates() -> impl Strategy<Value = Template> {
    let version = || "[0-9]{1,2}\\.[0-9]{1,2}(\\.[0-9]{1,2})?(-rc\\.[0-9])?";
    let interval = || (1..i64::MAX as u64).prop_map(Duration::from_nanos);
    let on = (interval(), prop::option::of(any::<bool>()))
        .prop_map(|(interval, enabled)| Some(Backups { interval: Some(interval), enabled }));
    let off = Just(Some(Backups { interval: None, enabled: Some(false) }));
    let backups = prop_oneof![Just(None), on, off];
    ("[a-z][a-z0-9-]{0,12}[a-z0-9]", marks(), version(), version(), any::<[bool; 3]>(), backups, sets()).prop_map(
        |(name, marks, kubernetes, talos, on, backups, sets)| {
            let mut features = RawFeatures::default();
            features.enable_workload_proxy = on[0];
            features.disk_encryption = on[1];
            features.use_embedded_discovery_service = on[2];
            let name = name.parse().expect("a name");
            Template { cluster: Cluster { name, marks, kubernetes, talos, features, backups }, sets }
        },
    )
}

proptest! {
    #[test]
    fn rendering_the_export_gives_the_same_resources(template in templates()) {
        let (cluster, members) = kept(&template);
        let export = export(&cluster, &members, &[]);
        prop_assert_eq!(&export.notes, &Vec::<String>::new());
        let again = Template::parse("t", &export.text).map_err(|e| TestCaseError::fail(format!("{e}\n{}", export.text)))?;
        prop_assert_eq!(kept(&again), (cluster, members), "{}", export.text);
    }
}

/// Anything that `apply` takes for a cluster.
fn clusters() -> impl Strategy<Value = ClusterSpec> {
    let version = || "|[0-9]{1,2}\\.[0-9]{1,2}|v1\\.2|next";
    let backup = prop::option::of((prop::option::of(0_u64..1_000_000_000_000_000), prop::option::of(any::<bool>())));
    ("|ghcr.io/x", version(), version(), any::<[bool; 5]>(), backup).prop_map(
        |(image, kubernetes, talos, on, backup)| {
            let backup = backup.map(|(nanos, enabled)| BackupConfiguration {
                interval: nanos.map(|nanos| Duration::from_nanos(nanos).into()),
                enabled,
            });
            ClusterSpec {
                installimage: image,
                kubernetesversion: kubernetes,
                talosversion: talos,
                features: Features {
                    enableworkloadproxy: on[0],
                    diskencryption: on[1],
                    useembeddeddiscoveryservice: on[2],
                    enablenodeauditskip: on[3],
                    disablepublicdiscoveryservice: on[4],
                },
                backupconfiguration: backup,
            }
        },
    )
}

fn agents(count: u128) -> Vec<Resource> {
    (1..=count).map(|n| Resource::of(Uuid::from_u128(n).to_string(), &AgentSpec::default())).collect()
}

/// What a sync of the export would do.
fn steps_of(export: &Export, there: &[Resource]) -> Vec<sync::Step> {
    sync::steps(there, render::resources(&parsed(&export.text)))
}

proptest! {
    #[test]
    fn every_cluster_that_a_template_made_is_exported_as_it_is(spec in clusters(), template in templates()) {
        let (mut cluster, members) = kept(&template);
        cluster.spec = serde_json::to_value(&spec).expect("plain data");
        cluster.metadata.labels.insert("omni.sidero.dev/other".into(), "x".into());
        let export = export(&cluster, &members, &agents(3));
        let there: Vec<Resource> = std::iter::once(cluster).chain(members).collect();
        let steps = steps_of(&export, &there);
        prop_assert!(steps.is_empty(), "{}\n{steps:?}", export.text);
    }

    #[test]
    fn a_cluster_that_registered_itself_only_gets_what_makes_it_a_templates(spec in clusters(), count in 0_u128..4) {
        let cluster = Resource::of("c", &spec);
        let export = export(&cluster, &[], &agents(count));
        let steps = steps_of(&export, std::slice::from_ref(&cluster));
        for step in &steps {
            match &step.before {
                None => prop_assert!(step.change == sync::Change::Create && step.resource.metadata.kind != types::CLUSTERS.name),
                Some(before) => prop_assert_eq!(&before.spec, &step.resource.spec, "only its mark is new"),
            }
        }
        let machines = steps.iter().filter(|step| step.resource.metadata.kind == types::MACHINE_SET_NODES.name).count();
        prop_assert_eq!(machines as u128, count);
        // Once it is a template's, there is no difference.
        let after: Vec<Resource> = steps.into_iter().map(|step| step.resource).collect();
        prop_assert_eq!(after.iter().filter(|resource| resource.metadata.kind == types::CLUSTERS.name).count(), 1);
        prop_assert_eq!(steps_of(&export, &after), Vec::new());
    }
}

const QUIET: Mode = Mode { verbose: false, dry_run: false };

async fn synced(text: &str) -> Coordinator {
    let coordinator = Coordinator::default();
    let (api, template) = (Api::new(coordinator.clone()), parsed(text));
    capture(async |console| sync::run(&api, "t", &template, QUIET, console).await).await.expect("synced");
    coordinator.calls();
    coordinator
}

/// The table, and whether everything is in sync.
async fn status(coordinator: &Coordinator, text: &str) -> (String, bool) {
    let (api, template) = (Api::new(coordinator.clone()), parsed(text));
    let mut in_sync = true;
    let printed = capture(async |console| match state::run(&api, &template, console).await {
        Err(Failure::No) => {
            in_sync = false;
            Ok(())
        }
        other => other,
    });
    (printed.await.expect("a table").0, in_sync)
}

async fn delete(coordinator: &Coordinator, mode: Mode) -> Result<String, String> {
    let (api, template) = (Api::new(coordinator.clone()), parsed(PAGE));
    capture(async |console| delete::run(&api, &template, mode, console).await).await.map(|(out, _)| out)
}

#[tokio::test]
async fn the_status_names_what_is_not_as_the_template_says() {
    let coordinator = synced(PAGE).await;
    let (table, in_sync) = status(&coordinator, PAGE).await;
    insta::assert_snapshot!("template-status-in-sync", table);
    assert!(in_sync);
    let changed = PAGE
        .replace("interval: 1h", "interval: 2h")
        .replace("a54f21dc-6e48-4fc1-96aa-3d7be5e2612b", "00000000-6e48-4fc1-96aa-3d7be5e2612b");
    let (table, in_sync) = status(&coordinator, &changed).await;
    insta::assert_snapshot!("template-status-differs", table);
    assert!(!in_sync);
    assert_eq!(coordinator.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn deleting_takes_machines_then_sets_then_the_cluster() {
    let coordinator = synced(PAGE).await;
    let dry = delete(&coordinator, Mode { dry_run: true, ..QUIET }).await.expect("a dry run");
    assert_eq!((dry.lines().count(), coordinator.calls().len()), (6, 0));
    insta::assert_snapshot!("template-delete", delete(&coordinator, QUIET).await.expect("deleted"));
    assert!(coordinator.ids().is_empty());
    assert_eq!(
        delete(&coordinator, QUIET).await,
        Err("cluster \"talos-default\" does not exist: see `backstayctl get clusters`".into())
    );
}

#[tokio::test]
async fn a_cluster_that_may_not_be_deleted_is_said_as_the_coordinator_says_it() {
    let coordinator = synced(PAGE).await.refusing("talos-default", "a backup of it is running");
    let error = delete(&coordinator, QUIET).await;
    let expected = "failed to delete Clusters.omni.sidero.dev(default/talos-default): a backup of it is running";
    assert_eq!(error, Err(expected.into()));
    assert_eq!(coordinator.ids(), ["talos-default"]);
}
