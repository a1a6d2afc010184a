//! The one place that reads the machine's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use backstay_protocol::{Clock, Timestamp};

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // Here the process's time comes from; everything else is handed a `Clock`.
    fn now(&self) -> Timestamp {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() as i32 },
            Err(before) => Timestamp::from_millis(-(before.duration().as_millis() as i64)),
        }
    }
}
