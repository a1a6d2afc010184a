//! What the server saw: how many requests of each operation, and the digest of every part's body.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;

use super::op::Op;

/// One UploadPart request, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRecord {
    pub upload_id: String,
    pub key: String,
    /// The part's number, from 1.
    pub number: i32,
    /// Bytes of the body that arrived.
    pub bytes: u64,
    /// sha256 of these, in hexadecimal.
    pub sha256: String,
    /// Whether the body arrived whole.
    pub whole: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    arrived: u64,
    in_flight: u64,
    most_in_flight: u64,
}

#[derive(Debug, Default)]
pub(super) struct Recorder {
    counts: Mutex<HashMap<Op, Count>>,
    /// Nobody will ask for the parts: they are not digested.
    counts_only: bool,
    parts: Mutex<Vec<PartRecord>>,
    changed: watch::Sender<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    pub fn counting_only() -> Self {
        Self { counts_only: true, ..Self::default() }
    }

    pub fn keeps_parts(&self) -> bool {
        !self.counts_only
    }

    /// Counts a request; it is in flight until the answer is dropped.
    pub fn begin(self: &Arc<Self>, op: Op) -> InFlight {
        {
            let mut counts = lock(&self.counts);
            let count = counts.entry(op).or_default();
            count.arrived += 1;
            count.in_flight += 1;
            count.most_in_flight = count.most_in_flight.max(count.in_flight);
        }
        self.changed.send_replace(());
        InFlight { recorder: self.clone(), op }
    }

    pub fn add_part(&self, part: PartRecord) {
        lock(&self.parts).push(part);
        self.changed.send_replace(());
    }

    pub fn parts(&self) -> Vec<PartRecord> {
        lock(&self.parts).clone()
    }

    /// How many requests of that operation arrived, refused ones too.
    pub fn count(&self, op: Op) -> u64 {
        self.look(op).arrived
    }

    pub fn most_in_flight(&self, op: Op) -> u64 {
        self.look(op).most_in_flight
    }

    pub async fn reached(&self, op: Op, count: u64, deadline: Duration) -> Result<()> {
        let mut changed = self.changed.subscribe();
        let reached = tokio::time::timeout(deadline, changed.wait_for(|()| self.count(op) >= count)).await;
        let text = || format!("only {} of {count} requests {op:?} came within {deadline:?}", self.count(op));
        reached.with_context(text)?.context("the server is gone")?;
        Ok(())
    }

    fn look(&self, op: Op) -> Count {
        lock(&self.counts).get(&op).copied().unwrap_or_default()
    }
}

/// A request that is being answered.
pub(super) struct InFlight {
    recorder: Arc<Recorder>,
    op: Op,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(count) = lock(&self.recorder.counts).get_mut(&self.op) {
            count.in_flight -= 1;
        }
    }
}
