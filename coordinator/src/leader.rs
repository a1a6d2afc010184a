//! The coordinator while it leads: what all its parts share, and the tasks that make it up.
//!
//! A coordinator stands by until the lease is its own, then opens JetStream, reads the records, starts a task
//! for each cluster, listens to beats and reports, and answers the API. Losing the lease ends all of that;
//! what was decided stands in the KV, so the next leader goes on from there.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use backstay_archive::catalog;
use backstay_protocol::spec::ClusterSpec;
use backstay_protocol::{Clock, ClusterName, ClusterUuid, Timestamp};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use crate::cluster::record::ClusterRecord;
use crate::config::{Config, Storage};
use crate::directory::Directory;
use crate::fleet::Fleet;
use crate::keys::Keys;
use crate::kv::{self, Kv, KvError, Revised};
use crate::lease;
use crate::overall::Overall;
use crate::schedule::Policy;
use crate::status::{self, StorageState};
use crate::storage::{InForce, S3_ENTRY, StorageSwitch, StoredS3};
use crate::{api, cluster, inputs};

/// After anything between the coordinator and JetStream failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two sweeps of what dead attempts left in the store.
const SWEEP_PAUSE: Duration = Duration::from_secs(3600);
/// How long stopping tasks are waited for.
const DRAIN: Duration = Duration::from_secs(8);
/// An agent whose beats are not known yet may be silent this long.
const PATIENCE: Duration = Duration::from_secs(16);
/// The file in `state_dir` with a sealed copy of the storage configuration.
const STORAGE_COPY: &str = "storage.json";

/// What a coordinator is made of; [`Coordinator::run`] does the work.
#[derive(Debug)]
pub struct Coordinator {
    pub config: Arc<Config>,
    pub client: Client,
    pub keys: Arc<Keys>,
    pub clock: Arc<dyn Clock>,
}

/// What the parts of a leading coordinator share.
#[derive(Debug)]
pub struct Leader {
    pub config: Arc<Config>,
    pub client: Client,
    pub context: Context,
    pub keys: Arc<Keys>,
    pub clock: Arc<dyn Clock>,
    pub kv: Kv,
    pub epoch: u64,
    pub fleet: Fleet,
    pub directory: Directory,
    pub storage: StorageSwitch,
    pub overall: Overall,
    /// One storage configuration is applied at a time.
    pub configuring: Mutex<()>,
    /// One cluster is registered at a time: a name gets one UUID.
    pub registering: Mutex<()>,
    pub permits: Option<Arc<Semaphore>>,
    /// Cancelled when the lease is lost or the coordinator stops.
    pub cancel: CancellationToken,
    pub tasks: TaskTracker,
    pub since: Instant,
}

