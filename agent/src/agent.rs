//! The agent, assembled from its parts, and how it runs and stops.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use backstay_archive::seal::Identity;
use backstay_daemon::nats::{self, ClientIdentity, NatsError, Patience};
use backstay_daemon::trouble::Shared;
use backstay_daemon::{host, http, systemd};
use backstay_protocol::{Clock, subject};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::attempt::service::AttemptDependencies;
use crate::attempt::{Address, Attempts, Member};
use crate::bus::beat::Beats;
use crate::bus::commands::{self, Desks};
use crate::etcd::poll;
use crate::etcd::{Etcd, EtcdError};
use crate::machine::{self, UnknownMachine};
use crate::metrics::AgentMetrics;
use crate::outbox::Outbox;
use crate::outbox::sender::{self, JetStream};
use crate::restore::member_identity::MemberIdentityStore;
use crate::restore::{self, Restores, keeper};
use crate::settings::Settings;
use crate::state::{StateDir, StateError};
use crate::verify::{self, Verifications};
use crate::{VERSION, identity};

/// How long stopping may take, from the signal to the end: aborting the attempt, and sending the last reports.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(9);

/// The part of it for reports that are not acknowledged; they are on disk in any case.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("`cluster` must be set to the name of the cluster that this machine's etcd belongs to")]
    NoCluster,
    #[error(transparent)]
    Machine(#[from] UnknownMachine),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    #[error(transparent)]
    Nats(#[from] NatsError),
    #[error("cannot subscribe to commands: {0}")]
    Subscribe(String),
}

/// One machine's agent.
pub struct Agent {
    address: Address,
    settings: Settings,
    identity: Arc<Identity>,
    outbox: Arc<Outbox>,
    attempts: Arc<Attempts>,
    etcd: Etcd,
    member_identity: Arc<MemberIdentityStore>,
    restores: Arc<Restores>,
    verifications: Arc<Verifications>,
    clock: Arc<dyn Clock>,
}

impl Agent {
    /// Opens the state folder and loads what an earlier process left there. Neither etcd nor NATS needs to be running.
    ///
    /// # Errors
    /// The cluster is not set, the machine cannot be identified, or the settings of etcd or the state folder cannot be
    /// used.
    pub fn build(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, AgentError> {
        let cluster = settings.cluster.clone().ok_or(AgentError::NoCluster)?;
        let machine = settings.machine.map_or_else(|| machine::identify(Path::new("/")), Ok)?;
        let address = Address { cluster, machine };
        let etcd = Etcd::new(settings.etcd.clone())?;
        let state = Arc::new(StateDir::open(&settings.state_dir)?);
        let identity = Arc::new(identity::load_or_create(&state)?);
        let outbox = Arc::new(Outbox::open(state.file("outbox"))?);
        let attempts = Arc::new(Attempts::new(AttemptDependencies {
            address: address.clone(),
            member: Member { etcd: etcd.clone(), inspection: settings.inspection.clone() },
            identity: Arc::clone(&identity),
            state: Arc::clone(&state),
            outbox: Arc::clone(&outbox),
            clock: Arc::clone(&clock),
            s3_ca: settings.s3.ca.clone(),
        }));
        let verifications = Arc::new(Verifications::new(verify::service::VerifyDependencies {
            address: address.clone(),
            settings: settings.verify.clone(),
            scratch: settings
                .verify
                .scratch
                .as_ref()
                .map_or_else(|| state.file("verify"), |f| f.join("backstay-verify")),
            identity: Arc::clone(&identity),
            attempts: Arc::clone(&attempts),
            s3_ca: settings.s3.ca.clone(),
        }));
        let control = restore::service::control(&settings.restore, &state);
        let member_identity = Arc::new(MemberIdentityStore::open(&state, &settings.restore, control));
        let restores = Arc::new(Restores::open(restore::service::RestoreDependencies {
            address: address.clone(),
            settings: settings.restore.clone(),
            etcd: etcd.clone(),
            identity: Arc::clone(&identity),
            state,
            attempts: Arc::clone(&attempts),
            s3_ca: settings.s3.ca.clone(),
        })?);
        Ok(Self {
            address,
            settings,
            identity,
            outbox,
            attempts,
            etcd,
            member_identity,
            restores,
            verifications,
            clock,
        })
    }

    /// The cluster and the machine to which commands for this agent are sent.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Works until `stop` is cancelled, then finishes within 10 s. No upload is left unfinished in the store if the
    /// store answers.
    ///
    /// # Errors
    /// The settings of NATS cannot be used, or the subjects of the commands cannot be subscribed to. A NATS server that
    /// does not answer is not an error: the agent waits for it.
    pub async fn run(self, stop: CancellationToken) -> Result<(), AgentError> {
        let inbox = subject::agent_inbox(&self.address.cluster, self.address.machine);
        let role = ClientIdentity::from(self.name().as_str()).inbox(inbox);
        let client = nats::connect(&self.settings.nats, role, Patience::Daemon).await?;
        let end = CancellationToken::new();
        let tasks = TaskTracker::new();
        self.spawn(&client, &tasks, &stop, &end).await?;
        info!(version = VERSION, cluster = %self.address.cluster, machine = %self.address.machine, "the agent is \
            running");
        systemd::ready();
        stop.cancelled().await;
        systemd::stopping();
        self.attempts.stop();
        if timeout(DRAIN_TIMEOUT, self.drain(&client, &tasks, &end)).await.is_err() {
            warn!("stopped before all work had ended; it will be reported at the next start");
        }
        info!("stopped");
        Ok(())
    }

    fn name(&self) -> String {
        format!("backstay-agent {} {}", self.address.cluster, self.address.machine)
    }

    async fn spawn(
        &self,
        client: &Client,
        tasks: &TaskTracker,
        stop: &CancellationToken,
        end: &CancellationToken,
    ) -> Result<(), AgentError> {
        let commands = subject::agent_commands(&self.address.cluster, self.address.machine);
        // Kept by the client and sent to the server whenever it is connected.
        let requests = client.subscribe(commands).await.map_err(|e| AgentError::Subscribe(e.to_string()))?;
        let (client, attempts) = (client.clone(), Arc::clone(&self.attempts));
        let (polled, rounds) = watch::channel(poll::Round::default());
        let (seen, member) = watch::channel(None);
        let metrics = AgentMetrics {
            client: client.clone(),
            attempts: Arc::clone(&attempts),
            outbox: Arc::clone(&self.outbox),
            member: member.clone(),
        };
        let (endpoint, http) = (metrics.endpoint(), self.settings.http.clone());
        let beats = Beats {
            client: client.clone(),
            address: self.address.clone(),
            recipient: self.identity.to_public().to_string(),
            host: host::known().unwrap_or_default(),
            started_at_ms: self.clock.now().as_millis(),
            interval: self.settings.beat_interval,
            clock: Arc::clone(&self.clock),
            attempts: Arc::clone(&attempts),
            member,
            member_identity: Arc::clone(&self.member_identity),
            restores: Arc::clone(&self.restores),
            told: Shared::default(),
        };
        let verifications = Arc::clone(&self.verifications);
        let desks = Desks { attempts, restores: Arc::clone(&self.restores), verifications };
        let restores = Arc::clone(&self.restores);
        let (member_identity, unsettled) = (Arc::clone(&self.member_identity), Arc::clone(&restores));
        let (courier, outbox, hurry) = (JetStream::new(client.clone()), Arc::clone(&self.outbox), stop.clone());
        let (etcd, period) = (self.etcd.clone(), self.settings.beat_interval);
        let [a, b, c, d, e, f, g, h] = [(); 8].map(|()| end.clone());
        tasks.spawn(async move { sender::send(outbox, &courier, &hurry, &a).await });
        tasks.spawn(async move { poll::poll(&etcd, period, &polled, &b).await });
        tasks.spawn(async move {
            keeper::keep(&member_identity, || unsettled.unsettled_cluster(), rounds, &seen, &h).await
        });
        tasks.spawn(async move { beats.run(&c).await });
        tasks.spawn(async move { http::serve(&http, endpoint, &e).await });
        tasks.spawn(async move { commands::serve(client, requests, desks, &d).await });
        tasks.spawn(async move { systemd::watchdog(&f).await });
        tasks.spawn(async move { restores.run(&g).await });
        Ok(())
    }

    /// Waits until the attempt is aborted and reported, and, if NATS answers, until the report has arrived.
    async fn drain(&self, client: &Client, tasks: &TaskTracker, end: &CancellationToken) {
        self.verifications.close().await;
        self.attempts.idle().await;
        if client.connection_state() == State::Connected {
            let mut waiting = self.outbox.waiting();
            if timeout(FLUSH_TIMEOUT, waiting.wait_for(|n| *n == 0)).await.is_err() {
                warn!(reports = *waiting.borrow(), "some reports were not sent; they will be sent at the next start");
            }
            // Answers to the last commands.
            let _ = timeout(Duration::from_secs(1), client.flush()).await;
        }
        end.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
