//! Lines of the logs that were lost, read from their writers when the metrics are read.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

/// Returns how many lines of a log were lost.
type Read = Box<dyn Fn() -> u64 + Send + Sync>;

/// The logs, with what reads their figure.
#[derive(Clone, Default)]
pub(super) struct LostLines(Arc<Mutex<Vec<(&'static str, Read)>>>);

impl LostLines {
    pub(super) fn add(&self, log: &'static str, read: Read) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((log, read));
    }
}

impl fmt::Debug for LostLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LostLines").finish_non_exhaustive()
    }
}

impl Collector for LostLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Lines of a log that were not written, because its queue was full or writing failed";
        let mut metric = encoder.encode_descriptor("otpd_log_lines_lost", help, None, MetricType::Counter)?;
        for (log, read) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            ConstCounter::new(read()).encode(metric.encode_family(&[("log", *log)])?)?;
        }
        Ok(())
    }
}
