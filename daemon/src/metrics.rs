//! Metrics that are read from a daemon's state at the moment of a request. They follow Prometheus's naming: base units
//! (seconds, bytes), and the unit and `_total` at the end of a name.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
pub use prometheus_client::registry::Unit;

/// A metric's name without unit and `_total`, its help text, and its unit.
pub type Metric<'a> = (&'a str, &'a str, Option<Unit>);

/// One answer to `/metrics` while it is written.
#[derive(Debug)]
pub struct Scrape<'a>(DescriptorEncoder<'a>);

impl<'a> From<DescriptorEncoder<'a>> for Scrape<'a> {
    fn from(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }
}

impl Scrape<'_> {
    /// A value that goes up and down.
    ///
    /// # Errors
    /// The writer failed; one that writes into a `String` does not.
    pub fn gauge(&mut self, metric: Metric<'_>, value: f64) -> fmt::Result {
        self.describe(&metric, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// 1 for on, 0 for off.
    ///
    /// # Errors
    /// The writer failed; one that writes into a `String` does not.
    pub fn switch(&mut self, metric: Metric<'_>, on: bool) -> fmt::Result {
        self.gauge(metric, f64::from(u8::from(on)))
    }

    /// One value for each value of `label`; nothing at all if there are none.
    ///
    /// # Errors
    /// The writer failed; one that writes into a `String` does not.
    pub fn gauges<'v>(
        &mut self,
        metric: Metric<'_>,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, f64)>,
    ) -> fmt::Result {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        let mut encoder = self.describe(&metric, MetricType::Gauge)?;
        for (of, value) in values {
            encoder.encode_family(&[(label, of)])?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A value that only grows while the process runs.
    ///
    /// # Errors
    /// The writer failed; one that writes into a `String` does not.
    pub fn counter(&mut self, metric: Metric<'_>, value: u64) -> fmt::Result {
        self.describe(&metric, MetricType::Counter)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)
    }

    /// The version of this build, as the label of a metric that is always 1.
    ///
    /// # Errors
    /// The writer failed; one that writes into a `String` does not.
    pub fn build(&mut self, version: &str) -> fmt::Result {
        let metric = ("backstay_build_info", "1, with the version of this program", None);
        self.gauges_of(metric, [("version", version)], 1.0)
    }

    fn gauges_of<const N: usize>(&mut self, metric: Metric<'_>, labels: [(&str, &str); N], value: f64) -> fmt::Result {
        self.describe(&metric, MetricType::Gauge)?.encode_family(&labels)?.encode_gauge(&value)
    }

    fn describe<'s>(&'s mut self, metric: &'s Metric<'_>, kind: MetricType) -> Result<MetricEncoder<'s>, fmt::Error> {
        let (name, help, unit) = metric;
        self.0.encode_descriptor(name, help, unit.as_ref(), kind)
    }
}
