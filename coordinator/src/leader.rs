//! The coordinator while it leads: what all its parts share, and the tasks that make it up.
//!
//! A coordinator stands by until the lease is its own, then opens JetStream, reads the records, starts a task
//! for each cluster, listens to beats and reports, and answers the API. Losing the lease ends all of that;
//! what was decided stands in the KV, so the next leader goes on from there.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use backstay_archive::catalog::Rank;
use backstay_archive::{catalog, names};
use backstay_daemon::trouble::{Shared, Trouble, Troubles};
use backstay_protocol::spec::ClusterSpec;
use backstay_protocol::{Clock, ClusterName, ClusterUuid, Timestamp};
use futures::FutureExt;
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use crate::attempts::Attempts;
use crate::clocks::{self, Clocks};
use crate::config::{Config, Storage};
use crate::directory::Directory;
use crate::fleet::Fleet;
use crate::forgotten;
use crate::inside::Inside;
use crate::keys::Keys;
use crate::kv::{self, Kv, KvError, Revised};
use crate::lease::{self, Lease};
use crate::overall::Overall;
use crate::record::{ClusterRecord, FORMAT};
use crate::schedule::Policy;
use crate::status::{self, StorageState};
use crate::storage::{self, InForce, S3_ENTRY, StorageSwitch, StoredS3};
use crate::{api, cluster, inputs};

/// After anything between the coordinator and JetStream failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two sweeps of what dead attempts left in the store.
const SWEEP_PAUSE: Duration = Duration::from_secs(3600);
/// How long stopping tasks are waited for.
const DRAIN: Duration = Duration::from_secs(8);
/// Between two tries to open a local store that was not there, or to rebuild from a store that did not answer.
const MEND_PAUSE: Duration = Duration::from_secs(10);
/// No attempt is older: what was begun longer ago is a dead one's. `backstay-agent once` may take 6 hours.
const ATTEMPT_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
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

/// What the parts of a leading coordinator share.
#[derive(Debug)]
pub struct Leader {
    pub config: Arc<Config>,
    pub client: Client,
    pub context: Context,
    pub keys: Arc<Keys>,
    pub clock: Arc<dyn Clock>,
    pub attempts: Arc<Attempts>,
    pub kv: Kv,
    /// Under which the lease is held.
    pub holder: Uuid,
    pub epoch: u64,
    pub fleet: Fleet,
    pub directory: Directory,
    pub storage: StorageSwitch,
    pub overall: Overall,
    /// Told whenever what the overall status is folded from has changed.
    pub overall_changed: Notify,
    /// What the log was told of beats and requests.
    pub told: Shared,
    /// One storage configuration is applied at a time.
    pub configuring: Mutex<()>,
    /// One cluster is registered at a time: a name gets one UUID.
    pub registering: Mutex<()>,
    pub permits: Option<Arc<Semaphore>>,
    /// Cancelled when the lease is lost or the coordinator stops.
    pub cancel: CancellationToken,
    pub tasks: TaskTracker,
    pub clocks: Clocks,
    pub since: Instant,
    pub since_at: Timestamp,
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
            let leader = self.start(context, kv.clone(), &lease, cancel.clone()).await;
            match leader {
                Ok(leader) => {
                    info!(epoch = lease.epoch, lasted = trouble.over(), "leading");
                    self.inside.leads(&leader);
                    cancel.cancelled().await;
                    leader.tasks.close();
                    if tokio::time::timeout(DRAIN, leader.tasks.wait()).await.is_err() {
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
        context: Context,
        kv: Kv,
        lease: &Lease,
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
            attempts: self.inside.attempts(),
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
            since_at: self.clock.now(),
        });
        leader.open_storage(existed).await?;
        for key in leader.kv.keys("cluster.").await? {
            match leader.kv.get::<ClusterRecord>(&key).await {
                Ok(Some(found)) if found.value.format == FORMAT => leader.look_after(found),
                Ok(Some(found)) => {
                    error!(%key, format = found.value.format, "a newer coordinator wrote this record: update this one")
                }
                Ok(None) => {}
                // One cluster's broken record is no other cluster's trouble.
                Err(error @ KvError::Malformed { .. }) => {
                    error!(%error, "the cluster is left alone until its record can be read")
                }
                Err(error) => return Err(error),
            }
        }
        leader.refresh_overall().await?;
        inputs::start(&leader).await?;
        api::start(&leader).await?;
        leader.spawn(clocks::watch(leader.clone()));
        leader.spawn_overall();
        leader.spawn_rebuilding();
        leader.spawn_mending();
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

    /// Spawns a task that ends when this coordinator leads no more.
    pub fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.spawn_to_the_end(async move {
            tokio::select! {
                () = task => {}
                () = cancel.cancelled() => {}
            }
        });
    }

