//! A line of the table: what, how many bytes, and how that comes about.

use serde::Serialize;

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What takes it.
    pub part: String,
    /// How much.
    pub bytes: u64,
    /// How that comes about, in words and numbers.
    pub how: String,
}

impl Line {
    pub(super) fn new(part: impl Into<String>, bytes: u64, how: impl Into<String>) -> Self {
        Self {
            part: part.into(),
            bytes,
            how: how.into(),
        }
    }

    /// A share of what stands above it.
    pub(super) fn share(part: &str, above: &[Self], percent: u64, why: &str) -> Self {
        let bytes = sum(above) * percent / 100;
        Self::new(
            part,
            bytes,
            format!("assumption: {percent} % of the lines above{why}"),
        )
    }
}

/// What lines take together.
pub(super) fn sum(lines: &[Line]) -> u64 {
    lines.iter().map(|line| line.bytes).sum()
}

/// Bytes for a sentence.
pub fn gib(bytes: u64) -> String {
    match bytes {
        0..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}
