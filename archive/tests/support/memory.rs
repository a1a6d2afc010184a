//! A store in memory that keeps the rules of stores, with a hook that decides what happens to each call.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use backstay_protocol::{AttemptId, Clock, Timestamp};
use bytes::Bytes;
use futures::StreamExt;

use super::archive::store::{
    Body, ErrorKind, Key, Listing, ObjectInfo, PART_BYTES, Store, StoreError, Unfinished, Upload,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    PutNew,
    Get,
    Read,
    Head,
    List,
    Delete,
    Begin,
    Part,
    Complete,
    Abort,
    Unfinished,
    AbortUnfinished,
}

/// One call, as the hook sees it; `nth` counts all calls of the store from 0.
#[derive(Debug, Clone)]
pub struct Call {
    pub nth: usize,
    pub op: Op,
    pub key: String,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Pass,
    Fail(ErrorKind),
    /// The call takes effect, and its answer is lost.
    FailAfter(ErrorKind),
    Hang,
    /// The call takes effect, and it never answers.
    HangAfter,
    /// The call takes effect after others had this many turns, and answers after as many again.
    Later(u8),
}

/// How many turns others get while parts are held.
const LINGER: u8 = 40;

type Hook = Box<dyn FnMut(&Call) -> Fate + Send>;

#[derive(Clone)]
struct Object {
    body: Bytes,
    owner: Option<AttemptId>,
    modified: i64,
}

struct StartedUpload {
    key: Key,
    owner: AttemptId,
    begun: i64,
    parts: BTreeMap<u32, Bytes>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<u64, StartedUpload>,
    uploads_begun: u64,
    clock: i64,
    time: Option<Arc<dyn Clock>>,
    calls: Vec<Call>,
    /// The largest number of parts that were being sent at once.
    sending: usize,
    most_sending: usize,
    /// No part takes effect before this many are being sent.
    held_until: usize,
    bytes_of_part_tries: HashMap<(u64, u32), Bytes>,
}

