//! Records that cannot be read, and tasks that panic: their trouble is their own, or it is the whole term's and is begun anew.

use std::time::Duration;

use backstay_coordinator::kv::Entries;
use backstay_coordinator::record::{ClusterRecord, FORMAT};
use backstay_protocol::spec::{ClusterSpec, Spec};
use backstay_protocol::{ClusterUuid, Timestamp};
use bytes::Bytes;
use uuid::Uuid;

use super::door::{Call, Fate, Op};
use super::people::ONE;
use super::world::{BEGIN, Setup, World};

/// A record as a newer coordinator may write it.
fn newer(name: &str) -> Bytes {
    let uuid = ClusterUuid(Uuid::from_u128(7));
    let record = ClusterRecord::new(name.parse().expect("a name"), uuid, ClusterSpec::default(), BEGIN);
    let mut record = serde_json::to_value(ClusterRecord { format: FORMAT + 1, ..record }).expect("plain data");
    record["pending"] = serde_json::json!([BEGIN.seconds]);
    record["something new"] = serde_json::json!({ "a": 1 });
    serde_json::to_vec(&record).expect("plain data").into()
}

#[tokio::test(start_paused = true)]
async fn a_record_of_a_newer_format_and_a_broken_one_are_left_alone_and_others_go_on() {
    let world = World::begin(Setup::default());
    let strange = [("cluster.newer", newer("newer")), ("cluster.broken", Bytes::from_static(b"{\"format\":"))];
    for (key, value) in &strange {
        world.kept.entries.create(key, value.clone()).await.expect("it is not there");
    }
    let process = world.start();
    let agents = world.cluster(ONE, 2);
    // Their agents beat, too: a beat must not make this coordinator take up what it cannot read.
    let others = [world.cluster("newer", 1), world.cluster("broken", 1)].concat();
    world.heard(&agents).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    world.back_up(ONE).await;
    world.has_one_backup(ONE).await;
    for (key, value) in &strange {
        let kept = world.kept.entries.get(key).await.expect("it answers").expect("it is there");
        assert_eq!(kept.value, *value, "{key} was changed");
    }
    assert!(others.iter().all(|agent| agent.asked().is_empty()));
    let shown = world.get(ClusterSpec::definition()).await;
    assert_eq!(shown.iter().map(|cluster| cluster.metadata.id.as_str()).collect::<Vec<_>>(), [ONE]);
    // People hear why, and change nothing either.
    for name in ["newer", "broken"] {
        let error = world.apply_once(name, &ClusterSpec::default()).await.expect_err("it cannot be read");
        assert!(error.text.contains(&format!("cluster.{name}")), "{error}");
    }
    assert_eq!(process.terms().len(), 1);
    world.at_peace();
}

/// A record that nobody can read stays so for the term: the store, which knows its cluster, is not listed again for it.
#[tokio::test(start_paused = true)]
async fn the_store_is_not_listed_again_and_again_for_a_record_that_is_left_alone() {
    let (world, process, agents) = World::ready(Setup::default(), 1).await;
    world.back_up(ONE).await;
    agents[0].vanish();
    process.stop();
    for value in [newer(ONE), Bytes::from_static(b"{\"format\":")] {
        let key = format!("cluster.{ONE}");
        let kept = world.kept.entries.get(&key).await.expect("it answers").expect("it is there");
        world.kept.entries.update(&key, value.clone(), kept.revision).await.expect("nobody else writes");
        let (before, next) = (listings(&world), world.start());
        world.until("it is listed once", || (listings(&world) > before).then_some(())).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(listings(&world) - before, 1, "once in a term");
        assert!(world.get(ClusterSpec::definition()).await.is_empty());
        next.stop();
    }
    // A KV that fails for a while is another matter.
    world.kept.entries.delete(&format!("cluster.{ONE}")).await.expect("it answers");
    let (before, mut left) = (listings(&world), 3);
    world.start_with(Some(Box::new(move |call| {
        let hit = left > 0 && call.key == format!("forgotten.{ONE}");
        left -= i32::from(hit);
        if hit { Fate::Fail(Duration::ZERO) } else { Fate::Pass }
    })));
    let known = || world.leaders().pop()?.1.directory.get(&agents[0].cluster);
    world.until("it is registered again", known).await;
    assert_eq!(listings(&world) - before, 4);
    world.at_peace();
}

/// How often anybody asked which clusters the store has.
fn listings(world: &World) -> usize {
    world.store.calls().iter().filter(|call| call.op == super::memory::Op::List && call.key.is_empty()).count()
}

#[tokio::test(start_paused = true)]
async fn an_overall_status_that_cannot_be_read_keeps_nobody_waiting_for_ever() {
    let world = World::begin(Setup::default());
    world.kept.entries.create("overall", Bytes::from_static(b"no JSON")).await.expect("it is not there");
    let process = world.start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    // It cannot lead; whoever removes the entry lets it.
    assert!(process.leads().is_none());
    world.kept.entries.delete("overall").await.expect("it answers");
    world.leader().await;
    assert_eq!(world.overall().await.configurationname, "local");
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_cluster_s_task_that_panics_gives_up_the_lease_and_the_next_term_goes_on() {
    let (world, process, agents) = World::ready(Setup::default(), 2).await;
    let before = process.leads().expect("it leads").epoch;
    let mut once = true;
    process.door.on_call(move |call: &Call| {
        let hit = once && call.op == Op::Update && call.key == "cluster.one";
        once &= !hit;
        if hit { Fate::Panic } else { Fate::Pass }
    });
    let at = world.manual(ONE).await;
    world.heard(&agents).await;
    let record = world.settled(ONE).await;
    assert!(record.handled.contains(&at));
    world.has_one_backup(ONE).await;
    assert_eq!(world.panics(), 1);
    let terms = process.terms();
    assert_eq!(terms.len(), 2);
    assert!(terms[1].epoch > before && terms[0].cancel.is_cancelled());
    assert_eq!(world.overlaps(), 0);
}

#[tokio::test(start_paused = true)]
async fn any_part_of_a_term_that_panics_ends_it() {
    let (world, process, agents) = World::ready(Setup::default(), 1).await;
    for end in 1..=3 {
        let term = world.until("it leads", || process.leads()).await;
        match end % 2 {
            0 => term.spawn(async { panic!("a test's fault") }),
            _ => term.spawn_to_the_end(async { panic!("a test's fault") }),
        }
        world.until("the next term", || (process.terms().len() == end + 1).then_some(())).await;
        assert!(term.cancel.is_cancelled());
        assert_eq!(world.panics(), end);
    }
    world.heard(&agents).await;
    world.back_up(ONE).await;
    world.has_one_backup(ONE).await;
    assert_eq!(world.overlaps(), 0);
    assert!(world.overall().await.lastbackupstatus.is_some_and(|s| s.lastbackuptime > Some(Timestamp::default())));
}
