//! `backup` against a coordinator in memory that follows a script; the time is tokio's, and paused.

use super::*;
use crate::testing::{Coordinator, capture, interrupted_after_a_while};
use backstay_protocol::backstay_types::RunState;
use backstay_protocol::spec::{BackupState, ClusterSpec};

const NOW: i64 = 1_702_166_400;
const MACHINE: &str = "27c16241-96bf-4f17-9579-ea3a6c4a3ca8";

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp { seconds: NOW, nanos: 5 }
    }
}

fn run_resource(state: RunState, read: u64, total: u64, error: &str) -> Resource {
    let spec = BackupRunSpec {
        cluster: "c".into(),
        machine: MACHINE.into(),
        trigger: "manual".into(),
        backupat: Some(Timestamp::from_seconds(NOW)),
        state,
        snapshot: "FFFFFFFF9A8AF980.snapshot".into(),
        started: Some(Timestamp::from_seconds(NOW)),
        ended: (state != RunState::Running).then(|| Timestamp::from_seconds(NOW + 4)),
        bytesread: read,
        bytestotal: total,
        bytesstored: read / 4,
        revision: 7,
        error: error.into(),
        ..BackupRunSpec::default()
    };
    Resource::of("run", &spec).in_cluster("c")
}

fn status(state: BackupState, error: &str) -> Resource {
    let at = Some(Timestamp::from_seconds(NOW + 4));
    let spec = BackupStatusSpec { status: state, error: error.into(), lastbackuptime: None, lastbackupattempt: at };
    Resource::of("c", &spec)
}

fn coordinator() -> Coordinator {
    Coordinator::with([Resource::of("c", &ClusterSpec::default())])
}

