//! `status` as it is printed, and its exit codes.

use super::*;
use crate::testing::{Coordinator, capture};
use backstay_protocol::backstay_types::{RestoreMachineSpec, RestorePhase};
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::{BackupConfiguration, BackupState, OVERALL_STATUS_ID};

const NOW: Timestamp = Timestamp { seconds: 1_702_166_400, nanos: 0 };

fn cluster(name: &str, interval: Option<u64>) -> Resource {
    let interval = interval.map(|seconds| Duration::from_secs(seconds).into());
    let backupconfiguration = interval.map(|i| BackupConfiguration { interval: Some(i), enabled: None });
    let by_hand = BackupConfiguration { interval: None, enabled: Some(false) };
    let backupconfiguration = backupconfiguration.or((name == "by-hand").then_some(by_hand));
    Resource::of(name, &ClusterSpec { backupconfiguration, ..ClusterSpec::default() })
}

fn status(name: &str, state: BackupState, age: i64, error: &str) -> Resource {
    let last = Some(Timestamp::from_seconds(NOW.seconds - age));
    let spec = BackupStatusSpec { status: state, error: error.into(), lastbackuptime: last, lastbackupattempt: last };
    Resource::of(name, &spec)
}

fn agent(machine: &str, cluster: &str) -> Resource {
    Resource::of(machine, &AgentSpec { cluster: cluster.into(), ..AgentSpec::default() })
}

/// Its etcd does not answer, and m3 has no agent.
fn down(machine: &str, cluster: &str, member: &str) -> Resource {
    let spec = AgentSpec {
        cluster: cluster.into(),
        member: member.into(),
        error: "connection refused".into(),
        absent: vec!["m3".into()],
        ..AgentSpec::default()
    };
    Resource::of(machine, &spec)
}

fn fleet() -> Vec<Resource> {
    vec![
        cluster("good", Some(3600)),
        cluster("late", Some(3600)),
        cluster("by-hand", None),
        cluster("broken", Some(60)),
        cluster("new", None),
        cluster("silent", Some(3600)),
        cluster("torn", Some(3600)),
        cluster("forgotten", None),
        status("good", BackupState::Ok, 600, ""),
        status("late", BackupState::Ok, 90_000, ""),
        status("by-hand", BackupState::Ok, 9_000_000, ""),
        status("broken", BackupState::Error, 30, "failed to put part 3 in bucket \"b\": AccessDenied"),
        status("silent", BackupState::Ok, 10, ""),
        status("torn", BackupState::Ok, 10, ""),
        status("forgotten", BackupState::Ok, 10, ""),
        down("7", "torn", "m1"),
        agent("8", "torn"),
        agent("9", "forgotten"),
        agent("1", "good"),
        agent("2", "good"),
        agent("3", "late"),
        agent("4", "by-hand"),
        agent("5", "broken"),
        agent("6", "new"),
    ]
}

/// What is printed, what is remarked, and the exit code.
async fn run_on(resources: Vec<Resource>, query: Query, colour: bool) -> (String, String, u8) {
    let api = Api::new(Coordinator::with(resources));
    let mut code = 0;
    let printed = capture(async |console| {
        console.colour = colour;
        match run(&api, &query, NOW, console).await {
            Err(Failure::No) => code = Failure::No.exit_code(),
            other => other?,
        }
        Ok(())
    });
    let (out, err) = printed.await.expect("an answer");
    (out, err, code)
}

#[tokio::test]
async fn the_worst_comes_first_and_the_exit_code_says_so() {
    let (table, remarks, code) = run_on(fleet(), Query::default(), false).await;
    insta::assert_snapshot!("status", table);
    assert_eq!((remarks.as_str(), code), ("", 3));
    let (table, _, _) = run_on(fleet(), Query::default(), true).await;
    insta::assert_snapshot!("status-colour", table.replace('\u{1b}', "ESC"));
    let (table, ..) = run_on(fleet(), Query { form: Form::Wide, ..Query::default() }, false).await;
    insta::assert_snapshot!("status-wide", table);
    let (table, ..) = run_on(fleet(), Query { headings: false, ..Query::default() }, false).await;
    assert!(table.starts_with("silent ") && !table.contains("CLUSTER"), "{table}");
}

#[tokio::test]
async fn long_names_are_cut_on_a_terminal_alone() {
    let name = "a-cluster-whose-name-is-as-long-as-such-names-may-be-63-of-them";
    let fleet = || vec![cluster(name, Some(3600)), status(name, BackupState::Ok, 90_000, ""), agent("1", name)];
    let (table, ..) = run_on(fleet(), Query::default(), false).await;
    assert!(!table.lines().nth(1).expect("a line").contains(name), "{table}");
    let (table, ..) = run_on(fleet(), Query { fits: false, ..Query::default() }, false).await;
    assert!(table.lines().nth(1).expect("a line").starts_with(&format!("{name}   ")), "{table}");
}

