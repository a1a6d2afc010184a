//! `deploy/nats/backstay.conf` as a test uses it: a user for each agent, and passwords made for this run.

use anyhow::{Context, Result};
use uuid::Uuid;

use crate::login::Login;
use crate::nats::{NatsOptions, STORE};

const SAMPLE: &str = include_str!("../../deploy/nats/backstay.conf");
/// The cluster, the machine and the variable of the sample's one agent.
const CLUSTER: &str = "talos-default";
const MACHINE: &str = "01234567-0123-4123-8123-0123456789ab";
const AGENT_PASSWORD: &str = "$BACKSTAY_AGENT_PASSWORD";
/// Where the sample keeps its data.
const SAMPLE_STORE: &str = "/var/lib/nats";
/// Where the sample's agent begins and ends.
const BEGIN: &str = "# >>> one agent";
const END: &str = "# <<< one agent";

/// The users of one server.
#[derive(Debug, Clone)]
pub struct Users {
    pub coordinator: Login,
    pub operator: Login,
    pub reader: Login,
    agents: Vec<(String, Uuid, Login)>,
}

impl Users {
    /// One agent for each cluster and machine.
    pub fn new(machines: impl IntoIterator<Item = (String, Uuid)>) -> Self {
        let agent = |(cluster, machine): (String, Uuid)| {
            let login = Login::new(&format!("agent.{cluster}.{machine}"));
            (cluster, machine, login)
        };
        Self {
            coordinator: Login::new("coordinator"),
            operator: Login::new("operator"),
            reader: Login::new("reader"),
            agents: machines.into_iter().map(agent).collect(),
        }
    }

    /// The user of an agent; `None` where the server knows none.
    pub fn agent(&self, cluster: &str, machine: Uuid) -> Option<&Login> {
        self.agents.iter().find(|(c, m, _)| c == cluster && *m == machine).map(|(.., login)| login)
    }

    /// The sample with these users in it.
    pub fn options(&self) -> Result<NatsOptions> {
        let (head, rest) = SAMPLE.split_once(BEGIN).context("the sample has no agent")?;
        let (agent, tail) = rest.split_once(END).context("the sample's agent has no end")?;
        let (_, agent) = agent.split_once('\n').context("the sample's agent has no lines")?;
        let blocks = self.agents.iter().enumerate().map(|(i, (cluster, machine, _))| {
            let agent = agent.replace(MACHINE, &machine.to_string()).replace(CLUSTER, cluster);
            agent.replace(AGENT_PASSWORD, &format!("{AGENT_PASSWORD}_{i}"))
        });
        let blocks: String = blocks.collect();
        let variable = |name: &str, login: &Login| (format!("BACKSTAY_{name}_PASSWORD"), login.password.clone());
        let mut variables = vec![
            variable("COORDINATOR", &self.coordinator),
            variable("OPERATOR", &self.operator),
            variable("READER", &self.reader),
        ];
        let agents = self.agents.iter().enumerate();
        variables
            .extend(agents.map(|(i, (.., login))| (format!("{}_{i}", &AGENT_PASSWORD[1..]), login.password.clone())));
        let configuration = format!("{head}\n{blocks}{tail}").replace(SAMPLE_STORE, STORE);
        Ok(NatsOptions { configuration: Some(configuration), variables })
    }
}
