//! The documented files, and every way in which a file can be wrong.

use super::*;
use crate::output::yaml;
use backstay_protocol::fields;
use backstay_protocol::resource::Version;
use backstay_protocol::spec::{ClusterSpec, ManualBackupSpec, S3ConfigSpec, Spec};
use backstay_protocol::time::Timestamp;
use std::time::Duration;

fn one(text: &str) -> Resource {
    let mut found = parse("f.yaml", text).expect("a document");
    assert_eq!(found.len(), 1);
    found.remove(0).resource
}

fn error(text: &str) -> String {
    parse("f.yaml", text).expect_err(text).to_string()
}

const S3: &str = r#"metadata:
  namespace: default
  type: EtcdBackupS3Configs.omni.sidero.dev
  id: etcd-backup-s3-conf
spec:
  bucket: mybucket
  region: us-east-1
  endpoint: http://127.0.0.1:9000
  accesskeyid: access
  secretaccesskey: secret123
  sessiontoken: ""
"#;

#[test]
fn the_documented_s3_configuration() {
    let resource = one(S3);
    assert_eq!(resource.address(), "EtcdBackupS3Configs.omni.sidero.dev(default/etcd-backup-s3-conf)");
    let spec: S3ConfigSpec = resource.typed().expect("the type's spec");
    assert_eq!((spec.endpoint.as_str(), spec.secretaccesskey.as_str()), ("http://127.0.0.1:9000", "secret123"));
}

