//! When certificates end, as a metric.

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::metrics::Metrics;

/// `kustody_certificate_expiry_timestamp_seconds`; clones share it.
#[derive(Clone)]
pub struct Expiries(Family<Label, Gauge>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    certificate: &'static str,
    source: &'static str,
}

/// Who says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The controller, of what lies in the Secret.
    Issued,
    /// A replica, of what it serves: the two differ where a renewal did not arrive.
    Served,
}

impl Expiries {
    /// Registered with the process.
    pub fn new(metrics: &Metrics) -> Self {
        let help = "End of a certificate, in seconds since 1970: as it was issued, and as a replica serves it";
        Self(metrics.register("certificate_expiry_timestamp_seconds", help, Family::default()))
    }

    /// Says when `certificate` ends, or that there is none.
    pub fn set(&self, certificate: &'static str, source: Source, ends: Option<Timestamp>) {
        let source = match source {
            Source::Issued => "issued",
            Source::Served => "served",
        };
        let label = Label { certificate, source };
        match ends {
            Some(ends) => {
                self.0.get_or_create(&label).set(ends.as_second());
            }
            None => {
                self.0.remove(&label);
            }
        }
    }
}
