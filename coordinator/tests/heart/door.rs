//! The way of one process to the entries that all share: it fails, answers late or loses an answer where somebody says so, and
//! it ends the process in the middle of a call.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use backstay_coordinator::bus::{Bus, CallError};
use backstay_coordinator::kv::memory::MemoryEntries;
use backstay_coordinator::kv::{Entries, KvEntry, KvError};
use backstay_protocol::subject::Subject;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    Get,
    Create,
    Update,
    Delete,
    Keys,
}

/// One call, as whoever decides its fate sees it; `nth` counts the calls of this process from 0.
#[derive(Debug, Clone)]
pub struct Call {
    pub nth: usize,
    pub op: Op,
    pub key: String,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// Nothing is done, and the caller gets an error after that time.
    Fail(Duration),
    /// It is done, and the caller gets an error after that time.
    Lost(Duration),
    /// It is done at once, and answered after that time.
    Late(Duration),
    /// It is done after that time, whether anybody still waits or not.
    Slow(Duration),
    /// The caller panics before anything is done.
    Panic,
    /// The process dies before it is done.
    Die,
    /// The process dies when it is done.
    DieAfter,
}

/// Decides the fate of each call.
pub type Hook = Box<dyn FnMut(&Call) -> Fate + Send>;

/// Which entry was changed by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The number of the process.
    pub who: usize,
    pub key: String,
    pub revision: u64,
}

/// The entries, with a log of every change.
#[derive(Debug)]
pub struct Kept {
    pub entries: MemoryEntries,
    changes: Mutex<Vec<Change>>,
}

impl Kept {
    pub fn new(entries: MemoryEntries) -> Self {
        Self { entries, changes: Mutex::default() }
    }

    pub fn changes(&self) -> Vec<Change> {
        lock(&self.changes).clone()
    }

    async fn ask(&self, who: usize, key: &str, ask: Ask) -> Result<Answer, KvError> {
        let revision = match ask {
            Ask::Get => return Ok(Answer::KvEntry(self.entries.get(key).await?)),
            Ask::Keys => return Ok(Answer::Keys(self.entries.keys(key).await?)),
            Ask::Create(value) => self.entries.create(key, value).await?,
            Ask::Update(value, revision) => self.entries.update(key, value, revision).await?,
            Ask::Delete => self.entries.delete(key).await.map(|()| 0)?,
        };
        lock(&self.changes).push(Change { who, key: key.to_owned(), revision });
        Ok(Answer::Revision(revision))
    }
}

enum Ask {
    Get,
    Create(Bytes),
    Update(Bytes, u64),
    Delete,
    Keys,
}

impl Ask {
    fn op(&self) -> Op {
        match self {
            Self::Get => Op::Get,
            Self::Create(_) => Op::Create,
            Self::Update(..) => Op::Update,
            Self::Delete => Op::Delete,
            Self::Keys => Op::Keys,
        }
    }
}

enum Answer {
    KvEntry(Option<KvEntry>),
    Revision(u64),
    Keys(Vec<String>),
}

impl Answer {
    fn revision(self) -> u64 {
        match self {
            Self::Revision(revision) => revision,
            Self::KvEntry(_) | Self::Keys(_) => unreachable!("a change answers with a revision"),
        }
    }
}

/// The door of one process.
pub struct Door {
    who: usize,
    kept: Arc<Kept>,
    calls: Mutex<Vec<Call>>,
    hook: Mutex<Option<Hook>>,
    dead: CancellationToken,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Door({})", self.who)
    }
}

impl Door {
    /// The door of process `who`, which is no more once `dead` is cancelled.
    pub fn new(who: usize, kept: Arc<Kept>, dead: CancellationToken, hook: Option<Hook>) -> Self {
        Self { who, kept, calls: Mutex::default(), hook: Mutex::new(hook), dead }
    }

    /// Decides every call from here on; the calls go on being counted.
    pub fn on_call(&self, hook: impl FnMut(&Call) -> Fate + Send + 'static) {
        *lock(&self.hook) = Some(Box::new(hook));
    }

    pub fn no_faults(&self) {
        *lock(&self.hook) = None;
    }

    pub fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    async fn pass(&self, key: &str, ask: Ask) -> Result<Answer, KvError> {
        alive(&self.dead).await;
        let call = {
            let mut calls = lock(&self.calls);
            let call = Call { nth: calls.len(), op: ask.op(), key: key.to_owned() };
            calls.push(call.clone());
            call
        };
        let fate = lock(&self.hook).as_mut().map_or(Fate::Pass, |hook| hook(&call));
        // A real KV answers later: others get a turn.
        tokio::task::yield_now().await;
        let (kept, who, of) = (self.kept.clone(), self.who, key.to_owned());
        let done = async move { kept.ask(who, &of, ask).await };
        let lost = || KvError::Failed { action: "cannot ask for", key: key.to_owned(), cause: "a test's fault".into() };
        let answer = match fate {
            Fate::Pass => done.await,
            Fate::Fail(after) => {
                tokio::time::sleep(after).await;
                Err(lost())
            }
            Fate::Lost(after) => {
                let done = done.await;
                tokio::time::sleep(after).await;
                done.and(Err(lost()))
            }
            Fate::Late(after) => {
                let done = done.await;
                tokio::time::sleep(after).await;
                done
            }
            // What was sent arrives, although whoever sent it may be gone by then.
            Fate::Slow(after) => {
                let slowly = tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    done.await
                });
                slowly.await.expect("it does not panic")
            }
            Fate::Panic => panic!("a test's fault: {call:?}"),
            Fate::Die => {
                self.dead.cancel();
                Err(lost())
            }
            Fate::DieAfter => {
                let _ = done.await;
                self.dead.cancel();
                Err(lost())
            }
        };
        alive(&self.dead).await;
        answer
    }
}

#[async_trait]
impl Entries for Door {
    async fn get(&self, key: &str) -> Result<Option<KvEntry>, KvError> {
        match self.pass(key, Ask::Get).await? {
            Answer::KvEntry(entry) => Ok(entry),
            Answer::Revision(_) | Answer::Keys(_) => unreachable!("a get answers with an entry"),
        }
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, KvError> {
        Ok(self.pass(key, Ask::Create(value)).await?.revision())
    }

    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, KvError> {
        Ok(self.pass(key, Ask::Update(value, revision)).await?.revision())
    }

    async fn delete(&self, key: &str) -> Result<(), KvError> {
        self.pass(key, Ask::Delete).await.map(drop)
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, KvError> {
        match self.pass(prefix, Ask::Keys).await? {
            Answer::Keys(keys) => Ok(keys),
            Answer::KvEntry(_) | Answer::Revision(_) => unreachable!("a listing answers with keys"),
        }
    }
}

/// Nothing that is dead goes on.
async fn alive(dead: &CancellationToken) {
    if dead.is_cancelled() {
        std::future::pending().await
    }
}

/// The bus, as long as the process lives.
#[derive(Debug)]
pub struct Line {
    pub bus: Arc<backstay_coordinator::bus::memory::MemoryBus>,
    pub dead: CancellationToken,
}

#[async_trait]
impl Bus for Line {
    async fn request(&self, to: &Subject, body: Bytes) -> Result<Bytes, CallError> {
        alive(&self.dead).await;
        let answer = self.bus.request(to, body).await;
        alive(&self.dead).await;
        answer
    }

    fn is_connected(&self) -> bool {
        self.bus.is_connected()
    }

    fn max_payload(&self) -> usize {
        self.bus.max_payload()
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}
