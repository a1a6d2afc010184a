//! Slots: from what asks for a backup to its end, with every way in which an agent can take it.

use std::sync::Arc;
use std::time::Duration;

use backstay_archive::{Key, Store};
use backstay_coordinator::record::{ClusterRecord, PENDING_MAX};
use backstay_protocol::backstay_types::RunState;
use backstay_protocol::bus::{self, FailureCode, Finished, Report, StartBackup, report};
use backstay_protocol::spec::{BackupConfiguration, BackupState, ClusterSpec, ManualBackupSpec};
use backstay_protocol::subject::Command;
use backstay_protocol::{AttemptId, Clock, ClusterName, Timestamp, VERSION};
use tokio::time::Instant;
use uuid::Uuid;

use super::agent::{Agent, Way};
use super::people::ONE;
use super::world::{Process, Setup, World, seeded};

/// A world with one process that leads and one cluster of that many members.
async fn ready(members: u64) -> (Arc<World>, Arc<Process>, Vec<Arc<Agent>>) {
    World::ready(Setup::default(), members).await
}

/// How often each agent was asked, from the first.
fn asked(agents: &[Arc<Agent>]) -> Vec<usize> {
    agents.iter().map(|agent| agent.asked().len()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_manual_backup_is_made_once_however_often_it_is_asked_for() {
    let (world, _, agents) = ready(3).await;
    let at = world.manual(ONE).await;
    let again = ManualBackupSpec { backupat: Some(Timestamp::from_seconds(at)) };
    for _ in 0..3 {
        world.apply(ONE, &again).await.expect("the same again");
    }
    world.until("it begins", || (asked(&agents).iter().sum::<usize>() > 0).then_some(())).await;
    world.settled(ONE).await;
    world.apply(ONE, &again).await.expect("the same again");
    world.has_one_backup(ONE).await;
    // Followers before the leader, in the order of their ids.
    assert_eq!(asked(&agents), [0, 1, 0]);
    assert_eq!((world.counted(ONE, "succeeded"), world.counted(ONE, "failed")), (1, 0));
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn manual_backups_wait_for_their_turn_and_one_too_many_is_refused() {
    let (world, _, _) = ready(1).await;
    let now = world.clock.now().seconds;
    let at = |seconds| ManualBackupSpec { backupat: Some(Timestamp::from_seconds(now + seconds)) };
    world.apply(ONE, &at(0)).await.expect("the first");
    let name: ClusterName = ONE.parse().expect("a name");
    let record = || world.leaders().pop()?.1.directory.get(&name)?.record.borrow().slot.clone();
    world.until("the first begins", record).await;
    for waiting in 1..=PENDING_MAX as i64 {
        world.apply(ONE, &at(waiting)).await.expect("another one");
    }
    let error = world.apply(ONE, &at(PENDING_MAX as i64 + 1)).await.expect_err("one too many");
    assert!(error.text.contains("are already waiting"), "{error}");
    let kept = world.settled(ONE).await;
    assert_eq!((world.manifests().len(), kept.handled.len()), (PENDING_MAX + 1, PENDING_MAX + 1));
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_schedule_makes_one_backup_for_each_interval() {
    let (world, _, _) = ready(3).await;
    let interval = Duration::from_secs(3600);
    let configuration = BackupConfiguration { interval: Some(interval.into()), enabled: Some(true) };
    let spec = ClusterSpec { backupconfiguration: Some(configuration), ..ClusterSpec::default() };
    world.apply(ONE, &spec).await.expect("a schedule");
    tokio::time::sleep(3 * interval + interval / 2).await;
    world.settled(ONE).await;
    let mut taken: Vec<i64> = world.manifests().iter().map(|manifest| manifest.snapshot.unix_seconds()).collect();
    taken.sort_unstable();
    let gaps: Vec<i64> = taken.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // One at once, then one in each interval: none is late, and a tenth at most is taken off for the cluster's own place.
    assert!(taken.len() >= 4, "{taken:?}");
    assert!(gaps.iter().all(|gap| (3240..=3660).contains(gap)), "{gaps:?}");
    assert_eq!(world.counted(ONE, "succeeded"), taken.len() as u64);
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_fails_pauses_longer_and_longer() {
    let (world, _, agents) = ready(1).await;
    agents[0].always(Way::Fails(FailureCode::Source));
    let interval = Duration::from_secs(3600);
    let configuration = BackupConfiguration { interval: Some(interval.into()), enabled: Some(true) };
    let spec = ClusterSpec { backupconfiguration: Some(configuration), ..ClusterSpec::default() };
    world.apply(ONE, &spec).await.expect("a schedule");
    tokio::time::sleep(2 * interval).await;
    let failed = world.counted(ONE, "failed");
    // 30 s, 60 s, 120 s, … up to the interval.
    assert!((6..=9).contains(&failed), "{failed} attempts");
    agents[0].always(Way::Works);
    world.within(2 * interval, "it works again", || (world.counted(ONE, "succeeded") == 1).then_some(())).await;
    let record = world.settled(ONE).await;
    assert_eq!((record.failures, record.last_failure), (0, None));
    assert_eq!(world.manifests().len(), 1);
    world.at_peace();
}

/// The first member does not do it; another one does, in the same slot.
async fn retried(way: Way, result: &str) -> (Arc<World>, Vec<Arc<Agent>>) {
    let (world, _, agents) = ready(3).await;
    agents[1].next(way);
    let record = world.back_up(ONE).await;
    world.has_one_backup(ONE).await;
    assert_eq!((world.counted(ONE, "succeeded"), world.counted(ONE, result)), (1, 1), "{result}");
    let failed: Vec<_> = record.runs.latest_first().filter(|run| run.state == RunState::Failed).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].machine, agents[1].machine);
    assert!(!failed[0].error.is_empty());
    world.at_peace();
    (world, agents)
}

#[tokio::test(start_paused = true)]
async fn who_refuses_is_passed_over() {
    let (_, agents) = retried(Way::Refuses("no disk"), "refused").await;
    assert_eq!(asked(&agents), [0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_hear_is_passed_over() {
    let (_, agents) = retried(Way::Silent, "unanswered").await;
    assert_eq!(asked(&agents), [0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn whose_etcd_fails_is_passed_over() {
    let (_, agents) = retried(Way::Fails(FailureCode::Source), "failed").await;
    assert_eq!(asked(&agents), [0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_off_in_the_middle_is_made_by_another_and_its_upload_removed() {
    let (_, agents) = retried(Way::Dies, "lost").await;
    assert_eq!(asked(&agents), [0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_nobody_works_on_any_more_is_given_to_another() {
    let (_, agents) = retried(Way::Forgets, "lost").await;
    assert_eq!(asked(&agents), [0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn disagreement_is_told_apart() {
    let (world, agents) = retried(Way::Fails(FailureCode::Disagreement), "disagreed").await;
    let record = world.record(ONE).await;
    assert!(record.runs.latest_first().any(|run| run.differs && run.machine == agents[1].machine));
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_is_complete_and_has_no_manifest_gets_it() {
    let (world, _, agents) = ready(3).await;
    agents[1].next(Way::DiesComplete);
    let record = world.back_up(ONE).await;
    world.has_one_backup(ONE).await;
    // Its attempt was lost and made the backup all the same: the proof is its own.
    let manifest = world.manifests().pop().expect("one");
    assert_eq!(manifest.machine, Some(agents[1].machine));
    assert_eq!(record.runs.latest_first().count(), 1, "nobody else was asked: {record:#?}");
    assert_eq!(asked(&agents), [0, 1, 0]);
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_makes_no_second_backup() {
    let (world, _, agents) = ready(2).await;
    agents[1].next(Way::Unheard);
    agents[1].takes(Duration::from_secs(30));
    world.back_up(ONE).await;
    world.has_one_backup(ONE).await;
    assert_eq!(agents[1].cancelled().len(), 1);
    assert_eq!(world.counted(ONE, "succeeded"), 1);
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn where_everybody_refuses_the_slot_ends_with_each_one_s_reason() {
    let (world, _, agents) = ready(3).await;
    agents.iter().for_each(|agent| agent.always(Way::Refuses("no disk")));
    let record = world.back_up(ONE).await;
    let status = &record.status.as_ref().expect("it has one").spec;
    assert_eq!(status.status, BackupState::Error);
    // What all of them say is said once, by the names of their members.
    let names = |of: [u8; 3]| of.map(|n| format!("m{n}")).join(", ");
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]].map(names);
    let said = |names: &String| status.error == format!("3 machines ({names}): refused: no disk");
    assert!(orders.iter().any(said), "{}", status.error);
    assert_eq!((world.counted(ONE, "refused"), world.manifests().len()), (3, 0));
    assert_eq!(asked(&agents), [1, 1, 1]);
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn where_nobody_hears_all_are_asked_again_a_few_times() {
    let (world, _, agents) = ready(2).await;
    agents.iter().for_each(|agent| agent.always(Way::Silent));
    let record = world.back_up(ONE).await;
    assert_eq!(record.status.as_ref().map(|status| status.spec.status), Some(BackupState::Error));
    assert_eq!(asked(&agents), [4, 4], "once and three further rounds");
    assert_eq!(world.counted(ONE, "unanswered"), 8);
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_at_two_members_is_not_asked_of_a_third() {
    let (world, _, agents) = ready(3).await;
    agents.iter().for_each(|agent| agent.always(Way::Fails(FailureCode::Store)));
    let record = world.back_up(ONE).await;
    assert_eq!(record.status.as_ref().map(|status| status.spec.status), Some(BackupState::Error));
    assert_eq!((asked(&agents), world.counted(ONE, "failed")), (vec![0, 1, 1], 2));
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_moves_on_by_a_second() {
    let (world, _, _) = ready(1).await;
    let first = world.back_up(ONE).await;
    // Somebody else has the next ten seconds' names.
    let now = world.clock.now().seconds;
    for second in now..now + 10 {
        let name = backstay_protocol::SnapshotName::from_unix_seconds(second).expect("in range");
        world.store.plant(Key::snapshot(first.uuid, name).as_str(), "somebody else's");
    }
    let record = world.back_up(ONE).await;
    assert_eq!(record.status.as_ref().map(|status| status.spec.status), Some(BackupState::Ok), "{record:#?}");
    assert_eq!((world.manifests().len(), world.counted(ONE, "succeeded")), (2, 2));
    assert_eq!(record.last_name, now + 10);
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_under_the_attempt_is_no_fault_of_the_member_s() {
    let (world, _, agents) = ready(2).await;
    agents[1].next(Way::Fails(FailureCode::NameTaken));
    let record = world.back_up(ONE).await;
    world.has_one_backup(ONE).await;
    assert_eq!(asked(&agents), [0, 2], "the same one is asked again");
    assert_eq!(record.last_name, world.manifests()[0].snapshot.unix_seconds());
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_cancel_goes_to_the_attempt_s_own_machine_and_stops_nothing_elsewhere() {
    let (world, _, agents) = ready(3).await;
    agents[1].next(Way::Unheard);
    agents[1].takes(Duration::from_secs(30));
    world.back_up(ONE).await;
    world.has_one_backup(ONE).await;
    let cancelled: Vec<usize> = agents.iter().map(|agent| agent.cancelled().len()).collect();
    assert_eq!(cancelled, [0, 1, 0]);
    let (attempt, was_under_way) = agents[1].cancelled().pop().expect("one");
    assert!(was_under_way && agents[1].asked().iter().any(|command| command.attempt == attempt));

    // The same command at a machine that works on something else.
    agents[1].next(Way::Works);
    let at = world.manual(ONE).await;
    let busy = world.until("one works", || agents.iter().find(|agent| agent.is_at_work()).cloned()).await;
    let (_, term) = world.leader().await;
    let strange = bus::CancelBackup { version: VERSION, epoch: term.epoch, attempt };
    let to = backstay_protocol::subject::Subject::Agent {
        cluster: busy.cluster.clone(),
        machine: busy.machine,
        command: Command::Cancel,
    };
    let answer = term.bus.request(&to, prost::Message::encode_to_vec(&strange).into()).await.expect("it hears");
    assert!(!bus::decode::<bus::CancelReply>(&answer).expect("a reply").cancelled && busy.is_at_work());
    let record = world.settled(ONE).await;
    assert!(record.handled.contains(&at));
    assert_eq!((world.manifests().len(), world.counted(ONE, "succeeded")), (2, 2));
    world.at_peace();
}

/// A report that the command's backup is complete, in the name of that agent.
fn say_finished(world: &Arc<World>, command: &StartBackup, agent: &Agent) {
    let report = Report {
        version: VERSION,
        attempt: command.attempt.clone(),
        slot: command.slot.clone(),
        cluster: command.cluster.clone(),
        cluster_uuid: command.cluster_uuid.clone(),
        machine: agent.machine.to_string(),
        at_ms: world.clock.now().as_millis(),
        snapshot: command.snapshot.clone(),
        state: Some(report::State::Finished(Finished::default())),
    };
    world.report(agent.cluster.clone(), agent.machine, report);
}

fn state_of(record: &ClusterRecord) -> (Option<BackupState>, String) {
    let status = record.status.as_ref().map(|status| status.spec.clone()).unwrap_or_default();
    (record.status.as_ref().map(|_| status.status), status.error)
}

#[tokio::test(start_paused = true)]
async fn another_machine_s_word_does_not_end_an_attempt() {
    let (world, _, agents) = ready(2).await;
    agents[1].takes(Duration::from_secs(60));
    world.manual(ONE).await;
    let command = world.until("one is asked", || agents[1].asked().pop()).await;
    // Whoever knows the slot reports an attempt of its own making.
    for attempt in [Uuid::new_v4().to_string(), String::new()] {
        say_finished(&world, &StartBackup { attempt, ..command.clone() }, &agents[0]);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let record = world.record(ONE).await;
    assert!(record.slot.as_ref().is_some_and(|slot| slot.attempt.is_some()), "it is under way still: {record:?}");
    world.settled(ONE).await;
    world.has_one_backup(ONE).await;
    assert_eq!(asked(&agents).iter().sum::<usize>(), 1, "nobody else was asked");
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_word_is_not_enough_while_the_store_is_away() {
    let (world, _, agents) = ready(2).await;
    agents[1].always(Way::Hangs);
    world.manual(ONE).await;
    let command = world.until("one is asked", || agents[1].asked().pop()).await;
    world.silence_store(true);
    say_finished(&world, &command, &agents[1]);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let record = world.record(ONE).await;
    let (state, error) = state_of(&record);
    assert_ne!(state, Some(BackupState::Ok), "{error}");
    assert!(error.contains("the store could not confirm it yet"), "{error}");
    assert!(record.slot.is_some() && record.last_backup.is_none(), "it counts for nothing: {record:?}");
    // The store is back, and has no such backup.
    world.silence_store(false);
    let (state, error) = state_of(&*world.settled(ONE).await);
    assert_eq!(state, Some(BackupState::Error), "{error}");
    assert_eq!((world.manifests().len(), world.counted(ONE, "succeeded")), (0, 0));
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_the_store_confirms_late_counts_then_and_once() {
    let (world, _, agents) = ready(2).await;
    world.manual(ONE).await;
    world.until("one is asked", || agents[1].asked().pop()).await;
    world.silence_store(true);
    let waits = || {
        let error = world.leaders().pop()?.1.directory.get(&ONE.parse().expect("a name"))?;
        let error = state_of(&error.record.borrow()).1;
        error.contains("could not confirm it yet").then_some(())
    };
    world.until("the report is there, and the store is not", waits).await;
    // Also where a successor has to find out.
    world.processes()[0].die();
    world.start();
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.silence_store(false);
    world.heard(&agents).await;
    world.settled(ONE).await;
    world.has_one_backup(ONE).await;
    assert_eq!(asked(&agents).iter().sum::<usize>(), 1, "nobody else was asked");
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn a_report_for_another_machine_s_attempt_changes_nothing() {
    let (world, _, agents) = ready(2).await;
    world.manual(ONE).await;
    let command = world.until("one is asked", || agents[1].asked().pop()).await;
    say_finished(&world, &command, &agents[0]);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!((world.manifests().len(), world.counted(ONE, "succeeded")), (0, 0), "it is under way still");
    world.settled(ONE).await;
    world.has_one_backup(ONE).await;
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_at_its_deadline_at_the_latest() {
    let mut setup = Setup::default();
    setup.settings.backup.deadline = Duration::from_secs(60);
    let (world, _, agents) = World::ready(setup, 1).await;
    let begun = Instant::now();
    // It says that it works on it for ever.
    agents[0].always(Way::Hangs);
    let record = world.back_up(ONE).await;
    let status = &record.status.as_ref().expect("it has one").spec;
    assert!(status.error.contains("did not finish within the deadline"), "{}", status.error);
    assert!(begun.elapsed() < Duration::from_secs(200), "{:?}", begun.elapsed());
    assert!(agents[0].cancelled().iter().any(|(_, under_way)| *under_way));
    world.at_peace();
}

#[tokio::test(start_paused = true)]
async fn whatever_the_order_of_things_each_trigger_ends_once() {
    for seed in 0..20 {
        let setup = Setup { random: Box::new(seeded(seed)), ..Setup::default() };
        let (world, process, agents) = World::ready(setup, 3).await;
        for agent in &agents {
            let ways = [Way::Works, Way::Refuses("no"), Way::Unheard, Way::Forgets, Way::Fails(FailureCode::Source)];
            (0..2).for_each(|_| agent.next(ways[world.random(5) as usize].clone()));
        }
        let mut done = 0;
        for _ in 0..4 {
            let record = world.back_up(ONE).await;
            let state = record.status.as_ref().map(|status| status.spec.status);
            assert!(matches!(state, Some(BackupState::Ok | BackupState::Error)), "seed {seed}: {state:?}");
            done += usize::from(state == Some(BackupState::Ok));
            assert_eq!(world.manifests().len(), done, "seed {seed}");
        }
        assert_eq!(world.counted(ONE, "succeeded"), done as u64, "seed {seed}");
        world.at_peace();
        process.stop();
        agents.iter().for_each(|agent| agent.vanish());
    }
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_somebody_else_has_taken_counts_for_the_schedule() {
    let (world, _, agents) = ready(1).await;
    let record = world.back_up(ONE).await;
    // `once` made one half an hour later.
    tokio::time::sleep(Duration::from_secs(1800)).await;
    let mut manifest = world.manifests().pop().expect("one");
    manifest.snapshot =
        backstay_protocol::SnapshotName::from_unix_seconds(world.clock.now().seconds).expect("in range");
    manifest.trigger = backstay_archive::manifest::Trigger::Once;
    manifest.attempt = AttemptId(Uuid::from_u128(77));
    manifest.created_at = world.clock.now();
    manifest.origin.revision += 1;
    let upload = world.store.begin(&Key::snapshot(record.uuid, manifest.snapshot), manifest.attempt).await;
    let upload = upload.expect("it begins");
    upload.part(1, vec![0; manifest.sealed_bytes as usize].into()).await.expect("a part");
    upload.complete(1).await.expect("complete");
    let key = Key::manifest(record.uuid, manifest.snapshot);
    world.store.put_new(&key, manifest.to_json().into()).await.expect("its manifest");
    let configuration = BackupConfiguration { interval: Some(Duration::from_secs(2400).into()), enabled: Some(true) };
    let spec = ClusterSpec { backupconfiguration: Some(configuration), ..ClusterSpec::default() };
    world.apply(ONE, &spec).await.expect("a schedule");
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert_eq!(asked(&agents), [1], "nothing is due for 40 minutes after it");
    let kept = world.settled(ONE).await;
    assert_eq!(kept.last_backup.map(|at| at.seconds), Some(manifest.snapshot.unix_seconds()));
    tokio::time::sleep(Duration::from_secs(1500)).await;
    assert_eq!((asked(&agents), world.manifests().len()), (vec![2], 3));
    world.at_peace();
}