    /// Spawns a task that ends by itself. One that panics takes the leadership with it: the next leader reads
    /// everything again, where a part that silently stopped would be missed by nobody.
    pub fn spawn_to_the_end(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                error!("a task panicked: giving up the lease and beginning again");
                cancel.cancel();
            }
        });
    }

    /// Starts the task of a cluster whose record is kept.
    pub fn look_after(self: &Arc<Self>, found: Revised<ClusterRecord>) {
        let name = found.value.name.clone();
        let (task, handle) = cluster::task(self.clone(), found);
        self.attempts.know(&name);
        if self.directory.add(name, handle) {
            self.spawn_to_the_end(task.run());
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
        self.register_alone(name, spec, uuid).await
    }

    /// The same for a cluster that the store knows, unless somebody deleted it: what is deleted was in the directory until
    /// that was noted.
    async fn register_again(self: &Arc<Self>, name: &ClusterName, uuid: ClusterUuid) -> Result<bool, KvError> {
        let _one_at_a_time = self.registering.lock().await;
        if self.directory.contains(name) || forgotten::is(&self.kv, name).await? {
            return Ok(false);
        }
        self.register_alone(name, ClusterSpec::default(), Some(uuid)).await
    }

    async fn register_alone(
        self: &Arc<Self>,
        name: &ClusterName,
        spec: ClusterSpec,
        uuid: Option<ClusterUuid>,
    ) -> Result<bool, KvError> {
        if self.directory.contains(name) {
            return Ok(false);
        }
        let fresh = ClusterUuid(Uuid::new_v4());
        let mut record = ClusterRecord::new(name.clone(), uuid.unwrap_or(fresh), spec, self.clock.now());
        record.uuid_final = uuid.is_some();
        if let Some(late) = self.kv.get(&cluster::restoring::late_entry(name)).await? {
            record.unsettled = late.value;
        }
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
        forgotten::is_no_more(&self.kv, name).await;
        Ok(true)
    }

    /// Folds every cluster's latest attempt and the storage's state into the overall status.
    pub async fn refresh_overall(&self) -> Result<(), KvError> {
        let records = self.directory.records();
        let view = self.storage.now();
        let name = self.config.storage.name();
        let folded = self.overall.update(&*self.clock, |spec| {
            let statuses = records.iter().filter_map(|r| r.status.as_ref()).map(|s| &s.spec);
            status::with_clusters(&status::with_storage(spec, name, &view.state), statuses)
        });
        folded.await
    }

    /// Keeps the overall status up to date; clusters tell that something changed and wait for nothing.
    fn spawn_overall(self: &Arc<Self>) {
        let leader = self.clone();
        self.spawn(async move {
            let mut trouble = Trouble::default();
            loop {
                leader.overall_changed.notified().await;
                while let Err(error) = leader.refresh_overall().await {
                    if let Some(told) = trouble.note(&error.to_string()) {
                        warn!(%error, lasting = told.lasting, "the overall status could not be kept; trying again");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                trouble.over();
            }
        });
    }

    /// A local folder may be mounted after the coordinator has started.
    fn spawn_mending(self: &Arc<Self>) {
        let leader = self.clone();
        let Storage::Local(path) = self.config.storage.clone() else { return };
        self.spawn(async move {
            let mut trouble = Trouble::default();
            loop {
                tokio::time::sleep(MEND_PAUSE).await;
                if leader.storage.now().in_force.is_some() {
                    continue;
                }
                match InForce::local(path.clone()).await.map_err(|e| e.to_string()) {
                    Ok(in_force) => {
                        leader.storage.set(in_force);
                        info!(path = %path.display(), lasted = trouble.over(), "the local store is there");
                    }
                    Err(error) => {
                        if let Some(told) = trouble.note(&error) {
                            warn!(error, lasting = told.lasting, "the local store could not be opened; trying again");
                        }
                        leader.storage.clear(StorageState::Broken(error));
                    }
                }
                leader.overall_changed.notify_one();
            }
        });
    }

    /// Brings the storage into force that the settings or the KV name. A KV that is new although this
    /// coordinator has a copy of the configuration was lost: the copy goes back.
    async fn open_storage(&self, kv_existed: bool) -> Result<(), KvError> {
        match &self.config.storage {
            Storage::Local(path) => match InForce::local(path.clone()).await {
                Ok(in_force) => self.storage.set(in_force),
                Err(error) => self.storage.clear(StorageState::Broken(error.to_string())),
            },
            Storage::S3 => {
                let mut stored = self.kv.get::<StoredS3>(S3_ENTRY).await?.map(|found| found.value);
                if stored.is_none() && !kv_existed {
                    stored = self.restore_copy().await?;
                }
                if let Some(stored) = stored {
                    self.keep_copy(Some(&stored)).await;
                    self.bring_into_force(&stored).await;
                }
            }
        }
        Ok(())
    }

    async fn bring_into_force(&self, stored: &StoredS3) {
        let opened = match stored.open(&self.keys) {
            Ok(spec) => {
                let opened = InForce::s3(spec, &self.config.settings.storage, stored.found).await;
                opened.map_err(|e| e.to_string())
            }
            Err(error) => Err(format!("the stored configuration cannot be opened: {error}")),
        };
        match opened {
            Ok(in_force) => self.storage.set(in_force),
            Err(error) => self.storage.clear(StorageState::Broken(error)),
        }
    }

    /// An error where it could not be kept: whoever leads next would not look for the copy again.
    async fn restore_copy(&self) -> Result<Option<StoredS3>, KvError> {
        let Some(stored) = storage::read_copy(&self.config.settings.state_dir).await else { return Ok(None) };
        warn!(
            "the KV is new: NATS lost what it kept. The storage configuration comes back from this coordinator's copy"
        );
        match self.kv.create(S3_ENTRY, &stored).await {
            // Somebody configured it meanwhile: that counts.
            Err(KvError::Conflict { .. }) => Ok(self.kv.get::<StoredS3>(S3_ENTRY).await?.map(|found| found.value)),
            kept => kept.map(|_| Some(stored)),
        }
    }

    /// Keeps a copy of the storage configuration, its secrets sealed, for a NATS that loses its disk.
    pub async fn keep_copy(&self, stored: Option<&StoredS3>) {
        storage::keep_copy(&self.config.settings.state_dir, stored).await;
    }

    /// Whenever a store comes into force, clusters that only the store knows are registered again.
    fn spawn_rebuilding(self: &Arc<Self>) {
        let leader = self.clone();
        self.spawn(async move {
            let mut storage = leader.storage.subscribe();
            let mut troubles = Troubles::default();
            loop {
                let view = storage.borrow_and_update().clone();
                let complete = match view.in_force {
                    Some(in_force) => leader.rebuild(&in_force, &mut troubles).await,
                    None => true,
                };
                tokio::select! {
                    changed = storage.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(MEND_PAUSE), if !complete => {}
                }
            }
        });
    }

    /// Whether everything could be read.
    async fn rebuild(self: &Arc<Self>, in_force: &InForce, troubles: &mut Troubles) -> bool {
        let known: Vec<ClusterUuid> = self.directory.records().iter().map(|r| r.uuid).collect();
        let folders = match catalog::clusters(&*in_force.store).await {
            Ok(folders) => folders,
            Err(error) => {
                if let Some(told) = troubles.note("", &error.to_string()) {
                    let lasting = told.lasting;
                    warn!(%error, lasting, "the store could not be asked which clusters it has; trying again");
                }
                return false;
            }
        };
        // Where several folders have one name, the one with the newest backup is the cluster's.
        let mut newest: BTreeMap<ClusterName, (Rank, ClusterUuid)> = BTreeMap::new();
        let (mut complete, now) = (true, self.clock.now());
        for uuid in folders.into_iter().filter(|uuid| !known.contains(uuid)) {
            match catalog::newest_true(&*in_force.store, uuid, now).await {
                Ok(Some(manifest)) => {
                    let found = (Rank::of(manifest.snapshot, now), uuid);
                    let entry = newest.entry(manifest.cluster).or_insert(found);
                    *entry = found.max(*entry);
                }
                Ok(None) => {}
                Err(error) => {
                    if let Some(told) = troubles.note(&uuid.to_string(), &error.to_string()) {
                        let lasting = told.lasting;
                        warn!(%uuid, %error, lasting, "the newest manifest could not be read; trying again");
                    }
                    complete = false;
                }
            }
        }
        for (name, (_, newest)) in newest {
            // The same answer as everybody else's who asks the store for the name.
            let uuid = match names::find(&*in_force.store, &name, now).await {
                Ok(found) => found.unwrap_or(newest),
                Err(error) => {
                    if let Some(told) = troubles.note(name.as_str(), &error.to_string()) {
                        let lasting = told.lasting;
                        warn!(cluster = %name, %error, lasting, "the store could not be asked for the cluster's UUID; trying again");
                    }
                    complete = false;
                    continue;
                }
            };
            if let Err(error) = self.register_again(&name, uuid).await {
                if let Some(told) = troubles.note(name.as_str(), &error.to_string()) {
                    let lasting = told.lasting;
                    warn!(cluster = %name, %error, lasting, "the cluster could not be registered again; trying again");
                }
                complete = false;
            }
        }
        complete
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
        let age = self.config.settings.backup.deadline.max(ATTEMPT_AGE_MAX) + SWEEP_PAUSE;
        // The store says when each was begun: a wrong clock here must not make what is under way look old.
        let now = self.clocks.by_store(self.clock.now());
        let older = now.as_millis().saturating_sub(age.as_millis() as i64);
        match catalog::sweep(&*in_force.store, record.uuid, Timestamp::from_millis(older)).await {
            Ok(swept) => debug!(cluster = %record.name, ?swept, "swept"),
            Err(error) => warn!(cluster = %record.name, %error, "what dead attempts left could not be removed"),
        }
    }
}
