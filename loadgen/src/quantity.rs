//! Numbers with their units: as people type them on a command line, and as they like to read them.

use std::time::Duration;

/// Reads a count such as `1000`, `20k`, `1.5k` or `1M` (k = 1,000, M = 1,000,000, G = 1,000,000,000).
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    let example = "a count such as 500, 20k or 1M";
    let (number, unit) = split(text, example)?;
    whole(number * decimal(unit).ok_or_else(|| unknown_unit(text, unit, example))?, text, example)
}

/// Reads a rate per second such as `500`, `20k`, `1M` or `0.5`, with or without `/s` behind it.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let example = "a rate per second such as 500, 20k or 1M";
    let (number, unit) = split(text.strip_suffix("/s").unwrap_or(text), example)?;
    let rate = number * decimal(unit).ok_or_else(|| unknown_unit(text, unit, example))?;
    if (RATE_MIN..=RATE_MAX).contains(&rate) {
        Ok(rate)
    } else {
        Err(format!("'{text}' is not between {RATE_MIN} and 1G a second: give {example}"))
    }
}

/// Reads a span of time such as `10s`, `500ms`, `250us`, `2m` or `1h`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let example = "a time such as 10s, 500ms or 2m";
    let (number, unit) = split(text, example)?;
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(unknown_unit(text, unit, example)),
    } * number;
    // A week is longer than any measurement, and short enough that nanoseconds of it never overflow.
    if (1e-6..=604_800.0).contains(&seconds) {
        Ok(Duration::from_nanos((seconds * 1e9).round() as u64))
    } else {
        Err(format!("'{text}' is not between 1us and a week: give {example}"))
    }
}

/// Reads a size in bytes such as `64`, `4KiB`, `8MiB` or `1GiB` (k and M are 1,000 and 1,000,000 bytes, as for counts).
pub(crate) fn parse_size(text: &str) -> Result<u32, String> {
    let example = "a size such as 64, 4KiB or 8MiB (units: B, k, KiB, M, MiB, GiB; at most 1GiB)";
    let (number, unit) = split(text, example)?;
    let factor = match unit {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        other => decimal(other).ok_or_else(|| unknown_unit(text, unit, example))?,
    };
    match whole(number * factor, text, example)? {
        bytes @ 1..=SIZE_MAX => Ok(bytes as u32),
        _ => Err(format!("'{text}' is not between 1 byte and 1 GiB: give {example}")),
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 thread`, `2 threads`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A span of nanoseconds with three digits and the unit that suits it: `850 ns`, `12.3 us`, `1.25 ms`, `31.4 s`.
pub(crate) fn span(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    three_digits(value, unit)
}

/// Bytes with three digits and a binary unit: `64 B`, `1.50 KiB`, `23.7 MiB`, `1.00 GiB`.
pub(crate) fn bytes(number: u64) -> String {
    let value = number as f64;
    match number {
        0..1024 => format!("{number} B"),
        1024..0x10_0000 => three_digits(value / 1024.0, "KiB"),
        0x10_0000..0x4000_0000 => three_digits(value / f64::from(1 << 20), "MiB"),
        _ => three_digits(value / f64::from(1 << 30), "GiB"),
    }
}

/// The slowest rate: one in a quarter of an hour. What is slower does not happen in a measurement.
const RATE_MIN: f64 = 0.001;

/// The fastest: one a nanosecond, which is what the clock tells apart.
const RATE_MAX: f64 = 1e9;

/// The largest message: what a receive buffer and a person's patience still make sense of.
const SIZE_MAX: u64 = 1 << 30;

fn split<'a>(text: &'a str, example: &str) -> Result<(f64, &'a str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    if text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit())) {
        return Err(format!("'{text}' is below zero: give {example}"));
    }
    let number = text[..end].parse().map_err(|_| format!("'{text}' does not start with a number: give {example}"))?;
    Ok((number, text[end..].trim()))
}

fn decimal(unit: &str) -> Option<f64> {
    match unit {
        "" => Some(1.0),
        "k" | "K" => Some(1e3),
        "m" | "M" => Some(1e6),
        "g" | "G" => Some(1e9),
        _ => None,
    }
}

fn whole(number: f64, text: &str, example: &str) -> Result<u64, String> {
    // Up to 2^53 every whole number is a float of its own.
    if number.fract() == 0.0 && (1.0..9e15).contains(&number) {
        Ok(number as u64)
    } else {
        Err(format!("'{text}' is not a whole number of at least 1: give {example}"))
    }
}

fn unknown_unit(text: &str, unit: &str, example: &str) -> String {
    format!("'{text}' has an unknown unit '{unit}': give {example}")
}

fn three_digits(value: f64, unit: &str) -> String {
    match value {
        ..9.995 => format!("{value:.2} {unit}"),
        9.995..99.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A rate, with decimals only where it is slow enough for them to matter.
pub(crate) fn rate_text(rate_per_s: f64) -> String {
    let is_whole = rate_per_s.fract() == 0.0 || rate_per_s >= 100.0;
    if is_whole { count(rate_per_s.round() as u64) } else { format!("{rate_per_s:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_whole_and_at_least_one() {
        assert_eq!(parse_count("1"), Ok(1));
        assert_eq!(parse_count("20k"), Ok(20_000));
        assert_eq!(parse_count("1.5k"), Ok(1_500));
        assert_eq!(parse_count("1M"), Ok(1_000_000));
        assert!(parse_count("-1").unwrap_err().contains("'-1' is below zero: give a count such as 500"));
        for wrong in ["", "0", "k", "-1", "1.5", "1x", "1..2", "0.0001k", "1e3", "99999999G"] {
            assert!(parse_count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_may_be_fractions() {
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        assert_eq!(parse_rate("20k/s"), Ok(20_000.0));
        for wrong in ["0", "0.000000000001", "2G", "fast", "10/m", ""] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
        assert!(parse_rate("0").unwrap_err().contains("'0' is not between 0.001 and 1G a second"));
    }

    #[test]
    fn durations_have_units_and_bounds() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
        for wrong in ["0s", "0.1us", "8000h", "s", "5 parsecs"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_know_binary_units() {
        assert_eq!(parse_size("64"), Ok(64));
        assert_eq!(parse_size("64B"), Ok(64));
        assert_eq!(parse_size("4KiB"), Ok(4096));
        assert_eq!(parse_size("4k"), Ok(4000));
        assert_eq!((parse_size("1024MiB"), parse_size("1GiB")), (Ok(1 << 30), Ok(1 << 30)));
        for wrong in ["0", "1025MiB", "2GiB", "4KB", "0.3"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(["0", "999", "1,000", "1,234,567"].map(String::from), [0, 999, 1000, 1_234_567].map(count));
        assert_eq!((counted(1, "core"), counted(1000, "core")), ("1 core".into(), "1,000 cores".into()));
        assert_eq!(span(0), "0 ns");
        assert_eq!(span(999), "999 ns");
        assert_eq!(span(1_000), "1.00 us");
        assert_eq!(span(12_345), "12.3 us");
        assert_eq!(span(1_250_000), "1.25 ms");
        assert_eq!(span(314_000_000_000), "314 s");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(1 << 30), "1.00 GiB");
    }

    #[test]
    fn slow_rates_keep_their_fractions() {
        assert_eq!([0.7, 5.0, 99.999, 1234.6].map(rate_text), ["0.70", "5", "100.00", "1,235"]);
    }
}