#[test]
fn a_document_whose_metadata_is_misspelt_is_told_so() {
    let misspelt = error(&S3.replace("metadata", "metdata"));
    assert!(misspelt.ends_with(r#"line 1: unknown field "metdata" (metdata): did you mean "metadata"?"#), "{misspelt}");
    let misspelt = error(&S3.replace("  type:", "  typ:"));
    assert!(misspelt.ends_with(r#"line 3: unknown field "typ" (metadata.typ): did you mean "type"?"#), "{misspelt}");
}

#[test]
fn the_documented_manual_backup() {
    let text = "metadata:\n  namespace: ephemeral\n  type: EtcdManualBackups.omni.sidero.dev\n  id: c\nspec:\n  backupat:\n    seconds: 1702166400\n    nanos: 0\n";
    let spec: ManualBackupSpec = one(text).typed().expect("the type's spec");
    assert_eq!(spec.backupat, Some(Timestamp::from_seconds(1_702_166_400)));
}

#[test]
fn the_documented_cluster() {
    let text = r#"# cluster-backup.yaml
metadata:
  namespace: default
  type: Clusters.omni.sidero.dev
  id: talos-default
  finalizers:
    - KubernetesUpgradeStatusController
    - ClusterController
spec:
  installimage: ""
  kubernetesversion: 1.28.2
  talosversion: 1.5.5
  features:
    enableworkloadproxy: false
    diskencryption: false
  # add the backupconfiguration block
  backupconfiguration:
    interval:
      seconds: 3600
      nanos: 0
"#;
    let resource = one(text);
    assert_eq!(resource.metadata.finalizers, ["KubernetesUpgradeStatusController", "ClusterController"]);
    let spec: ClusterSpec = resource.typed().expect("the type's spec");
    assert_eq!((spec.backup_interval(), spec.kubernetesversion.as_str()), (Some(Duration::from_secs(3600)), "1.28.2"));
}

#[test]
fn what_get_prints_can_be_applied() {
    let mut cluster = Resource::of("c", &ClusterSpec { kubernetesversion: "1.30".into(), ..ClusterSpec::default() });
    cluster.metadata.stamp(3, Timestamp::from_seconds(7), Timestamp::from_seconds(8));
    cluster.metadata.labels.insert("a".into(), String::new());
    let back = one(&yaml::resource(&cluster));
    assert_eq!(back.metadata, cluster.metadata);
    assert_eq!(back.typed::<ClusterSpec>().expect("a cluster"), cluster.typed::<ClusterSpec>().expect("a cluster"));
}

#[test]
fn every_type_s_full_spec_can_be_applied() {
    for definition in types::ALL {
        let mut resource = Resource { spec: fields::every_field(definition), ..Resource::default() };
        resource.metadata.kind = definition.name.into();
        resource.metadata.id = "x".into();
        resource.metadata.version = Version::Number(1);
        assert_eq!(one(&yaml::resource(&resource)).spec, resource.spec, "{}", definition.name);
    }
    assert_eq!(S3ConfigSpec::definition().name, "EtcdBackupS3Configs.omni.sidero.dev");
}

#[test]
fn a_missing_namespace_is_the_type_s_own() {
    assert_eq!(one("metadata: {type: EtcdManualBackups.omni.sidero.dev, id: c}\n").metadata.namespace, "ephemeral");
}

#[test]
fn what_is_wrong_is_said_by_file_resource_line_and_name() {
    let misspelt = S3.replace("accesskeyid", "accessKeyID");
    assert_eq!(
        error(&misspelt),
        r#"failed to apply f.yaml: EtcdBackupS3Configs.omni.sidero.dev(default/etcd-backup-s3-conf): line 9: unknown field "accessKeyID" (spec.accessKeyID): did you mean "accesskeyid"?"#
    );
    for (text, reason) in [
        ("- a\n", "line 1: a resource must be a map with metadata and spec"),
        ("spec: {}\n", "line 1: metadata.type is missing, for example Clusters.omni.sidero.dev"),
        (
            "metadata:\n  type: cluster\n",
            r#"line 2: unknown type "cluster" (metadata.type): did you mean "Clusters.omni.sidero.dev"?"#,
        ),
        (
            "metadata:\n  type: EtcdBackupS3Config.omni.sidero.dev\n",
            r#"line 2: unknown type "EtcdBackupS3Config.omni.sidero.dev" (metadata.type): did you mean "EtcdBackupS3Configs.omni.sidero.dev"?"#,
        ),
        ("metadata:\n  type: q\n", r#"line 2: unknown type "q" (metadata.type)"#),
        ("metadata:\n  type: Clusters.omni.sidero.dev\n", "line 1: metadata.id is missing"),
        ("a: [\n", "line 1: invalid YAML: unclosed bracket"),
    ] {
        let text = error(text);
        assert!(text.starts_with(&format!("failed to apply f.yaml: {reason}")), "{text}");
    }
    for (field, reason) in [
        ("  lables: {a: b}\n", r#"line 4: unknown field "lables" (metadata.lables): did you mean "labels"?"#),
        ("  labels: [a]\n", "line 4: metadata.labels must be a map"),
        ("  version: x\n", "line 2: metadata: version must be a number"),
        ("sepc: {}\n", r#"line 4: unknown field "sepc" (sepc): did you mean "spec"?"#),
    ] {
        let text = error(&format!("metadata:\n  type: Clusters.omni.sidero.dev\n  id: c\n{field}"));
        assert_eq!(text, format!("failed to apply f.yaml: Clusters.omni.sidero.dev(default/c): {reason}"));
    }
}

#[test]
fn everything_is_read_before_anything_is_taken() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("a.yaml"), format!("---\n{S3}---\n")).expect("a file");
    std::fs::write(dir.path().join("b.yaml"), "# nothing yet\n---\n---\n").expect("a file");
    assert_eq!(load(&[dir.path().into()], &mut std::io::empty()).map(|d| d.len()), Ok(1));
    std::fs::write(dir.path().join("c.yml"), S3).expect("a file");
    let error = load(&[dir.path().into()], &mut std::io::empty()).expect_err("twice").to_string();
    assert!(
        error.contains("line 1: this resource was already given in ") && error.contains("a.yaml on line 2"),
        "{error}"
    );
}

#[test]
fn nothing_to_apply_is_an_error() {
    let error = load(&["-".into()], &mut "# empty\n---\n".as_bytes()).expect_err("nothing").to_string();
    assert_eq!(error, "failed to apply -: it contains no resource");
}
