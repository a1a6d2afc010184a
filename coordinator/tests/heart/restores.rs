//! Restores: every machine comes to the end that was decided, whoever dies on the way, and never to both.

use std::sync::Arc;
use std::time::Duration;

use backstay_archive::seal::{self, Identity};
use backstay_archive::{Key, Store};
use backstay_protocol::api::{Action, ErrorCode};
use backstay_protocol::backstay_types::{AgentSpec, RestorePhase, RestoreSpec, VerificationSpec};
use backstay_protocol::bus::RestoreStep;
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::Spec;
use backstay_protocol::{RestoreId, SnapshotName};
use uuid::Uuid;

use super::agent::{Agent, Way};
use super::door::{Call, Fate};
use super::machine::Obstacle;
use super::people::ONE;
use super::world::{Process, Setup, World, alone};

/// So long each part of a restore may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A world whose cluster of three has a backup.
async fn backed_up() -> (Arc<World>, Arc<Process>, Vec<Arc<Agent>>) {
    let mut setup = Setup::default();
    (setup.settings.restore.prepare_timeout, setup.settings.restore.switch_timeout) = (LIMIT, LIMIT);
    let (world, process, agents) = World::ready(setup, 3).await;
    world.back_up(ONE).await;
    world.has_one_backup(ONE).await;
    (world, process, agents)
}

fn request() -> RestoreSpec {
    RestoreSpec {
        restore: RestoreId(Uuid::from_u128(0xbeef)).to_string(),
        snapshot: "latest".into(),
        ..RestoreSpec::default()
    }
}

