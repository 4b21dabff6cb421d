//! `Range`, as RFC 9110 has it for one range; several at once are ignored, which the RFC allows.

use std::ops::Range;

#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// No range, or one that a server may ignore.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// None of its bytes exist.
    Beyond,
}

pub fn read(header: Option<&str>, size: u64) -> Asked {
    let Some(text) = header.and_then(|header| header.strip_prefix("bytes=")) else {
        return Asked::Whole;
    };
    let Some((first, last)) = text.split_once('-') else {
        return Asked::Whole;
    };
    let part = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if last >= first => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
        _ => return Asked::Whole,
    };
    if part.start >= size || part.is_empty() {
        Asked::Beyond
    } else {
        Asked::Part(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_read_as_the_rfc_has_it() {
        assert_eq!(read(None, 10), Asked::Whole);
        assert_eq!(read(Some("bytes=0-0"), 10), Asked::Part(0..1));
        assert_eq!(read(Some("bytes=3-"), 10), Asked::Part(3..10));
        assert_eq!(read(Some("bytes=-4"), 10), Asked::Part(6..10));
        assert_eq!(read(Some("bytes=5-99"), 10), Asked::Part(5..10));
        assert_eq!(read(Some("bytes=10-"), 10), Asked::Beyond);
        assert_eq!(read(Some("bytes=0-"), 0), Asked::Beyond);
        for ignored in ["bytes=5-3", "bytes=0-1,3-4", "lines=1-2", "bytes=x-y"] {
            assert_eq!(read(Some(ignored), 10), Asked::Whole, "{ignored}");
        }
    }
}
