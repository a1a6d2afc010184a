//! `describe` as it is printed.

use super::*;
use crate::testing::{Coordinator, capture};
use backstay_protocol::backstay_types::{BackupRunSpec, RestorePhase, RestoreSpec, RunState};
use backstay_protocol::spec::{BackupConfiguration, BackupState, S3_CONFIG_ID, S3ConfigSpec};

const NOW: Timestamp = Timestamp { seconds: 1_702_166_400, nanos: 0 };

fn ago(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp::from_seconds(NOW.seconds - seconds))
}

fn coordinator() -> Coordinator {
    let interval = Some(std::time::Duration::from_secs(3600).into());
    let backupconfiguration = Some(BackupConfiguration { interval, enabled: None });
    let cluster = ClusterSpec { kubernetesversion: "v1.30".into(), backupconfiguration, ..ClusterSpec::default() };
    let status = BackupStatusSpec {
        status: BackupState::Error,
        error: "bucket \u{1b}[2Jis\ngone".into(),
        lastbackuptime: ago(7_200),
        lastbackupattempt: ago(60),
    };
    let proof = VerificationSpec {
        state: RunState::Ok,
        lastproven: ago(90),
        provensnapshot: "FFFFFFFF9A8AF980.snapshot".into(),
        provenhow: "booted".into(),
        ..VerificationSpec::default()
    };
    let agent = AgentSpec {
        cluster: "one".into(),
        role: "leader".into(),
        member: "m1".into(),
        host: "node-a".into(),
        lastseen: ago(3),
        ..AgentSpec::default()
    };
    let run = |n: i64| {
        let spec = BackupRunSpec {
            cluster: "one".into(),
            machine: "27c16241-96bf-4f17-9579-ea3a6c4a3ca8".into(),
            trigger: "interval".into(),
            state: RunState::Failed,
            started: ago(60 * n),
            ended: ago(60 * n - 2),
            error: "no route".into(),
            ..BackupRunSpec::default()
        };
        Resource::of(format!("31f21df{n}-0000-4000-8000-000000000000"), &spec).in_cluster("one")
    };
    let secrets = S3ConfigSpec { bucket: "b".into(), secretaccesskey: "hunter2".into(), ..S3ConfigSpec::default() };
    let kept = [
        Resource::of("one", &cluster),
        Resource::of("two", &ClusterSpec::default()),
        Resource::of("one", &status).in_cluster("one"),
        Resource::of("one", &proof).in_cluster("one"),
        Resource::of("27c16241-96bf-4f17-9579-ea3a6c4a3ca8", &agent).in_cluster("one"),
        Resource::of(S3_CONFIG_ID, &secrets),
    ];
    Coordinator::with(kept.into_iter().chain((1..=7).map(run)))
}

/// Without the room before values.
fn narrow(text: &str) -> String {
    let line = |line: &str| match line.split_once(": ") {
        Some((name, value)) => format!("{name}: {}\n", value.trim_start()),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

async fn describe(kind: &str, id: &str) -> Result<String, String> {
    let (api, definition) = (Api::new(coordinator()), types::resolve(kind).expect("a type"));
    capture(async |console| run(&api, definition, id, NOW, console).await).await.map(|(out, _)| out)
}

#[tokio::test]
async fn a_cluster_is_described_with_its_backups() {
    let text = describe("cluster", "one").await.expect("a cluster");
    insta::assert_snapshot!("describe-cluster", text);
    let text = describe("cluster", "two").await.expect("a cluster");
    for said in
        ["Schedule: none: no", "Last backup: none", "Last verified: never", "Agents:\n  -\n", "Last runs:\n  -\n"]
    {
        assert!(narrow(&text).contains(said), "{said}: {text}");
    }
    let all = describe("cluster", "").await.expect("both");
    assert_eq!(narrow(&all).matches("\nType: Clusters.omni.sidero.dev\n").count(), 2, "{all}");
}

#[tokio::test]
async fn other_resources_are_described_by_their_fields() {
    insta::assert_snapshot!("describe-status", describe("etcdbackupstatus", "one").await.expect("a status"));
    let text = describe("agent", "27c16241-96bf-4f17-9579-ea3a6c4a3ca8").await.expect("an agent");
    assert!(narrow(&text).contains("\n  DB size: 0 B\n") && text.contains("2023-12-09T23:59:57Z (3s ago)"), "{text}");
    let error = describe("cluster", "nowhere").await.expect_err("there is none");
    let none = "resource Clusters.omni.sidero.dev(default/nowhere) doesn't exist";
    assert_eq!(error, format!("{none}: see `backstayctl get clusters`"));
    let near = describe("cluster", "on").await.expect_err("there is none");
    assert!(near.ends_with(" doesn't exist: did you mean one?"), "{near}");
}

#[tokio::test]
async fn an_agent_is_found_by_every_name_that_tables_show() {
    let by_uuid = describe("agent", "27c16241-96bf-4f17-9579-ea3a6c4a3ca8").await.expect("an agent");
    for name in ["m1", "node-a"] {
        assert_eq!(describe("agent", name).await, Ok(by_uuid.clone()), "{name}");
    }
    let error = describe("agent", "node-b").await.expect_err("there is none");
    assert!(error.contains("did you mean node-a?"), "{error}");
    let error = describe("agent", "x").await.expect_err("there is none");
    assert!(error.ends_with(": see `backstayctl agents -o wide`"), "{error}");
}

#[test]
fn the_phase_of_a_restore_is_its_own_and_fields_have_the_names_of_words() {
    let spec = RestoreSpec {
        phase: RestorePhase::Restored,
        dataofanothercluster: "prod".into(),
        takenat: ago(60),
        sealedbytes: 2048,
        ..RestoreSpec::default()
    };
    let mut resource = Resource::of("one", &spec);
    resource.metadata.phase = "running".into();
    let text = narrow(&fields::text(&types::RESTORES, &resource, NOW));
    assert_eq!(text.matches("Phase: ").count(), 1, "{text}");
    for line in
        ["  Phase: restored\n", "  Data of another cluster: prod\n", "  Taken at: 2023", "  Sealed bytes: 2.0 KiB\n"]
    {
        assert!(text.contains(line), "{line:?}: {text}");
    }
}

#[tokio::test]
async fn no_secret_and_no_command_to_a_terminal_is_printed() {
    let text = describe("etcdbackups3config", "").await.expect("a configuration");
    assert!(!text.contains("hunter2") && text.contains("<hidden>"), "{text}");
    let text = describe("etcdbackupstatus", "one").await.expect("a status");
    assert!(!text.contains('\u{1b}') && text.contains("is gone"), "{text}");
}
