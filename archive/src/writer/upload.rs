//! Parts on their way to the store: a few at a time, at the rate that is allowed.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Progress;
use crate::store::{StoreError, Upload};

/// A part of the sealed object. Never empty.
pub struct Part {
    /// From 1.
    pub number: u32,
    pub body: Bytes,
    /// Nothing follows it.
    pub last: bool,
}

/// Sends parts of one upload.
pub struct Uploader<'a> {
    upload: &'a dyn Upload,
    progress: &'a Progress,
    in_flight: usize,
    pace: Option<Pace>,
}

impl<'a> Uploader<'a> {
    pub fn new(upload: &'a dyn Upload, progress: &'a Progress, in_flight: usize, rate: Option<u64>) -> Self {
        Self { upload, progress, in_flight, pace: rate.map(Pace::new) }
    }

    /// Sends every part but the last, which it returns; `None` where the parts ended without one.
    pub async fn send_all_but_last(&mut self, parts: &mut mpsc::Receiver<Part>) -> Result<Option<Part>, StoreError> {
        let mut sending = FuturesUnordered::new();
        let last = loop {
            let next = tokio::select! {
                biased;
                Some(sent) = sending.next(), if !sending.is_empty() => { sent?; continue }
                part = next_part(&mut self.pace, parts), if sending.len() < self.in_flight => part,
            };
            match next {
                Some(part) if !part.last => sending.push(send(self.upload, self.progress, part)),
                end => break end,
            }
        };
        while let Some(sent) = sending.next().await {
            sent?;
        }
        Ok(last)
    }

    /// Sends the part that was held back. It has had its turn: the pace was kept when it was taken.
    pub async fn send_last(&self, part: Part) -> Result<(), StoreError> {
        send(self.upload, self.progress, part).await
    }
}

/// The wait comes before the part is taken, so that a cancelled wait loses none.
async fn next_part(pace: &mut Option<Pace>, parts: &mut mpsc::Receiver<Part>) -> Option<Part> {
    if let Some(pace) = pace {
        pace.wait().await;
    }
    let part = parts.recv().await?;
    if let Some(pace) = pace {
        pace.sent(part.body.len());
    }
    Some(part)
}

async fn send(upload: &dyn Upload, progress: &Progress, part: Part) -> Result<(), StoreError> {
    let bytes = part.body.len() as u64;
    let result = upload.part(part.number, part.body).await;
    progress.retried.fetch_max(upload.retries(), Relaxed);
    result?;
    progress.stored.fetch_add(bytes, Relaxed);
    Ok(())
}

/// When the next part may start: each pushes the one after it back by its bytes at the allowed rate.
struct Pace {
    bytes_per_second: u64,
    next: Instant,
}

impl Pace {
    fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), next: Instant::now() }
    }

    async fn wait(&self) {
        tokio::time::sleep_until(self.next).await;
    }

    fn sent(&mut self, bytes: usize) {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        // Time that was not used is not saved up: the rate holds at every moment.
        self.next = self.next.max(Instant::now()) + cost;
    }
}
