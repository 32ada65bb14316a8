//! What the kernel says about the process: `/proc/self`, where there is one.

use std::fs;
use std::sync::OnceLock;

/// Ticks a second in `/proc`, fixed by the kernel's interface on the architectures in use.
const TICKS: f64 = 100.0;

/// When the system started, in seconds since 1970. Read once: it moves when the time of day is set, and
/// the process would seem to have started anew.
static BOOT: OnceLock<Option<f64>> = OnceLock::new();

/// The process as the kernel sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    pub(super) open_fds: u64,
    pub(super) max_fds: u64,
    pub(super) resident_bytes: u64,
    pub(super) cpu_seconds: f64,
    /// Since 1970.
    pub(super) start_seconds: f64,
}

impl Figures {
    /// None on a system without `/proc`.
    pub(super) fn read() -> Option<Self> {
        // The folder being read is one of them.
        let open_fds = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64;
        let text = |path| fs::read_to_string(path).ok();
        let (cpu_seconds, after_boot) = times(&text("/proc/self/stat")?)?;
        let boot = (*BOOT.get_or_init(|| field(&text("/proc/stat")?, "btime ")))?;
        let resident_kib: u64 = field(&text("/proc/self/status")?, "VmRSS:")?;
        Some(Self {
            open_fds,
            max_fds: field(&text("/proc/self/limits")?, "Max open files ").unwrap_or(u64::MAX),
            resident_bytes: resident_kib * 1024,
            cpu_seconds,
            start_seconds: boot + after_boot,
        })
    }
}

/// The first number of the line that starts with `name`.
fn field<T: std::str::FromStr>(text: &str, name: &str) -> Option<T> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor seconds, and the start in seconds after the boot, from `/proc/self/stat`.
fn times(stat: &str) -> Option<(f64, f64)> {
    // The name, in parentheses, may hold spaces and parentheses; fields are counted from 3 after it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some(((ticks(14)? + ticks(15)?) / TICKS, ticks(22)? / TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory and age of the wrong process, or of none, would be on the dashboard.
    #[test]
    fn the_figures_are_this_processs() {
        let stat = "17 (a) b) c) S 1 17 17 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 123456 1 2 3";
        assert_eq!(times(stat), Some((3.0, 1234.56)));
        assert_eq!(field("a 1\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048));
        let Some(figures) = Figures::read() else {
            assert!(!std::path::Path::new("/proc/self/stat").exists());
            return;
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(figures.open_fds > 0 && figures.open_fds <= figures.max_fds, "{figures:?}");
        assert!(figures.resident_bytes > 1_000_000, "{figures:?}");
        assert!(figures.start_seconds <= now.as_secs_f64() + 1.0, "{figures:?}");
    }
}
