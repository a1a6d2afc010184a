//! The API without NATS: each kind of resource applied, shown and deleted, and a request that panics.

use std::time::Duration;

use backstay_coordinator::api;
use backstay_coordinator::record::Kept;
use backstay_coordinator::storage::{S3_ENTRY, StoredS3};
use backstay_protocol::Timestamp;
use backstay_protocol::api::{Action, ErrorCode, GetRequest, GetResponse};
use backstay_protocol::codec::ContentType;
use backstay_protocol::resource::LABEL_CLUSTER;
use backstay_protocol::spec::{
    BootstrapSpec, ClusterSpec, MachineSetNodeSpec, MachineSetSpec, ManualBackupSpec, S3_CONFIG_ID, S3ConfigSpec, Spec,
};
use backstay_protocol::subject::Verb;
use backstay_protocol::types::{self, Kind};
use backstay_protocol::{Clock, MachineId};
use uuid::Uuid;

use super::door::{Call, Fate, Op};
use super::people::ONE;
use super::world::{Setup, World};

#[tokio::test(start_paused = true)]
async fn every_kind_is_listed_and_each_item_is_found_by_its_id() {
    let (world, _, _) = World::ready(Setup::default(), 2).await;
    world.back_up(ONE).await;
    let mut shown = 0;
    // Backups are listed for one cluster at a time.
    for definition in types::ALL.iter().filter(|d| !matches!(d.kind, Kind::EtcdBackups | Kind::StoredBackups)) {
        for item in world.get(definition).await {
            let found = world.get_one(definition, &item.metadata.id).await.expect("it was listed");
            assert_eq!(found.iter().map(|found| &found.metadata.id).collect::<Vec<_>>(), [&item.metadata.id]);
            shown += 1;
        }
        let error = world.get_one(definition, "nobody").await.expect_err("there is none");
        assert_eq!(error.code, ErrorCode::NotFound, "{}", definition.name);
    }
    assert!(shown >= 7, "{shown} items");
    let selector = format!("{LABEL_CLUSTER}={ONE}");
    let request = GetRequest { selector, ..GetRequest::default() };
    let listed: GetResponse = world.ask(Verb::Get, &types::ETCD_BACKUPS, &request).await.expect("a list");
    assert_eq!((listed.items.len(), listed.next.as_str()), (1, ""));
    let described: GetResponse = world.ask(Verb::Get, &types::STORED_BACKUPS, &request).await.expect("a list");
    assert_eq!((described.items.len(), described.next.as_str()), (1, ""));
    let (listed, described) = (&listed.items[0], &described.items[0]);
    assert_eq!((&described.metadata.id, &described.spec["snapshot"]), (&listed.metadata.id, &listed.spec["snapshot"]));
    let error = world.get_one(&types::STORED_BACKUPS, "one-7").await.expect_err("there is none");
    assert_eq!(error.code, ErrorCode::NotFound, "{error}");
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn what_the_coordinator_itself_writes_is_read_only() {
    let (world, _, _) = World::ready(Setup::default(), 1).await;
    for definition in types::ALL.iter().filter(|definition| definition.owner.is_some()) {
        let error = world.delete(definition, ONE, false).await.expect_err("it is read-only");
        assert_eq!(error.code, ErrorCode::ReadOnly, "{}", definition.name);
    }
    for definition in types::ALL.iter().filter(|d| d.kind != Kind::Clusters) {
        let error = world.delete(definition, ONE, true).await.expect_err("force is for clusters");
        assert!(error.text.contains("force can only be used with clusters"), "{error}");
    }
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_made_changed_and_deleted() {
    let (world, _, agents) = World::ready(Setup::default(), 1).await;
    let spec = ClusterSpec { kubernetesversion: "v1.30".into(), ..ClusterSpec::default() };
    assert_eq!(world.apply("two", &spec).await.expect("new").action, Action::Created);
    assert_eq!(world.apply("two", &spec).await.expect("again").action, Action::Unchanged);
    let newer = ClusterSpec { kubernetesversion: "v1.31".into(), ..spec };
    let changed = world.apply("two", &newer).await.expect("a change");
    assert_eq!((changed.action, changed.before.is_some()), (Action::Updated, true));
    world.delete(ClusterSpec::definition(), "two", false).await.expect("it has no agent");
    let gone = world.delete(ClusterSpec::definition(), "two", false).await.expect_err("it is gone");
    assert_eq!(gone.code, ErrorCode::NotFound);
    // One whose agent beats would come back at once, without its settings.
    let error = world.delete(ClusterSpec::definition(), ONE, false).await.expect_err("its agent is connected");
    assert!(error.text.contains("--force"), "{error}");
    agents[0].vanish();
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.delete(ClusterSpec::definition(), ONE, false).await.expect("it is not any more");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.get(ClusterSpec::definition()).await.is_empty());
    agents[0].begin();
    world.heard(&agents).await;
    assert_eq!(world.get(ClusterSpec::definition()).await.len(), 1, "a beat makes it known again");
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_manual_backup_is_judged_taken_and_dropped() {
    let (world, _, _) = World::ready(Setup::default(), 1).await;
    let now = world.clock.now().seconds;
    for at in [None, Some(now - 3600), Some(now + 3600)] {
        let spec = ManualBackupSpec { backupat: at.map(Timestamp::from_seconds) };
        let error = world.apply(ONE, &spec).await.expect_err("not now");
        assert_eq!(error.code, ErrorCode::InvalidArgument);
    }
    world.back_up(ONE).await;
    let definition = ManualBackupSpec::definition();
    assert_eq!(world.get(definition).await.len(), 1);
    world.delete(definition, ONE, false).await.expect("it is there");
    let gone = world.delete(definition, ONE, false).await.expect_err("it is gone");
    assert_eq!(gone.code, ErrorCode::NotFound);
    world.has_one_backup(ONE).await;
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn machine_sets_and_their_nodes_are_kept_and_deleted() {
    let (world, _, _) = World::ready(Setup::default(), 1).await;
    let (set, node) = (MachineSetSpec::default(), MachineSetNodeSpec::default());
    let machine = MachineId(Uuid::from_u128(3)).to_string();
    assert_eq!(world.apply("one-workers", &set).await.expect("new").action, Action::Created);
    assert_eq!(world.apply("one-workers", &set).await.expect("again").action, Action::Unchanged);
    assert_eq!(world.apply(&machine, &node).await.expect("new").action, Action::Created);
    let bootstrap = BootstrapSpec { clusteruuid: Uuid::from_u128(9).to_string(), snapshot: "no name".into() };
    let workers = MachineSetSpec { bootstrapspec: Some(bootstrap) };
    assert!(world.apply("one-workers", &workers).await.expect_err("workers").text.contains("not allowed"));
    assert!(world.apply("one-control-planes", &workers).await.is_err());
    for (definition, id) in
        [(MachineSetSpec::definition(), "one-workers"), (MachineSetNodeSpec::definition(), &machine)]
    {
        assert_eq!(world.get(definition).await.len(), 1);
        world.delete(definition, id, false).await.expect("it is there");
        let gone = world.delete(definition, id, false).await.expect_err("it is gone");
        assert_eq!((gone.code, world.get(definition).await.len()), (ErrorCode::NotFound, 0));
    }
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn an_s3_configuration_is_not_for_a_local_store() {
    let (world, _, _) = World::ready(Setup::default(), 1).await;
    let error = world.apply(S3_CONFIG_ID, &S3ConfigSpec::default()).await.expect_err("the store is local");
    assert!(error.text.contains("configured for the local backend"), "{error}");
    assert!(world.get(S3ConfigSpec::definition()).await.is_empty());
    let gone = world.delete(S3ConfigSpec::definition(), S3_CONFIG_ID, false).await.expect_err("there is none");
    assert_eq!(gone.code, ErrorCode::NotFound);
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn an_s3_configuration_is_judged_shown_without_secrets_and_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut setup = Setup { s3: true, ..Setup::default() };
    setup.settings.state_dir = folder.path().to_owned();
    let (world, _, _) = World::ready(setup, 1).await;
    let spec = S3ConfigSpec {
        bucket: "b".into(),
        accesskeyid: "a".into(),
        secretaccesskey: "s3cr3t".into(),
        ..S3ConfigSpec::default()
    };
    let overall = world.overall().await;
    assert_eq!((overall.configurationname.as_str(), overall.configurationerror.as_str()), ("s3", "not initialized"));
    let nowhere = world.apply(S3_CONFIG_ID, &S3ConfigSpec::default()).await.expect_err("no bucket");
    assert_eq!(nowhere.code, ErrorCode::InvalidArgument);
    assert_eq!(world.overall().await.configurationattempt, Some(1));
    let planned = world.dry_run(S3_CONFIG_ID, &spec).await.expect("it can be meant so");
    assert!(planned.notes[0].starts_with("dry run") && !format!("{planned:?}").contains("s3cr3t"));
    assert!(world.get(S3ConfigSpec::definition()).await.is_empty());
    // As an earlier coordinator left it; S3 itself is not asked here.
    let stored = StoredS3::seal(Kept::new(spec, world.clock.now()), None, &world.keys).expect("it can be sealed");
    world.kv().create(S3_ENTRY, &stored).await.expect("it is not there");
    let shown = world.get(S3ConfigSpec::definition()).await;
    assert_eq!((shown.len(), shown[0].spec["secretaccesskey"].as_str()), (1, Some("<hidden>")));
    world.delete(S3ConfigSpec::definition(), S3_CONFIG_ID, false).await.expect("it is there");
    assert!(world.get(S3ConfigSpec::definition()).await.is_empty());
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_refused_in_words() {
    let (world, process, _) = World::ready(Setup::default(), 1).await;
    let term = process.leads().expect("it leads");
    for (subject, body, says) in [
        ("backstay.v1.api.get.nothings", "", "there is no type"),
        ("backstay.v1.api.take.clusters", "", "is not a subject of the API"),
        ("backstay.v1.api.get.clusters", "{", "malformed"),
        ("backstay.v1.api.get.clusters", "[]", "a request must be a map"),
        ("backstay.v1.api.get.clusters", "{\"idd\":\"\"}", "idd"),
        ("backstay.v1.api.get.clusters", "{\"id\":\"a\",\"selector\":\"b=c\"}", "both resource ID and selector"),
        ("backstay.v1.api.apply.clusters", "{}", "metadata.type"),
    ] {
        let error = api::answer(&term, ContentType::Json, subject, body.as_bytes()).await.expect_err(body);
        assert!(error.code == ErrorCode::InvalidArgument && error.text.contains(says), "{body}: {error}");
    }
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_panics_is_answered_and_the_next_one_works() {
    let (world, process, _) = World::ready(Setup::default(), 1).await;
    process.door.on_call(|call: &Call| match call.op {
        Op::Keys | Op::Create | Op::Delete if call.key.starts_with("resource.") => Fate::Panic,
        _ => Fate::Pass,
    });
    let set = MachineSetSpec::default();
    let listed = world.get_one(MachineSetSpec::definition(), "").await.expect_err("it panics");
    let applied = world.apply("one-workers", &set).await.expect_err("it panics");
    for error in [listed, applied] {
        assert_eq!(error.code, ErrorCode::Internal);
        assert!(error.text.contains("panic"), "{error}");
    }
    assert_eq!(world.panics(), 2);
    process.door.no_faults();
    world.apply("one-workers", &set).await.expect("the next one works");
    assert_eq!(world.get(MachineSetSpec::definition()).await.len(), 1);
    // Leading goes on as if nothing had happened.
    assert_eq!(process.terms().len(), 1);
    world.back_up(ONE).await;
    world.has_one_backup(ONE).await;
}

#[tokio::test(start_paused = true)]
async fn a_kv_that_is_away_is_told_as_such() {
    let (world, process, _) = World::ready(Setup::default(), 1).await;
    process.door.on_call(|call: &Call| match call.key.starts_with("resource.") {
        true => Fate::Fail(Duration::from_secs(5)),
        false => Fate::Pass,
    });
    let error = world.get_one(MachineSetSpec::definition(), "").await.expect_err("nobody answers");
    assert_eq!(error.code, ErrorCode::Unavailable);
    let error = world.apply_once("one-workers", &MachineSetSpec::default()).await.expect_err("nobody answers");
    assert_eq!(error.code, ErrorCode::Unavailable);
    process.door.no_faults();
    world.apply("one-workers", &MachineSetSpec::default()).await.expect("it is there again");
    world.at_peace();
}
