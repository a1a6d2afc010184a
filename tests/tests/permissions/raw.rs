//! A plain client of NATS that notes what the server refuses.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::{Client, ConnectOptions, Event, ServerError};
use backstay_tests::{Login, Nats, Users};
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

/// What agents are told.
pub const COMMANDS: [&str; 4] = ["start", "cancel", "restore", "verify"];

/// Long enough for anything on a busy machine; no test waits it out.
pub const SOON: Duration = Duration::from_secs(60);

/// Refusals that wait to be looked at.
const WAITING: usize = 64;

/// A server with the sample's permissions, and two clusters: the first has two machines.
pub struct Server {
    pub nats: Nats,
    pub users: Users,
    pub machines: [(String, Uuid); 3],
}

impl Server {
    pub async fn start() -> Result<Self> {
        let machines = ["prod", "prod", "test"].map(|cluster| (cluster.to_owned(), Uuid::new_v4()));
        let users = Users::new(machines.clone());
        let nats = Nats::start_with(users.options()?).await?;
        Ok(Self { nats, users, machines })
    }

    /// The client of an agent's user.
    pub async fn agent(&self, number: usize) -> Result<Raw> {
        let (cluster, machine) = &self.machines[number];
        let login = self.users.agent(cluster, *machine).context("the agent has a user")?;
        Raw::connect(&self.nats, login, &format!("_INBOX.backstay.agent.{cluster}.{machine}")).await
    }

    pub async fn coordinator(&self) -> Result<Raw> {
        Raw::connect(&self.nats, &self.users.coordinator, "_INBOX.backstay.coordinator").await
    }

    pub async fn operator(&self) -> Result<Raw> {
        Raw::connect(&self.nats, &self.users.operator, "_INBOX").await
    }

    pub async fn reader(&self) -> Result<Raw> {
        Raw::connect(&self.nats, &self.users.reader, "_INBOX").await
    }

    /// `backstay.v1.KIND.CLUSTER.MACHINE` of an agent.
    pub fn subject(&self, kind: &str, number: usize) -> String {
        let (cluster, machine) = &self.machines[number];
        format!("backstay.v1.{kind}.{cluster}.{machine}")
    }
}

/// A client, and what the server said that it may not.
pub struct Raw {
    pub client: Client,
    refusals: mpsc::Receiver<String>,
}

impl Raw {
    pub async fn connect(nats: &Nats, login: &Login, inbox: &str) -> Result<Self> {
        let (sender, refusals) = mpsc::channel(WAITING);
        let options = ConnectOptions::with_user_and_password(login.user.clone(), login.password.clone())
            .custom_inbox_prefix(inbox)
            .event_callback(move |event| {
                let sender = sender.clone();
                async move {
                    if let Event::ServerError(ServerError::Other(text)) = event {
                        // The test has ended where nobody listens.
                        let _ = sender.send(text).await;
                    }
                }
            });
        let client = options.connect(nats.url()).await.with_context(|| format!("{} cannot log in", login.user))?;
        Ok(Self { client, refusals })
    }

    /// The server must refuse each of these, and say so.
    pub async fn may_not_publish(&mut self, subjects: &[String]) -> Result<()> {
        for subject in subjects {
            self.client.publish(subject.clone(), "forged".into()).await?;
            self.client.flush().await?;
            self.refused("Publish", subject).await?;
        }
        Ok(())
    }

    /// The server must refuse each of these, and say so.
    pub async fn may_not_subscribe(&mut self, subjects: &[String]) -> Result<()> {
        for subject in subjects {
            let _subscriber = self.client.subscribe(subject.clone()).await?;
            self.client.flush().await?;
            self.refused("Subscription", subject).await?;
        }
        Ok(())
    }

    async fn refused(&mut self, what: &str, subject: &str) -> Result<()> {
        let text = timeout(SOON, self.refusals.recv()).await;
        let text = text.with_context(|| format!("{what} to {subject} was not refused"))?.context("it listens")?;
        let expected = format!("Permissions Violation for {what} to \"{subject}\"");
        ensure!(text.eq_ignore_ascii_case(&expected), "the server said {text:?}, not {expected:?}");
        Ok(())
    }
}

/// Waits until the server has taken up what the coordinator's client subscribed to: it answers in order, while a
/// flush only hands the bytes over.
pub async fn heard(coordinator: &Client) -> Result<()> {
    coordinator.request("$JS.API.INFO", "".into()).await.map(drop).context("JetStream answers its owner")
}

/// Texts as the subjects that they are.
pub fn owned(subjects: &[&str]) -> Vec<String> {
    subjects.iter().map(|&s| s.to_owned()).collect()
}

/// What keeps the coordinator's state: nobody else may touch it, in whichever way.
pub fn state() -> Vec<String> {
    owned(&[
        "$KV.backstay.lease",
        "$KV.backstay.cluster.prod",
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.KV_backstay",
        "$JS.API.STREAM.MSG.GET.KV_backstay",
        "$JS.API.DIRECT.GET.KV_backstay.$KV.backstay.lease",
        "$JS.API.STREAM.PURGE.KV_backstay",
        "$JS.API.STREAM.DELETE.BACKSTAY_REPORTS",
        "$JS.API.CONSUMER.CREATE.KV_backstay",
        "$JS.API.CONSUMER.MSG.NEXT.BACKSTAY_REPORTS.coordinator",
        "$JS.ACK.BACKSTAY_REPORTS.coordinator.1.1.1.1.0",
    ])
}
