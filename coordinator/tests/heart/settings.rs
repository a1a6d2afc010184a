//! What settings and the store's state make of a coordinator: limits, clusters that nobody registers, a folder that comes later,
//! and what dead attempts left.

use std::time::Duration;

use backstay_archive::{Key, Store};
use backstay_protocol::api::{GetRequest, GetResponse};
use backstay_protocol::backstay_types::{CoordinatorStatusSpec, StoredBackupSpec};
use backstay_protocol::resource::LABEL_CLUSTER;
use backstay_protocol::spec::{BackupState, ClusterSpec, ManualBackupSpec, Spec};
use backstay_protocol::subject::Verb;
use backstay_protocol::{AttemptId, Clock, SnapshotName, Timestamp};
use uuid::Uuid;

use super::agent::Way;
use super::people::ONE;
use super::world::{Setup, World};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Backups of four clusters at the same time; the answer is how many agents worked at once at the most.
async fn together(parallel: usize) -> usize {
    let mut setup = Setup::default();
    setup.settings.backup.parallel = parallel;
    let world = World::begin(setup);
    world.start();
    let agents: Vec<_> = NAMES.iter().flat_map(|name| world.cluster(name, 2)).collect();
    world.heard(&agents).await;
    // One whose first member fails keeps its permit for the second try.
    agents[1].next(Way::Refuses("no disk"));
    for name in NAMES {
        world.manual(name).await;
    }
    let mut most = 0;
    let all = || {
        most = most.max(agents.iter().filter(|agent| agent.is_at_work()).count());
        (world.manifests().len() == NAMES.len()).then_some(())
    };
    world.until("all are backed up", all).await;
    for name in NAMES {
        let record = world.settled(name).await;
        assert_eq!(record.status.as_ref().map(|status| status.spec.status), Some(BackupState::Ok));
        assert_eq!(world.counted(name, "succeeded"), 1);
    }
    world.at_peace();
    most
}

#[tokio::test(start_paused = true)]
async fn no_more_attempts_at_once_than_the_settings_allow() {
    assert_eq!(together(1).await, 1);
}