#[derive(Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    /// The same objects through a second store, with a hook for its own calls only.
    pub fn door(&self) -> Self {
        Self { state: self.state.clone(), hook: Arc::default() }
    }

    /// From now on objects get the time of this clock; before, they are counted.
    pub fn keep_time(&self, clock: Arc<dyn Clock>) {
        lock(&self.state).time = Some(clock);
    }

    /// Decides on every call from now on.
    pub fn on_call(&self, hook: impl FnMut(&Call) -> Fate + Send + 'static) {
        *lock(&self.hook) = Some(Box::new(hook));
    }

    pub fn no_faults(&self) {
        *lock(&self.hook) = None;
    }

    pub fn calls(&self) -> Vec<Call> {
        lock(&self.state).calls.clone()
    }

    pub fn keys(&self) -> Vec<String> {
        lock(&self.state).objects.keys().cloned().collect()
    }

    pub fn unfinished_count(&self) -> usize {
        lock(&self.state).uploads.len()
    }

    pub fn most_sending(&self) -> usize {
        lock(&self.state).most_sending
    }

    /// Holds every part until this many are being sent at once, and then gives others some turns.
    pub fn hold_parts_until(&self, count: usize) {
        lock(&self.state).held_until = count;
    }

    /// Stores an object without any rules.
    pub fn plant(&self, key: &str, body: impl Into<Bytes>) {
        let mut state = lock(&self.state);
        let modified = state.tick();
        state.objects.insert(key.to_owned(), Object { body: body.into(), owner: None, modified });
    }

    pub fn body(&self, key: &Key) -> Bytes {
        lock(&self.state).objects[key.as_str()].body.clone()
    }

    /// Changes an object in place, as a broken disk does.
    pub fn damage(&self, key: &Key, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = lock(&self.state);
        let object = state.objects.get_mut(key.as_str()).expect("there is such an object");
        let mut body = object.body.to_vec();
        change(&mut body);
        object.body = body.into();
    }

    /// Waits as [`hold_parts_until`](Self::hold_parts_until) demands.
    async fn held(&self) {
        let until = lock(&self.state).held_until;
        if until > 0 {
            while self.most_sending() < until {
                tokio::task::yield_now().await;
            }
            wait(LINGER).await;
        }
    }

    async fn gate<T>(
        &self,
        op: Op,
        key: &str,
        effect: impl FnOnce(&mut State) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let call = {
            let mut state = lock(&self.state);
            let call = Call { nth: state.calls.len(), op, key: key.to_owned() };
            state.calls.push(call.clone());
            call
        };
        let fate = lock(&self.hook).as_mut().map_or(Fate::Pass, |hook| hook(&call));
        // Real stores answer later, so others get a turn.
        tokio::task::yield_now().await;
        let effect = || effect(&mut lock(&self.state));
        match fate {
            Fate::Pass => effect(),
            Fate::Fail(kind) => Err(error(kind, op, key)),
            Fate::FailAfter(kind) => effect().and(Err(error(kind, op, key))),
            Fate::Hang => std::future::pending().await,
            Fate::HangAfter => {
                let _ = effect();
                std::future::pending().await
            }
            Fate::Later(turns) => {
                wait(turns).await;
                let result = effect();
                wait(turns).await;
                result
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

async fn wait(turns: u8) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

impl State {
    fn tick(&mut self) -> i64 {
        if let Some(clock) = &self.time {
            return clock.now().seconds;
        }
        self.clock += 1;
        self.clock
    }

    fn put(&mut self, key: &str, body: Bytes, owner: Option<AttemptId>) -> Result<(), ErrorKind> {
        match self.objects.get(key) {
            Some(object) if owner.is_none() && object.body == body => Ok(()),
            Some(object) if owner.is_some() && object.owner == owner => Ok(()),
            Some(_) => Err(ErrorKind::AlreadyExists),
            None => {
                let modified = self.tick();
                self.objects.insert(key.to_owned(), Object { body, owner, modified });
                Ok(())
            }
        }
    }

    fn complete(&mut self, id: u64, key: &Key, owner: AttemptId, count: u32) -> Result<(), ErrorKind> {
        let Some(upload) = self.uploads.get(&id) else {
            let done = self.objects.get(key.as_str()).is_some_and(|object| object.owner == Some(owner));
            return if done { Ok(()) } else { Err(ErrorKind::NotFound) };
        };
        let numbers: Vec<u32> = upload.parts.keys().copied().collect();
        let equal = upload.parts.iter().all(|(n, part)| *n == count || part.len() == PART_BYTES);
        if numbers != (1..=count).collect::<Vec<_>>() || !equal {
            return Err(ErrorKind::Invalid);
        }
        let body: Vec<u8> = upload.parts.values().flat_map(|part| part.iter().copied()).collect();
        self.put(key.as_str(), body.into(), Some(owner))?;
        self.uploads.remove(&id);
        Ok(())
    }
}

fn error(kind: ErrorKind, op: Op, key: &str) -> StoreError {
    let target = format!("memory://{key}");
    StoreError { kind, action: format!("{op:?}"), target, cause: format!("{kind:?} in a test") }
}

fn in_pieces(bytes: &[u8]) -> Body {
    let pieces: Vec<_> = bytes.chunks(100_000).map(Bytes::copy_from_slice).map(Ok).collect();
    futures::stream::iter(pieces).boxed()
}

fn info(key: &str, object: &Object) -> ObjectInfo {
    let modified = Some(Timestamp::from_seconds(object.modified));
    let key = Key::new(key).expect("only good keys are put");
    ObjectInfo { key, size: object.body.len() as u64, modified, owner: object.owner }
}

#[async_trait]
impl Store for MemoryStore {
    fn url(&self) -> String {
        "memory://".into()
    }

    async fn put_new(&self, key: &Key, body: Bytes) -> Result<(), StoreError> {
        let put = |state: &mut State| state.put(key.as_str(), body, None);
        self.gate(Op::PutNew, key.as_str(), |state| put(state).map_err(|kind| error(kind, Op::PutNew, key.as_str())))
            .await
    }

    async fn get(&self, key: &Key, limit: usize) -> Result<Bytes, StoreError> {
        let failed = |kind| error(kind, Op::Get, key.as_str());
        self.gate(Op::Get, key.as_str(), |state| match state.objects.get(key.as_str()) {
            Some(object) if object.body.len() > limit => Err(failed(ErrorKind::TooLarge)),
            Some(object) => Ok(object.body.clone()),
            None => Err(failed(ErrorKind::NotFound)),
        })
        .await
    }

    async fn read(&self, key: &Key) -> Result<Body, StoreError> {
        let body = self
            .gate(Op::Read, key.as_str(), |state| match state.objects.get(key.as_str()) {
                Some(object) => Ok(object.body.clone()),
                None => Err(error(ErrorKind::NotFound, Op::Read, key.as_str())),
            })
            .await?;
        Ok(in_pieces(&body))
    }

    async fn read_range(&self, key: &Key, range: Range<u64>) -> Result<Body, StoreError> {
        let part = |state: &mut State| match state.objects.get(key.as_str()) {
            Some(object) => {
                let bytes = object.body.get(range.start as usize..range.end as usize).filter(|_| !range.is_empty());
                bytes.map(in_pieces).ok_or_else(|| error(ErrorKind::Invalid, Op::Read, key.as_str()))
            }
            None => Err(error(ErrorKind::NotFound, Op::Read, key.as_str())),
        };
        self.gate(Op::Read, key.as_str(), part).await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        let look = |state: &mut State| Ok(state.objects.get(key.as_str()).map(|object| info(key.as_str(), object)));
        self.gate(Op::Head, key.as_str(), look).await
    }

    fn list(&self, prefix: &str) -> Listing {
        let (store, prefix) = (self.clone(), prefix.to_owned());
        let listing = async move {
            let found = |state: &mut State| {
                let range = state.objects.range(prefix.clone()..);
                let range = range.take_while(|(key, _)| key.starts_with(&prefix));
                Ok(range.map(|(key, object)| Ok(ObjectInfo { owner: None, ..info(key, object) })).collect::<Vec<_>>())
            };
            let found = store.gate(Op::List, &prefix, found).await;
            futures::stream::iter(found.unwrap_or_else(|error| vec![Err(error)]))
        };
        futures::stream::once(listing).flatten().boxed()
    }

    async fn folders(&self) -> Result<Vec<String>, StoreError> {
        let found = |state: &mut State| {
            let folders = state.objects.keys().filter_map(|key| Some(key.split_once('/')?.0.to_owned()));
            let mut folders: Vec<_> = folders.collect();
            folders.dedup();
            Ok(folders)
        };
        self.gate(Op::List, "", found).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let delete = |state: &mut State| {
            state.objects.remove(key.as_str());
            Ok(())
        };
        self.gate(Op::Delete, key.as_str(), delete).await
    }

    async fn begin(&self, key: &Key, owner: AttemptId) -> Result<Box<dyn Upload>, StoreError> {
        let begin = |state: &mut State| {
            state.uploads_begun += 1;
            let (id, begun) = (state.uploads_begun, state.tick());
            state.uploads.insert(id, StartedUpload { key: key.clone(), owner, begun, parts: BTreeMap::new() });
            Ok(id)
        };
        let id = self.gate(Op::Begin, key.as_str(), begin).await?;
        Ok(Box::new(MemoryUpload { store: self.clone(), id, key: key.clone(), owner }))
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>, StoreError> {
        let found = |state: &mut State| {
            let uploads = state.uploads.iter().filter(|(_, upload)| upload.key.as_str().starts_with(prefix));
            let unfinished = |(id, upload): (&u64, &StartedUpload)| Unfinished {
                key: upload.key.clone(),
                upload: id.to_string(),
                begun: Some(Timestamp::from_seconds(upload.begun)),
            };
            Ok(uploads.map(unfinished).collect())
        };
        self.gate(Op::Unfinished, prefix, found).await
    }

    async fn abort_unfinished(&self, upload: &Unfinished) -> Result<(), StoreError> {
        let id: u64 = upload.upload.parse().expect("an id of ours");
        let abort = |state: &mut State| {
            state.uploads.remove(&id);
            Ok(())
        };
        self.gate(Op::AbortUnfinished, upload.key.as_str(), abort).await
    }
}

#[derive(Debug)]
struct MemoryUpload {
    store: MemoryStore,
    id: u64,
    key: Key,
    owner: AttemptId,
}

/// Counts a part as being sent for as long as it lives.
struct Sending<'a>(&'a MemoryStore);

impl<'a> Sending<'a> {
    fn new(store: &'a MemoryStore) -> Self {
        let mut state = lock(&store.state);
        state.sending += 1;
        state.most_sending = state.most_sending.max(state.sending);
        Self(store)
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).sending -= 1;
    }
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError> {
        let _sending = Sending::new(&self.store);
        self.store.held().await;
        let failed = |kind| error(kind, Op::Part, self.key.as_str());
        let put = |state: &mut State| {
            let body = Bytes::copy_from_slice(&body);
            let first = state.bytes_of_part_tries.entry((self.id, number)).or_insert(body.clone());
            assert!(*first == body, "a part was sent again with other bytes");
            let upload = state.uploads.get_mut(&self.id).ok_or_else(|| failed(ErrorKind::NotFound))?;
            upload.parts.insert(number, body);
            Ok(())
        };
        self.store.gate(Op::Part, &format!("{}#{number}", self.key), put).await
    }

    async fn complete(&self, count: u32) -> Result<(), StoreError> {
        let failed = |kind| error(kind, Op::Complete, self.key.as_str());
        let complete = |state: &mut State| state.complete(self.id, &self.key, self.owner, count).map_err(failed);
        self.store.gate(Op::Complete, self.key.as_str(), complete).await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        let abort = |state: &mut State| {
            state.uploads.remove(&self.id);
            Ok(())
        };
        self.store.gate(Op::Abort, self.key.as_str(), abort).await
    }

    fn retries(&self) -> u32 {
        0
    }
}
