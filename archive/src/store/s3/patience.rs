//! How long to wait for S3, and how often to ask again.

use std::time::Duration;

use aws_sdk_s3::config::StalledStreamProtectionConfig;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;

/// Time limits and retries. A slow store finishes, because the time for a part grows with its size. A stuck store is
/// noticed, because every wait is limited.
#[derive(Debug, Clone)]
pub struct Patience {
    /// How often one request is sent at most.
    pub attempts: u32,
    /// The pause before the second try, approximately: it doubles from one to the next, and is randomised.
    pub first_pause: Duration,
    /// Limit for the doubled pause.
    pub longest_pause: Duration,
    /// Limit for connecting.
    pub connect: Duration,
    /// Limit for the answer to one try, in addition to the time in which a body is transferred.
    pub answer: Duration,
    /// The slowest accepted transfer of a body, in bytes per second.
    pub slowest: u64,
    /// Limit for one try to complete an upload: some providers join the parts before they answer.
    pub join: Duration,
    /// If a download brings no byte for this long, it is started again where it stopped.
    pub stall: Duration,
}

/// Limit for all tries of one request together: this many times the longest try.
const ATTEMPTS_WORTH: u32 = 3;

impl Default for Patience {
    fn default() -> Self {
        Self {
            // Three tries were too few for a store that answered every third request with 503.
            attempts: 10,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(10),
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(30),
            slowest: 32 * 1024,
            join: Duration::from_secs(300),
            stall: Duration::from_secs(30),
        }
    }
}

impl Patience {
    /// For someone who waits: an answer within seconds, even if it is an error.
    pub(super) fn impatient(&self) -> Self {
        Self {
            attempts: self.attempts.min(3),
            answer: self.answer.min(Duration::from_secs(10)),
            join: self.join.min(Duration::from_secs(10)),
            ..self.clone()
        }
    }

    /// For first contact: whether anybody answers at all.
    pub(super) fn brief(&self) -> Self {
        Self { attempts: self.attempts.min(2), connect: self.connect.min(Duration::from_secs(3)), ..self.impatient() }
    }

    pub(super) fn retries(&self) -> RetryConfig {
        RetryConfig::standard()
            .with_max_attempts(self.attempts)
            .with_initial_backoff(self.first_pause)
            .with_max_backoff(self.longest_pause)
    }

    /// For requests and answers without a large body.
    pub(super) fn small(&self) -> TimeoutConfig {
        self.timeouts(self.answer)
    }

    /// For a request with a body of this many bytes.
    pub(super) fn sending(&self, bytes: usize) -> TimeoutConfig {
        let travel = Duration::from_millis(bytes as u64 * 1000 / self.slowest.max(1));
        self.timeouts(self.answer + travel)
    }

    /// For completing an upload.
    pub(super) fn joining(&self) -> TimeoutConfig {
        self.timeouts(self.join)
    }

    fn timeouts(&self, attempt: Duration) -> TimeoutConfig {
        TimeoutConfig::builder()
            .connect_timeout(self.connect)
            .operation_attempt_timeout(attempt)
            .operation_timeout(attempt * ATTEMPTS_WORTH)
            .build()
    }

    /// Watches downloads. An upload's body is a single block of memory that is handed over at once, so its rate says
    /// nothing; the time limit of the try covers uploads instead.
    pub(super) fn stalls(&self) -> StalledStreamProtectionConfig {
        StalledStreamProtectionConfig::enabled().upload_enabled(false).grace_period(self.stall).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PART_BYTES;

    #[test]
    fn a_part_s_time_grows_with_its_size() {
        let patience = Patience::default();
        let limit = |bytes| patience.sending(bytes).operation_attempt_timeout().expect("always set");
        assert_eq!(limit(0), patience.answer);
        assert_eq!(limit(PART_BYTES), patience.answer + Duration::from_secs(256));
    }

    #[test]
    fn a_first_contact_that_is_refused_pauses_for_less_than_5_s_in_all() {
        let brief = Patience::default().brief();
        let pauses: Duration = (0..brief.attempts - 1).map(|n| brief.first_pause * 2_u32.pow(n)).sum();
        // The SDK makes each up to twice as long, at random.
        assert!(pauses * 2 < Duration::from_secs(5), "{pauses:?}");
        assert!(brief.attempts >= 2, "a connection that breaks off is tried again");
    }
}
