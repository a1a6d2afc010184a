//! A world in one process: entries, a bus, a store and a clock that go with tokio's time, processes that may lead, and agents.
//! Its randomness and its faults come from outside, so that a run can be had again.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use async_trait::async_trait;
use backstay_archive::StoreError;
use backstay_archive::seal::Identity;
use backstay_archive::store::ErrorKind;
use backstay_coordinator::attempts::Attempts;
use backstay_coordinator::bus::memory::MemoryBus as Bus;
use backstay_coordinator::config::{self, Backend, Config, EncryptionMode, Settings};
use backstay_coordinator::inputs::{self, Taken};
use backstay_coordinator::keys::Keys;
use backstay_coordinator::kv::memory::MemoryEntries;
use backstay_coordinator::kv::{Kv, KvError};
use backstay_coordinator::leader::Candidate;
use backstay_coordinator::storage::{ActiveStore, Opener};
use backstay_coordinator::term::{Term, TermDependencies};
use backstay_protocol::bus::Report;
use backstay_protocol::subject::Subject;
use backstay_protocol::{Clock, ClusterName, MachineId, Timestamp};
use prost::Message;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::door::{Door, Hook, Kept, Line, lock};
use super::memory::{Fate as StoreFate, MemoryStore};

/// When a world begins.
pub const BEGIN: Timestamp = Timestamp { seconds: 1_800_000_000, nanos: 0 };
/// etcd's own id of every cluster.
pub const ETCD: u64 = 0xe7cd;
/// So long anything may take; no test waits it out unless something is wrong.
const SOON: Duration = Duration::from_secs(600);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// After a term ended, as the coordinator has it.
const PAUSE: Duration = Duration::from_secs(1);

thread_local! {
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Counts this thread's panics from here on: all of a world runs on one thread, and a task that panics is silent else.
fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with(|count| count.set(count.get() + 1));
            before(panic);
        }));
    });
    PANICS.with(|count| count.set(0));
}

/// A clock that goes with tokio's time.
#[derive(Debug)]
pub struct Pace {
    begun: Instant,
    ahead_ms: AtomicI64,
}

impl Pace {
    fn new(begun: Instant) -> Arc<Self> {
        Arc::new(Self { begun, ahead_ms: AtomicI64::new(0) })
    }

    /// From here on it is ahead of the world's time.
    pub fn set_ahead(&self, by: Duration) {
        self.ahead_ms.store(by.as_millis() as i64, Ordering::SeqCst);
    }
}

impl Clock for Pace {
    fn now(&self) -> Timestamp {
        let passed = self.begun.elapsed().as_millis() as i64;
        Timestamp::from_millis(BEGIN.as_millis() + passed + self.ahead_ms.load(Ordering::SeqCst))
    }
}

/// What a world is begun with.
pub struct Setup {
    pub settings: Settings,
    /// Backups go to S3, which nobody has configured yet.
    pub s3: bool,
    pub encrypted: bool,
    /// A number below the one that is given.
    pub random: Box<dyn FnMut(u64) -> u64 + Send>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { settings: Settings::default(), s3: false, encrypted: true, random: Box::new(seeded(1)) }
    }
}

/// The same numbers for the same seed.
pub fn seeded(mut state: u64) -> impl FnMut(u64) -> u64 + Send {
    move |below| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }
}

/// The folder of the backups, which may not be there.
#[derive(Debug)]
struct Shelf {
    store: MemoryStore,
    there: Arc<AtomicBool>,
}

#[async_trait]
impl Opener for Shelf {
    async fn local(&self, path: &Path) -> Result<ActiveStore, StoreError> {
        if self.there.load(Ordering::SeqCst) {
            return Ok(ActiveStore::of(Arc::new(self.store.clone()), path.to_owned()));
        }
        Err(no_such_folder(path))
    }

    async fn is_there(&self, path: &Path) -> Result<(), StoreError> {
        if self.there.load(Ordering::SeqCst) { Ok(()) } else { Err(no_such_folder(path)) }
    }
}

fn no_such_folder(path: &Path) -> StoreError {
    let (action, target) = ("open".to_owned(), path.display().to_string());
    StoreError { kind: ErrorKind::Unavailable, action, target, cause: "no such folder".into() }
}

/// A coordinator's process.
#[derive(Debug)]
pub struct Process {
    pub who: usize,
    pub door: Arc<Door>,
    pub clock: Arc<Pace>,
    pub attempts: Arc<Attempts>,
    terms: Mutex<Vec<Arc<Term>>>,
    pub stop: CancellationToken,
    dead: CancellationToken,
}

