//! Proofs of backups at rest: an agent is asked again and again, another where one refuses, and a successor goes on.

use std::sync::Arc;
use std::time::Duration;

use backstay_protocol::VerifyId;
use backstay_protocol::backstay_types::{PROOF_NOT_TRIED, PROOF_OF_DAMAGE, RunState, VerificationSpec};
use backstay_protocol::spec::Spec;
use uuid::Uuid;

use super::agent::Agent;
use super::machine::Proving;
use super::people::ONE;
use super::world::{Process, Setup, World};

/// A world with a backup whose proof is asked for.
async fn asked(proving: [Proving; 2]) -> (Arc<World>, Arc<Process>, Vec<Arc<Agent>>) {
    let (world, process, agents) = World::ready(Setup::default(), 2).await;
    world.back_up(ONE).await;
    agents.iter().zip(proving).for_each(|(agent, proving)| agent.proves(proving));
    let spec = VerificationSpec { verify: VerifyId(Uuid::from_u128(0xabc)).to_string(), ..VerificationSpec::default() };
    for _ in 0..2 {
        world.apply(ONE, &spec).await.expect("the same request twice is one");
    }
    (world, process, agents)
}

/// The proof as people see it when it has ended.
async fn ended(world: &World) -> VerificationSpec {
    let name = ONE.parse().expect("a name");
    let ended = || {
        let record = world.leaders().pop()?.1.directory.get(&name)?.record.borrow().clone();
        record.verification.as_ref()?.has_ended().then_some(())
    };
    world.until("the proof ends", ended).await;
    let shown = world.get(VerificationSpec::definition()).await;
    world.at_peace();
    shown[0].typed().expect("its own words")
}

#[tokio::test(start_paused = true)]
async fn a_backup_is_proven_by_one_agent() {
    let (world, _, agents) = asked([Proving::Proves(5), Proving::Proves(5)]).await;
    let proof = ended(&world).await;
    assert_eq!((proof.state, proof.machine.as_str()), (RunState::Ok, agents[0].machine.to_string().as_str()));
    assert_eq!((agents[0].proofs(), agents[1].proofs()), (5, 0));
    assert_eq!(proof.snapshot, world.manifests()[0].snapshot.to_string());
}

#[tokio::test(start_paused = true)]
async fn who_refuses_is_not_asked_again() {
    let (world, _, agents) = asked([Proving::Refuses("no room".into()), Proving::Proves(2)]).await;
    assert_eq!(ended(&world).await.state, RunState::Ok);
    assert_eq!((agents[0].proofs(), agents[1].proofs()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn where_everybody_refuses_it_says_why_and_nothing_of_the_backup() {
    let (world, _, _) = asked([Proving::Refuses("no room".into()), Proving::Refuses("no room".into())]).await;
    let proof = ended(&world).await;
    assert_eq!(
        (proof.state, proof.error.as_str(), proof.found.as_str()),
        (RunState::Failed, "no room", PROOF_NOT_TRIED)
    );
}

#[tokio::test(start_paused = true)]
async fn damage_is_told_and_stands() {
    let (world, _, _) = asked([Proving::Finds("page 7 is torn".into()), Proving::Proves(1)]).await;
    let proof = ended(&world).await;
    assert_eq!(proof.state, RunState::Failed);
    assert_eq!((proof.error.as_str(), proof.found.as_str()), ("page 7 is torn", PROOF_OF_DAMAGE));
}

#[tokio::test(start_paused = true)]
async fn nobody_who_answers_ends_it_after_a_while() {
    let (world, _, _) = asked([Proving::Silent, Proving::Silent]).await;
    let proof = ended(&world).await;
    assert_eq!((proof.state, proof.found.as_str()), (RunState::Failed, PROOF_NOT_TRIED));
}

#[tokio::test(start_paused = true)]
async fn a_successor_asks_on_and_a_backup_that_is_due_goes_before() {
    let (world, process, agents) = asked([Proving::Proves(40), Proving::Proves(40)]).await;
    world.until("it is at work", || (agents[0].proofs() > 3).then_some(())).await;
    process.die();
    let next = world.start();
    world.until("the next one leads", || next.leads()).await;
    world.heard(&agents).await;
    world.back_up(ONE).await;
    assert!(!world.record(ONE).await.verification.is_some_and(|proof| proof.has_ended()), "the backup went before");
    let proof = ended(&world).await;
    assert_eq!((proof.state, agents[0].proofs(), agents[1].proofs()), (RunState::Ok, 40, 0));
    assert_eq!(world.manifests().len(), 2);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(agents[0].proofs(), 40, "nobody is asked any more");
}
