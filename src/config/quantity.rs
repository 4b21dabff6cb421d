//! Times and sizes as people write them: `30s`, `1m30s`, `4MiB`; plain numbers are seconds and bytes.

use std::fmt;
use std::time::Duration;

use super::value::Value;

impl Value for Duration {
    fn parse(text: &str) -> Result<Self, String> {
        duration(text).ok_or_else(|| {
            "give a time such as 30s, 250ms, 1m30s or 2h; a plain number is seconds".to_owned()
        })
    }

    fn show(&self) -> String {
        let millis = self.as_millis();
        if millis.is_multiple_of(1000) {
            format!("{}s", self.as_secs())
        } else {
            format!("{millis}ms")
        }
    }
}

fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end)?;
        let seconds = match unit.trim() {
            "ms" => 0.001,
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const BYTE_UNITS: [(&str, u64); 9] = [
    ("gib", 1 << 30),
    ("mib", 1 << 20),
    ("kib", 1 << 10),
    ("gb", 1_000_000_000),
    ("mb", 1_000_000),
    ("kb", 1_000),
    ("g", 1 << 30),
    ("m", 1 << 20),
    ("k", 1 << 10),
];

impl Value for ByteSize {
    fn parse(text: &str) -> Result<Self, String> {
        byte_size(text).map(Self).ok_or_else(|| {
            "give a size such as 4MiB (4 * 1024 * 1024), 500MB or 2GiB; a plain number is bytes"
                .to_owned()
        })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

fn byte_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let (number, unit) = BYTE_UNITS
        .iter()
        .find_map(|(suffix, unit)| Some((lower.strip_suffix(suffix)?, *unit)))
        .unwrap_or_else(|| (lower.strip_suffix('b').unwrap_or(&lower), 1));
    let number = number.trim();
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    let bytes = number.parse::<f64>().ok()? * unit as f64;
    // 2^53: above it a fraction's bytes are no longer exact, and no machine holds them.
    (bytes.fract() == 0.0 && (0.0..9.007_199_254_740_992e15).contains(&bytes))
        .then_some(bytes as u64)
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
            .into_iter()
            .find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match exact {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_units_or_as_seconds() {
        for (text, millis) in [
            ("30s", 30_000),
            ("30", 30_000),
            ("0.5", 500),
            ("250ms", 250),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("0", 0),
        ] {
            assert_eq!(
                Duration::parse(text).unwrap(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
        for text in ["", "s", "30x", "-1", "1m30", "inf", "nan", "1e400"] {
            assert!(Duration::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["90s", "250ms"] {
            assert_eq!(Duration::parse(text).unwrap().show(), text);
        }
        for text in ["4MiB", "3GiB", "1500", "0"] {
            assert_eq!(ByteSize::parse(text).unwrap().show(), text);
        }
    }

    #[test]
    fn byte_sizes_are_read_with_binary_and_decimal_units() {
        for (text, bytes) in [
            ("4MiB", 4 << 20),
            ("4 mib", 4 << 20),
            ("500MB", 500_000_000),
            ("1.5g", 3 << 29),
            ("12", 12),
            ("12B", 12),
            ("64k", 65_536),
        ] {
            assert_eq!(ByteSize::parse(text), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "-1", "4X", "MiB", "0.3", "1e40", "99999999999GiB"] {
            assert!(ByteSize::parse(text).is_err(), "{text}");
        }
    }
}
