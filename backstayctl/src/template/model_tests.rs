//! Every way in which a template can be wrong, with the line.

use super::*;
use proptest::prelude::*;

const PAGE: &str = include_str!("testdata/talos-default.yaml");
const A: &str = "27c16241-96bf-4f17-9579-ea3a6c4a3ca8";

fn error(text: &str) -> String {
    let error = Template::parse("t.yaml", text).expect_err(text).to_string();
    error.strip_prefix("invalid template t.yaml: ").expect("names the file").to_owned()
}

fn changed(from: &str, to: &str) -> String {
    assert!(PAGE.contains(from), "{from}");
    error(&PAGE.replace(from, to))
}

#[test]
fn the_documented_template_is_read() {
    let template = Template::parse("t", PAGE).expect("a template");
    assert_eq!(template.cluster.backups, Some(Backups { interval: Some(Duration::from_secs(3600)), enabled: None }));
    assert_eq!((template.cluster.kubernetes.as_str(), template.cluster.talos.as_str()), ("1.28.2", "1.5.5"));
    let sizes: Vec<_> = template.sets.iter().map(|s| (s.role, s.machines.len())).collect();
    assert_eq!(sizes, [(Role::ControlPlane, 1), (Role::Worker, 2)]);
}

#[test]
fn an_interval_that_is_none_is_refused_and_says_how_backups_are_turned_off() {
    let tail = "to disable automatic backups, remove the block or set enabled: false";
    for (to, line, what) in [
        ("interval: 0", 10, "must be more than 0"),
        ("interval: 0s", 10, "must be more than 0"),
        ("interval: 0h0m", 10, "must be more than 0"),
        ("interval:", 10, "is empty"),
        ("interval: \"\"", 10, "is empty"),
        ("interval: null", 10, "is empty"),
        ("interval: 0s\n    enabled: false", 10, "must be more than 0"),
        ("interval:\n    enabled: false", 10, "is empty"),
        ("enabled: true", 9, "is missing"),
        ("enabled:", 9, "is missing"),
    ] {
        let expected = format!("line {line}: features.backupConfiguration.interval {what}: {tail}");
        let said = changed("interval: 1h", to);
        let (head, rest) = said.split_once(": ").expect("a line");
        assert!(head.starts_with("line ") && expected.ends_with(rest), "{to}: {said}");
    }
    for block in ["{}", "", "null"] {
        let said = changed("backupConfiguration:\n    interval: 1h", &format!("backupConfiguration: {block}"));
        assert!(said.contains("interval is missing: to disable automatic backups"), "{block}: {said}");
    }
}

#[test]
fn automatic_backups_are_absent_or_said_to_be_off() {
    let backups =
        |to: &str| Template::parse("t", &PAGE.replace("interval: 1h", to)).expect("a template").cluster.backups;
    let hour = Some(Duration::from_secs(3600));
    assert_eq!(backups("enabled: false"), Some(Backups { interval: None, enabled: Some(false) }));
    assert_eq!(backups("interval: 1h\n    enabled: false"), Some(Backups { interval: hour, enabled: Some(false) }));
    assert_eq!(backups("interval: 1h\n    enabled: true"), Some(Backups { interval: hour, enabled: Some(true) }));
    let without = PAGE.replace("features:\n  backupConfiguration:\n    interval: 1h\n", "");
    assert_eq!(Template::parse("t", &without).expect("a template").cluster.backups, None);
}

#[test]
fn fields_and_kinds_are_strict() {
    assert_eq!(
        changed("backupConfiguration", "backupconfiguration"),
        r#"line 9: unknown field "backupconfiguration" (features.backupconfiguration): did you mean "backupConfiguration"?"#
    );
    assert_eq!(
        changed("kind: Workers", "kind: Worker"),
        r#"line 16: unknown model kind "Worker": did you mean "Workers"?"#
    );
    assert_eq!(
        changed("kind: Workers\n", ""),
        "line 16: kind is missing: use one of Cluster, ControlPlane, Workers, Machine"
    );
    assert_eq!(changed("name: talos-default", "name: a.b").split(':').next(), Some("line 2"));
    assert_eq!(
        error(&format!("{PAGE}name: a\nname: b\n")),
        r#"line 21: "name" is given twice; the first is on line 20"#
    );
}

