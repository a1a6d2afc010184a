//! Compares this machine's clock with NATS's and the store's regularly, while this coordinator leads.

use std::sync::Arc;
use std::time::Duration;

use backstay_daemon::host;
use backstay_protocol::time::clock_is_off;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::clocks::Offsets;
use crate::lease;
use crate::storage::ActiveStore;
use crate::term::Term;

/// The interval between two comparisons with NATS's clock.
const LOOK: Duration = Duration::from_secs(10);
/// The interval between two comparisons with the store's clock; each is a request.
const STORE_LOOK: Duration = Duration::from_secs(600);
/// A clock that moved by more than this against another one was set.
const MOVED: u64 = 5_000;
/// An answer that takes longer says nothing about the time.
const ANSWER: Duration = Duration::from_secs(15);

/// Whether it is time to compare the store's clock again.
fn store_is_due(since: Option<Duration>, moved: u64, offsets: Offsets) -> bool {
    let off = offsets.each().iter().any(|(ahead, _)| ahead.is_some_and(|ahead| clock_is_off(ahead, "").is_some()));
    since.is_none_or(|since| since >= if off { STORE_LOOK / 10 } else { STORE_LOOK }) || moved > MOVED
}

/// Compares for as long as this coordinator leads, and logs once what is wrong.
pub async fn watch(term: Arc<Term>) {
    let host = host::name();
    let mut storage = term.storage.subscribe();
    let (mut told, mut looked, mut nats_then) = (Offsets::default(), None::<Instant>, None::<i64>);
    loop {
        let nats = against_nats(&term).await;
        term.clocks.change(|offsets| offsets.nats = nats.or(offsets.nats));
        let offsets = term.clocks.offsets();
        let moved = offsets.nats.zip(nats_then).map_or(0, |(now, then)| now.abs_diff(then));
        nats_then = offsets.nats;
        if storage.has_changed().unwrap_or(false) {
            looked = None;
        }
        if store_is_due(looked.map(|at| at.elapsed()), moved, offsets) {
            let active_store = storage.borrow_and_update().active_store.clone();
            let store = match &active_store {
                Some(active_store) => against_store(&term, active_store).await,
                None => None,
            };
            term.clocks.change(|offsets| offsets.store = store);
            looked = Some(Instant::now());
        }
        let offsets = term.clocks.offsets();
        if offsets.is_news(told) {
            tell(&offsets.fault(&host));
            told = offsets;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn tell(fault: &str) {
    match fault {
        "" => info!("the clock of the coordinator's machine agrees with the others again"),
        fault => warn!("{fault}: backups are named and scheduled by this clock; correct the one that is wrong"),
    }
}

/// The lease contains this coordinator's time, and the server's time when it stored the lease.
async fn against_nats(term: &Term) -> Option<i64> {
    let asked = lease::clock_ahead_ms(&term.kv, term.holder, term.epoch, term.config.settings.lease.ttl);
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(ahead)) => ahead,
        Ok(Err(error)) => {
            debug!(%error, "could not get the time from NATS");
            None
        }
        Err(_) => None,
    }
}

/// The answer's time lies somewhere between question and answer, and has whole seconds at S3.
async fn against_store(term: &Term, active_store: &ActiveStore) -> Option<i64> {
    let before = term.clock.now().as_millis();
    match tokio::time::timeout(ANSWER, active_store.store.time()).await {
        Ok(Ok(time)) => {
            let after = term.clock.now().as_millis();
            Some(before.midpoint(after).saturating_sub(time?.as_millis()))
        }
        Ok(Err(error)) => {
            debug!(%error, "could not get the time from the store");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn the_store_is_asked_at_once_then_rarely_and_whenever_the_clock_was_set() {
        let (fine, off) = (Offsets { nats: Some(5), store: Some(5) }, Offsets { nats: Some(DAY), store: None });
        let minutes = |n: u64| Some(Duration::from_secs(60 * n));
        assert!(store_is_due(None, 0, fine) && store_is_due(minutes(10), 0, fine));
        assert!(!store_is_due(minutes(9), 5_000, fine) && store_is_due(minutes(0), 5_001, fine));
        assert!(store_is_due(minutes(1), 0, off) && !store_is_due(minutes(0), 0, off));
    }
}
