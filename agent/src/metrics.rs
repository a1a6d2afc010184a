//! What an agent shows of itself: its metrics and whether it is ready, read from the parts that do the work.

use std::fmt;
use std::sync::Arc;

use async_nats::Client;
use async_nats::connection::State;
use backstay_daemon::http::{MetricsEndpoint, Readiness};
use backstay_daemon::metrics::{Scrape, Unit};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::attempt::Attempts;
use crate::etcd::poll::PolledMember;
use crate::outbox::Outbox;

/// The parts from which the metrics come.
#[derive(Clone)]
pub struct AgentMetrics {
    pub client: Client,
    pub attempts: Arc<Attempts>,
    pub outbox: Arc<Outbox>,
    pub member: watch::Receiver<PolledMember>,
}

impl fmt::Debug for AgentMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentMetrics").finish_non_exhaustive()
    }
}

impl AgentMetrics {
    /// The endpoint for [`backstay_daemon::http::serve`].
    pub fn endpoint(self) -> MetricsEndpoint {
        let mut registry = Registry::default();
        self.attempts.metrics().register(&mut registry);
        registry.register_collector(Box::new(self.clone()));
        MetricsEndpoint::new(registry, move || self.readiness())
    }

    fn bus(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    fn etcd(&self) -> bool {
        matches!(&*self.member.borrow(), Some(Ok(_)))
    }

    fn readiness(&self) -> Readiness {
        // Why etcd does not answer stands in the log: here anybody on the machine reads.
        match (self.bus(), self.etcd()) {
            (true, true) => Readiness { ready: true, text: "NATS is connected and etcd is answering".into() },
            (false, true) => Readiness { ready: false, text: "NATS is not connected".into() },
            (true, false) => Readiness { ready: false, text: "etcd does not answer".into() },
            (false, false) => Readiness { ready: false, text: "NATS is not connected, etcd does not answer".into() },
        }
    }
}

impl Collector for AgentMetrics {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut scrape = Scrape::from(encoder);
        let bytes = || Some(Unit::Bytes);
        let totals = self.attempts.totals();
        let read = "Database bytes read from etcd, including failed attempts";
        scrape.counter(("backstay_agent_snapshot", read, bytes()), totals.read)?;
        let sealed = "Compressed and encrypted bytes stored, including failed attempts";
        scrape.counter(("backstay_agent_sealed", sealed, bytes()), totals.stored)?;
        let retried = "Upload parts that had to be sent again";
        scrape.counter(("backstay_agent_parts_retried", retried, None), totals.retried)?;
        let waiting = "Reports waiting on this machine's disk to be sent to the coordinator";
        let reports = *self.outbox.waiting().borrow();
        scrape.gauge(("backstay_agent_outbox_records", waiting, None), reports as f64)?;
        scrape.switch(
            ("backstay_etcd_up", "Whether this machine's etcd answered when it was last asked", None),
            self.etcd(),
        )?;
        scrape.switch(("backstay_bus_connected", "Whether NATS is connected", None), self.bus())?;
        scrape.build(crate::VERSION)
    }
}