/// Runs `backup c` while `script` moves the coordinator on.
async fn backup(
    coordinator: &Coordinator,
    wait: Option<Duration>,
    script: impl Future<Output = ()>,
) -> (Result<(), String>, String, String) {
    let api = Api::new(coordinator.clone());
    let mut result = Ok(());
    let command = capture(async |console| {
        result = run(&api, "c", wait, &Stopped, console).await.map_err(|failure| failure.to_string());
        Ok(())
    });
    // Between two looks, so that each look sees one step.
    let script = async {
        tokio::time::sleep(LOOK / 2).await;
        script.await;
    };
    let (printed, ()) = tokio::join!(command, script);
    let (out, err) = printed.expect("output");
    (result, out, err)
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

const LONG: Option<Duration> = Some(Duration::from_secs(3600));
const MIB: u64 = 1024 * 1024;

#[tokio::test(start_paused = true)]
async fn without_waiting_it_says_what_was_asked() {
    let coordinator = coordinator();
    let (result, out, err) = backup(&coordinator, None, async {}).await;
    assert_eq!((result, err.as_str()), (Ok(()), ""));
    assert_eq!(out, "* started a backup of c as of 2023-12-10T00:00:00Z; follow it with `backstayctl runs c`\n");
    // The second one within a second is a backup of its own.
    let (_, out, _) = backup(&coordinator, None, async {}).await;
    assert_eq!(out, "* started a backup of c as of 2023-12-10T00:00:01Z; follow it with `backstayctl runs c`\n");
    assert_eq!(coordinator.calls(), ["apply c", "apply c"]);
}

#[tokio::test(start_paused = true)]
async fn waiting_prints_a_line_for_each_change_and_ends_with_the_backup() {
    let coordinator = coordinator();
    let script = async {
        seconds(2).await;
        coordinator.put(status(BackupState::Running, ""));
        coordinator.put(run_resource(RunState::Running, 0, 0, ""));
        for read in [4, 4, 4, 12] {
            seconds(1).await;
            coordinator.put(run_resource(RunState::Running, read * MIB, 20 * MIB, ""));
        }
        seconds(1).await;
        coordinator.put(run_resource(RunState::Ok, 20 * MIB, 20 * MIB, ""));
    };
    let (result, out, err) = backup(&coordinator, LONG, script).await;
    assert_eq!(result, Ok(()));
    insta::assert_snapshot!("backup-wait", format!("{err}{out}"));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_the_error_of_the_backup() {
    let coordinator = coordinator();
    let script = async {
        coordinator.put(status(BackupState::Running, ""));
        coordinator.put(run_resource(RunState::Running, 0, 0, ""));
        seconds(3).await;
        coordinator.put(run_resource(RunState::Failed, 0, 0, "the upload was refused"));
        // Another member may still do it.
        seconds(3).await;
        coordinator.put(status(BackupState::Error, "the upload was refused; nobody else is there"));
    };
    let (result, out, _) = backup(&coordinator, LONG, script).await;
    assert_eq!(result, Err("failed to back up \"c\": the upload was refused; nobody else is there".into()));
    assert_eq!(out, "");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_changes_is_waited_for() {
    let coordinator = coordinator();
    let script = async {
        coordinator.put(run_resource(RunState::Running, MIB, 20 * MIB, ""));
        seconds(3).await;
        coordinator.answers(false);
        seconds(30).await;
        coordinator.put(run_resource(RunState::Ok, 20 * MIB, 20 * MIB, ""));
        coordinator.answers(true);
    };
    let (result, out, err) = backup(&coordinator, LONG, script).await;
    assert_eq!(result, Ok(()));
    assert!(out.starts_with("backup of c is complete: FFFFFFFF9A8AF980.snapshot, 20.0 MiB"), "{out}");
    assert_eq!(err.matches("waiting: no coordinator answers on nats://h (absent)").count(), 1, "{err}");
}

#[tokio::test(start_paused = true)]
async fn an_interruption_says_that_it_goes_on_and_how_to_follow_it() {
    let coordinator = coordinator();
    let api = Api::new(coordinator.clone());
    let interrupted = interrupted_after_a_while(async |console| run(&api, "c", LONG, &Stopped, console).await);
    let said = "Interrupted. The backup of \"c\" goes on: follow it with `backstayctl runs c`";
    assert_eq!(interrupted.await, said);
    assert_eq!(coordinator.calls(), ["apply c"], "it was asked for, and not taken back");
}

#[tokio::test(start_paused = true)]
async fn the_time_to_wait_has_an_end() {
    let agent = AgentSpec { cluster: "c".into(), ..AgentSpec::default() };
    let with_agent = coordinator();
    with_agent.put(Resource::of(MACHINE, &agent).in_cluster("c"));
    let (result, ..) = backup(&with_agent, Some(Duration::from_secs(90)), async {}).await;
    let expected =
        "the backup of \"c\" has not ended after 1m30s and is still running: see `backstayctl runs c`".to_owned();
    assert_eq!(result, Err(expected));
    let (result, ..) = backup(&coordinator(), Some(Duration::from_secs(90)), async {}).await;
    let error = result.expect_err("nobody is there");
    let says =
        "failed to back up \"c\": no agent of it is connected, and after 1m30s it has not ended: check backstay-agent";
    assert!(error.starts_with(says), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_error_at_once() {
    let refusing = coordinator().refusing("c", "no agent of cluster \"c\" is connected");
    for wait in [None, LONG] {
        let (result, out, err) = backup(&refusing, wait, async {}).await;
        let expected = "failed to back up \"c\": no agent of cluster \"c\" is connected";
        assert_eq!((result, out.as_str(), err.as_str()), (Err(expected.into()), "", ""));
    }
    let (result, ..) = backup(&Coordinator::absent(), LONG, async {}).await;
    assert_eq!(result, Err("no coordinator answers on nats://h (absent)".into()));
    let (result, ..) = backup(&Coordinator::default(), LONG, async {}).await;
    assert_eq!(result, Err("cluster \"c\" does not exist: see `backstayctl get clusters`".into()));
}
