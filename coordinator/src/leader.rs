//! Leading: the coordinator that gets the lease begins a term, reads the records, starts a task for each cluster, and
//! continues until it loses the lease. What was decided is in the KV, so the next leader continues from there.
//!
//! How agents and people reach the leader is not handled here: see [`crate::coordinator`].

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::kv::{Kv, KvError};
use crate::lease::{self, Lease};
use crate::overall::Overall;
use crate::storage::{self, S3_ENTRY, StoredS3};
use crate::term::{Term, TermDependencies};
use crate::{clockwatch, registry, upkeep};

/// How long it may take to give up the lease.
const RELEASE: Duration = Duration::from_secs(1);
/// How long to wait for tasks that are stopping.
const DRAIN: Duration = Duration::from_secs(8);
/// How often a coordinator that stands by updates its copy of the storage configuration.
const COPY_PAUSE: Duration = Duration::from_secs(30);

/// A coordinator that may become the leader.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub deps: TermDependencies,
    /// The UUID under which it holds the lease.
    pub holder: Uuid,
}

impl Candidate {
    /// Waits for the lease, leads until it is lost or `stop` is cancelled, and gives it up. `serve` lets agents and
    /// people reach the leader.
    ///
    /// # Errors
    /// The KV does not answer while it waits for the lease, or `serve` fails.
    pub async fn lead(
        &self,
        kv: &Kv,
        stop: &CancellationToken,
        serve: impl AsyncFnOnce(&Arc<Term>) -> Result<(), KvError>,
    ) -> Result<(), KvError> {
        let ttl = self.deps.config.settings.lease.ttl;
        let acquired = tokio::select! {
            acquired = lease::acquire(kv, self.holder, ttl, &*self.deps.clock, stop) => acquired?,
            never = self.copy_while_standing_by(kv) => match never {},
        };
        let Some(mut held) = acquired else { return Ok(()) };
        let cancel = stop.child_token();
        let lease = held.lease.clone();
        let lead = async {
            let mut begun = None;
            let led = async {
                let (term, kv_existed) = self.begin(kv.clone(), &lease, cancel.clone()).await?;
                let term = begun.insert(term);
                start(term, kv_existed).await?;
                serve(term).await
            };
            // What was not begun when the lease is lost does not begin.
            let result = cancel.run_until_cancelled(led).await;
            let leads = matches!(result, Some(Ok(())));
            match &result {
                Some(Err(_)) => cancel.cancel(),
                _ => cancel.cancelled().await,
            }
            if let Some(term) = begun {
                term.tasks.close();
                if tokio::time::timeout(DRAIN, term.tasks.wait()).await.is_err() {
                    warn!("some tasks did not end in time");
                }
            }
            if leads {
                info!("no longer leading");
            }
            result.unwrap_or(Ok(()))
        };
        let keep = async {
            held.keep(kv, ttl, &*self.deps.clock, &cancel).await;
            cancel.cancel();
        };
        let (result, ()) = tokio::join!(lead, keep);
        let _ = tokio::time::timeout(RELEASE, held.release(kv)).await;
        result
    }

    /// The next leader may be this one, after NATS lost its disk.
    async fn copy_while_standing_by(&self, kv: &Kv) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(COPY_PAUSE).await;
            match kv.get::<StoredS3>(S3_ENTRY).await {
                Ok(Some(found)) => storage::keep_copy(&self.deps.config.settings.state_dir, Some(&found.value)).await,
                // A KV that was lost looks like one without a configuration: the copy stays.
                Ok(None) => {}
                Err(error) => debug!(%error, "could not copy the storage configuration"),
            }
        }
    }

    /// A term in which nothing runs yet, and whether the KV contained anything before.
    async fn begin(&self, kv: Kv, lease: &Lease, cancel: CancellationToken) -> Result<(Arc<Term>, bool), KvError> {
        let (overall, existed) = Overall::load(kv.clone()).await?;
        Ok((Term::begin(self.deps.clone(), kv, lease, overall, cancel), existed))
    }
}

/// Starts what runs in a term.
async fn start(term: &Arc<Term>, kv_existed: bool) -> Result<(), KvError> {
    upkeep::open_storage(term, kv_existed).await?;
    registry::start(term).await?;
    upkeep::refresh_overall(term).await?;
    term.spawn(clockwatch::watch(term.clone()));
    term.spawn(upkeep::keep_overall(term.clone()));
    term.spawn(registry::rebuild_always(term.clone()));
    term.spawn(upkeep::watch_storage(term.clone()));
    term.spawn(upkeep::sweep_always(term.clone()));
    Ok(())
}
