//! Who dies in the middle, and who takes over: whenever it happens, the slot ends with exactly one backup.

use std::sync::Arc;
use std::time::Duration;

use backstay_coordinator::kv::{Kv, KvError};
use backstay_coordinator::term::Term;

use super::agent::Agent;
use super::door::{Call, Fate, Hook, Op};
use super::people::ONE;
use super::world::{Process, Setup, World, alone};

/// So long one that was cut off still believes that it leads: its clock is behind the others' by more than the lease.
const SKEW: Duration = Duration::from_secs(20);

/// The `n`th call gets this fate, the others pass.
fn at(n: usize, fate: Fate) -> Option<Hook> {
    Some(Box::new(move |call: &Call| if call.nth == n { fate } else { Fate::Pass }))
}

/// A backup on a world whose first process has these faults; a second one stands by.
async fn with(hook: Option<Hook>) -> (Arc<World>, Vec<Arc<Process>>, Vec<Arc<Agent>>) {
    let world = World::begin(Setup::default());
    let first = world.start_with(hook);
    let agents = world.cluster(ONE, 3);
    // The first one is to lead, where it lives for so long.
    world.until("the first leads or is dead", || (first.leads().is_some() || first.is_dead()).then_some(())).await;
    let second = world.start();
    (world, vec![first, second], agents)
}

/// Calls of the first process from its beginning until a backup is done and tidied up.
fn calls_of_a_backup() -> Vec<Call> {
    let mut calls = Vec::new();
    alone(async {
        let (world, processes, _) = with(None).await;
        world.back_up(ONE).await;
        world.has_one_backup(ONE).await;
        calls = processes[0].door.calls();
    });
    assert!(calls.len() > 15, "{calls:?}");
    calls
}

#[test]
fn a_leader_that_dies_at_any_call_leaves_a_backup_that_is_made_once() {
    for n in 0..calls_of_a_backup().len() {
        for fate in [Fate::Die, Fate::DieAfter] {
            alone(async {
                let (world, processes, agents) = with(at(n, fate)).await;
                world.back_up(ONE).await;
                world.until(&format!("call {n} comes"), || processes[0].is_dead().then_some(())).await;
                world.heard(&agents).await;
                world.settled(ONE).await;
                world.has_one_backup(ONE).await;
                assert!(world.counted(ONE, "succeeded") <= 1, "call {n}, {fate:?}");
                assert_eq!(world.counted(ONE, "failed"), 0, "call {n}, {fate:?}");
                world.at_peace();
            });
        }
    }
}

#[test]
fn an_agent_and_the_leader_that_die_together_leave_a_slot_that_others_end() {
    for n in (0..calls_of_a_backup().len()).step_by(2) {
        alone(async {
            let (world, processes, agents) = with(at(n, Fate::DieAfter)).await;
            agents[1].next(super::agent::Way::DiesComplete);
            agents[2].next(super::agent::Way::Dies);
            world.back_up(ONE).await;
            world.until(&format!("call {n} comes"), || processes[0].is_dead().then_some(())).await;
            world.heard(&agents[..1]).await;
            world.settled(ONE).await;
            world.has_one_backup(ONE).await;
            world.at_peace();
        });
    }
}

/// After another process began to lead, what the first one still changes of records.
fn written_after(world: &World, first: usize, second: usize) -> (usize, bool) {
    let changes = world.kept.changes();
    let taken = changes.iter().position(|change| change.key == "lease" && change.who == second);
    let after = &changes[taken.expect("the second one took the lease")..];
    let records: Vec<usize> = after.iter().filter(|c| c.key.starts_with("cluster.")).map(|c| c.who).collect();
    let by_first = records.iter().filter(|who| **who == first).count();
    let back = records.windows(2).any(|pair| pair == [second, first]);
    (by_first, back)
}

/// A backup whose first leader says nothing in time from its `n`th call on; the answer is how many of its records were taken
/// when the lease was somebody else's.
fn cut_off(n: usize, after: Duration) -> usize {
    let mut late = 0;
    alone(async {
        let world = World::begin(Setup::default());
        let slowly = move |call: &Call| if call.nth >= n { Fate::Slow(after) } else { Fate::Pass };
        let first = world.start_with(Some(Box::new(slowly)));
        let agents = world.cluster(ONE, 3);
        world.until("the first leads", || first.leads()).await;
        let second = world.start();
        world.heard(&agents).await;
        world.back_up(ONE).await;
        world.until("the second leads", || second.terms().pop()).await;
        tokio::time::sleep(3 * SKEW).await;
        world.heard(&agents).await;
        world.settled(ONE).await;
        world.has_one_backup(ONE).await;
        late = written_after(&world, first.who, second.who).0;
        assert!(late <= 1, "from call {n} on: {late} records\n{:#?}", world.kept.changes());
        world.at_peace();
    });
    late
}

#[test]
fn a_leader_whose_calls_arrive_late_writes_no_two_records_after_the_lease_is_lost() {
    let calls = calls_of_a_backup();
    let changes = calls.iter().filter(|call| call.op == Op::Update && call.key.starts_with("cluster."));
    let late: usize = changes.flat_map(|call| (12..=18).map(|s| cut_off(call.nth, Duration::from_secs(s)))).sum();
    assert!(late > 0, "none arrived late: nothing was tried");
}

