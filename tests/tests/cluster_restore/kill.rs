//! kill -9 of the coordinator and of an agent at each step of both phases. Whoever died comes back within its time, so
//! the restore ends as it would have: on all machines as the backup was, or, where an etcd does not start, as it was before.

use anyhow::{Result, ensure};
use backstay_tests::stand::StandBuilder;
use backstay_tests::{Sabotage, eventually};

use super::LONG;
use super::ground::{CLUSTER, Ground, restorable};

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Coordinator,
    Agent,
}

/// What the agent's or the coordinator's log says just then.
const AGENT_STEPS: [&str; 8] = [
    "starting a restore",
    "step=Ready",
    "goal=Switch",
    "stopping etcd",
    "step=Moving",
    "step=Starting",
    "step=Switched",
    "goal=Keep",
];
const COORDINATOR_STEPS: [&str; 7] = [
    "starting the restore",
    "step=\"preparing\"",
    "step=\"ready\"",
    "phase=\"switching\"",
    "step=\"switched\"",
    "phase=\"keeping\"",
    "step=\"kept\"",
];
/// The same on the way back.
const AGENT_RETURN: [&str; 2] = ["goal=PutBack", "step=Returned"];
const COORDINATOR_RETURN: [&str; 2] = ["phase=\"putting-back\"", "step=\"returned\""];

/// Nobody is given up who comes back at all.
fn builder() -> StandBuilder {
    restorable(3)
        .coordinator_variable("BACKSTAY_RESTORE__SWITCH_TIMEOUT", "10m")
        .coordinator_variable("BACKSTAY_RESTORE__SILENCE", "5m")
}

/// Begins a restore, kills the victim when its log says this once more, starts it again, and waits for the end.
async fn kill_at(ground: &mut Ground, victim: Victim, text: &str) -> Result<String> {
    let before = count(ground, victim, text);
    let yaml = format!(
        "metadata:\n  namespace: default\n  type: Restores.backstay.dev\n  id: {CLUSTER}\nspec:\n  restore: {}\n  \
         snapshot: {}\n",
        uuid::Uuid::new_v4(),
        ground.snapshot
    );
    eventually(LONG, || async { ground.apply(&yaml).await?.ok() }).await?;
    eventually(LONG, || {
        let seen = count(ground, victim, text);
        std::future::ready(if seen > before { Ok(()) } else { Err(anyhow::anyhow!("{text:?} was not logged")) })
    })
    .await?;
    let daemon = match victim {
        Victim::Coordinator => &mut ground.coordinators[0].daemon,
        Victim::Agent => &mut ground.agent(CLUSTER, 1).daemon,
    };
    daemon.start_and_wait(LONG).await?;
    ground.ended().await
}

fn count(ground: &Ground, victim: Victim, text: &str) -> usize {
    let log = match victim {
        Victim::Coordinator => ground.coordinators[0].daemon.log(),
        Victim::Agent => ground.cluster(CLUSTER).agents[1].daemon.log(),
    };
    log.matches(text).count()
}

async fn wholly(ground: &Ground, phase: &str) -> Result<()> {
    match phase {
        "restored" => ground.is_restored().await?,
        _ => ground.is_as_before().await?,
    }
    eventually(LONG, || std::future::ready(ground.is_clean())).await?;
    ground.write_later().await
}

async fn each_step(victim: Victim, steps: &[&str]) -> Result<()> {
    let mut ground = Ground::start(builder()).await?;
    for text in steps {
        let phase = kill_at(&mut ground, victim, text).await?;
        ensure!(phase == "restored", "{victim:?} killed at {text}: it is {phase}: {}", ground.spec().await?);
        wholly(&ground, &phase).await?;
    }
    Ok(())
}

async fn each_step_back(victim: Victim, steps: &[&str]) -> Result<()> {
    let mut ground = Ground::start(builder()).await?;
    for text in steps {
        ground.cluster(CLUSTER).supervisors[2].sabotage(Sabotage::FailsToStart);
        let phase = kill_at(&mut ground, victim, text).await?;
        ensure!(phase == "failed", "it is {phase} after {text}");
        wholly(&ground, &phase).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_coordinator_at_each_step() -> Result<()> {
    each_step(Victim::Coordinator, &COORDINATOR_STEPS).await
}

#[tokio::test]
async fn an_agent_at_each_step() -> Result<()> {
    each_step(Victim::Agent, &AGENT_STEPS).await
}

#[tokio::test]
async fn the_coordinator_on_the_way_back() -> Result<()> {
    each_step_back(Victim::Coordinator, &COORDINATOR_RETURN).await
}

#[tokio::test]
async fn an_agent_on_the_way_back() -> Result<()> {
    each_step_back(Victim::Agent, &AGENT_RETURN).await
}
