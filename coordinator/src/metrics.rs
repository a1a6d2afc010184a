//! What a coordinator shows of itself: its metrics and whether it is ready. Metrics about clusters come from the
//! leader's records and fleet at that moment; a coordinator that stands by has none.
//!
//! There is no metric for the age of a backup: it is `time() - …` of the time of the last backup, which is right even while
//! no coordinator can be scraped.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_nats::Client;
use async_nats::connection::State;
use backstay_daemon::http::{MetricsEndpoint, Readiness};
use backstay_daemon::metrics::{Scrape, Unit};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::attempts::Attempts;
use crate::record::ClusterRecord;
use crate::term::Term;

/// Where the metrics come from, whether this coordinator leads or not.
#[derive(Debug)]
pub struct CoordinatorMetrics {
    client: Client,
    attempts: Arc<Attempts>,
    term: Mutex<Weak<Term>>,
}

impl CoordinatorMetrics {
    pub fn new(client: Client) -> Arc<Self> {
        Arc::new(Self { client, attempts: Arc::default(), term: Mutex::default() })
    }

    /// The endpoint for [`backstay_daemon::http::serve`].
    pub fn endpoint(self: &Arc<Self>) -> MetricsEndpoint {
        let mut registry = Registry::default();
        self.attempts.register(&mut registry);
        registry.register_collector(Box::new(Arc::clone(self)));
        let metrics = Arc::clone(self);
        MetricsEndpoint::new(registry, move || metrics.readiness())
    }

    /// From now on, for as long as it has the lease, this term leads.
    pub fn leads(&self, term: &Arc<Term>) {
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(term);
    }

    /// The counters of attempts.
    pub fn attempts(&self) -> Arc<Attempts> {
        self.attempts.clone()
    }

    fn term(&self) -> Option<Arc<Term>> {
        let term = self.term.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        term.filter(|term| !term.cancel.is_cancelled())
    }

    fn bus(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    fn readiness(&self) -> Readiness {
        match (self.bus(), self.term()) {
            (false, _) => Readiness { ready: false, text: "NATS is not connected".into() },
            (true, Some(term)) => Readiness { ready: true, text: format!("leading, epoch {}", term.epoch) },
            (true, None) => Readiness { ready: true, text: "standing by".into() },
        }
    }
}

impl Collector for CoordinatorMetrics {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut scrape = Scrape::from(encoder);
        let term = self.term();
        scrape.switch(("backstay_leader", "Whether this coordinator leads", None), term.is_some())?;
        scrape.switch(("backstay_bus_connected", "Whether NATS is connected", None), self.bus())?;
        scrape.build(env!("CARGO_PKG_VERSION"))?;
        let Some(term) = term else { return Ok(()) };
        clocks(&mut scrape, &term)?;
        clusters(&mut scrape, &term)
    }
}

fn clocks(scrape: &mut Scrape<'_>, term: &Term) -> fmt::Result {
    let offsets = term.clocks.offsets();
    let known = [("nats", offsets.nats), ("store", offsets.store)];
    let help = "How far this machine's clock is ahead of those of NATS and the store; absent while unknown";
    let values = known.iter().filter_map(|(whose, ahead)| Some((*whose, (*ahead)? as f64 / 1000.0)));
    scrape.gauges(("backstay_clock_ahead", help, Some(Unit::Seconds)), "of", values)
}

fn clusters(scrape: &mut Scrape<'_>, term: &Term) -> fmt::Result {
    let records = term.directory.records();
    let mut each = |name: &str, help: &str, unit: Option<Unit>, value: &dyn Fn(&ClusterRecord) -> Option<f64>| {
        let values = records.iter().filter_map(|record| Some((record.name.as_str(), value(record)?)));
        scrape.gauges((name, help, unit), "cluster", values)
    };
    let help = "Time of the newest verified backup in the store; absent if there is none";
    each("backstay_cluster_last_success_timestamp", help, Some(Unit::Seconds), &|record| {
        record.last_backup.map(|at| at.as_millis() as f64 / 1000.0)
    })?;
    let help = "Interval of automatic backups; absent if they are disabled";
    each("backstay_cluster_backup_interval", help, Some(Unit::Seconds), &|record| {
        record.cluster.spec.backup_interval().map(|interval| interval.as_secs_f64())
    })?;
    let help = "Backup status, as in EtcdBackupStatuses: 0 unknown, 1 ok, 2 error, 3 running";
    each("backstay_cluster_backup_status", help, None, &|record| {
        Some(record.status.as_ref().map_or(0, |status| status.spec.status.number()).into())
    })?;
    let standing = |record: &ClusterRecord, damaged: bool| {
        let failed = record.verification.as_ref().and_then(|proof| proof.standing().map(|failed| failed.damaged));
        Some(u8::from(failed == Some(damaged)).into())
    };
    let help = "Whether verification found a damaged backup and neither it nor a newer one has passed since";
    each("backstay_cluster_proof_failed", help, None, &|record| standing(record, true))?;
    let help = "Whether a verification could not be run and none has succeeded since";
    each("backstay_cluster_proof_not_tried", help, None, &|record| standing(record, false))?;
    let help = "Time of the last successful verification of a stored backup; absent if there was none";
    each("backstay_cluster_last_proof_timestamp", help, Some(Unit::Seconds), &|record| {
        let last = record.verification.as_ref()?.last.as_ref()?;
        Some(last.at.as_millis() as f64 / 1000.0)
    })?;
    let now = Instant::now();
    each("backstay_agents_connected", "Connected agents", None, &|record| {
        Some(term.fleet.agents(&record.name, now).len() as f64)
    })
}
