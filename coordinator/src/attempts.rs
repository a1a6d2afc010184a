//! How many attempts ended how since this coordinator was started: the counters in the metrics.

use backstay_protocol::ClusterName;
use backstay_protocol::bus::FailureCode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The backup is in the store.
    Succeeded,
    /// The agent reported a failure.
    Failed(FailureCode),
    /// The agent refused it.
    Refused,
    /// The agent did not answer the command.
    Unanswered,
    /// The agent became silent, or the attempt did not end in time.
    Lost,
}

const RESULTS: [&str; 6] = ["succeeded", "failed", "refused", "unanswered", "lost", "disagreed"];

impl Ended {
    /// The value of the label `result`.
    pub fn result(self) -> &'static str {
        match self {
            Self::Succeeded => RESULTS[0],
            // Not a failure of the backup's: of etcd's, and worse.
            Self::Failed(FailureCode::Disagreement) => RESULTS[5],
            Self::Failed(_) => RESULTS[1],
            Self::Refused => RESULTS[2],
            Self::Unanswered => RESULTS[3],
            Self::Lost => RESULTS[4],
        }
    }
}

type Labels = [(&'static str, String); 2];

/// The counters, by cluster and result.
#[derive(Debug, Default)]
pub struct Attempts(Family<Labels, Counter>);

impl Attempts {
    /// Shows them.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Attempts that ended since this coordinator was started, by outcome";
        registry.register("backstay_attempts", help, self.0.clone());
    }

    /// Every counter exists from the beginning: one that appears with its first failure would hide that failure from
    /// `increase()`.
    pub fn know(&self, cluster: &ClusterName) {
        for result in RESULTS {
            let _ = self.0.get_or_create(&labels(cluster, result));
        }
    }

    pub fn count(&self, cluster: &ClusterName, ended: Ended) {
        self.0.get_or_create(&labels(cluster, ended.result())).inc();
    }
}

fn labels(cluster: &ClusterName, result: &'static str) -> Labels {
    [("cluster", cluster.to_string()), ("result", result.to_owned())]
}
