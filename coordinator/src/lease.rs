//! The lease: one coordinator leads, the others stand by.
//!
//! One entry of the KV has the holder, its epoch and the time at which the lease expires. (That time is in the value
//! since TTLs of single keys do not work on every server.) The entry is changed by compare-and-set only. The epoch
//! rises with every new holder and is part of every command, so agents refuse a coordinator that does not know yet that
//! it was replaced. It is at least the time in milliseconds, so it rises even if the KV was lost.

use std::time::Duration;

use backstay_protocol::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::kv::{Kv, KvError};

const KEY: &str = "lease";
/// The newest epoch that an agent reported to have seen.
const FLOOR_KEY: &str = "epoch";

/// How soon others notice that a lease was given up, however long it would have lasted.
const LOOK: Duration = Duration::from_secs(2);

/// Who leads, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub holder: Uuid,
    pub epoch: u64,
    /// Milliseconds since the Unix epoch.
    pub expires_ms: i64,
}

/// What a coordinator that wants to lead should do about the lease that it found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Write this lease.
    Take(Lease),
    /// Somebody else leads; ask again after this.
    Wait(Duration),
}

/// Whether `holder` may take the lease; the new epoch is above `floor`.
pub fn claim(found: Option<&Lease>, floor: u64, holder: Uuid, ttl: Duration, now: Timestamp) -> Claim {
    let now_ms = now.as_millis();
    let (epoch, left) = match found {
        Some(lease) if lease.holder != holder => (lease.epoch, lease.expires_ms.saturating_sub(now_ms)),
        Some(lease) => (lease.epoch, 0),
        None => (0, 0),
    };
    if left > 0 {
        // A holder whose clock is ahead must not keep others waiting beyond the lease's own length.
        let wait = Duration::from_millis(left.unsigned_abs()).min(ttl);
        return Claim::Wait(wait.max(Duration::from_millis(50)));
    }
    let epoch = epoch.max(floor).saturating_add(1).max(now_ms.max(0) as u64);
    Claim::Take(Lease { holder, epoch, expires_ms: now_ms.saturating_add(millis(ttl)) })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Makes sure that the next lease has a higher epoch than `epoch`, which an agent has seen and which is newer than the
/// lease: either the KV was lost, or a clock was ahead.
///
/// # Errors
/// The KV does not answer, or somebody else changes the entry at the same time.
pub async fn raise_floor(kv: &Kv, epoch: u64) -> Result<(), KvError> {
    match kv.get::<u64>(FLOOR_KEY).await? {
        Some(found) if found.value >= epoch => Ok(()),
        Some(found) => kv.update(FLOOR_KEY, &epoch, found.revision).await.map(drop),
        None => kv.create(FLOOR_KEY, &epoch).await.map(drop),
    }
}

/// How many milliseconds the clock of `holder` was ahead of NATS's when it last took or renewed its lease. The lease
/// says when it expires by that clock, and NATS knows by its own when the lease was written. `None` if the lease is
/// somebody else's.
///
/// # Errors
/// The KV does not answer.
pub async fn clock_ahead_ms(kv: &Kv, holder: Uuid, epoch: u64, ttl: Duration) -> Result<Option<i64>, KvError> {
    let found = kv.get_with_time::<Lease>(KEY).await?;
    let ours = found.filter(|(lease, _)| (lease.holder, lease.epoch) == (holder, epoch) && lease.expires_ms > 0);
    Ok(ours.map(|(lease, taken)| lease.expires_ms.saturating_sub(millis(ttl)).saturating_sub(taken.as_millis())))
}

/// A lease that is held.
#[derive(Debug)]
pub struct Held {
    pub lease: Lease,
    revision: u64,
    /// By the monotonic clock; after this, nobody may act on the lease.
    ends: Instant,
}

/// Waits until this process has the lease. `None` if `stop` was cancelled first.
///
/// # Errors
/// The KV does not answer.
pub async fn acquire(
    kv: &Kv,
    holder: Uuid,
    ttl: Duration,
    clock: &dyn Clock,
    stop: &CancellationToken,
) -> Result<Option<Held>, KvError> {
    // A lease that does not change for its whole length has no living holder, whatever its clock says.
    let mut unchanged: Option<(u64, Instant)> = None;
    let mut told = false;
    loop {
        let asked = Instant::now();
        let found = kv.get::<Lease>(KEY).await?;
        let since = match (&found, unchanged) {
            (Some(f), Some((revision, since))) if f.revision == revision => since,
            // It may have been renewed while the answer was on its way.
            _ => Instant::now(),
        };
        unchanged = found.as_ref().map(|f| (f.revision, since));
        let stale = found.is_some() && asked.saturating_duration_since(since) > ttl;
        let mut seen = found.as_ref().map(|f| f.value.clone());
        if let Some(lease) = seen.as_mut().filter(|_| stale) {
            lease.expires_ms = 0;
        }
        let floor = kv.get::<u64>(FLOOR_KEY).await?.map_or(0, |found| found.value);
        match claim(seen.as_ref(), floor, holder, ttl, clock.now()) {
            Claim::Take(lease) => {
                let written = match &found {
                    Some(f) => kv.update(KEY, &lease, f.revision).await,
                    None => kv.create(KEY, &lease).await,
                };
                match written {
                    Ok(revision) => return Ok(Some(Held { lease, revision, ends: asked + ttl })),
                    Err(KvError::Conflict { .. }) => debug!("another coordinator took the lease first"),
                    Err(error) => return Err(error),
                }
            }
            Claim::Wait(wait) => {
                if !std::mem::replace(&mut told, true) {
                    info!("standing by: another coordinator holds the lease");
                }
                let wait = wait.min(ttl / 3).min(LOOK);
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = stop.cancelled() => return Ok(None),
                }
            }
        }
        if stop.is_cancelled() {
            return Ok(None);
        }
    }
}

