//! `restore CLUSTER`: what it prints, what it asks, and how it ends.

use super::*;
use crate::testing::{Coordinator, capture, interrupted_after_a_while};
use backstay_protocol::backstay_types::RestoreMachineSpec;
use backstay_protocol::{ClusterUuid, SnapshotName, Timestamp};

const UUID: &str = "7d3a5a4c-9a0d-4c39-9b3c-3a2f1d9c2f10";

fn name(seconds: i64) -> SnapshotName {
    SnapshotName::from_unix_seconds(seconds).expect("in range")
}

fn fleet() -> Coordinator {
    let uuid = |cluster: &str| {
        let uuid: ClusterUuid = UUID.parse().expect("a UUID");
        Resource::of(cluster, &ClusterUuidSpec { uuid: Some(uuid) })
    };
    Coordinator::with([uuid("one"), uuid("other")])
}

fn query(which: SnapshotSelector) -> Query {
    Query {
        cluster: "one".into(),
        which,
        of_another: String::new(),
        bump: None,
        yes: false,
        dry_run: false,
        timeout: Duration::from_secs(1),
    }
}

async fn ask(coordinator: &Coordinator, query: &Query, answer: &str) -> Result<(String, String), String> {
    let api = Api::new(coordinator.clone());
    let mut stdin = answer.as_bytes();
    capture(async |console| run(&api, query, &mut stdin, console).await).await
}

async fn asked(which: SnapshotSelector, of_another: &str) -> Result<RestoreSpec, String> {
    let query = Query { of_another: of_another.into(), ..query(which) };
    let api = Api::new(fleet());
    let resource = request(&api, &query).await.map_err(|e| e.to_string())?;
    Ok(resource.typed::<RestoreSpec>().expect("its own words"))
}

#[tokio::test]
async fn the_backup_that_is_meant_is_asked_for() {
    let words = async |which, of_another| asked(which, of_another).await.map(|spec| (spec.snapshot, spec.before));
    let time = SnapshotSelector::parse_time("1970-01-01T01:33:20+01:00").expect("a time");
    assert_eq!(words(time, "").await, Ok(("latest".into(), Some(Timestamp::from_seconds(2_000)))));
    assert_eq!(words(SnapshotSelector::Latest, "other").await, Ok(("latest".into(), None)));
    assert_eq!(words(SnapshotSelector::Named(name(5)), "").await, Ok((name(5).to_string(), None)));
    assert_eq!(
        words(SnapshotSelector::Latest, "third").await,
        Err("cluster \"third\" does not exist: see `backstayctl get clusters`".into())
    );
    assert!(SnapshotSelector::parse_time("yesterday").is_err() && SnapshotSelector::parse_snapshot("newest").is_err());
}

#[tokio::test]
async fn nothing_is_done_before_the_name_was_typed() {
    for answer in ["", "y\n", "yes\n", "other\n"] {
        let coordinator = fleet();
        let error = ask(&coordinator, &query(SnapshotSelector::Latest), answer).await.expect_err("not confirmed");
        assert_eq!(error, "failed to restore \"one\": not confirmed; nothing was changed", "{answer:?}");
        assert!(coordinator.calls().iter().all(|call| call.contains('(') || call.contains('[')), "only dry");
    }
}

#[tokio::test]
async fn a_dry_run_prints_the_plan_asks_nobody_and_changes_nothing() {
    let coordinator = fleet();
    let api = Api::new(coordinator.clone());
    let query = Query { dry_run: true, ..query(SnapshotSelector::Latest) };
    let ran = capture(async |console| {
        // A script, with nobody at standard input.
        console.asks = false;
        run(&api, &query, &mut std::io::empty(), console).await
    });
    let (out, err) = ran.await.expect("a plan");
    assert!(out.starts_with("Restore of cluster one\n") && !out.contains("Type the"), "{out}");
    assert_eq!(err, "Nothing was changed (dry run).\n");
    assert_eq!(coordinator.calls(), ["[apply one]"]);
    let refusing = fleet().refusing("one", "no agent of cluster \"one\" is connected");
    let error = ask(&refusing, &query, "").await.expect_err("refused");
    assert_eq!(error, "failed to restore \"one\": no agent of cluster \"one\" is connected");
}

