//! What a process has used so far, from `/proc`: CPU time in nanoseconds, context switches, memory.

use std::fs;
use std::ops::{Add, Sub};
use std::path::Path;

/// What was used so far.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub cpu_ns: u64,
    pub switches: u64,
}

impl Usage {
    /// Returns what all threads of a process have used.
    pub fn of(process: u32) -> Self {
        threads(process).iter().map(|thread| Self::of_thread(thread)).fold(Self::default(), Add::add)
    }

    /// Returns what a process and its children have used.
    pub fn of_family(process: u32) -> Self {
        let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        children.map(Self::of).fold(Self::of(process), Add::add)
    }

    /// Returns what the threads of this process with this name have used.
    pub fn of_own_threads(name: &str) -> Self {
        let threads = threads(std::process::id());
        let named = threads.iter().filter(|thread| {
            fs::read_to_string(format!("{thread}/comm")).is_ok_and(|comm| comm.trim() == name)
        });
        named.map(|thread| Self::of_thread(thread)).fold(Self::default(), Add::add)
    }

    /// Returns what this thread has used.
    pub fn of_this_thread() -> Self {
        Self::of_thread("/proc/thread-self")
    }

    fn of_thread(thread: &str) -> Self {
        // A thread that has just ended has no figures.
        let schedstat = fs::read_to_string(format!("{thread}/schedstat")).unwrap_or_default();
        let status = fs::read_to_string(format!("{thread}/status")).unwrap_or_default();
        let switches = status.lines().filter(|line| line.contains("ctxt_switches:"));
        let switches = switches.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        Self {
            cpu_ns: schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0),
            switches: switches.sum(),
        }
    }

    /// Returns microseconds of CPU time for each of so many requests.
    pub fn micros_each(self, requests: usize) -> f64 {
        self.cpu_ns as f64 / 1e3 / requests as f64
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { cpu_ns: self.cpu_ns + other.cpu_ns, switches: self.switches + other.switches }
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(other.cpu_ns),
            switches: self.switches.saturating_sub(other.switches),
        }
    }
}

fn threads(process: u32) -> Vec<String> {
    let folder = format!("/proc/{process}/task");
    let entries = fs::read_dir(Path::new(&folder)).expect("a process");
    entries.filter_map(|entry| Some(entry.ok()?.path().display().to_string())).collect()
}

/// Returns resident memory in MB: `VmRSS` now, `VmHWM` at its peak.
pub fn memory_mb(process: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: f64 = line.expect(name).trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib * 1024.0 / 1e6
}

/// Sets the peak of memory to what is resident now.
pub fn reset_peak(process: u32) {
    fs::write(format!("/proc/{process}/clear_refs"), "5").expect("a process of this user");
}
