//! Requests within one process: whoever listens on a subject answers in a task of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use backstay_protocol::subject::Subject;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio_util::task::TaskTracker;

use super::{Bus, CallError};

/// The default of nats-server.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// Answers one request; `None` means never.
type Listener = Arc<dyn Fn(Bytes) -> BoxFuture<'static, Option<Bytes>> + Send + Sync>;

/// A bus within one process.
pub struct MemoryBus {
    listeners: Mutex<BTreeMap<String, Listener>>,
    connected: AtomicBool,
    tasks: TaskTracker,
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self { listeners: Mutex::default(), connected: AtomicBool::new(true), tasks: TaskTracker::new() }
    }
}

impl std::fmt::Debug for MemoryBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryBus")
    }
}

impl MemoryBus {
    /// From now on, `listener` answers requests to that subject.
    pub fn listen<F>(&self, at: &Subject, listener: impl Fn(Bytes) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Option<Bytes>> + Send + 'static,
    {
        let listener: Listener = Arc::new(move |body| Box::pin(listener(body)));
        self.lock().insert(at.to_string(), listener);
    }

    /// From now on, nobody listens there.
    pub fn leave(&self, at: &Subject) {
        self.lock().remove(&at.to_string());
    }

    /// Breaks or repairs the connection.
    pub fn connect(&self, connected: bool) {
        self.connected.store(connected, Ordering::SeqCst);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Listener>> {
        // Nothing that can panic runs while the lock is held, so what it guards is whole.
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn request(&self, to: &Subject, body: Bytes) -> Result<Bytes, CallError> {
        if !self.is_connected() {
            return Err(CallError::Disconnected);
        }
        let listener = self.lock().get(&to.to_string()).cloned();
        let answer = listener.ok_or(CallError::Nobody)?(body);
        // Who asked may stop waiting: the one who was asked goes on all the same.
        match self.tasks.spawn(answer).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => std::future::pending().await,
            Err(error) => Err(CallError::Failed(error.to_string())),
        }
    }

    fn is_connected(&self) -> bool {
        self.connected.load(Ordering::SeqCst)
    }

    fn max_payload(&self) -> usize {
        MAX_PAYLOAD
    }
}