#[test]
fn versions_begin_with_v() {
    assert_eq!(changed("v1.28.2", "1.28.2"), r#"line 4: kubernetes.version "1.28.2" should start with 'v'"#);
    assert_eq!(changed("v1.5.5", "vnext"), r#"line 6: talos.version "vnext" must be a version, such as v1.28.2"#);
}

#[test]
fn versions_and_machines_may_be_left_out() {
    for text in [
        PAGE.replace("talos:\n  version: v1.5.5\n", ""),
        PAGE.replace("version: v1.5.5", "version: \"\""),
        PAGE.replace("version: v1.5.5", "version:"),
    ] {
        let template = Template::parse("t", &text).expect("a template");
        assert_eq!((template.cluster.kubernetes.as_str(), template.cluster.talos.as_str()), ("1.28.2", ""));
    }
    let least = "kind: Cluster\nname: c\n---\nkind: ControlPlane\n";
    for text in [least.to_owned(), format!("{least}machines: []\n"), format!("{least}machines:\n")] {
        assert!(Template::parse("t", &text).expect("a template").sets[0].machines.is_empty());
    }
}

#[test]
fn intervals_are_durations() {
    let expected = r#"line 10: invalid duration "1 day": must be a number with a unit, such as 30s, 90m or 1h30m"#;
    assert_eq!(changed("1h", "1 day"), expected);
    assert_eq!(
        changed("interval: 1h", "interval: [1h]"),
        "line 10: features.backupConfiguration.interval must be a string"
    );
}

#[test]
fn there_is_one_cluster_and_one_control_plane() {
    assert_eq!(error(""), "template should contain 1 cluster, got 0");
    assert_eq!(error(&format!("{PAGE}---\nkind: ControlPlane\n")), "template should contain 1 controlplane, got 2");
    let cluster = PAGE.split("---").next().expect("the cluster");
    assert_eq!(error(cluster), "template should contain 1 controlplane, got 0");
    assert_eq!(error(&format!("{PAGE}---\n{cluster}")), "template should contain 1 cluster, got 2");
}

#[test]
fn machines_are_uuids_and_listed_once() {
    let text = changed(A, "node-1");
    assert!(text.starts_with(r#"line 14: invalid machine ID "node-1": "#), "{text}");
    assert_eq!(
        changed("b885f565-b64f-4c7a-a1ac-d2c8c2781373", A),
        format!("line 18: machine {A} is listed twice; the first is on line 14")
    );
}

#[test]
fn workers_have_names_of_their_own() {
    assert_eq!(error(&format!("{PAGE}---\nkind: Workers\n")), r#"line 21: duplicate workers with name "workers""#);
    assert_eq!(
        error(&format!("{PAGE}---\nkind: Workers\nname: control-planes\n")),
        r#"line 22: workers cannot be named "control-planes""#
    );
    assert!(error(&format!("{PAGE}---\nkind: Workers\nname: a/b\n")).starts_with("line 22: the name"));
    assert!(Template::parse("t", &format!("{PAGE}---\nkind: Workers\nname: more\n")).is_ok());
}

#[test]
fn machine_documents_are_about_machines_of_the_template() {
    let machine = |extra: &str, id: &str| error(&format!("{PAGE}---\nkind: Machine\nname: {id}\n{extra}"));
    let other = "00000000-96bf-4f17-9579-ea3a6c4a3ca8";
    assert_eq!(machine("", other), format!("line 21: machine {other} is not used in controlplane or workers"));
    assert_eq!(
        machine("locked: true\n", A),
        format!("line 21: machine {A} is locked and used in controlplane, which is not allowed")
    );
    assert_eq!(
        machine(&format!("---\nkind: Machine\nname: {A}\n"), A),
        format!("line 24: machine {A} has two Machine documents")
    );
    assert!(machine("", "").starts_with(r#"line 22: invalid machine ID """#));
}

#[test]
fn what_backstay_does_not_keep_is_refused_with_the_reason() {
    for (spec, text) in [
        ("clusterUUID: x\n  snapshot: y", "line 14: bootstrapSpec.clusterUUID: invalid cluster UUID \"x\""),
        ("snapshot: FFFFFFFF9A8AF980.snapshot", "line 14: bootstrapSpec.clusterUUID is missing"),
        ("clusterUUID: 7d3a5a4c-9a0d-4c39-9b3c-3a2f1d9c2f10", "line 14: bootstrapSpec.snapshot is missing"),
    ] {
        let refused = changed("kind: ControlPlane\n", &format!("kind: ControlPlane\nbootstrapSpec:\n  {spec}\n"));
        assert!(refused.starts_with(text), "{refused}");
    }
    let refused = changed("kind: Workers\n", "kind: Workers\nbootstrapSpec: {snapshot: y}\n");
    assert_eq!(refused, "line 17: bootstrapSpec: bootstrap spec is not allowed for worker machine sets");
    let refused = changed("kind: Workers\n", "kind: Workers\npatches: []\n");
    assert!(refused.starts_with("line 17: patches: Backstay does not manage machine configuration"), "{refused}");
    let refused = changed("name: talos-default\n", "name: talos-default\nlabels: {omni.sidero.dev/cluster: x}\n");
    assert!(refused.contains("reserved"), "{refused}");
}

proptest! {
    #[test]
    fn any_text_is_a_template_or_an_error(at in 0..PAGE.len(), junk in r#"[a-z:\-\n \[{&*"]{0,6}"#) {
        let (head, tail) = PAGE.split_at(at);
        let _ = Template::parse("t", &format!("{head}{junk}{tail}"));
    }
}
