//! Figures of the process, read from `/proc` when the metrics are read.

use std::fmt;
use std::time::Duration;

use procfs::WithCurrentSystemInfo as _;
use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// The standard `process_…` metrics of Prometheus' client libraries.
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// What `/proc` says about this process.
struct Figures {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    started_at: f64,
    open_files: u64,
    max_files: u64,
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Without `/proc` there are no figures, which is no reason to hide the other metrics.
        let Ok(figures) = Figures::read() else { return Ok(()) };
        let cpu = ConstCounter::new(figures.cpu_seconds);
        let encode = encoder.encode_descriptor(
            "process_cpu",
            "CPU time of the process",
            Some(&Unit::Seconds),
            cpu.metric_type(),
        )?;
        cpu.encode(encode)?;
        let started_at = ConstGauge::new(figures.started_at);
        let encode = encoder.encode_descriptor(
            "process_start_time",
            "Time at which the process started, since the Unix epoch",
            Some(&Unit::Seconds),
            started_at.metric_type(),
        )?;
        started_at.encode(encode)?;
        for (name, help, unit, value) in [
            ("process_resident_memory", "Resident memory", Some(&Unit::Bytes), figures.resident_bytes),
            ("process_virtual_memory", "Virtual memory", Some(&Unit::Bytes), figures.virtual_bytes),
            ("process_open_fds", "Open file descriptors", None, figures.open_files),
            ("process_max_fds", "The most file descriptors that may be open", None, figures.max_files),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

impl Figures {
    fn read() -> procfs::ProcResult<Self> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let per_second = procfs::ticks_per_second().max(1);
        let time = |ticks: u64| Duration::from_millis(ticks.saturating_mul(1000) / per_second);
        let booted = Duration::from_secs(procfs::boot_time_secs()?);
        Ok(Self {
            cpu_seconds: time(stat.utime + stat.stime).as_secs_f64(),
            resident_bytes: stat.rss_bytes().get(),
            virtual_bytes: stat.vsize,
            started_at: (booted + time(stat.starttime)).as_secs_f64(),
            open_files: process.fd_count()?.try_into().unwrap_or(u64::MAX),
            max_files: match process.limits()?.max_open_files.soft_limit {
                LimitValue::Unlimited => u64::MAX,
                LimitValue::Value(files) => files,
            },
        })
    }
}