#[tokio::test]
async fn a_script_is_told_what_is_wrong_before_it_is_told_to_say_yes() {
    let scripted = async |coordinator: Coordinator, cluster: &str| {
        let query = Query { cluster: cluster.into(), ..query(SnapshotSelector::Latest) };
        let api = Api::new(coordinator);
        capture(async |console| {
            console.asks = false;
            run(&api, &query, &mut std::io::empty(), console).await
        })
        .await
    };
    let error = scripted(fleet(), "nosuch").await;
    assert_eq!(error, Err("cluster \"nosuch\" does not exist: see `backstayctl get clusters`".into()));
    let error = scripted(fleet().refusing("one", "no agent"), "one").await;
    assert_eq!(error, Err("failed to restore \"one\": no agent".into()));
    let error = scripted(fleet(), "one").await.expect_err("nobody can be asked");
    assert!(error.ends_with("stdin is not a terminal; pass --yes to skip the confirmation"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_interruption_says_that_it_goes_on_and_how_to_follow_it() {
    let api = Api::new(fleet());
    let query = Query { yes: true, timeout: Duration::from_secs(600), ..query(SnapshotSelector::Latest) };
    let interrupted =
        interrupted_after_a_while(async |console| run(&api, &query, &mut std::io::empty(), console).await);
    let said = "Interrupted. The restore of \"one\" goes on: follow it with `backstayctl get restore one --watch`";
    assert_eq!(interrupted.await, said);
}

#[tokio::test]
async fn a_coordinator_of_an_earlier_build_that_cannot_find_the_latest_says_so() {
    let time = SnapshotSelector::parse_time("1970-01-01T01:33:20+01:00").expect("a time");
    for which in [SnapshotSelector::Latest, time] {
        let coordinator = fleet().earlier();
        let error = ask(&coordinator, &query(which), "one\n").await.expect_err("it takes names alone");
        let said = "failed to restore \"one\": the coordinator is older than this backstayctl";
        assert!(error.starts_with(said) && error.contains("--selector omni.sidero.dev/cluster=one"), "{error}");
        assert_eq!(coordinator.calls(), ["[apply one]"]);
    }
    // A name it takes; what speaks against it is said as it says it.
    let coordinator = fleet().earlier();
    let error = ask(&coordinator, &query(SnapshotSelector::Named(name(5))), "no\n").await.expect_err("not confirmed");
    assert!(error.ends_with("nothing was changed"), "{error}");
}

fn machine(step: &str) -> RestoreMachineSpec {
    RestoreMachineSpec {
        machine: "4c4c4544-0039-3010-8048-b7c04f384432".into(),
        member: "m1".into(),
        control: "systemd".into(),
        folder: "/var/lib/etcd".into(),
        aside: "/var/lib/etcd.before-restore-20231210T000000Z".into(),
        step: step.into(),
        bytesdone: 512,
        bytestotal: 2048,
        ..RestoreMachineSpec::default()
    }
}

fn spec(phase: RestorePhase) -> RestoreSpec {
    RestoreSpec {
        snapshot: name(3_000).to_string(),
        phase,
        sourcecluster: "one".into(),
        takenat: Some(Timestamp::from_seconds(3_000)),
        revision: 77,
        bytes: 2048,
        sealedbytes: 512,
        sha256: "abcd".into(),
        proof: "as far as is known".into(),
        bump: Some(5),
        etcdclusterid: "cdf818194e3a8c32".into(),
        started: Some(Timestamp::from_seconds(4_000)),
        ended: Some(Timestamp::from_seconds(4_009)),
        machines: vec![machine("preparing"), machine("ready")],
        ..RestoreSpec::default()
    }
}

#[test]
fn the_plan_says_what_a_person_needs_to_know() {
    let text = show::plan("one", &spec(RestorePhase::Waiting));
    for part in [
        "Restore of cluster one",
        "1970-01-01T00:50:00Z, revision 77 of etcd cluster cdf818194e3a8c32",
        "2.0 KiB (512 B in the store)",
        "sha256 abcd",
        "as far as is known",
        "raised by 5",
        "/var/lib/etcd.before-restore-20231210T000000Z",
        "written since the backup will be lost",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("of cluster other"), "{text}");
    let foreign = RestoreSpec { sourcecluster: "other".into(), bump: Some(0), ..spec(RestorePhase::Waiting) };
    let text = show::plan("one", &foreign);
    assert!(text.contains(".snapshot of cluster other\n") && text.contains("may keep stale data"), "{text}");
}

#[test]
fn progress_is_one_line() {
    let line = show::line(&spec(RestorePhase::Preparing));
    assert_eq!(line, "preparing: 1 of 2 preparing, 1 of 2 ready, 1.0 KiB of 4.0 KiB");
    let end = show::end("one", &spec(RestorePhase::Restored));
    assert!(end.starts_with("* one was restored in 9.0s: 2 members are serving and agree\n"), "{end}");
    assert!(end.contains("pass --new-cluster-id to the next `backstay-agent once --cluster one`, once"), "{end}");
    let (_, next) = end.split_once("\nNext steps:\n").expect("what to do next");
    for part in
        ["restart the kubelet on every node", "backstayctl backup one --wait", "delete the directories named above"]
    {
        assert!(next.contains(part), "{part}: {next}");
    }
    let machines = vec![machine("switched"); 3];
    let line = show::line(&RestoreSpec { machines, ..spec(RestorePhase::Keeping) });
    assert_eq!(line, "confirming: 3 of 3 running on the restored data");
}

#[test]
fn both_versions_of_etcd_are_in_the_plan() {
    let mut spec = spec(RestorePhase::Waiting);
    let text = show::plan("one", &spec);
    assert!(text.contains("  etcd:      unknown\n") && text.contains("m1       unknown   systemd"), "{text}");
    (spec.etcdversion, spec.storageversion) = ("3.7.1".into(), "3.7.0".into());
    spec.machines[0].etcdversion = "3.6.14".into();
    let text = show::plan("one", &spec);
    assert!(text.contains("  etcd:      3.7.1; the database is marked 3.7.0\n"), "{text}");
    assert!(text.contains("m1       3.6.14    systemd"), "{text}");
}

#[test]
fn what_was_set_aside_is_named_as_the_machine_says() {
    let mut spec = spec(RestorePhase::Restored);
    spec.machines[0].left = vec!["/data/etcd.before-restore-20231210T000001Z".into()];
    let text = show::end("one", &spec);
    assert!(text.contains("is in /data/etcd.before-restore-20231210T000001Z on"), "{text}");
    assert!(text.contains("is in /var/lib/etcd.before-restore-20231210T000000Z on"), "{text}");
}

#[test]
fn what_is_left_besides_is_not_called_old_data_and_nothing_is_named_where_nothing_is_left() {
    let mut spec = spec(RestorePhase::Restored);
    let aside = "/var/lib/etcd.before-restore-20231210T000000Z";
    spec.machines.truncate(1);
    spec.machines[0].left = vec![aside.into(), format!("{aside}.unexpected"), "/var/lib/etcd.restore-7".into()];
    let text = show::end("one", &spec);
    assert_eq!(text.matches("the old data of m1 is in ").count(), 1, "{text}");
    assert!(text.contains(&format!("the restore of m1 also left {aside}.unexpected on machine")), "{text}");
    assert!(text.contains("the restore of m1 also left /var/lib/etcd.restore-7 on machine"), "{text}");
    // A machine that had lost its disk.
    (spec.machines[0].left, spec.machines[0].aside) = (Vec::new(), String::new());
    let text = show::end("one", &spec);
    assert!(!text.contains("old data of") && !text.contains("delete the"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn it_is_followed_to_its_end() {
    let watched = |phase, error: &str| {
        let coordinator = fleet();
        let spec = RestoreSpec { restore: "r".into(), error: error.into(), ..spec(phase) };
        coordinator.put(Resource::of("one", &spec));
        coordinator
    };
    let end = async |coordinator: Coordinator| {
        let api = Api::new(coordinator);
        capture(async |console| to_the_end(&api, "one", "r", console).await).await
    };
    let (printed, _) = end(watched(RestorePhase::Restored, "")).await.expect("restored");
    assert!(printed.contains("was restored"), "{printed}");
    let error = end(watched(RestorePhase::Failed, "machine 1: no room")).await.expect_err("failed");
    let said = "failed to restore \"one\": machine 1: no room; NOT everything is back as it was before\n  machine";
    assert!(error.starts_with(said), "{error}");
}
