//! The YAML of the documented resources, and that it can be read back.

use super::*;
use crate::reader::documents;
use crate::reader::shape::Shape;
use backstay_protocol::resource::{LABEL_CLUSTER, Version};
use backstay_protocol::spec::{
    BackupConfiguration, BackupState, BackupStatusSpec, ClusterSpec, Interval, MachineSetNodeSpec, S3ConfigSpec,
};
use backstay_protocol::time::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Number, json};

#[test]
fn the_documented_status() {
    let time = Some(Timestamp { seconds: 1_702_166_400, nanos: 985_220_192 });
    let spec = BackupStatusSpec {
        status: BackupState::Ok,
        error: String::new(),
        lastbackuptime: time,
        lastbackupattempt: time,
    };
    let mut status = Resource::of("talos-default", &spec);
    status.metadata.version = Version::Number(1);
    let expected = r#"metadata:
  namespace: ephemeral
  type: EtcdBackupStatuses.omni.sidero.dev
  id: talos-default
  version: 1
  owner: EtcdBackupController
  phase: running
spec:
  status: 1
  error: ""
  lastbackuptime:
    seconds: 1702166400
    nanos: 985220192
  lastbackupattempt:
    seconds: 1702166400
    nanos: 985220192
"#;
    assert_eq!(resource(&status), expected);
}

fn cluster() -> Resource {
    let spec = ClusterSpec {
        kubernetesversion: "1.28.2".into(),
        talosversion: "1.5.5".into(),
        backupconfiguration: Some(BackupConfiguration {
            interval: Some(Interval { seconds: 3600, nanos: 0 }),
            enabled: None,
        }),
        ..ClusterSpec::default()
    };
    let mut cluster = Resource::of("talos-default", &spec);
    cluster.metadata.stamp(3, Timestamp::from_seconds(1_702_166_400), Timestamp::from_seconds(1_702_166_401));
    cluster.metadata.annotations.insert("omni.sidero.dev/managed-by-cluster-templates".into(), String::new());
    cluster.metadata.labels.insert(LABEL_CLUSTER.into(), "yes".into());
    cluster.metadata.finalizers = vec!["SecretsController".into(), "ClusterController".into()];
    cluster
}

#[test]
fn metadata_has_its_order_and_empty_scalars_are_bare() {
    let expected = r#"metadata:
  namespace: default
  type: Clusters.omni.sidero.dev
  id: talos-default
  version: 3
  owner:
  phase: running
  created: 2023-12-10T00:00:00Z
  updated: 2023-12-10T00:00:01Z
  labels:
    omni.sidero.dev/cluster: "yes"
  annotations:
    omni.sidero.dev/managed-by-cluster-templates:
  finalizers:
    - SecretsController
    - ClusterController
spec:
  installimage: ""
  kubernetesversion: 1.28.2
  talosversion: 1.5.5
  features:
    enableworkloadproxy: false
    diskencryption: false
  backupconfiguration:
    interval:
      seconds: 3600
      nanos: 0
"#;
    assert_eq!(resource(&cluster()), expected);
}

#[test]
fn resources_are_divided_and_empty_specs_are_written() {
    let mut node = Resource::of("x", &MachineSetNodeSpec {});
    node.spec = json!({});
    let config = Resource::of("y", &S3ConfigSpec { endpoint: "http://127.0.0.1:9000".into(), ..Default::default() });
    let text = stream(&[node, config]);
    assert!(text.contains("  version: undefined\n  owner:\n  phase: running\nspec: {}\n---\nmetadata:\n"), "{text}");
    assert!(text.ends_with(
        "  endpoint: http://127.0.0.1:9000\n  accesskeyid: \"\"\n  secretaccesskey: \"\"\n  sessiontoken: \"\"\n"
    ));
    assert_eq!(stream(&[]), "");
}

#[test]
fn text_is_quoted_only_where_it_must_be() {
    for (value, written) in [
        ("1.28.2", "1.28.2"),
        ("v1.28.2", "v1.28.2"),
        ("<hidden>", "<hidden>"),
        ("a b", "a b"),
        ("us-east-1", "us-east-1"),
        ("-x", "-x"),
        ("a#b", "a#b"),
        ("x\u{2000}", "x\u{2000}"),
        ("1.28", r#""1.28""#),
        ("true", r#""true""#),
        ("null", r#""null""#),
        ("~", r#""~""#),
        ("NO", r#""NO""#),
        ("0123", r#""0123""#),
        ("1e3", r#""1e3""#),
        ("0x1F", r#""0x1F""#),
        ("0b11", r#""0b11""#),
        ("1_000", r#""1_000""#),
        ("12:30", r#""12:30""#),
        ("2023-12-10", r#""2023-12-10""#),
        (".nan", r#"".nan""#),
        ("<<", r#""<<""#),
        ("", r#""""#),
        ("a: b", "'a: b'"),
        ("it's: x", "'it''s: x'"),
        ("a #b", "'a #b'"),
        ("*x", "'*x'"),
        ("@x", "'@x'"),
        ("- x", "'- x'"),
        ("---", "'---'"),
        (" x", "' x'"),
        ("x:", "'x:'"),
        ("a\nb\"", r#""a\nb\"""#),
        ("\u{1b}[31m", r#""\x1B[31m""#),
        ("\u{202e}x", r#""\u202Ex""#),
    ] {
        assert_eq!(text(value), written, "{value:?}");
    }
}

#[test]
fn lists_in_lists_and_maps_in_lists_are_compact() {
    let value = json!({"a": [[1, [2]], {"b": [3], "c": {}}, [], "x"], "d": null});
    let expected = "a:\n  - - 1\n    - - 2\n  - b:\n      - 3\n    c: {}\n  - []\n  - x\nd: null\n";
    assert_eq!(document(&value), expected);
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        r#"[-+.0-9eExbon:_ ]{0,8}"#,
        r#"[ :#'"\\\[\]{},&*!|>%@`?~=<a\n\t-]{0,6}"#,
        "(true|False|NULL|yes|Off|\\.inf|<<|~|---|\\.\\.\\.)",
        any::<Vec<char>>().prop_map(|c| c.into_iter().collect()),
    ]
    // A key is at most so long that a reader finds its end.
    .prop_map(|s: String| s.chars().take(100).collect())
}

fn numbers() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<i64>().prop_map(Number::from),
        any::<u64>().prop_map(Number::from),
        any::<f64>().prop_filter_map("finite", Number::from_f64),
    ]
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        numbers().prop_map(Value::Number),
        texts().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((texts(), inner), 0..5)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(value in values()) {
        let written = document(&value);
        let read = documents(&written).map_err(|e| TestCaseError::fail(format!("{e} in {written:?}")))?;
        match read.first() {
            None => prop_assert_eq!(&value, &Value::Null),
            Some(node) => prop_assert_eq!(Shape::Any.value(node, "").ok().flatten(), Some(value), "{}", written),
        }
    }

    #[test]
    fn another_reader_reads_the_same(value in values()) {
        let written = document(&value);
        let read: Value = serde_saphyr::from_str(&written).map_err(|e| TestCaseError::fail(format!("{e} in {written:?}")))?;
        prop_assert_eq!(read, value, "{}", written);
    }

    #[test]
    fn no_line_ends_in_a_space_and_no_text_breaks_out_of_its_line(value in texts()) {
        let written = document(&json!({"a": [value]}));
        prop_assert_eq!(written.lines().count(), 2);
        prop_assert!(written.chars().all(|c| c == '\n' || !c.is_control()));
    }
}