#[tokio::test(start_paused = true)]
async fn two_at_once_where_two_are_allowed() {
    assert_eq!(together(2).await, 2);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_set_all_are_backed_up_at_once() {
    assert_eq!(together(0).await, NAMES.len());
}

#[tokio::test(start_paused = true)]
async fn a_permit_comes_back_where_a_slot_fails_or_its_cluster_is_deleted() {
    let mut setup = Setup::default();
    setup.settings.backup.parallel = 1;
    let world = World::begin(setup);
    world.start();
    let agents: Vec<_> = ["a", "b", "c"].iter().flat_map(|name| world.cluster(name, 1)).collect();
    world.heard(&agents).await;
    agents[0].always(Way::Refuses("no disk"));
    agents[1].always(Way::Hangs);
    let record = world.back_up("a").await;
    assert_eq!(record.status.as_ref().map(|status| status.spec.status), Some(BackupState::Error));
    world.manual("b").await;
    world.until("b works", || agents[1].is_at_work().then_some(())).await;
    world.manual("c").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(agents[2].asked().is_empty(), "b has the only permit");
    world.delete(ClusterSpec::definition(), "b", true).await.expect("it goes");
    world.settled("c").await;
    assert_eq!(world.counted("c", "succeeded"), 1);
    assert!(agents[1].cancelled().iter().any(|(_, under_way)| *under_way));
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_beat_registers_no_cluster_where_people_do_that() {
    let mut setup = Setup::default();
    setup.settings.auto_register_clusters = false;
    let world = World::begin(setup);
    world.start();
    let agents = world.cluster(ONE, 1);
    world.leader().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.get(ClusterSpec::definition()).await.is_empty());
    let at = ManualBackupSpec { backupat: Some(Timestamp::from_seconds(world.clock.now().seconds)) };
    let error = world.apply(ONE, &at).await.expect_err("there is no such cluster");
    assert_eq!(error.text, "cluster \"one\" does not exist");
    world.apply(ONE, &ClusterSpec::default()).await.expect("somebody registers it");
    world.heard(&agents).await;
    world.back_up(ONE).await;
    world.has_one_backup(ONE).await;
    // Deleted, it stays away, though its agent beats and its backup is in the store.
    world.delete(ClusterSpec::definition(), ONE, false).await.expect("nothing speaks against it");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.get(ClusterSpec::definition()).await.is_empty());
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_comes_later_is_taken_into_use() {
    let world = World::begin(Setup::default());
    world.mount(false);
    world.start();
    let agents = world.cluster(ONE, 1);
    world.heard(&agents).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let overall = world.overall().await;
    assert!(overall.configurationerror.contains("/backups: no such folder"), "{}", overall.configurationerror);
    let at = ManualBackupSpec { backupat: Some(Timestamp::from_seconds(world.clock.now().seconds)) };
    let error = world.apply(ONE, &at).await.expect_err("there is nowhere to go");
    assert!(error.text.starts_with("backup storage is not available: failed to open /backups"), "{error}");
    world.mount(true);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(world.overall().await.configurationerror, "");
    world.back_up(ONE).await;
    world.has_one_backup(ONE).await;
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_goes_away_is_said_and_taken_into_use_again() {
    let (world, _, _) = World::ready(Setup::default(), 1).await;
    world.back_up(ONE).await;
    world.mount(false);
    tokio::time::sleep(Duration::from_secs(15)).await;
    let gone = "failed to open /backups: no such folder";
    assert_eq!(world.overall().await.configurationerror, gone);
    let of_one = GetRequest { selector: format!("{LABEL_CLUSTER}={ONE}"), ..GetRequest::default() };
    let listed = world.ask::<GetResponse>(Verb::Get, StoredBackupSpec::definition(), &of_one).await;
    assert_eq!(listed.expect_err("it is not there").text, format!("backup storage is not available: {gone}"));
    world.mount(true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.overall().await.configurationerror, "");
    let listed = world.ask::<GetResponse>(Verb::Get, StoredBackupSpec::definition(), &of_one).await;
    assert_eq!(listed.expect("it is there").items.len(), 1);
    world.back_up(ONE).await;
    assert_eq!(world.manifests().len(), 2);
    world.at_peace();
}

/// What the coordinator warns of.
async fn warnings(world: &World) -> Vec<String> {
    let coordinator = world.get(CoordinatorStatusSpec::definition()).await;
    coordinator[0].typed::<CoordinatorStatusSpec>().expect("its own words").warnings
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_empty_where_backups_were_made_is_warned_of() {
    let (world, process, agents) = World::ready(Setup::default(), 1).await;
    let record = world.back_up(ONE).await;
    let before = world.manifests().remove(0);
    let keys: Vec<Key> = world.store.keys().iter().map(|key| Key::new(key).expect("ours")).collect();
    let mut objects = Vec::new();
    for key in keys {
        objects.push((key.clone(), world.store.body(&key)));
        world.store.delete(&key).await.expect("it is there");
    }
    assert!(warnings(&world).await.is_empty());
    world.back_up(ONE).await;
    let says = format!("{} no longer has {} of cluster one", world.store.url(), before.snapshot);
    let warned = warnings(&world).await;
    assert!(warned.len() == 1 && warned[0].starts_with(&says), "{warned:?}");
    // The next coordinator says so, too, and backups are still made.
    process.stop();
    world.start();
    world.heard(&agents).await;
    world.back_up(ONE).await;
    assert_eq!((world.manifests().len(), warnings(&world).await), (2, warned));
    for (key, body) in objects {
        let _ = world.store.put_new(&key, body).await;
    }
    world.back_up(ONE).await;
    assert!(warnings(&world).await.is_empty(), "it is there again");
    assert_eq!(world.record(ONE).await.uuid, record.uuid);
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn what_dead_attempts_left_is_removed_once_no_attempt_can_be_so_old() {
    let (world, _, agents) = World::ready(Setup::default(), 1).await;
    let record = world.back_up(ONE).await;
    agents[0].vanish();
    let names = [1_700_000_000, 1_700_000_100].map(|s| SnapshotName::from_unix_seconds(s).expect("in range"));
    let attempt = AttemptId(Uuid::from_u128(5));
    let intent = Key::intent(record.uuid, names[0], attempt);
    let upload = world.store.begin(&Key::snapshot(record.uuid, names[1]), attempt).await.expect("it begins");
    upload.part(1, "half of it".into()).await.expect("a part");
    world.store.put_new(&intent, world.manifests()[0].to_json().into()).await.expect("an intent");
    let left = || (world.store.unfinished_count(), world.store.keys().contains(&intent.to_string()));
    // `once` may take long: nothing of today is touched.
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(left(), (1, true));
    tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    assert_eq!(left(), (0, false));
    world.has_one_backup(ONE).await;
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn clusters_that_only_the_store_knows_come_back_and_deleted_ones_do_not() {
    let (world, process, agents) = World::ready(Setup::default(), 1).await;
    let uuid = world.back_up(ONE).await.uuid;
    agents[0].vanish();
    process.stop();
    // NATS lost its disk: the same store, and entries that are new.
    let kept = world.kept.changes();
    for change in &kept {
        backstay_coordinator::kv::Entries::delete(&world.kept.entries, &change.key).await.expect("it answers");
    }
    world.start();
    world.leader().await;
    let (_, term) = world.leader().await;
    let back = || term.directory.get(&agents[0].cluster).map(|handle| handle.record.borrow().uuid);
    assert_eq!(world.until("it is registered again", back).await, uuid);
    world.delete(ClusterSpec::definition(), ONE, true).await.expect("it goes");
    let last = world.leader().await.0;
    last.die();
    world.start();
    world.until("another one leads", || world.leaders().pop().filter(|(process, _)| process.who != last.who)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.get(ClusterSpec::definition()).await.is_empty());
    world.at_peace();
}