impl Held {
    /// Renews the lease in time; returns when it is lost, or when `stop` is cancelled (then it is still held).
    pub async fn keep(&mut self, kv: &Kv, ttl: Duration, clock: &dyn Clock, stop: &CancellationToken) {
        let mut pause = ttl / 3;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until((Instant::now() + pause).min(self.ends)) => {}
                () = stop.cancelled() => return,
            }
            let asked = Instant::now();
            if asked >= self.ends {
                warn!("the lease ran out before it could be renewed");
                return;
            }
            let next = Lease { expires_ms: clock.now().as_millis().saturating_add(millis(ttl)), ..self.lease.clone() };
            let renewed = tokio::time::timeout_at(self.ends, kv.update(KEY, &next, self.revision)).await;
            match renewed {
                Ok(Ok(revision)) => {
                    (self.lease, self.revision, self.ends) = (next, revision, asked + ttl);
                    pause = ttl / 3;
                }
                Ok(Err(error)) if self.was_ours(kv, &error).await => pause = Duration::ZERO,
                Ok(Err(KvError::Conflict { .. })) => {
                    warn!("another coordinator holds the lease");
                    return;
                }
                Ok(Err(error)) => {
                    warn!(%error, "the lease could not be renewed; trying again");
                    pause = ttl / 10;
                }
                Err(_) => {}
            }
        }
    }

    /// A conflict with this coordinator's own renewal, whose answer was lost: then it still holds the lease.
    async fn was_ours(&mut self, kv: &Kv, error: &KvError) -> bool {
        if !matches!(error, KvError::Conflict { .. }) {
            return false;
        }
        // Whoever does not answer must not keep the lease beyond its end.
        match tokio::time::timeout_at(self.ends, kv.get::<Lease>(KEY)).await {
            Ok(Ok(Some(found))) if found.value.holder == self.lease.holder && found.value.epoch == self.lease.epoch => {
                self.revision = found.revision;
                true
            }
            _ => false,
        }
    }

    /// Gives up the lease, so that a successor need not wait until it expires.
    pub async fn release(self, kv: &Kv) {
        let ended = Lease { expires_ms: 0, ..self.lease };
        if let Err(error) = kv.update(KEY, &ended, self.revision).await {
            debug!(%error, "could not release the lease; it will expire");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TTL: Duration = Duration::from_secs(15);

    proptest! {
        #[test]
        fn epochs_only_rise_and_a_living_holder_is_never_replaced(epoch in 0..u64::MAX / 2, floor in 0..u64::MAX / 2, expires in 0_i64..4_000_000_000_000, now in 0_i64..4_000_000_000_000, mine in any::<bool>()) {
            let (us, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
            let found = Lease { holder: if mine { us } else { other }, epoch, expires_ms: expires };
            match claim(Some(&found), floor, us, TTL, Timestamp::from_millis(now)) {
                Claim::Take(lease) => {
                    prop_assert!(mine || expires <= now);
                    prop_assert!(lease.epoch > epoch && lease.epoch > floor && lease.epoch >= now as u64);
                    prop_assert_eq!(lease.expires_ms, now + 15_000);
                }
                Claim::Wait(wait) => {
                    prop_assert!(!mine && expires > now);
                    prop_assert!(wait <= TTL);
                }
            }
        }
    }

    #[test]
    fn a_lost_kv_does_not_bring_old_epochs_back() {
        let Claim::Take(lease) = claim(None, 0, Uuid::from_u128(1), TTL, Timestamp::from_seconds(1_800_000_000)) else {
            panic!("nobody holds it");
        };
        assert_eq!(lease.epoch, 1_800_000_000_000);
    }
}