/// Asks for the restore until somebody has taken it.
async fn begin(world: &World, agents: &[Arc<Agent>]) {
    loop {
        match world.apply_once(ONE, &request()).await {
            Ok(_) => return,
            // Whoever just began to lead may not have heard every agent yet.
            Err(error) => {
                let waits = error.code == ErrorCode::Unavailable || error.text.contains("no agent");
                assert!(waits, "{error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                world.heard(agents).await;
            }
        }
    }
}

/// Waits for the end; what the record says of it then.
async fn ended(world: &World) -> (RestorePhase, String) {
    let name = ONE.parse().expect("a name");
    let ended = || {
        let record = world.leaders().pop()?.1.directory.get(&name)?.record.borrow().clone();
        let restore = record.restore.as_ref()?;
        restore.has_ended().then(|| (restore.phase, restore.error.clone()))
    };
    world.within(10 * LIMIT, "the restore ends", ended).await
}

/// Every machine is at that step, and none was ever told both ends.
fn all_at(agents: &[Arc<Agent>], step: RestoreStep) {
    for agent in agents {
        assert_eq!(agent.restored(), (Some(step), false), "machine {}", agent.number);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_restored_and_backups_go_on() {
    let (world, _, agents) = backed_up().await;
    begin(&world, &agents).await;
    let error =
        world.apply(ONE, &RestoreSpec { restore: String::new(), ..request() }).await.expect_err("one at a time");
    assert!(error.text.contains("is running"), "{error}");
    begin(&world, &agents).await;
    assert_eq!(ended(&world).await, (RestorePhase::Restored, String::new()));
    all_at(&agents, RestoreStep::Kept);
    let shown = world.get(<RestoreSpec as backstay_protocol::spec::Spec>::definition()).await;
    let spec: RestoreSpec = shown[0].typed().expect("its own words");
    assert_eq!((spec.phase, spec.machines.len()), (RestorePhase::Restored, 3));
    assert!(spec.machines.iter().all(|machine| machine.step == "kept"));
    // Two minutes later every beat says the new cluster's id.
    tokio::time::sleep(Duration::from_secs(120)).await;
    world.back_up(ONE).await;
    assert_eq!((world.manifests().len(), world.counted(ONE, "succeeded")), (2, 2));
    world.at_peace();
}

/// A file of an earlier restore that was changed, and its id left in, asks for something else than it says.
#[tokio::test(start_paused = true)]
async fn the_id_of_a_restore_with_another_cluster_or_another_backup_is_refused() {
    let (world, _, agents) = backed_up().await;
    begin(&world, &agents).await;
    let uuid = world.record(ONE).await.uuid.to_string();
    let other = Uuid::from_u128(0xdead).to_string();
    let snapshot = SnapshotName::from_unix_seconds(1_700_000_000).expect("in range").to_string();
    for ended_already in [false, true] {
        let of_other = RestoreSpec { clusteruuid: other.clone(), ..request() };
        let error = world.apply(ONE, &of_other).await.expect_err("another cluster's");
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert!([&request().restore, &uuid, &other].iter().all(|id| error.text.contains(*id)), "{error}");
        let error =
            world.apply(ONE, &RestoreSpec { snapshot: snapshot.clone(), ..request() }).await.expect_err("another one");
        assert!(error.text.contains(&snapshot), "{error}");
        // Its own cluster said in words is the same request.
        let same = RestoreSpec { clusteruuid: uuid.clone(), ..request() };
        assert_eq!(world.apply(ONE, &same).await.expect("the same request").action, Action::Unchanged);
        if !ended_already {
            assert_eq!(ended(&world).await, (RestorePhase::Restored, String::new()));
        }
    }
    world.at_peace();
}

/// Replaces an object of the cluster's folder.
async fn replace(world: &World, key: &Key, body: Vec<u8>) {
    world.store.delete(key).await.expect("it is there");
    world.store.put_new(key, body.into()).await.expect("it is gone");
}

/// A plan, a restore and a proof are each refused, and no agent hears of them.
async fn is_refused(world: &World, agents: &[Arc<Agent>], why: &[&str]) {
    let proof = VerificationSpec::default();
    let refused = [
        world.dry_run(ONE, &request()).await.expect_err("a plan"),
        world.apply(ONE, &request()).await.expect_err("a restore"),
        world.apply(ONE, &proof).await.expect_err("a proof"),
    ];
    for error in refused {
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{error}");
        assert!(why.iter().all(|part| error.text.contains(part)), "{error}");
    }
    assert!(agents.iter().all(|agent| agent.restored().0.is_none() && agent.proofs() == 0));
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_the_coordinator_cannot_open_is_refused_before_anything_is_prepared() {
    let (world, _, agents) = backed_up().await;
    let uuid = world.record(ONE).await.uuid;
    world.dry_run(ONE, &request()).await.expect("it can be opened");
    // As `once` makes it, for the recovery key alone.
    let mut manifest = world.manifests().remove(0);
    let other = Identity::generate().to_public();
    manifest.seal.recipients = vec![other.to_string()];
    replace(&world, &Key::manifest(uuid, manifest.snapshot), manifest.to_json()).await;
    let advice = format!("backstayctl restore --store {} --cluster-uuid {uuid}", world.store.url());
    let only = format!("is encrypted only for {other}, and this coordinator has none of these keys");
    is_refused(&world, &agents, &[&manifest.snapshot.to_string(), &only, &advice, "--identity FILE"]).await;
    // The cluster's key is another coordinator's.
    let sealed = seal::seal_bytes(&[other], b"a key").expect("it can be sealed");
    replace(&world, &Key::cluster_key(uuid), sealed).await;
    is_refused(&world, &agents, &["key.age is encrypted for another coordinator"]).await;
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn two_agents_with_one_machine_uuid_are_named_and_asked_for_nothing() {
    let (world, _, agents) = backed_up().await;
    world.dry_run(ONE, &request()).await.expect("all are there");
    // A copy of the first machine's configuration on the third one.
    agents[2].vanish();
    let twin = Agent::new(&world, agents[0].cluster.clone(), agents[0].machine, 3, 3);
    twin.begin();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let says = format!("two agents use the machine UUID {} (m1 and m3): set another `machine`", agents[0].machine);
    let error = world.dry_run(ONE, &request()).await.expect_err("nobody knows which is which");
    assert!(error.text.contains(&says), "{error}");
    let asked = (agents[0].asked().len(), twin.asked().len());
    agents[1].always(Way::Refuses("no disk"));
    let record = world.back_up(ONE).await;
    let status = &record.status.as_ref().expect("it has one").spec;
    assert!(status.error.contains("no disk") && status.error.contains(&says), "{}", status.error);
    assert_eq!((agents[0].asked().len(), twin.asked().len()), asked);
    let shown = world.get(AgentSpec::definition()).await;
    let spec = |agent: &Resource| agent.typed::<AgentSpec>().expect("its own words");
    let named: Vec<_> = shown.iter().filter(|agent| spec(agent).twin.starts_with(&says)).collect();
    assert_eq!((named.len(), named[0].metadata.id.as_str()), (1, agents[0].machine.to_string().as_str()));
    assert_eq!(spec(named[0]).error, spec(named[0]).twin);
    // It gets a UUID of its own.
    twin.vanish();
    agents[0].begin();
    agents[2].begin();
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.dry_run(ONE, &request()).await.expect("each has its own");
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_restore_waits_for_the_backup_that_is_under_way() {
    let (world, _, agents) = backed_up().await;
    agents.iter().for_each(|agent| agent.takes(Duration::from_secs(20)));
    world.manual(ONE).await;
    world.until("one works", || agents.iter().any(|agent| agent.is_at_work()).then_some(())).await;
    begin(&world, &agents).await;
    let record = world.record(ONE).await;
    assert!(record.slot.is_some());
    assert_eq!(record.restore.map(|restore| restore.phase), Some(RestorePhase::Waiting));
    assert_eq!(ended(&world).await.0, RestorePhase::Restored);
    assert_eq!((world.manifests().len(), world.counted(ONE, "succeeded")), (2, 2));
    all_at(&agents, RestoreStep::Kept);
    world.at_peace();
}

/// One machine meets something; everything is put back.
async fn put_back(obstacle: Obstacle, why: &str) {
    let (world, _, agents) = backed_up().await;
    agents[2].meets(Some(obstacle));
    begin(&world, &agents).await;
    let (phase, error) = ended(&world).await;
    assert_eq!(phase, RestorePhase::Failed, "{obstacle:?}");
    assert!(error.contains(why), "{obstacle:?}: {error}");
    all_at(&agents, RestoreStep::Returned);
    agents[2].meets(None);
    world.back_up(ONE).await;
    assert_eq!((world.manifests().len(), world.counted(ONE, "succeeded")), (2, 2));
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn who_cannot_prepare_has_everything_put_back() {
    put_back(Obstacle::At(RestoreStep::Ready), "no way to RESTORE_STEP_READY").await;
}

#[tokio::test(start_paused = true)]
async fn who_cannot_switch_has_everything_put_back() {
    put_back(Obstacle::At(RestoreStep::Starting), "no way to RESTORE_STEP_STARTING").await;
}

#[tokio::test(start_paused = true)]
async fn who_never_gets_ready_has_everything_put_back_in_time() {
    put_back(Obstacle::Hangs(RestoreStep::Ready), "not ready in time").await;
}

#[tokio::test(start_paused = true)]
async fn who_never_comes_up_has_everything_put_back_in_time() {
    put_back(Obstacle::Hangs(RestoreStep::Switched), "did not come up in time").await;
}

#[tokio::test(start_paused = true)]
async fn members_that_disagree_have_everything_put_back() {
    put_back(Obstacle::Hash, "members disagree").await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_falls_silent_is_told_the_end_when_it_comes_again() {
    let (world, _, agents) = backed_up().await;
    begin(&world, &agents).await;
    world.until("it is ready", || (agents[2].restored().0 >= Some(RestoreStep::Ready)).then_some(())).await;
    agents[2].vanish();
    let (phase, error) = ended(&world).await;
    assert_eq!(phase, RestorePhase::Failed);
    assert!(error.starts_with("machine m3: no agent is running there"), "{error}");
    all_at(&agents[..2], RestoreStep::Returned);
    agents[2].begin();
    let back = || (agents[2].restored().0 == Some(RestoreStep::Returned)).then_some(());
    world.until("it is told", back).await;
    all_at(&agents, RestoreStep::Returned);
    world.at_peace();
}

/// A restore during which the process that leads has this fate at its `n`th call from the request on, and another takes over.
fn killed(n: Option<usize>, fate: Fate, obstacle: Option<Obstacle>) -> usize {
    let mut calls = 0;
    alone(async {
        let (world, process, agents) = backed_up().await;
        agents[2].meets(obstacle);
        world.start();
        let before = process.door.calls().len();
        process.door.on_call(move |call: &Call| if Some(call.nth - before) == n { fate } else { Fate::Pass });
        begin(&world, &agents).await;
        let (phase, error) = ended(&world).await;
        if let Some(n) = n {
            world.until(&format!("call {n} comes"), || process.is_dead().then_some(())).await;
        }
        let about = format!("call {n:?}, {fate:?}, {obstacle:?}: {error}");
        match obstacle {
            None => assert_eq!(phase, RestorePhase::Restored, "{about}"),
            Some(_) => assert_eq!(phase, RestorePhase::Failed, "{about}"),
        }
        let step = if obstacle.is_some() { RestoreStep::Returned } else { RestoreStep::Kept };
        all_at(&agents, step);
        world.at_peace();
        calls = process.door.calls().len() - before;
    });
    calls
}

#[test]
fn a_leader_that_dies_at_any_call_of_a_restore_leaves_it_to_its_successor() {
    for obstacle in [None, Some(Obstacle::At(RestoreStep::Starting))] {
        let calls = killed(None, Fate::Pass, obstacle);
        assert!(calls > 8, "{calls} calls");
        for n in 0..calls {
            for fate in [Fate::Die, Fate::DieAfter] {
                killed(Some(n), fate, obstacle);
            }
        }
    }
}

#[test]
fn a_kv_that_fails_at_any_call_of_a_restore_changes_nothing() {
    let second = Duration::from_secs(1);
    let calls = {
        let mut calls = 0;
        alone(async { calls = troubled(usize::MAX, Fate::Pass).await });
        calls
    };
    for n in 0..calls {
        for fate in [Fate::Fail(second), Fate::Lost(second), Fate::Slow(4 * second)] {
            alone(async {
                troubled(n, fate).await;
            });
        }
    }
}

async fn troubled(n: usize, fate: Fate) -> usize {
    let (world, process, agents) = backed_up().await;
    let before = process.door.calls().len();
    process.door.on_call(move |call: &Call| if call.nth - before == n { fate } else { Fate::Pass });
    begin(&world, &agents).await;
    assert_eq!(ended(&world).await, (RestorePhase::Restored, String::new()), "call {n}, {fate:?}");
    all_at(&agents, RestoreStep::Kept);
    world.at_peace();
    process.door.calls().len() - before
}
