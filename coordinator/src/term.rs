//! What all parts share during one term of leadership: the KV, the clock, the keys, the fleet, the storage. A term
//! begins when the lease is taken and ends when it is lost; its parts reach each other only through this.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use backstay_daemon::trouble::Shared;
use backstay_protocol::{Clock, Timestamp};
use futures::FutureExt;
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;
use uuid::Uuid;

use crate::attempts::Attempts;
use crate::bus::Bus;
use crate::clocks::Clocks;
use crate::config::Config;
use crate::directory::Directory;
use crate::fleet::Fleet;
use crate::keys::Keys;
use crate::kv::Kv;
use crate::lease::Lease;
use crate::overall::Overall;
use crate::schedule::Policy;
use crate::storage::{Opener, StorageSwitch};

/// One term of leadership.
#[derive(Debug)]
pub struct Term {
    pub config: Arc<Config>,
    /// The way to the agents.
    pub bus: Arc<dyn Bus>,
    pub opener: Arc<dyn Opener>,
    pub keys: Arc<Keys>,
    pub clock: Arc<dyn Clock>,
    pub attempts: Arc<Attempts>,
    pub kv: Kv,
    /// The UUID under which the lease is held.
    pub holder: Uuid,
    pub epoch: u64,
    pub fleet: Fleet,
    pub directory: Directory,
    pub storage: StorageSwitch,
    pub overall: Overall,
    /// Notified whenever something has changed that the overall status depends on.
    pub overall_changed: Notify,
    /// What was logged about beats and requests.
    pub told: Shared,
    /// Only one storage configuration is applied at a time.
    pub configuring: Mutex<()>,
    /// Only one cluster is registered at a time, so that a name gets one UUID.
    pub registering: Mutex<()>,
    pub permits: Option<Arc<Semaphore>>,
    /// Cancelled when the lease is lost or the coordinator stops.
    pub cancel: CancellationToken,
    pub tasks: TaskTracker,
    pub clocks: Clocks,
    pub since: Instant,
    pub since_at: Timestamp,
}

/// What is the same in all terms of a process.
#[derive(Debug, Clone)]
pub struct TermDependencies {
    pub config: Arc<Config>,
    pub bus: Arc<dyn Bus>,
    pub opener: Arc<dyn Opener>,
    pub keys: Arc<Keys>,
    pub clock: Arc<dyn Clock>,
    pub attempts: Arc<Attempts>,
}

impl Term {
    /// Nothing is known yet, and nothing runs.
    pub fn begin(
        deps: TermDependencies,
        kv: Kv,
        lease: &Lease,
        overall: Overall,
        cancel: CancellationToken,
    ) -> Arc<Self> {
        let TermDependencies { config, bus, opener, keys, clock, attempts } = deps;
        let parallel = config.settings.backup.parallel;
        Arc::new(Self {
            config,
            bus,
            opener,
            keys,
            attempts,
            kv,
            holder: lease.holder,
            epoch: lease.epoch,
            fleet: Fleet::default(),
            directory: Directory::default(),
            storage: StorageSwitch::default(),
            overall,
            overall_changed: Notify::new(),
            told: Shared::default(),
            configuring: Mutex::default(),
            registering: Mutex::default(),
            permits: (parallel > 0).then(|| Arc::new(Semaphore::new(parallel))),
            cancel,
            tasks: TaskTracker::new(),
            clocks: Clocks::default(),
            since: Instant::now(),
            since_at: clock.now(),
            clock,
        })
    }

    /// How the schedule spreads and retries.
    pub fn policy(&self) -> Policy {
        let backup = &self.config.settings.backup;
        Policy { jitter: backup.jitter, retry_pause: backup.retry_pause }
    }

    /// Spawns a task that ends when this coordinator no longer leads.
    pub fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.spawn_to_the_end(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Spawns a task that ends by itself. If it panics, this coordinator gives up leading: the next term reads
    /// everything again, whereas nobody would notice that one part has stopped.
    pub fn spawn_to_the_end(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                error!("a task panicked: giving up the lease and starting again");
                cancel.cancel();
            }
        });
    }
}
