//! Which bytes of a file are there: a set of ranges that never touch each other.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges by their start; neighbours are joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extents(BTreeMap<u64, u64>);

impl Extents {
    /// These bytes are there now; says how many of them were not before.
    pub fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let (mut start, mut end) = (range.start, range.end);
        let mut before = 0;
        // From the last that begins at or before our end, backwards, as far as they touch us.
        while let Some((&from, &to)) = self.0.range(..=end).next_back()
            && to >= start
        {
            before += to.min(range.end).saturating_sub(from.max(range.start));
            self.0.remove(&from);
            start = start.min(from);
            end = end.max(to);
        }
        self.0.insert(start, end);
        range.end - range.start - before
    }

    /// Bytes from the file's start without a gap.
    pub fn frontier(&self) -> u64 {
        self.0.get(&0).copied().unwrap_or(0)
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    /// What of a file of this size is not there, in order.
    pub fn missing(&self, size: u64) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = 0;
        for (&start, &end) in &self.0 {
            if start > at {
                gaps.push(at..start.min(size));
            }
            at = end;
        }
        if at < size {
            gaps.push(at..size);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn extents_agree_with_a_row_of_flags(ranges in proptest::collection::vec((0u64..64, 0u64..20), 0..24)) {
            let mut extents = Extents::default();
            let mut flags = [false; 84];
            for (start, length) in ranges {
                let mut new = 0;
                for flag in &mut flags[start as usize..(start + length) as usize] {
                    new += u64::from(!*flag);
                    *flag = true;
                }
                prop_assert_eq!(extents.insert(start..start + length), new);
                prop_assert_eq!(extents.bytes(), flags.iter().filter(|flag| **flag).count() as u64);
                let frontier = flags.iter().position(|flag| !flag).unwrap_or(84);
                prop_assert_eq!(extents.frontier(), frontier as u64);
                let mut missing = [true; 84];
                for gap in extents.missing(84) {
                    prop_assert!(!gap.is_empty());
                    missing[gap.start as usize..gap.end as usize].fill(false);
                }
                prop_assert_eq!(missing, flags);
            }
        }
    }
}
