//! How many attempts ended how since the agent was started, for its metrics.

use std::time::Duration;

use backstay_archive::writer::Progress;
use backstay_protocol::bus::{FailureCode, report::State};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Bounds in seconds, for databases of some megabytes up to the two hours that an attempt may take by default.
const DURATION_BUCKETS: [f64; 13] = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0];

const RESULTS: [&str; 3] = ["succeeded", "failed", "cancelled"];

type Result = [(&'static str, &'static str); 1];

/// What was read, stored and sent again in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of the database.
    pub read: u64,
    /// Bytes of the stored objects, compressed and encrypted.
    pub stored: u64,
    /// Parts of uploads that were sent again.
    pub retried: u64,
}

impl Totals {
    /// Plus what one attempt has done so far.
    pub fn with(self, progress: &Progress) -> Self {
        Self {
            read: self.read + progress.read(),
            stored: self.stored + progress.stored(),
            retried: self.retried + u64::from(progress.retried()),
        }
    }
}

/// How attempts ended.
#[derive(Debug)]
pub struct Metrics {
    attempts: Family<Result, Counter>,
    duration: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let attempts = Family::<Result, Counter>::default();
        // A counter that appears with its first failure would hide that failure from `increase()`.
        for result in RESULTS {
            let _ = attempts.get_or_create(&[("result", result)]);
        }
        Self { attempts, duration: Histogram::new(DURATION_BUCKETS) }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        let attempts = "Attempts that ended since the agent was started, by outcome";
        registry.register("backstay_agent_attempts", attempts, self.attempts.clone());
        let duration = "Time from the command to the manifest, of successful backups";
        registry.register_with_unit("backstay_agent_backup_duration", duration, Unit::Seconds, self.duration.clone());
    }

    /// Counts an attempt that ended with `state` after `taken`.
    pub fn count(&self, state: &State, taken: Duration) {
        let result = match state {
            State::Started(_) => return,
            State::Finished(_) => {
                self.duration.observe(taken.as_secs_f64());
                "succeeded"
            }
            State::Failed(failed) if failed.code() == FailureCode::Cancelled => "cancelled",
            State::Failed(_) => "failed",
        };
        self.attempts.get_or_create(&[("result", result)]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstay_protocol::bus::{Failed, Finished, Started};
    use prometheus_client::encoding::text::encode;

    #[test]
    fn every_result_is_there_from_the_beginning_and_only_successes_have_a_duration() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        let shown = || {
            let mut text = String::new();
            encode(&mut text, &registry).expect("a string takes all");
            text
        };
        for result in RESULTS {
            let line = format!("backstay_agent_attempts_total{{result=\"{result}\"}} 0\n");
            assert!(shown().contains(&line), "{}", shown());
        }
        let failed = |code: FailureCode| State::Failed(Failed { code: code.into(), text: String::new() });
        let second = Duration::from_secs(1);
        metrics.count(&State::Started(Started {}), second);
        metrics.count(&State::Finished(Finished::default()), second * 3);
        metrics.count(&failed(FailureCode::Store), second);
        metrics.count(&failed(FailureCode::Cancelled), second);
        for line in [
            "backstay_agent_attempts_total{result=\"succeeded\"} 1\n",
            "backstay_agent_attempts_total{result=\"failed\"} 1\n",
            "backstay_agent_attempts_total{result=\"cancelled\"} 1\n",
            "backstay_agent_backup_duration_seconds_sum 3.0\n",
            "backstay_agent_backup_duration_seconds_bucket{le=\"2.0\"} 0\n",
            "backstay_agent_backup_duration_seconds_bucket{le=\"5.0\"} 1\n",
        ] {
            assert!(shown().contains(line), "no {line} in {}", shown());
        }
    }
}
