//! Reports on their way to the coordinator. A report is on disk before it counts as made, and stays there until
//! JetStream has it.
//!
//! Each is a file, named by a rising number: they are sent in this order. [`sender`] sends them; nothing here knows NATS.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use backstay_protocol::bus::{Report, report};
use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;

use crate::state::{StateError, failed, make_folder, remove, write_atomic};

pub mod sender;

/// How many reports may wait. Beyond that, the oldest `started` is dropped, then the oldest of all.
pub const RECORDS_MAX: usize = 1_000;

const RECORD_VERSION: u32 = 1;
const SUFFIX: &str = ".report";

/// A report in the outbox: MessagePack with named fields, so that a later version can read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    pub subject: String,
    /// An id by which JetStream recognises it when it is sent twice.
    pub message_id: String,
    /// Whether it can be dropped without loss, since a final report follows.
    passing: bool,
    /// The report as protobuf.
    pub payload: Bytes,
}

impl Record {
    pub fn new(subject: String, report: &Report) -> Self {
        Self {
            version: RECORD_VERSION,
            subject,
            message_id: report.dedup_id(),
            passing: matches!(report.state, Some(report::State::Started(_))),
            payload: report.encode_to_vec().into(),
        }
    }

    /// The attempt that it reports on.
    pub fn attempt(&self) -> &str {
        self.message_id.split_once('.').map_or(self.message_id.as_str(), |(attempt, _)| attempt)
    }

    fn to_bytes(&self) -> Vec<u8> {
        // Text, numbers and bytes: MessagePack can hold every record.
        rmp_serde::to_vec_named(self).expect("a record is plain data")
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let record: Self = rmp_serde::from_slice(bytes).map_err(|e| e.to_string())?;
        match record.version {
            RECORD_VERSION => Ok(record),
            other => Err(format!("unknown record version {other}")),
        }
    }
}

/// What is in memory of a record; the rest is on disk.
struct WaitingReport {
    message_id: String,
    passing: bool,
    /// The record itself, if the disk refused it.
    unsaved: Option<Record>,
}

struct Queue {
    entries: BTreeMap<u64, WaitingReport>,
    next: u64,
}

/// The folder of waiting reports. Every method that touches the disk blocks.
pub struct Outbox {
    folder: PathBuf,
    queue: Mutex<Queue>,
    waiting: watch::Sender<usize>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("folder", &self.folder).field("waiting", &*self.waiting.borrow()).finish()
    }
}

impl Outbox {
    /// Loads what an earlier process left. A record that cannot be read is set aside, with a warning in the log.
    ///
    /// # Errors
    /// The folder cannot be created or read.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, StateError> {
        let folder = folder.into();
        make_folder(&folder)?;
        let mut queue = Queue { entries: BTreeMap::new(), next: 1 };
        for item in fs::read_dir(&folder).map_err(failed("read the folder", &folder))? {
            let path = item.map_err(failed("read the folder", &folder))?.path();
            let Some(number) = number(&path) else { continue };
            queue.next = queue.next.max(number + 1);
            match read(&path) {
                Ok(record) => {
                    let Record { message_id, passing, .. } = record;
                    queue.entries.insert(number, WaitingReport { message_id, passing, unsaved: None });
                }
                Err(Unread::Damaged(cause)) => set_aside(&path, &cause),
                Err(Unread::Failed(error)) => return Err(failed("read", &path)(error)),
            }
        }
        let waiting = watch::Sender::new(queue.entries.len());
        Ok(Self { folder, queue: Mutex::new(queue), waiting })
    }

    /// Adds a report at the end, unless it is waiting already.
    ///
    /// # Errors
    /// The disk refused it. It is then kept in memory and sent nevertheless, but a crash loses it.
    pub fn add(&self, record: Record) -> Result<(), StateError> {
        let mut queue = self.lock();
        if queue.entries.values().any(|e| e.message_id == record.message_id) {
            return Ok(());
        }
        while queue.entries.len() >= RECORDS_MAX {
            self.drop_one(&mut queue);
        }
        let number = queue.next;
        queue.next += 1;
        let written = write_atomic(&self.path(number), &record.to_bytes());
        let Record { message_id, passing, .. } = record.clone();
        let unsaved = written.is_err().then_some(record);
        queue.entries.insert(number, WaitingReport { message_id, passing, unsaved });
        self.waiting.send_replace(queue.entries.len());
        written
    }

    fn drop_one(&self, queue: &mut Queue) {
        let oldest = queue.entries.iter().find(|(_, e)| e.passing).or_else(|| queue.entries.iter().next());
        let Some((&number, entry)) = oldest else { return };
        warn!(report = entry.message_id, "the outbox is full: dropping the report");
        queue.entries.remove(&number);
        self.forget(number);
    }

    /// The oldest report, with its number; a record that turns out to be damaged is set aside.
    ///
    /// # Errors
    /// The disk cannot be read at the moment: the report stays, and the next call may succeed.
    pub fn first(&self) -> std::io::Result<Option<(u64, Record)>> {
        let mut queue = self.lock();
        loop {
            let Some((&number, entry)) = queue.entries.iter().next() else { return Ok(None) };
            if let Some(record) = &entry.unsaved {
                return Ok(Some((number, record.clone())));
            }
            let path = self.path(number);
            match read(&path) {
                Ok(record) => return Ok(Some((number, record))),
                Err(Unread::Damaged(cause)) => set_aside(&path, &cause),
                Err(Unread::Failed(error)) => return Err(error),
            }
            queue.entries.remove(&number);
            self.waiting.send_replace(queue.entries.len());
        }
    }

    /// Removes a report that has arrived.
    pub fn done(&self, number: u64) {
        let mut queue = self.lock();
        queue.entries.remove(&number);
        self.forget(number);
        self.waiting.send_replace(queue.entries.len());
    }

    /// Removes its file. If that fails, the report is only sent once more after a restart.
    fn forget(&self, number: u64) {
        if let Err(error) = remove(&self.path(number)) {
            warn!(%error, "a report was sent, but could not be removed from the outbox");
        }
    }

    /// How many reports are waiting, as it changes.
    pub fn waiting(&self) -> watch::Receiver<usize> {
        self.waiting.subscribe()
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:020}{SUFFIX}"))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
}

/// Why a record was not read.
enum Unread {
    /// The file is not a record (any more).
    Damaged(String),
    /// The disk or the process has a problem that may go away.
    Failed(std::io::Error),
}

fn read(path: &Path) -> Result<Record, Unread> {
    match std::fs::read(path) {
        Ok(bytes) => Record::from_bytes(&bytes).map_err(Unread::Damaged),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Unread::Damaged("the file has disappeared".into()))
        }
        Err(error) => Err(Unread::Failed(error)),
    }
}

fn set_aside(path: &Path, cause: &str) {
    let aside = path.with_added_extension("corrupt");
    warn!(path = %path.display(), cause, "a report in the outbox cannot be parsed; moving it aside");
    if let Err(error) = fs::rename(path, &aside) {
        warn!(%error, path = %path.display(), "cannot move it aside");
    }
}

#[cfg(test)]
mod tests;