impl Process {
    /// It is no more, without a word.
    pub fn die(&self) {
        self.dead.cancel();
    }

    /// It stops as it is told to.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    pub fn is_dead(&self) -> bool {
        self.dead.is_cancelled()
    }

    /// Waits until it is no more.
    pub async fn until_death(&self) {
        self.dead.cancelled().await;
    }

    /// Every term in which it led, the latest last.
    pub fn terms(&self) -> Vec<Arc<Term>> {
        lock(&self.terms).clone()
    }

    /// The term in which it leads now.
    pub fn leads(&self) -> Option<Arc<Term>> {
        self.terms().pop().filter(|term| !term.cancel.is_cancelled() && !self.is_dead())
    }
}

/// The world.
pub struct World {
    pub clock: Arc<Pace>,
    pub kept: Arc<Kept>,
    pub bus: Arc<Bus>,
    pub store: MemoryStore,
    pub config: Arc<Config>,
    /// Every agent's: what is sealed to it is never opened here.
    pub recipient: String,
    pub keys: Arc<Keys>,
    there: Arc<AtomicBool>,
    silent: Arc<AtomicBool>,
    random: Mutex<Box<dyn FnMut(u64) -> u64 + Send>>,
    processes: Mutex<Vec<Arc<Process>>>,
    reports: AtomicUsize,
    /// How often somebody began to lead while somebody else did.
    overlaps: AtomicUsize,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

impl World {
    /// A world with nobody in it.
    pub fn begin(setup: Setup) -> Arc<Self> {
        count_panics();
        let Setup { mut settings, s3, encrypted, random } = setup;
        if !s3 {
            settings.storage.backend = Some(Backend::Local);
            settings.storage.path = Some(PathBuf::from("/backups"));
        }
        match encrypted {
            true => settings.encryption.recovery_recipients = vec![Identity::generate().to_public().to_string()],
            false => settings.encryption.mode = Some(EncryptionMode::Off),
        }
        let config = Arc::new(config::check(settings).expect("settings of a test"));
        let clock = Pace::new(Instant::now());
        let store = MemoryStore::new();
        store.keep_time(clock.clone());
        Arc::new(Self {
            kept: Arc::new(Kept::new(MemoryEntries::new(clock.clone()))),
            clock,
            bus: Arc::default(),
            store,
            recipient: Identity::generate().to_public().to_string(),
            keys: Arc::new(Keys::new(Identity::generate(), config.recovery.clone())),
            config,
            there: Arc::new(AtomicBool::new(true)),
            silent: Arc::default(),
            random: Mutex::new(random),
            processes: Mutex::default(),
            reports: AtomicUsize::new(0),
            overlaps: AtomicUsize::new(0),
        })
    }

    /// Nothing panicked, and never did two lead at the same time.
    pub fn at_peace(&self) {
        assert_eq!((self.panics(), self.overlaps()), (0, 0), "panics, and how often two led");
    }

    /// A number below that one.
    pub fn random(&self, below: u64) -> u64 {
        lock(&self.random)(below)
    }

    /// Takes the folder of the backups away, or brings it back.
    pub fn mount(&self, there: bool) {
        self.there.store(there, Ordering::SeqCst);
    }

    /// The store answers no coordinator, or does again; agents reach it all the same.
    pub fn silence_store(&self, silent: bool) {
        self.silent.store(silent, Ordering::SeqCst);
    }

    /// One more process that may lead.
    pub fn start(self: &Arc<Self>) -> Arc<Process> {
        self.start_with(None)
    }

    /// The same, with its faults from the first call on.
    pub fn start_with(self: &Arc<Self>, hook: Option<Hook>) -> Arc<Process> {
        let (process, candidate) = self.candidate(hook);
        tokio::spawn(run(self.clone(), process.clone(), candidate));
        process
    }