#[tokio::test]
async fn a_coordinator_of_before_is_asked_what_it_knows() {
    let api = Api::new(Coordinator::with(fleet()).earlier());
    let query = Query { clusters: vec!["good".into()], ..Query::default() };
    let report = look(&api, &query, NOW).await.expect("a report");
    assert!(report.is_fine, "{report:?}");
}

#[tokio::test]
async fn all_ok_is_success() {
    let query = Query { clusters: vec!["good".into(), "by-hand".into()], ..Query::default() };
    let (table, _, code) = run_on(fleet(), query, false).await;
    assert_eq!((table.lines().count(), code), (3, 0));
    let query = Query { clusters: vec!["late".into()], grace: Some(Duration::from_secs(90_000)), ..Query::default() };
    assert_eq!(run_on(fleet(), query, false).await.2, 0);
}

#[tokio::test]
async fn a_cluster_that_is_being_restored_says_so() {
    let restore = |phase| {
        let machine = |step: &str| RestoreMachineSpec { step: step.into(), ..RestoreMachineSpec::default() };
        let machines = vec![machine("switched"), machine("moving")];
        Resource::of("torn", &RestoreSpec { phase, machines, ..RestoreSpec::default() })
    };
    let query = || Query { clusters: vec!["torn".into()], ..Query::default() };
    let (table, _, code) = run_on([fleet(), vec![restore(RestorePhase::Switching)]].concat(), query(), false).await;
    let said = "\ntorn: a restore is running: switching: 1 of 2 moving the data, 1 of 2 running on the restored data\n  backstayctl get restore torn\n";
    assert!(table.contains("torn      restoring   ") && table.ends_with(said), "{table}");
    assert_eq!(code, 3);
    for ended in [RestorePhase::Restored, RestorePhase::Failed] {
        let (table, _, _) = run_on([fleet(), vec![restore(ended)]].concat(), query(), false).await;
        assert!(table.contains("member down"), "{table}");
    }
}

#[tokio::test]
async fn no_cluster_is_not_ok_and_a_storage_that_is_not_there_is_said() {
    let overall = OverallStatusSpec {
        configurationname: "s3".into(),
        configurationerror: "not initialized".into(),
        ..OverallStatusSpec::default()
    };
    let (table, remarks, code) = run_on(vec![Resource::of(OVERALL_STATUS_ID, &overall)], Query::default(), false).await;
    assert_eq!(table, "CLUSTER   STATUS   LAST BACKUP   INTERVAL   AGENTS   LAST VERIFIED\n");
    assert_eq!((remarks.as_str(), code), ("Note: storage s3: not initialized\nNote: there are no clusters\n", 3));
}

#[tokio::test]
async fn a_storage_that_is_not_there_is_every_clusters_trouble() {
    let overall = OverallStatusSpec { configurationerror: "not initialized".into(), ..OverallStatusSpec::default() };
    let resources = [fleet(), vec![Resource::of(OVERALL_STATUS_ID, &overall)]].concat();
    let query = Query { clusters: vec!["good".into()], ..Query::default() };
    let (table, _, code) = run_on(resources, query, false).await;
    assert!(table.contains("no storage") && table.contains("etcd-backup-s3-conf.yaml"), "{table}");
    assert_eq!(code, 3);
}

#[tokio::test]
async fn programs_read_json_or_yaml() {
    let json = |clusters: &[&str]| Query {
        clusters: clusters.iter().map(|c| (*c).to_owned()).collect(),
        form: Form::Json,
        ..Query::default()
    };
    let (text, _, _) = run_on(fleet(), json(&["late", "new"]), false).await;
    insta::assert_snapshot!("status-json", text);
    let (text, _, _) = run_on(fleet(), Query { form: Form::Yaml, ..json(&["late", "new"]) }, false).await;
    insta::assert_snapshot!("status-yaml", text);
    assert_eq!(run_on(Vec::new(), json(&[]), false).await.0, "", "no cluster, no object");
}

