//! Tables of agents and runs, as they are printed.

use super::*;
use crate::testing::{Coordinator, capture};
use backstay_protocol::spec::ClusterSpec;

const NOW: Timestamp = Timestamp { seconds: 1_702_166_400, nanos: 0 };

fn labelled<S: Spec>(id: &str, cluster: &str, spec: &S) -> Resource {
    Resource::of(id, spec).in_cluster(cluster)
}

fn ago(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp::from_seconds(NOW.seconds - seconds))
}

fn agent(id: &str, cluster: &str, role: &str) -> Resource {
    let spec = AgentSpec {
        cluster: cluster.into(),
        etcdversion: "3.4.23".into(),
        role: role.into(),
        dbsize: 20 * 1024 * 1024,
        revision: 4711,
        lastseen: ago(3),
        ..AgentSpec::default()
    };
    labelled(id, cluster, &spec)
}

/// The same machine with names.
fn named(mut resource: Resource, member: &str, host: &str) -> Resource {
    (resource.spec["member"], resource.spec["host"]) = (member.into(), host.into());
    resource
}

fn run(id: &str, state: RunState, started: i64) -> Resource {
    let spec = BackupRunSpec {
        cluster: "a".into(),
        machine: "27c16241-96bf-4f17-9579-ea3a6c4a3ca8".into(),
        trigger: "manual".into(),
        state,
        started: ago(started),
        ended: (state != RunState::Running).then(|| Timestamp::from_millis((NOW.seconds - started) * 1000 + 1500)),
        bytesread: if state == RunState::Failed { 0 } else { 5 * 1024 * 1024 },
        bytestotal: if state == RunState::Failed { 0 } else { 20 * 1024 * 1024 },
        error: if state == RunState::Failed { "etcd is\naway".into() } else { String::new() },
        ..BackupRunSpec::default()
    };
    labelled(id, "a", &spec)
}

fn api() -> Api<Coordinator> {
    let silent = AgentSpec {
        cluster: "b".into(),
        error: "cannot connect to etcd".into(),
        lastseen: ago(70),
        ..AgentSpec::default()
    };
    Api::new(Coordinator::with([
        named(agent("27c16241-96bf-4f17-9579-ea3a6c4a3ca8", "a", "leader"), "cp-1", "cp-1"),
        named(agent("b885f565-b64f-4c7a-a1ac-d2c8c2781373", "a", "follower"), "m2", "node-b.example.com"),
        labelled("a54f21dc-6e48-4fc1-96aa-3d7be5e2612b", "b", &silent),
        labelled("c54f21dc-6e48-4fc1-96aa-3d7be5e2612b", "b", &silent),
        named(run("31f21df0-0000-4000-8000-000000000000", RunState::Ok, 100), "cp-1", "cp-1"),
        run("31f21df1-0000-4000-8000-000000000000", RunState::Failed, 50),
        run("31f21df2-0000-4000-8000-000000000000", RunState::Running, 12),
        Resource::of("empty", &ClusterSpec::default()),
    ]))
}

async fn print(kind: &str, cluster: &str, format: &str) -> Result<String, String> {
    let (api, view) = (api(), View::from(format.parse::<Format>().expect("a format")));
    let result = capture(async |console| match kind {
        "agents" => agents(&api, cluster, &view, NOW, console).await,
        _ => runs(&api, cluster, &view, NOW, console).await,
    });
    result.await.map(|(out, _)| out)
}

#[tokio::test]
async fn the_table_of_agents() {
    insta::assert_snapshot!("agents", print("agents", "", "table").await.expect("a table"));
    insta::assert_snapshot!("agents-silent", print("agents", "b", "table").await.expect("a table"));
    insta::assert_snapshot!("agents-wide", print("agents", "", "wide").await.expect("a table"));
    insta::assert_snapshot!("agents-none", print("agents", "empty", "table").await.expect("a table"));
}

#[tokio::test]
async fn the_table_of_runs_begins_with_the_latest() {
    insta::assert_snapshot!("runs", print("runs", "a", "table").await.expect("a table"));
    insta::assert_snapshot!("runs-of-all", print("runs", "", "table").await.expect("a table"));
    insta::assert_snapshot!("runs-wide", print("runs", "a", "wide").await.expect("a table"));
    let latest_first = ["31f21df2", "31f21df1", "31f21df0"].map(|id| format!("{id}-0000-4000-8000-000000000000\n"));
    assert_eq!(print("runs", "a", "jsonpath={.metadata.id}").await, Ok(latest_first.concat()));
}

#[tokio::test]
async fn a_table_fits_its_width_whatever_a_host_calls_itself() {
    let long = |id: &str| named(agent(id, "talos-default", "follower"), &"m".repeat(63), &"h".repeat(300));
    let coordinator = Coordinator::with([long("27c16241-96bf-4f17-9579-ea3a6c4a3ca8")]);
    let agents = |view: View| capture_agents(coordinator.clone(), view);
    let table = agents(View::default()).await;
    assert!(table.lines().all(|line| line.chars().count() <= AGENTS_WIDTH), "{table}");
    assert!(table.contains("mmm…"), "{table}");
    assert!(agents(View::from(Format::Wide)).await.contains("27c16241-96bf-4f17-9579-ea3a6c4a3ca8"));
    let bare = agents(View { headings: false, ..View::default() }).await;
    assert_eq!((bare.lines().count(), bare.contains("CLUSTER")), (1, false), "{bare}");
}

async fn capture_agents(coordinator: Coordinator, view: View) -> String {
    let api = Api::new(coordinator);
    capture(async |console| agents(&api, "", &view, NOW, console).await).await.expect("a table").0
}

#[tokio::test]
async fn other_forms_are_those_of_get() {
    assert_eq!(print("agents", "b", "jsonpath={.spec.error}").await, Ok("cannot connect to etcd\n".repeat(2)));
    let yaml = print("agents", "b", "yaml").await.expect("a document");
    assert!(yaml.starts_with("metadata:\n  namespace: ephemeral\n  type: Agents.backstay.dev\n"), "{yaml}");
}

#[tokio::test]
async fn a_cluster_that_does_not_exist_is_an_error() {
    for kind in ["agents", "runs"] {
        assert_eq!(
            print(kind, "nowhere", "table").await,
            Err("cluster \"nowhere\" does not exist: see `backstayctl get clusters`".into())
        );
        let error = print(kind, "a,b!=c", "table").await.expect_err("no name");
        assert!(error.starts_with("invalid cluster name \"a,b!=c\""), "{error}");
    }
}
