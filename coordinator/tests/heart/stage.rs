//! A world with its agents, ready for a test.

use std::sync::Arc;

use backstay_protocol::{ClusterName, MachineId};
use uuid::Uuid;

use super::agent::Agent;
use super::people::ONE;
use super::world::{Process, Setup, World};

impl World {
    /// A world with one process that leads, and one cluster of so many members, all of whose agents were heard.
    pub async fn ready(setup: Setup, members: u64) -> (Arc<Self>, Arc<Process>, Vec<Arc<Agent>>) {
        let world = Self::begin(setup);
        let process = world.start();
        let agents = world.cluster(ONE, members);
        world.heard(&agents).await;
        (world, process, agents)
    }

    /// Waits until whoever leads has heard these agents.
    pub async fn heard(&self, agents: &[Arc<Agent>]) {
        let all = || {
            let (_, term) = self.leaders().pop()?;
            let heard = |agent: &Arc<Agent>| term.fleet.last(&agent.cluster, agent.machine).is_some();
            let known = |agent: &Arc<Agent>| term.directory.contains(&agent.cluster);
            agents.iter().all(|agent| heard(agent) && known(agent)).then_some(())
        };
        self.until("every agent is heard", all).await;
    }

    /// The members' agents of a cluster, from 1.
    pub fn cluster(self: &Arc<Self>, name: &str, members: u64) -> Vec<Arc<Agent>> {
        let name: ClusterName = name.parse().expect("a name");
        let agent = |number| {
            let machine = MachineId(Uuid::from_u128(0xa9e0_0000 + u128::from(number)));
            let agent = Agent::new(self, name.clone(), machine, number, members);
            agent.begin();
            agent
        };
        (1..=members).map(agent).collect()
    }
}
