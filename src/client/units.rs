//! Durations and sizes as people write and read them.
//!
//! Written: `500ms`, `3s`, `1.5s`, `2m`, `24h`, `10us`; a number alone is seconds, as ping(8) takes
//! it. Sizes: `4096`, `64KiB`, `1MB`.

use std::fmt;
use std::time::{Duration, SystemTime};

/// The time since the epoch; zero on a machine whose clock stands before it.
pub fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Reads a duration.
///
/// # Errors
/// Words that name the text and what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit_at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => {
            return Err(format!(
                "{unit:?} is no unit of time; there are us, ms, s, m, h"
            ));
        }
    };
    let number: f64 = number
        .trim()
        .parse()
        .map_err(|_| "expected a number and a unit, such as 500ms or 3s".to_owned())?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(span) if span <= Duration::from_secs(366 * 86400) => Ok(span),
        _ => Err("a duration is not negative and at most a year".to_owned()),
    }
}

/// Reads a duration that is longer than nothing, as a time-out or an interval must be.
///
/// # Errors
/// Words that name the text and what was expected.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("it must be longer than nothing".to_owned()),
        span => Ok(span),
    }
}

/// Reads a number of bytes.
///
/// # Errors
/// Words that say what was expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let unit_at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => {
            return Err(format!(
                "{unit:?} is no unit of size; there are KiB, MiB, GiB, KB, MB, GB"
            ));
        }
    };
    let number: u64 = number
        .trim()
        .parse()
        .map_err(|_| "expected a number and a unit, such as 64KiB".to_owned())?;
    number
        .checked_mul(factor)
        .ok_or_else(|| "that is too much".to_owned())
}

/// A span of time with a fitting unit and three digits or so: `1.5s`, `20ms`, `3m`.
#[derive(Debug, Clone, Copy)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let (number, unit) = match seconds {
            s if s >= 60.0 => {
                return write!(f, "{}m{:02}s", self.0.as_secs() / 60, self.0.as_secs() % 60);
            }
            s if s >= 1.0 => (s, "s"),
            s if s >= 1e-3 => (s * 1e3, "ms"),
            s => (s * 1e6, "us"),
        };
        let digits = if number >= 100.0 { 0 } else { 2 };
        let text = format!("{number:.digits$}");
        let text = if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.')
        } else {
            &text
        };
        write!(f, "{text}{unit}")
    }
}

/// A number of bytes with a fitting unit: `5 B`, `1.2 KiB`, `64.0 MiB`.
#[derive(Debug, Clone, Copy)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut number = self.0 as f64;
        for unit in ["B", "KiB", "MiB", "GiB"] {
            if number < 1024.0 {
                let digits = usize::from(unit != "B");
                return write!(f, "{number:.digits$} {unit}");
            }
            number /= 1024.0;
        }
        write!(f, "{number:.1} TiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("500ms", 500),
            ("3s", 3000),
            ("1.5s", 1500),
            ("2", 2000),
            ("0.2", 200),
            ("2m", 120_000),
            ("0", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["", "s", "3 years", "-1s", "nan", "inf", "1e99s", "5y"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_interval("0s").is_err());
    }

    #[test]
    fn durations_are_written() {
        for (millis, text) in [
            (1500, "1.5s"),
            (20, "20ms"),
            (100_000, "1m40s"),
            (300, "300ms"),
            (3000, "3s"),
        ] {
            assert_eq!(Span(Duration::from_millis(millis)).to_string(), text);
        }
        assert_eq!(Span(Duration::from_micros(45)).to_string(), "45us");
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64KiB"), Ok(65536));
        assert_eq!(parse_size("2MB"), Ok(2_000_000));
        assert!(parse_size("x").is_err() && parse_size("99999999999GiB").is_err());
        assert_eq!(Size(5).to_string(), "5 B");
        assert_eq!(Size(1536).to_string(), "1.5 KiB");
    }
}
