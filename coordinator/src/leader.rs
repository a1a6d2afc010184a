//! Leading: a coordinator stands by until the lease is its own, then opens JetStream, reads the records, starts a task for
//! each cluster, listens to beats and reports, and answers the API. Losing the lease ends all of that; what was decided
//! stands in the KV, so the next leader goes on from there.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use backstay_daemon::trouble::Trouble;
use backstay_protocol::Clock;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::bus::nats::Nats;
use crate::config::Config;
use crate::inside::Inside;
use crate::keys::Keys;
use crate::kv::{self, Kv, KvError};
use crate::lease::{self, Lease};
use crate::overall::Overall;
use crate::storage::{self, S3_ENTRY, StoredS3};
use crate::term::{Begin, Term};
use crate::{api, clockwatch, inputs, registry, upkeep};

/// After anything between the coordinator and JetStream failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How long stopping tasks are waited for.
const DRAIN: Duration = Duration::from_secs(8);
/// How often a coordinator that stands by brings its copy of the storage configuration up to date.
const COPY_PAUSE: Duration = Duration::from_secs(30);

/// What a coordinator is made of; [`Coordinator::run`] does the work.
#[derive(Debug)]
pub struct Coordinator {
    pub config: Arc<Config>,
    pub client: Client,
    pub keys: Arc<Keys>,
    pub clock: Arc<dyn Clock>,
    pub inside: Arc<Inside>,
}

impl Coordinator {
    /// Leads whenever the lease allows, until `stop`.
    pub async fn run(&self, stop: &CancellationToken) {
        let holder = Uuid::new_v4();
        let mut trouble = Trouble::default();
        while !stop.is_cancelled() {
            if let Err(error) = self.lead_once(holder, &mut trouble, stop).await
                && let Some(told) = trouble.note(&error.to_string())
            {
                let nats = self.config.settings.nats.shown_url();
                warn!(nats, %error, lasting = told.lasting, "cannot lead yet; trying again");
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn lead_once(&self, holder: Uuid, trouble: &mut Trouble, stop: &CancellationToken) -> Result<(), KvError> {
        let settings = &self.config.settings;
        let context = kv::nats::context(&self.client);
        let kv = tokio::select! {
            opened = kv::nats::open(&context, &settings.jetstream) => opened?,
            () = stop.cancelled() => return Ok(()),
        };
        let ttl = settings.lease.ttl;
        let acquired = tokio::select! {
            acquired = lease::acquire(&kv, holder, ttl, &*self.clock, stop) => acquired?,
            never = self.copy_while_standing_by(&kv) => match never {},
        };
        let Some(mut held) = acquired else { return Ok(()) };
        let cancel = stop.child_token();
        let lease = held.lease.clone();
        let lead = async {
            match self.start(&context, kv.clone(), &lease, cancel.clone()).await {
                Ok(term) => {
                    info!(epoch = lease.epoch, lasted = trouble.over(), "leading");
                    self.inside.leads(&term);
                    cancel.cancelled().await;
                    term.tasks.close();
                    if tokio::time::timeout(DRAIN, term.tasks.wait()).await.is_err() {
                        warn!("some tasks did not end in time");
                    }
                    info!("not leading any more");
                    Ok(())
                }
                Err(error) => {
                    cancel.cancel();
                    Err(error)
                }
            }
        };
        let keep = async {
            held.keep(&kv, ttl, &*self.clock, &cancel).await;
            cancel.cancel();
        };
        let (result, ()) = tokio::join!(lead, keep);
        let _ = tokio::time::timeout(PAUSE, held.release(&kv)).await;
        result
    }

    /// The next leader may be this one, after NATS lost its disk.
    async fn copy_while_standing_by(&self, kv: &Kv) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(COPY_PAUSE).await;
            match kv.get::<StoredS3>(S3_ENTRY).await {
                Ok(Some(found)) => storage::keep_copy(&self.config.settings.state_dir, Some(&found.value)).await,
                // A KV that was lost looks like one without a configuration: the copy stays.
                Ok(None) => {}
                Err(error) => debug!(%error, "the storage configuration could not be copied"),
            }
        }
    }

    async fn start(
        &self,
        context: &Context,
        kv: Kv,
        lease: &Lease,
        cancel: CancellationToken,
    ) -> Result<Arc<Term>, KvError> {
        let (overall, existed) = Overall::load(kv.clone()).await?;
        let term = Term::begin(Begin {
            config: self.config.clone(),
            bus: Arc::new(Nats(self.client.clone())),
            keys: self.keys.clone(),
            clock: self.clock.clone(),
            attempts: self.inside.attempts(),
            kv,
            lease: lease.clone(),
            overall,
            cancel,
        });
        upkeep::open_storage(&term, existed).await?;
        registry::start(&term).await?;
        upkeep::refresh_overall(&term).await?;
        inputs::start(&term, &self.client, context).await?;
        api::service::start(&term, &self.client).await?;
        term.spawn(clockwatch::watch(term.clone()));
        term.spawn(upkeep::keep_overall(term.clone()));
        term.spawn(registry::rebuild_always(term.clone()));
        term.spawn(upkeep::mend_storage(term.clone()));
        term.spawn(upkeep::sweep_always(term.clone()));
        Ok(term)
    }
}
