//! The lease: whatever fails or is late, never do two lead at the same time, and somebody leads again.

use std::time::Duration;

use super::door::{Call, Fate, Op};
use super::world::{Setup, World, alone, seeded};

/// One process's answers, good and bad, as a seed has it: `trouble` of a hundred are.
fn unreliable(seed: u64, trouble: u64) -> impl FnMut(&Call) -> Fate + Send {
    let mut random = seeded(seed);
    move |_| {
        if random(100) >= trouble {
            return Fate::Pass;
        }
        let after = Duration::from_millis(random(8_000));
        match random(5) {
            0 => Fate::Fail(after.min(Duration::from_secs(5))),
            1 | 2 => Fate::Lost(after.min(Duration::from_secs(5))),
            3 => Fate::Late(after),
            _ => Fate::Slow(after),
        }
    }
}

/// Three candidates over entries that do not keep to anything.
fn contest(seed: u64, ttl: Duration, trouble: u64) -> usize {
    let mut terms = 0;
    alone(async {
        let mut setup = Setup { encrypted: false, ..Setup::default() };
        setup.settings.lease.ttl = ttl;
        let world = World::begin(setup);
        let processes: Vec<_> =
            (0..3).map(|who| world.start_with(Some(Box::new(unreliable(seed * 3 + who, trouble))))).collect();
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(world.overlaps(), 0, "seed {seed}: two led");
        processes.iter().for_each(|process| process.door.no_faults());
        world.leader().await;
        tokio::time::sleep(2 * ttl).await;
        assert_eq!(world.leaders().len(), 1, "seed {seed}");
        terms = processes.iter().map(|process| process.terms().len()).sum();
        let mut epochs: Vec<u64> = processes.iter().flat_map(|p| p.terms()).map(|term| term.epoch).collect();
        epochs.sort_unstable();
        epochs.dedup();
        assert_eq!(epochs.len(), terms, "seed {seed}: an epoch was given twice");
        world.at_peace();
    });
    terms
}

#[test]
fn never_do_two_lead_whatever_answers_are_late() {
    let terms: usize = (0..40).map(|seed| contest(seed, Duration::from_secs(15), 30)).sum();
    assert!(terms > 60, "{terms} terms: hardly anything was tried");
}

#[test]
fn a_lease_that_is_shorter_than_answers_may_take_holds_all_the_same() {
    let terms: usize = (0..20).map(|seed| contest(seed + 1_000, Duration::from_secs(2), 20)).sum();
    assert!(terms > 100, "{terms} terms: hardly anything was tried");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_is_lost_is_no_reason_to_give_up() {
    let (world, process, _) = World::ready(Setup::default(), 1).await;
    let mut nth = 0;
    process.door.on_call(move |call| {
        let renewal = call.op == Op::Update && call.key == "lease";
        nth += u32::from(renewal);
        if renewal && nth % 3 == 1 { Fate::Lost(Duration::from_secs(2)) } else { Fate::Pass }
    });
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((process.terms().len(), process.leads().is_some()), (1, true));
    world.at_peace();
}

/// The conflict with one's own renewal is looked into; who does not answer that must not keep the lease beyond its end.
#[tokio::test(start_paused = true)]
async fn a_look_at_the_lease_that_is_not_answered_ends_with_the_lease() {
    let mut setup = Setup::default();
    setup.settings.lease.ttl = Duration::from_secs(3);
    let world = World::begin(setup);
    let first = world.start();
    let term = world.until("it leads", || first.leads()).await;
    first.door.on_call(|call| match (call.op, call.key.as_str()) {
        // Taken, but nobody hears of it; then nothing is answered for long.
        (Op::Update, "lease") => Fate::Lost(Duration::ZERO),
        (Op::Get, "lease") => Fate::Late(Duration::from_secs(60)),
        _ => Fate::Pass,
    });
    let second = world.start();
    world.until("the second leads", || second.leads()).await;
    assert!(term.cancel.is_cancelled());
    world.at_peace();
}

/// A lease without a living holder is one that did not change for its whole length since it was *seen*: not since somebody began to
/// look, as it may have been renewed while the answer was on its way.
#[tokio::test(start_paused = true)]
async fn a_lease_that_was_renewed_while_somebody_looked_is_no_dead_one_s() {
    let mut setup = Setup::default();
    setup.settings.lease.ttl = Duration::from_secs(3);
    let world = World::begin(setup);
    let first = world.start();
    let term = world.until("it leads", || first.leads()).await;
    let mut once = true;
    let second = world.start_with(Some(Box::new(move |_| {
        if std::mem::take(&mut once) { Fate::Slow(Duration::from_secs(4)) } else { Fate::Pass }
    })));
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    // From here on no renewal arrives: the lease lasts to its end, and no longer.
    first.door.on_call(|call| match (call.op, call.key.as_str()) {
        (Op::Update, "lease") => Fate::Slow(Duration::from_secs(30)),
        _ => Fate::Pass,
    });
    world.until("the second leads", || second.leads()).await;
    assert!(term.cancel.is_cancelled());
    world.at_peace();
}
