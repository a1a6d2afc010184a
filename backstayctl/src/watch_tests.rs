//! `get --watch` against a coordinator in memory whose resources change; the time is tokio's, and paused.

use super::*;
use crate::testing::{Coordinator, capture};
use backstay_protocol::Timestamp;
use backstay_protocol::resource::Version;
use backstay_protocol::spec::{BackupState, BackupStatusSpec};
use proptest::prelude::*;

fn status(id: &str, version: u64, state: BackupState, error: &str) -> Resource {
    let time = Some(Timestamp::from_seconds(1_702_166_400));
    let spec = BackupStatusSpec { status: state, error: error.into(), lastbackuptime: time, lastbackupattempt: None };
    let mut resource = Resource::of(id, &spec);
    resource.metadata.version = Version::Number(version);
    resource
}

fn query(id: &str, format: &str) -> Query {
    Query {
        kind: "etcdbackupstatus".into(),
        id: id.into(),
        view: format.parse::<Format>().expect("a format").into(),
        ..Query::default()
    }
}

/// What is printed while `script` runs and a little longer; what is remarked; how it ended, where it did.
async fn watch(
    coordinator: &Coordinator,
    query: Query,
    script: impl Future<Output = ()>,
) -> (String, String, Option<String>) {
    let api = Api::new(coordinator.clone());
    let mut ended = None;
    let printed = capture(async |console| {
        let script = async {
            tokio::time::sleep(LOOK / 2).await;
            script.await;
            tokio::time::sleep(LOOK).await;
        };
        tokio::select! {
            result = run(&api, &query, console) => ended = result.err().map(|failure| failure.to_string()),
            () = script => {}
        }
        Ok(())
    });
    let (out, err) = printed.await.expect("output");
    (out, err, ended)
}

async fn next() {
    tokio::time::sleep(LOOK).await;
}

/// A change, nothing, a new one, one that goes.
async fn story(coordinator: &Coordinator) {
    coordinator.put(status("a", 2, BackupState::Running, ""));
    next().await;
    next().await;
    coordinator.put(status("a-new-one", 1, BackupState::Error, "no\nbucket"));
    next().await;
    coordinator.remove("a");
}

fn coordinator() -> Coordinator {
    Coordinator::with([status("a", 1, BackupState::Ok, ""), status("b", 7, BackupState::Ok, "")])
}

#[tokio::test(start_paused = true)]
async fn changes_follow_the_list_in_every_form() {
    for format in ["table", "wide", "name", "yaml", "json", "jsonpath={.metadata.id}"] {
        let coordinator = coordinator();
        let (out, err, ended) = watch(&coordinator, query("", format), story(&coordinator)).await;
        let name = format.split('=').next().unwrap_or(format);
        insta::assert_snapshot!(format!("watch-{name}"), out);
        assert_eq!((err.as_str(), ended), ("", None), "{format}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_resource_may_come_and_go() {
    let coordinator = coordinator();
    let script = async {
        coordinator.put(status("c", 1, BackupState::Ok, ""));
        next().await;
        coordinator.remove("c");
    };
    let (out, _, ended) = watch(&coordinator, query("c", "table"), script).await;
    let marks: Vec<&str> = out.lines().filter_map(|line| line.get(..1)).collect();
    assert_eq!((marks, ended), (vec!["*", "+", "-"], None), "{out}");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_changes_is_waited_for() {
    let coordinator = coordinator();
    let script = async {
        coordinator.answers(false);
        for _ in 0..20 {
            next().await;
        }
        coordinator.put(status("b", 8, BackupState::Error, "x"));
        coordinator.answers(true);
    };
    let (out, err, ended) = watch(&coordinator, query("", "jsonpath={.metadata.version}"), script).await;
    assert_eq!((out.as_str(), ended), ("1\n7\n8\n", None));
    assert_eq!(err, "waiting: no coordinator answers on nats://h (absent)\nthe coordinator is answering again\n");
}

#[tokio::test(start_paused = true)]
async fn nobody_at_the_beginning_and_refusals_are_errors() {
    let (out, _, ended) = watch(&Coordinator::absent(), query("", "table"), async {}).await;
    assert_eq!((out.as_str(), ended.as_deref()), ("", Some("no coordinator answers on nats://h (absent)")));
}

proptest! {
    #[test]
    fn changes_lead_from_one_list_to_the_next(lists in prop::collection::vec(prop::collection::btree_map(0_u8..6, 0_u64..3, 0..6), 1..8)) {
        let mut seen = Seen::default();
        let mut shown: BTreeMap<String, Resource> = BTreeMap::new();
        for list in lists {
            let items: Vec<Resource> =
                list.iter().map(|(id, version)| status(&id.to_string(), *version, BackupState::Ok, "")).collect();
            for change in seen.changes(items.clone()) {
                let id = change.marked().1.metadata.id.clone();
                match change {
                    Change::Created(resource) => prop_assert!(shown.insert(id, resource).is_none()),
                    Change::Updated(resource) => prop_assert!(shown.insert(id, resource).is_some()),
                    Change::Deleted(_) => prop_assert!(shown.remove(&id).is_some()),
                }
            }
            prop_assert_eq!(shown.values().cloned().collect::<Vec<_>>(), items);
        }
    }
}
