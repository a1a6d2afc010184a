//! A KV that fails or answers late at each call in turn: the record and the status come out right, and nothing happens twice.

use std::time::Duration;

use super::door::{Call, Fate, Hook};
use super::people::ONE;
use super::world::{Setup, World, alone, seeded};

const SECOND: Duration = Duration::from_secs(1);

/// Every fate that one call may have without anybody dying of it.
const FATES: [Fate; 6] = [
    Fate::Fail(Duration::ZERO),
    Fate::Fail(Duration::from_secs(5)),
    Fate::Lost(Duration::ZERO),
    Fate::Lost(Duration::from_secs(5)),
    Fate::Late(Duration::from_secs(4)),
    Fate::Slow(Duration::from_secs(4)),
];

/// A backup, from a process that begins to one that has ended it; the answer is how many calls that took.
fn backup(hook: Option<Hook>, about: &str) -> usize {
    let mut calls = 0;
    alone(async {
        let world = World::begin(Setup::default());
        let process = world.start_with(hook);
        let agents = world.cluster(ONE, 2);
        world.heard(&agents).await;
        world.back_up(ONE).await;
        world.heard(&agents).await;
        world.has_one_backup(ONE).await;
        assert_eq!(world.counted(ONE, "succeeded"), 1, "{about}");
        let asked: usize = agents.iter().map(|agent| agent.asked().len()).sum();
        assert!(asked <= 2, "{about}: asked {asked} times");
        let distinct: std::collections::BTreeSet<_> =
            agents.iter().flat_map(|agent| agent.asked()).map(|command| command.attempt).collect();
        assert_eq!(distinct.len(), 1, "{about}: one attempt");
        world.at_peace();
        calls = process.door.calls().len();
    });
    calls
}

#[test]
fn one_call_that_fails_or_is_late_changes_nothing() {
    let calls = backup(None, "no faults");
    assert!(calls > 15, "{calls} calls");
    for n in 0..calls {
        for fate in FATES {
            let hook: Hook = Box::new(move |call: &Call| if call.nth == n { fate } else { Fate::Pass });
            backup(Some(hook), &format!("call {n}: {fate:?}"));
        }
    }
}

#[test]
fn a_kind_of_call_that_fails_for_a_while_changes_nothing() {
    let mut kinds: Vec<(super::door::Op, String)> = Vec::new();
    alone(async {
        let (world, process, _) = World::ready(Setup::default(), 2).await;
        world.back_up(ONE).await;
        kinds = process.door.calls().into_iter().map(|call| (call.op, call.key)).collect();
    });
    kinds.sort_by_key(|(op, key)| format!("{op:?} {key}"));
    kinds.dedup();
    // A cluster's key has another UUID each time.
    kinds.retain(|(_, key)| !key.starts_with("key."));
    assert!(kinds.len() >= 8, "{kinds:?}");
    for (op, key) in kinds {
        for fate in [Fate::Fail(SECOND), Fate::Lost(SECOND)] {
            let (about, key) = (format!("{op:?} {key}: {fate:?}"), key.clone());
            let mut left = 3;
            let hook = move |call: &Call| {
                let hit = left > 0 && call.op == op && call.key == key;
                left -= i32::from(hit);
                if hit { fate } else { Fate::Pass }
            };
            backup(Some(Box::new(hook)), &about);
        }
    }
}

#[test]
fn where_every_fourth_answer_is_lost_it_only_takes_longer() {
    for seed in 0..20 {
        let mut random = seeded(seed);
        let hook = move |_: &Call| if random(4) == 0 { Fate::Lost(SECOND) } else { Fate::Pass };
        alone(async {
            let world = World::begin(Setup::default());
            world.start_with(Some(Box::new(hook)));
            let agents = world.cluster(ONE, 2);
            world.heard(&agents).await;
            world.back_up(ONE).await;
            world.processes()[0].door.no_faults();
            world.heard(&agents).await;
            world.has_one_backup(ONE).await;
            world.at_peace();
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_kv_that_is_away_for_ten_minutes_ends_the_term_and_loses_nothing() {
    let (world, process, agents) = World::ready(Setup::default(), 2).await;
    world.manual(ONE).await;
    world.until("one is asked", || agents.iter().find_map(|agent| agent.asked().pop())).await;
    process.door.on_call(|_| Fate::Fail(Duration::from_secs(5)));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(process.leads().is_none());
    process.door.no_faults();
    world.heard(&agents).await;
    world.settled(ONE).await;
    world.has_one_backup(ONE).await;
    world.at_peace();
}