    /// A process in which nothing runs yet, and what leads in it.
    pub fn candidate(self: &Arc<Self>, hook: Option<Hook>) -> (Arc<Process>, Candidate) {
        let dead = CancellationToken::new();
        let process = {
            let mut processes = lock(&self.processes);
            let who = processes.len();
            let process = Arc::new(Process {
                who,
                door: Arc::new(Door::new(who, self.kept.clone(), dead.clone(), hook)),
                clock: Pace::new(self.clock.begun),
                attempts: Arc::default(),
                terms: Mutex::default(),
                stop: CancellationToken::new(),
                dead,
            });
            processes.push(process.clone());
            process
        };
        let store = self.store.door();
        let dead = process.dead.clone();
        let silent = self.silent.clone();
        store.on_call(move |_| match dead.is_cancelled() {
            true => StoreFate::Hang,
            false if silent.load(Ordering::SeqCst) => StoreFate::Fail(ErrorKind::Unavailable),
            false => StoreFate::Pass,
        });
        let deps = TermDependencies {
            config: self.config.clone(),
            keys: self.keys.clone(),
            clock: process.clock.clone(),
            attempts: process.attempts.clone(),
            bus: Arc::new(Line { bus: self.bus.clone(), dead: process.dead.clone() }),
            opener: Arc::new(Shelf { store, there: self.there.clone() }),
        };
        let holder = Uuid::from_u128(process.who as u128 + 1);
        (process, Candidate { deps, holder })
    }

    pub fn processes(&self) -> Vec<Arc<Process>> {
        lock(&self.processes).clone()
    }

    /// Everybody who leads or thinks so, the newest last.
    pub fn leaders(&self) -> Vec<(Arc<Process>, Arc<Term>)> {
        let mut leaders: Vec<_> =
            self.processes().into_iter().filter_map(|process| Some((process.clone(), process.leads()?))).collect();
        leaders.sort_by_key(|(_, term)| term.epoch);
        leaders
    }

    /// Waits until somebody leads.
    pub async fn leader(&self) -> (Arc<Process>, Arc<Term>) {
        self.until("somebody leads", || self.leaders().pop()).await
    }

    /// Waits until `found`; no clock on a wall passes meanwhile.
    pub async fn until<T>(&self, what: &str, found: impl FnMut() -> Option<T>) -> T {
        self.within(SOON, what, found).await
    }

    pub async fn within<T>(&self, limit: Duration, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            assert!(begun.elapsed() < limit, "{what}: not within {limit:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A beat reaches everybody who leads.
    pub async fn beat(&self, subject: &str, payload: &[u8]) {
        for (_, term) in self.leaders() {
            inputs::on_beat(&term, subject, payload);
        }
    }

    /// A report comes again until it is taken, each time to another one of those who lead.
    pub fn report(self: &Arc<Self>, cluster: ClusterName, machine: MachineId, report: Report) {
        let subject = Subject::Report { cluster, machine }.to_string();
        let world = self.clone();
        tokio::spawn(async move {
            loop {
                let leaders = world.leaders();
                let turn = world.reports.fetch_add(1, Ordering::SeqCst);
                if let Some((process, term)) = leaders.get(turn % leaders.len().max(1)) {
                    let payload = report.encode_to_vec();
                    let taken = inputs::on_report(term, &subject, &payload);
                    if let Some(Taken::Folded | Taken::Dropped) = process.dead.run_until_cancelled(taken).await {
                        return;
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    pub fn overlaps(&self) -> usize {
        self.overlaps.load(Ordering::SeqCst)
    }

    /// Panics of anything in this world so far.
    pub fn panics(&self) -> usize {
        PANICS.with(Cell::get)
    }

    /// The entries past every fault.
    pub fn kv(&self) -> Kv {
        let truth = Door::new(usize::MAX, self.kept.clone(), CancellationToken::new(), None);
        Kv::new(Arc::new(truth))
    }
}

/// Leads again and again, as a coordinator does.
async fn run(world: Arc<World>, process: Arc<Process>, candidate: Candidate) {
    let kv = Kv::new(process.door.clone());
    let leading = async {
        while !process.stop.is_cancelled() {
            let serve = async |term: &Arc<Term>| {
                if world.leaders().iter().any(|(_, other)| other.epoch != term.epoch) {
                    world.overlaps.fetch_add(1, Ordering::SeqCst);
                }
                lock(&process.terms).push(term.clone());
                Ok::<(), KvError>(())
            };
            let _ = candidate.lead(&kv, &process.stop, serve).await;
            tokio::time::sleep(PAUSE).await;
        }
    };
    if process.dead.run_until_cancelled(leading).await.is_none() {
        // What it had begun ends where it is: none of its doors leads anywhere.
        process.stop.cancel();
    }
}

/// A case of many: a world of its own, with a time of its own.
pub fn alone(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(case);
}

/// Entries in memory keep to what entries mean.
#[tokio::test(start_paused = true)]
async fn entries_in_memory_mean_what_entries_mean() {
    let world = World::begin(Setup::default());
    super::entries::suite(&world.kept.entries).await;
    world.at_peace();
}