#[test]
fn one_that_still_thinks_it_leads_spoils_nothing_for_its_successor() {
    let mut both = 0;
    for n in 0..calls_of_a_backup().len() {
        alone(async {
            let world = World::begin(Setup::default());
            let first = world.start();
            let agents = world.cluster(ONE, 3);
            world.heard(&agents).await;
            let asked = tokio::spawn({
                let world = world.clone();
                async move { world.manual(ONE).await }
            });
            world.until("so many calls", || (first.door.calls().len() >= n).then_some(())).await;
            // Its clock says that the lease is over, and the first one's does not.
            let second = world.start();
            second.clock.set_ahead(SKEW);
            world.until("the second leads", || second.terms().pop()).await;
            both += usize::from(first.leads().is_some());
            let seconds = asked.await.expect("it is accepted");
            world.until("only one leads", || first.leads().is_none().then_some(())).await;
            world.heard(&agents).await;
            let handled = || {
                let (_, term) = world.leaders().pop()?;
                let record = term.directory.get(&agents[0].cluster)?.record.borrow().clone();
                (record.handled.contains(&seconds) && record.slot.is_none()).then_some(())
            };
            world.until("the slot ends", handled).await;
            world.has_one_backup(ONE).await;
            let (_, back) = written_after(&world, 0, 1);
            assert!(!back, "the first one wrote behind its successor\n{:#?}", world.kept.changes());
            assert_eq!(world.panics(), 0);
        });
    }
    assert!(both > 0, "never did both think that they lead: nothing was tried");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_hands_over_at_once() {
    let (world, processes, agents) = with(None).await;
    world.heard(&agents).await;
    agents[1].takes(Duration::from_secs(10));
    world.manual(ONE).await;
    world.until("one is asked", || agents[1].asked().pop()).await;
    processes[0].stop();
    let limit = Duration::from_secs(5);
    world.within(limit, "the second leads", || processes[1].leads()).await;
    world.heard(&agents).await;
    world.settled(ONE).await;
    world.has_one_backup(ONE).await;
    let asked: Vec<String> = agents.iter().flat_map(|agent| agent.asked()).map(|command| command.attempt).collect();
    assert!(asked.len() == 2 && asked[0] == asked[1], "it was asked for once more: {asked:?}");
    world.at_peace();
}

/// What cuts a term off before it has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Stops,
    CannotServe,
    LosesTheLease,
}

/// A term that is cut off while people and agents are about to reach it, with something of it under way that goes on to its end.
fn cut_while_it_begins(cut: Cut) {
    alone(async {
        let world = World::begin(Setup::default());
        let (process, candidate) = world.candidate(None);
        process.door.on_call(move |call: &Call| match (cut, call.op, call.key.as_str()) {
            (Cut::LosesTheLease, Op::Update, "lease") => Fate::Fail(Duration::ZERO),
            _ => Fate::Pass,
        });
        let serve = async |term: &Arc<Term>| {
            let busy = term.clone();
            term.spawn_to_the_end(async move {
                busy.cancel.cancelled().await;
                tokio::time::sleep(Duration::from_secs(3)).await;
                busy.kv.create("last-word", &()).await.expect("it is not there");
            });
            match cut {
                Cut::CannotServe => return Err(KvError::Conflict { key: "a test's fault".into() }),
                Cut::Stops => process.stop(),
                Cut::LosesTheLease => {}
            }
            std::future::pending().await
        };
        let led = candidate.lead(&Kv::new(process.door.clone()), &process.stop, serve).await;
        assert_eq!(led.is_err(), cut == Cut::CannotServe, "{cut:?}: {led:?}");
        let changes = world.kept.changes();
        let last = |key: &str| changes.iter().rposition(|change| change.who == process.who && change.key == key);
        let (word, lease) = (last("last-word"), last("lease"));
        assert!(word.is_some(), "{cut:?}: it ended before what it had begun\n{changes:#?}");
        // A lease that was lost is nobody's to give up.
        assert!(cut == Cut::LosesTheLease || word < lease, "{cut:?}: it gave the lease up before that\n{changes:#?}");
        world.at_peace();
    });
}

#[test]
fn a_term_that_is_cut_off_while_it_begins_ends_what_it_began_before_it_gives_the_lease_up() {
    for cut in [Cut::Stops, Cut::CannotServe, Cut::LosesTheLease] {
        cut_while_it_begins(cut);
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_has_seen_a_newer_epoch_makes_the_leader_lead_above_it() {
    let (world, process, agents) = World::ready(Setup::default(), 1).await;
    let seen = process.leads().expect("it leads").epoch + 1_000_000;
    agents[0].saw(seen);
    world.back_up(ONE).await;
    world.has_one_backup(ONE).await;
    assert!(process.leads().is_some_and(|term| term.epoch > seen) && process.terms().len() == 2);
    world.at_peace();
}
