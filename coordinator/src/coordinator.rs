//! The coordinator of this process: it opens JetStream, stands for the lease, and while it leads, agents and people
//! reach it over NATS.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use backstay_daemon::trouble::Trouble;
use backstay_protocol::Clock;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::bus::nats::Nats;
use crate::config::Config;
use crate::keys::Keys;
use crate::kv::{self, KvError};
use crate::leader::Candidate;
use crate::metrics::CoordinatorMetrics;
use crate::storage::Folders;
use crate::term::{Term, TermDependencies};
use crate::{api, listen};

/// The pause after a call to JetStream failed.
const PAUSE: Duration = Duration::from_secs(1);

/// A coordinator, ready to run; [`Coordinator::run`] does the work.
#[derive(Debug)]
pub struct Coordinator {
    pub config: Arc<Config>,
    pub client: Client,
    pub keys: Arc<Keys>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<CoordinatorMetrics>,
}

impl Coordinator {
    /// Leads whenever it has the lease, until `stop` is cancelled.
    pub async fn run(&self, stop: &CancellationToken) {
        let deps = TermDependencies {
            config: self.config.clone(),
            keys: self.keys.clone(),
            clock: self.clock.clone(),
            attempts: self.metrics.attempts(),
            bus: Arc::new(Nats(self.client.clone())),
            opener: Arc::new(Folders),
        };
        let candidate = Candidate { deps, holder: Uuid::new_v4() };
        let mut trouble = Trouble::default();
        while !stop.is_cancelled() {
            if let Err(error) = self.lead_once(&candidate, &mut trouble, stop).await
                && let Some(told) = trouble.note(&error.to_string())
            {
                let nats = self.config.settings.nats.shown_url();
                warn!(nats, %error, lasting = told.lasting, "cannot take the lead yet; trying again");
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn lead_once(
        &self,
        candidate: &Candidate,
        trouble: &mut Trouble,
        stop: &CancellationToken,
    ) -> Result<(), KvError> {
        let context = kv::nats::context(&self.client);
        let kv = tokio::select! {
            opened = kv::nats::open(&context, &self.config.settings.jetstream) => opened?,
            () = stop.cancelled() => return Ok(()),
        };
        let serve = async |term: &Arc<Term>| {
            self.serve(term, &context).await?;
            info!(epoch = term.epoch, lasted = trouble.over(), "leading");
            self.metrics.leads(term);
            Ok(())
        };
        candidate.lead(&kv, stop, serve).await
    }

    async fn serve(&self, term: &Arc<Term>, context: &Context) -> Result<(), KvError> {
        listen::start(term, &self.client, context).await?;
        api::service::start(term, &self.client).await
    }
}