impl Coordinator {
    /// Leads whenever the lease allows, until `stop`.
    pub async fn run(&self, stop: &CancellationToken) {
        let holder = Uuid::new_v4();
        while !stop.is_cancelled() {
            if let Err(error) = self.lead_once(holder, stop).await {
                warn!(%error, "cannot lead yet; trying again");
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn lead_once(&self, holder: Uuid, stop: &CancellationToken) -> Result<(), KvError> {
        let settings = &self.config.settings;
        let context = kv::context(&self.client);
        let kv = tokio::select! {
            opened = kv::open(&context, settings.jetstream.replicas) => opened?,
            () = stop.cancelled() => return Ok(()),
        };
        let ttl = settings.lease.ttl;
        let Some(mut held) = lease::acquire(&kv, holder, ttl, &*self.clock, stop).await? else {
            return Ok(());
        };
        info!(epoch = held.lease.epoch, "leading");
        let cancel = stop.child_token();
        let epoch = held.lease.epoch;
        let lead = async {
            let leader = self.start(context, kv.clone(), epoch, cancel.clone()).await;
            match leader {
                Ok(leader) => {
                    cancel.cancelled().await;
                    leader.tasks.close();
                    if tokio::time::timeout(DRAIN, leader.tasks.wait()).await.is_err() {
                        warn!("some tasks did not end in time");
                    }
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
        info!("not leading any more");
        let _ = tokio::time::timeout(PAUSE, held.release(&kv)).await;
        result
    }

    async fn start(
        &self,
        context: Context,
        kv: Kv,
        epoch: u64,
        cancel: CancellationToken,
    ) -> Result<Arc<Leader>, KvError> {
        let (overall, existed) = Overall::load(kv.clone()).await?;
        let parallel = self.config.settings.backup.parallel;
        let leader = Arc::new(Leader {
            config: self.config.clone(),
            client: self.client.clone(),
            context,
            keys: self.keys.clone(),
            clock: self.clock.clone(),
            kv,
            epoch,
            fleet: Fleet::default(),
            directory: Directory::default(),
            storage: StorageSwitch::default(),
            overall,
            configuring: Mutex::default(),
            registering: Mutex::default(),
            permits: (parallel > 0).then(|| Arc::new(Semaphore::new(parallel))),
            cancel,
            tasks: TaskTracker::new(),
            since: Instant::now(),
        });
        leader.open_storage(existed).await?;
        for key in leader.kv.keys("cluster.").await? {
            if let Some(found) = leader.kv.get::<ClusterRecord>(&key).await? {
                leader.look_after(found);
            }
        }
        leader.refresh_overall().await;
        inputs::start(&leader).await?;
        api::start(&leader).await?;
        leader.spawn_rebuilding();
        leader.spawn_sweeping();
        Ok(leader)
    }
}

impl Leader {
    /// How the schedule spreads and retries.
    pub fn policy(&self) -> Policy {
        let backup = &self.config.settings.backup;
        Policy { jitter: backup.jitter, retry_pause: backup.retry_pause }
    }

    /// How long an agent that has not beat yet may be silent.
    pub fn patience(&self) -> Duration {
        PATIENCE
    }

    /// Spawns a task that ends when this coordinator leads no more.
    pub fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = cancel.cancelled() => {}
            }
        });
    }

    /// Starts the task of a cluster whose record is kept.
    pub fn look_after(self: &Arc<Self>, found: Revised<ClusterRecord>) {
        let name = found.value.name.clone();
        let (task, handle) = cluster::task(self.clone(), found);
        if self.directory.add(name, handle) {
            self.tasks.spawn(task.run());
        }
    }

    /// Makes a cluster known, under the UUID that the store has for its name or a new one. Nothing happens
    /// where the name is known.
    pub async fn register(
        self: &Arc<Self>,
        name: &ClusterName,
        spec: ClusterSpec,
        uuid: Option<ClusterUuid>,
    ) -> Result<bool, KvError> {
        let _one_at_a_time = self.registering.lock().await;
        if self.directory.contains(name) {
            return Ok(false);
        }
        let fresh = ClusterUuid(Uuid::new_v4());
        let mut record = ClusterRecord::new(name.clone(), uuid.unwrap_or(fresh), spec, self.clock.now());
        record.uuid_final = uuid.is_some();
        let key = cluster::entry(name);
        let found = match self.kv.create(&key, &record).await {
            Ok(revision) => Revised { revision, value: record },
            Err(KvError::Conflict { .. }) => match self.kv.get(&key).await? {
                Some(found) => found,
                None => return Err(KvError::Conflict { key }),
            },
            Err(error) => return Err(error),
        };
        info!(cluster = %name, uuid = %found.value.uuid, "registered");
        self.look_after(found);
        Ok(true)
    }

    /// Folds every cluster's latest attempt and the storage's state into the overall status.
    pub async fn refresh_overall(&self) {
        let records = self.directory.records();
        let view = self.storage.now();
        let name = self.config.storage.name();
        let folded = self.overall.update(&*self.clock, |spec| {
            let statuses = records.iter().filter_map(|r| r.status.as_ref()).map(|s| &s.spec);
            status::with_clusters(&status::with_storage(spec, name, &view.state), statuses)
        });
        if let Err(error) = folded.await {
            warn!(%error, "the overall status could not be kept; the next change brings it up to date");
        }
    }

    /// Brings the storage into force that the settings or the KV name. A KV that is new although this
    /// coordinator has a copy of the configuration was lost: the copy goes back.
    async fn open_storage(&self, kv_existed: bool) -> Result<(), KvError> {
        match &self.config.storage {
            Storage::Local(path) => match InForce::local(path.clone()) {
                Ok(in_force) => self.storage.set(in_force),
                Err(error) => self.storage.clear(StorageState::Broken(error.to_string())),
            },
            Storage::S3 => {
                let mut stored = self.kv.get::<StoredS3>(S3_ENTRY).await?.map(|found| found.value);
                if stored.is_none() && !kv_existed {
                    stored = self.restore_copy().await;
                }
                if let Some(stored) = stored {
                    self.bring_into_force(&stored).await;
                }
            }
        }
        Ok(())
    }

    async fn bring_into_force(&self, stored: &StoredS3) {
        let opened = match stored.open(&self.keys) {
            Ok(spec) => InForce::s3(spec).await.map_err(|e| e.to_string()),
            Err(error) => Err(format!("the stored configuration cannot be opened: {error}")),
        };
        match opened {
            Ok(in_force) => self.storage.set(in_force),
            Err(error) => self.storage.clear(StorageState::Broken(error)),
        }
    }

    async fn restore_copy(&self) -> Option<StoredS3> {
        let path = self.config.settings.state_dir.join(STORAGE_COPY);
        let bytes = tokio::fs::read(&path).await.ok()?;
        let stored: StoredS3 = match serde_json::from_slice(&bytes) {
            Ok(stored) => stored,
            Err(error) => {
                warn!(path = %path.display(), %error, "the copy of the storage configuration cannot be read");
                return None;
            }
        };
        warn!(
            "the KV is new: NATS lost what it kept. The storage configuration comes back from this coordinator's copy"
        );
        if let Err(error) = self.kv.create(S3_ENTRY, &stored).await {
            warn!(%error, "the storage configuration could not be kept");
        }
        Some(stored)
    }

    /// Keeps a copy of the storage configuration, its secrets sealed, for a NATS that loses its disk.
    pub async fn keep_copy(&self, stored: Option<&StoredS3>) {
        let path = self.config.settings.state_dir.join(STORAGE_COPY);
        let kept = match stored.map(serde_json::to_vec) {
            Some(Ok(bytes)) => tokio::task::spawn_blocking(move || crate::keys::replace_private(&path, &bytes)).await,
            Some(Err(error)) => Ok(Err(error.into())),
            None => Ok(std::fs::remove_file(&path)
                .or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })),
        };
        match kept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(%error, "the copy of the storage configuration could not be written"),
            Err(error) => error!(%error, "the copy of the storage configuration could not be written"),
        }
    }

    /// Whenever a store comes into force, clusters that only the store knows are registered again.
    fn spawn_rebuilding(self: &Arc<Self>) {
        let leader = self.clone();
        self.spawn(async move {
            let mut storage = leader.storage.subscribe();
            loop {
                let view = storage.borrow_and_update().clone();
                if let Some(in_force) = view.in_force {
                    leader.rebuild(&in_force).await;
                }
                if storage.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// Once in a while, what dead attempts left in the store is removed: also those of `backstay-agent once`,
    /// which no slot remembers.
    fn spawn_sweeping(self: &Arc<Self>) {
        let leader = self.clone();
        self.spawn(async move {
            loop {
                if let Some(in_force) = leader.storage.now().in_force {
                    for record in leader.directory.records() {
                        leader.sweep(&in_force, &record).await;
                    }
                }
                tokio::time::sleep(SWEEP_PAUSE).await;
            }
        });
    }

    async fn sweep(&self, in_force: &InForce, record: &ClusterRecord) {
        // Older than any attempt can be that still runs.
        let age = self.config.settings.backup.deadline + SWEEP_PAUSE;
        let older = self.clock.now().as_millis().saturating_sub(age.as_millis() as i64);
        match catalog::sweep(&*in_force.store, record.uuid, Timestamp::from_millis(older)).await {
            Ok(swept) => debug!(cluster = %record.name, ?swept, "swept"),
            Err(error) => warn!(cluster = %record.name, %error, "what dead attempts left could not be removed"),
        }
    }

    async fn rebuild(self: &Arc<Self>, in_force: &InForce) {
        let known: Vec<ClusterUuid> = self.directory.records().iter().map(|r| r.uuid).collect();
        let folders = match catalog::clusters(&*in_force.store).await {
            Ok(folders) => folders,
            Err(error) => return warn!(%error, "the store could not be asked which clusters it has"),
        };
        for uuid in folders.into_iter().filter(|uuid| !known.contains(uuid)) {
            let name = match catalog::newest(&*in_force.store, uuid).await {
                Ok(Some(manifest)) => manifest.cluster,
                Ok(None) => continue,
                Err(error) => {
                    warn!(%uuid, %error, "the newest manifest could not be read");
                    continue;
                }
            };
            if let Err(error) = self.register(&name, ClusterSpec::default(), Some(uuid)).await {
                warn!(cluster = %name, %error, "the cluster could not be registered again");
            }
        }
    }
}
