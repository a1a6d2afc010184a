//! Sends parts to the store: a few at a time, at the allowed rate.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::progress::Progress;
use crate::store::{StoreError, Upload};

/// A part of the sealed object. Never empty.
pub struct SealedPart {
    /// From 1.
    pub number: u32,
    pub body: Bytes,
    /// Whether it is the last part.
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

    /// Sends every part but the last, and returns the last; `None` if the parts ended without one.
    pub async fn send_all_but_last(
        &mut self,
        parts: &mut mpsc::Receiver<SealedPart>,
    ) -> Result<Option<SealedPart>, StoreError> {
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

    /// Sends the part that was held back. The rate was kept when it was taken.
    pub async fn send_last(&self, part: SealedPart) -> Result<(), StoreError> {
        send(self.upload, self.progress, part).await
    }
}

/// Waits before the part is taken, so that a cancelled wait loses none.
async fn next_part(pace: &mut Option<Pace>, parts: &mut mpsc::Receiver<SealedPart>) -> Option<SealedPart> {
    if let Some(pace) = pace {
        pace.wait().await;
    }
    let part = parts.recv().await?;
    if let Some(pace) = pace {
        pace.sent(part.body.len());
    }
    Some(part)
}

async fn send(upload: &dyn Upload, progress: &Progress, part: SealedPart) -> Result<(), StoreError> {
    let bytes = part.body.len() as u64;
    let result = upload.part(part.number, part.body).await;
    progress.retried.fetch_max(upload.retries(), Relaxed);
    result?;
    progress.stored.fetch_add(bytes, Relaxed);
    Ok(())
}

/// When the next part may start: each part delays the next by its length at the allowed rate.
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
        // Unused time is not saved up: the rate holds at every moment.
        self.next = self.next.max(Instant::now()) + cost;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;

    /// Records when each part starts; each takes a second.
    #[derive(Debug, Default)]
    struct Watch(Mutex<Vec<(u32, Instant)>>);

    #[async_trait]
    impl Upload for Watch {
        async fn part(&self, number: u32, _: Bytes) -> Result<(), StoreError> {
            self.0.lock().unwrap().push((number, Instant::now()));
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        }

        async fn complete(&self, _: u32) -> Result<(), StoreError> {
            Ok(())
        }

        async fn abort(&self) -> Result<(), StoreError> {
            Ok(())
        }

        fn retries(&self) -> u32 {
            2
        }
    }

    async fn starts(in_flight: usize, rate: Option<u64>) -> Vec<(u32, u64)> {
        let (watch, progress, begin) = (Watch::default(), Progress::default(), Instant::now());
        let (send, mut parts) = mpsc::channel(8);
        for number in 1..=6 {
            let part = SealedPart { number, body: Bytes::from_static(&[0; 100]), last: number == 6 };
            send.try_send(part).expect("there is room");
        }
        let mut uploader = Uploader::new(&watch, &progress, in_flight, rate);
        let last = uploader.send_all_but_last(&mut parts).await.expect("nothing fails").expect("the last");
        assert_eq!((last.number, progress.stored(), progress.retried()), (6, 500, 2));
        uploader.send_last(last).await.expect("nothing fails");
        assert_eq!(progress.stored(), 600);
        let starts = watch.0.into_inner().unwrap();
        starts.into_iter().map(|(number, at)| (number, (at - begin).as_millis() as u64)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn few_parts_are_in_flight_and_the_last_goes_alone() {
        assert_eq!(starts(2, None).await, [(1, 0), (2, 0), (3, 1000), (4, 1000), (5, 2000), (6, 3000)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_spaces_the_parts() {
        // 100 bytes at 40 bytes per second: one part every 2.5 s. Timers round up to the next millisecond.
        let starts = starts(3, Some(40)).await;
        for (n, (number, at)) in starts.iter().take(5).enumerate() {
            assert_eq!(*number as usize, n + 1);
            assert!((n as u64 * 2500..n as u64 * 2500 + 10).contains(at), "{starts:?}");
        }
        assert!(starts[5].1 >= 12_500, "{starts:?}");
    }

    #[tokio::test]
    async fn parts_that_end_without_a_last_one_are_no_whole() {
        let (watch, progress) = (Watch::default(), Progress::default());
        let (send, mut parts) = mpsc::channel(1);
        drop(send);
        let mut uploader = Uploader::new(&watch, &progress, 1, None);
        assert!(uploader.send_all_but_last(&mut parts).await.expect("nothing fails").is_none());
    }
}
