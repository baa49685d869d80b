//! Where and when: what a figure means nothing without.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// One line: processor, cores that may be used, memory, kernel, day.
pub(crate) fn describe(cores: usize) -> String {
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .map_or_else(|| "unknown memory".to_owned(), |kilobytes| format!("{} GiB", (kilobytes + (1 << 19)) >> 20));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let system = format!("Linux {}", kernel.trim());
    let noun = if cores == 1 { "core" } else { "cores" };
    format!("{processor}, {cores} {noun}, {memory}, {system}, {}", today())
}

/// How busy the machine is without us: the figures are worth less the more it is.
pub(crate) fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// Memory that programs may still take.
pub(crate) fn available_bytes() -> Option<u64> {
    let text = field("/proc/meminfo", "MemAvailable")?;
    Some(text.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// The version of a package that this was built with.
pub(crate) fn version(package: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let start = format!("name = \"{package}\"\nversion = \"");
    lock.split_once(start.as_str()).and_then(|(_, rest)| rest.split('"').next()).unwrap_or("of unknown version")
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = date(seconds / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// Year, month and day of a day counted from 1970-01-01 on.
fn date(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(19_722), (2023, 12, 31));
        assert_eq!(date(19_723), (2024, 1, 1));
        assert_eq!(date(19_723 + 365), (2024, 12, 31));
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        assert!(version("tokio").starts_with("1."));
        assert_eq!(version("nothing-of-this-name"), "of unknown version");
    }
}
