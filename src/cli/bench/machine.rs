//! What machine is this, and how much of its memory do we hold?
//!
//! Read from Linux's `/proc`; elsewhere the answer is that nobody knows.

use std::fs;

use crate::cli::output::{count, note};

/// Memory that is resident, in megabytes of 1,000,000 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resident {
    /// All of it.
    pub(super) total_mb: f64,
    /// Pages of files, which the system may take back at any time.
    pub(super) mapped_mb: f64,
}

/// What of this process is resident.
pub(super) fn resident() -> Option<Resident> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some(Resident { total_mb: megabytes(&status, "VmRSS:")?, mapped_mb: megabytes(&status, "RssFile:")? })
}

/// The most that this process has had resident so far, in megabytes.
pub(super) fn peak_mb() -> Option<f64> {
    megabytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// The value of a line such as `VmRSS:     1234 kB`, where kB is 1,024 bytes.
fn megabytes(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0 / 1e6)
}

/// Says on stderr what measures, because a number without its machine says little.
pub(super) fn introduce() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let mut line = count(cores, "core");
    if let Some(model) = processor() {
        line += &format!(", {model}");
    }
    if let Ok(load) = fs::read_to_string("/proc/loadavg") {
        line += &format!(", load {}", load.split(' ').next().unwrap_or_default());
    }
    note(&line);
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_where_the_system_tells() {
        assert_eq!(megabytes("Name:\tquiver\nVmRSS:\t    2000 kB\n", "VmRSS:"), Some(2.048));
        assert_eq!(megabytes("Name:\tquiver\n", "VmRSS:"), None);
        if cfg!(target_os = "linux") {
            let resident = resident().unwrap_or_default();
            assert!(resident.total_mb >= resident.mapped_mb && resident.mapped_mb > 0.0, "{resident:?}");
        }
    }
}