#[tokio::test]
async fn who_does_not_exist_has_no_status() {
    let api = Api::new(Coordinator::with(fleet()));
    let query = Query { clusters: vec!["nowhere".into()], ..Query::default() };
    let error = capture(async |console| run(&api, &query, NOW, console).await).await;
    assert_eq!(error, Err("cluster \"nowhere\" does not exist: see `backstayctl get clusters`".into()));
    let query = Query { clusters: vec!["goood".into()], ..Query::default() };
    let error = capture(async |console| run(&api, &query, NOW, console).await).await;
    assert_eq!(error, Err("cluster \"goood\" does not exist: did you mean good?".into()));
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_named_and_makes_it_not_ok() {
    let run = async |more: Vec<Resource>| {
        let good = [cluster("one", Some(3_600)), status("one", BackupState::Ok, 60, ""), agent("m1", "one")];
        let (_, said, code) = run_on(good.into_iter().chain(more).collect(), Query::default(), false).await;
        (code == 0, said)
    };
    let coordinator = |seconds: i64, clock: &str| {
        let now = Some(Timestamp::from_seconds(NOW.seconds + seconds));
        let spec = CoordinatorStatusSpec { host: "ctl-1".into(), now, clock: clock.into(), ..Default::default() };
        Resource::of("coordinator", &spec)
    };
    assert_eq!(run(vec![]).await, (true, String::new()), "a coordinator of before");
    assert_eq!(run(vec![coordinator(-60, "")]).await, (true, String::new()));
    let (ok, said) = run(vec![coordinator(0, "the clock of ctl-1 is 24h0m0s ahead of NATS's")]).await;
    assert_eq!((ok, said.as_str()), (false, "Note: the clock of ctl-1 is 24h0m0s ahead of NATS's\n"));
    let (ok, said) = run(vec![coordinator(3_600, "")]).await;
    assert_eq!(said, "Note: this machine's clock is 1h0m0s behind the coordinator's, which runs on host ctl-1\n");
    assert!(!ok);
    let warnings = vec!["file:///a no longer has x".to_owned()];
    let warns = Resource::of("coordinator", &CoordinatorStatusSpec { warnings, ..Default::default() });
    assert_eq!(run(vec![warns]).await, (false, "Note: file:///a no longer has x\n".into()));
    let clock = "2m0s behind NATS's".to_owned();
    let slow = Resource::of("m2", &AgentSpec { cluster: "one".into(), clock, ..AgentSpec::default() });
    let (ok, said) = run(vec![coordinator(0, ""), slow]).await;
    assert_eq!((ok, said.as_str()), (false, "Note: the clock of machine m2 of cluster one is 2m0s behind NATS's\n"));
}

#[tokio::test]
async fn agents_are_not_missed_before_the_coordinator_can_have_heard_them() {
    let run = async |led: i64| {
        let at = |seconds| Some(Timestamp::from_seconds(seconds));
        let spec = CoordinatorStatusSpec {
            host: "ctl-1".into(),
            started: at(NOW.seconds - led),
            now: at(NOW.seconds),
            ..Default::default()
        };
        let all = [cluster("one", Some(3_600)), status("one", BackupState::Ok, 60, ""), Resource::of("c", &spec)];
        let (table, said, code) = run_on(all.to_vec(), Query::default(), false).await;
        (table.contains("no agent"), said.contains("may not have heard from all agents yet"), code)
    };
    assert_eq!(run(5).await, (false, true, 0));
    // Later, and where its clock was set back meanwhile.
    assert_eq!([run(11).await, run(-5).await], [(true, false, 3); 2]);
}

/// A clock that goes with tokio's, so that time passes while it is watched.
#[derive(Debug)]
struct Passing(tokio::time::Instant);

impl backstay_protocol::Clock for Passing {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(NOW.seconds + i64::try_from(self.0.elapsed().as_secs()).expect("it fits"))
    }
}

/// What is printed while `script` moves the coordinator on; then the output is closed.
async fn watched(
    coordinator: &Coordinator,
    screen: bool,
    script: impl Future<Output = ()>,
) -> Result<(String, String), String> {
    let (api, clock) = (Api::new(coordinator.clone()), Passing(tokio::time::Instant::now()));
    let query = Query::default();
    capture(async |console| {
        console.screen = screen;
        tokio::select! {
            ended = watch::run(&api, &query, &clock, console) => ended,
            () = script => Ok(()),
        }
    })
    .await
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn watching_prints_again_on_change_alone() {
    let coordinator =
        Coordinator::with([cluster("c", Some(3600)), status("c", BackupState::Ok, 60, ""), agent("1", "c")]);
    let script = async {
        // It gets older, and nothing else.
        seconds(601).await;
        coordinator.put(status("c", BackupState::Error, 60, "AccessDenied"));
        seconds(10).await;
        coordinator.answers(false);
        seconds(30).await;
        coordinator.answers(true);
        seconds(10).await;
    };
    let (out, err) = watched(&coordinator, false, script).await.expect("watched");
    insta::assert_snapshot!("status-watch", format!("{out}{err}"));
}

#[tokio::test(start_paused = true)]
async fn watching_redraws_on_a_terminal() {
    let coordinator =
        Coordinator::with([cluster("c", Some(3600)), status("c", BackupState::Ok, 60, ""), agent("1", "c")]);
    let (out, _) = watched(&coordinator, true, seconds(5)).await.expect("watched");
    let screens: Vec<&str> = out.split("\u{1b}[2J\u{1b}[H").collect();
    assert_eq!(screens.len(), 1 + 3, "{out:?}");
    for (screen, at) in screens[1..].iter().zip(["00:00", "00:02", "00:04"]) {
        assert!(screen.starts_with(&format!("Every 2 s, at 2023-12-10T00:{at}Z; ")), "{screen:?}");
        assert!(screen.contains("\nc         ok       ") && !screen.contains('\u{1b}'), "{screen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_an_error_at_once_also_while_watching() {
    let error = watched(&Coordinator::absent(), true, seconds(60)).await.expect_err("nobody");
    assert_eq!(error, "no coordinator answers on nats://h (absent)");
}
