//! Templates against a coordinator in memory: the documented diff and sync, and what they do not touch.

use super::*;
use crate::testing::{Coordinator, capture};
use backstay_protocol::Timestamp;
use backstay_protocol::resource::Version;
use serde_json::json;

const PAGE: &str = include_str!("testdata/talos-default.yaml");
const FEATURES: &str = "features:\n  backupConfiguration:\n    interval: 1h\n";

const QUIET: Mode = Mode { verbose: false, dry_run: false };

fn template(text: &str) -> Template {
    Template::parse("t.yaml", text).expect("a template")
}

async fn diff_of(coordinator: &Coordinator, text: &str) -> Result<String, String> {
    let api = Api::new(coordinator.clone());
    let template = template(text);
    capture(async |console| diff(&api, &template, console).await).await.map(|(out, _)| out)
}

async fn sync(coordinator: &Coordinator, text: &str, mode: Mode) -> Result<String, String> {
    let api = Api::new(coordinator.clone());
    let template = template(text);
    capture(async |console| run(&api, "t.yaml", &template, mode, console).await).await.map(|(out, _)| out)
}

async fn synced(text: &str) -> Coordinator {
    let coordinator = Coordinator::default();
    sync(&coordinator, text, QUIET).await.expect("synced");
    coordinator.calls();
    coordinator
}

#[tokio::test]
async fn the_documented_diff_then_sync_then_nothing() {
    let coordinator = synced(&PAGE.replace(FEATURES, "")).await;
    let expected = "\
--- Clusters.omni.sidero.dev(default/talos-default)
+++ Clusters.omni.sidero.dev(default/talos-default)
@@ -14,4 +14,7 @@
   features:
     enableworkloadproxy: false
     diskencryption: false
-  backupconfiguration: null
+  backupconfiguration:
+    interval:
+      seconds: 3600
+      nanos: 0
";
    assert_eq!(diff_of(&coordinator, PAGE).await, Ok(expected.into()));
    let verbose = sync(&coordinator, PAGE, Mode { verbose: true, ..QUIET }).await;
    assert_eq!(verbose, Ok(format!("* updating Clusters.omni.sidero.dev(talos-default)\n{expected}")));
    assert_eq!(diff_of(&coordinator, PAGE).await, Ok(String::new()));
    assert_eq!(sync(&coordinator, PAGE, QUIET).await, Ok(String::new()));
}

#[tokio::test]
async fn everything_is_created_in_order() {
    let coordinator = Coordinator::default();
    let dry = sync(&coordinator, PAGE, Mode { dry_run: true, ..QUIET }).await.expect("tried");
    assert!(dry.starts_with("* creating (dry run) Clusters.omni.sidero.dev(talos-default)\n"), "{dry}");
    assert!(coordinator.ids().is_empty() && coordinator.calls().is_empty());
    let expected = "\
* creating Clusters.omni.sidero.dev(talos-default)
* creating MachineSets.omni.sidero.dev(talos-default-control-planes)
* creating MachineSetNodes.omni.sidero.dev(27c16241-96bf-4f17-9579-ea3a6c4a3ca8)
* creating MachineSets.omni.sidero.dev(talos-default-workers)
* creating MachineSetNodes.omni.sidero.dev(b885f565-b64f-4c7a-a1ac-d2c8c2781373)
* creating MachineSetNodes.omni.sidero.dev(a54f21dc-6e48-4fc1-96aa-3d7be5e2612b)
";
    assert_eq!(sync(&coordinator, PAGE, QUIET).await, Ok(expected.into()));
    assert_eq!(diff_of(&coordinator, PAGE).await, Ok(String::new()));
}

#[tokio::test]
async fn what_the_template_no_longer_has_is_destroyed_machines_first() {
    let coordinator = synced(PAGE).await;
    let shorter = PAGE.split("---\nkind: Workers").next().expect("without workers");
    let diff = diff_of(&coordinator, shorter).await.expect("a diff");
    assert!(
        diff.contains("--- MachineSets.omni.sidero.dev(default/talos-default-workers)\n+++ /dev/null\n@@ -1,"),
        "{diff}"
    );
    let expected = "\
* destroying MachineSetNodes.omni.sidero.dev(a54f21dc-6e48-4fc1-96aa-3d7be5e2612b)
* destroying MachineSetNodes.omni.sidero.dev(b885f565-b64f-4c7a-a1ac-d2c8c2781373)
* destroying MachineSets.omni.sidero.dev(talos-default-workers)
";
    assert_eq!(sync(&coordinator, shorter, QUIET).await, Ok(expected.into()));
    assert_eq!(coordinator.ids().len(), 3);
}

#[tokio::test]
async fn another_cluster_s_resources_are_left_alone() {
    let other = PAGE.replace("talos-default", "other").replace("27c16241", "11111111").replace("b885f565", "22222222");
    let coordinator = synced(&other.replace("a54f21dc", "33333333")).await;
    let before = coordinator.resources();
    sync(&coordinator, PAGE, QUIET).await.expect("synced");
    assert_eq!(coordinator.resources()[..before.len()], before);
}

#[tokio::test]
async fn a_machine_of_another_cluster_is_not_taken() {
    let coordinator = synced(&PAGE.replace("talos-default", "other")).await;
    let expected = r#"machine 27c16241-96bf-4f17-9579-ea3a6c4a3ca8 belongs to cluster "other": remove it there first"#;
    assert_eq!(sync(&coordinator, PAGE, QUIET).await, Err(expected.into()));
    assert_eq!(diff_of(&coordinator, PAGE).await, Err(expected.into()));
    assert!(coordinator.calls().is_empty());
}

#[test]
fn what_the_server_counts_never_differs_and_what_people_write_does() {
    let wanted = render::resources(&template(PAGE));
    let mut there = wanted.clone();
    for resource in &mut there {
        resource.metadata.stamp(7, Timestamp::from_seconds(1), Timestamp::from_seconds(2));
        resource.metadata.finalizers = vec!["ClusterController".into()];
    }
    // The server may keep only what was given, in another order.
    there[0].spec = json!({
        "backupconfiguration": {"interval": {"nanos": 0, "seconds": 3600}},
        "talosversion": "1.5.5", "kubernetesversion": "1.28.2",
    });
    assert_eq!(steps(&there, wanted.clone()), []);
    there[0].metadata.annotations.insert("by-hand".into(), "x".into());
    let steps = steps(&there, wanted);
    let [Step { change: Change::Update, resource: after, .. }] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!((after.metadata.version, after.metadata.finalizers.len()), (Version::Number(7), 1));
    assert!(steps[0].diff().render(false).contains("-    by-hand: x\n"));
}

#[test]
fn what_has_an_owner_is_not_destroyed() {
    let mut wanted = render::resources(&template(PAGE));
    let mut there = wanted.clone();
    let mut node = there.pop().expect("a machine");
    wanted.pop();
    node.metadata.owner = "SomeController".into();
    there.push(node);
    assert_eq!(steps(&there, wanted), []);
}

#[tokio::test]
async fn a_refusal_stops_the_sync_and_names_the_resource() {
    let coordinator = Coordinator::default().refusing("talos-default-workers", "no");
    let error = sync(&coordinator, PAGE, QUIET).await;
    let expected = "failed to apply t.yaml: MachineSets.omni.sidero.dev(default/talos-default-workers): no";
    assert_eq!(error, Err(expected.into()));
    assert_eq!(coordinator.ids().len(), 3);
    let absent = sync(&Coordinator::absent(), PAGE, QUIET).await;
    assert_eq!(absent, Err("no coordinator answers on nats://h (absent)".into()));
}
