//! What is still to be asked for, in order, and the ranges that are cut from it.

use std::collections::VecDeque;
use std::ops::Range;

/// Gaps of files, in the order in which they are to be filled: that of the files' numbers.
#[derive(Debug, Default)]
pub(super) struct Queue {
    gaps: VecDeque<(usize, Range<u64>)>,
}

/// How long ranges may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// Bytes at most.
    pub most: u64,
    /// Requests at once.
    pub requests: usize,
    /// Bytes to be asked for that are not in the queue yet.
    pub later: u64,
}

/// Ranges end where these do, so that no page is written by two.
const ALIGN: u64 = 64 << 10;

impl Queue {
    /// Gaps of a file, behind those of files with lower numbers, whichever was opened first.
    pub fn push(&mut self, file: usize, gaps: impl IntoIterator<Item = Range<u64>>) {
        let first = self.gaps.partition_point(|(other, _)| *other <= file);
        for (at, gap) in (first..).zip(gaps) {
            self.gaps.insert(at, (file, gap));
        }
    }

    /// Forgets a file's gaps.
    pub fn remove(&mut self, file: usize) {
        self.gaps.retain(|(other, _)| *other != file);
    }

    /// About how many ranges are in the queue.
    pub fn ranges(&self, most: u64) -> u64 {
        self.gaps
            .iter()
            .map(|(_, gap)| (gap.end - gap.start).div_ceil(most.max(1)))
            .sum()
    }

    /// The next range; a file that `in_one` names is not cut. Ranges get smaller towards the end, so that all
    /// requests end at about the same time.
    pub fn next(
        &mut self,
        cut: Cut,
        in_one: &dyn Fn(usize) -> bool,
    ) -> Option<(usize, Range<u64>)> {
        let queued: u64 = self.gaps.iter().map(|(_, gap)| gap.end - gap.start).sum();
        let (file, gap) = self.gaps.front_mut()?;
        let file = *file;
        let share = queued.saturating_add(cut.later) / (2 * cut.requests.max(1) as u64);
        let length = share.clamp((cut.most / 4).max(1), cut.most.max(1));
        let mut end = gap.start.saturating_add(length);
        if length > ALIGN {
            end -= end % ALIGN;
        }
        // A remainder that is not worth a request of its own goes along.
        if in_one(file) || end + length / 4 >= gap.end {
            end = gap.end;
        }
        let range = gap.start..end;
        gap.start = end;
        if gap.is_empty() {
            self.gaps.pop_front();
        }
        Some((file, range))
    }
}

#[cfg(test)]
mod tests {
    use std::iter::once;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_come_in_order_and_taper_off() {
        let mut queue = Queue::default();
        queue.push(2, once(0..7));
        queue.push(0, once(5..10));
        queue.push(1, once(0..512 << 20));
        let cut = Cut {
            most: 16 << 20,
            requests: 8,
            later: 0,
        };
        assert_eq!(queue.next(cut, &|_| false), Some((0, 5..10)));
        let mut lengths = Vec::new();
        while let Some((file, range)) = queue.next(cut, &|_| false) {
            if file == 2 {
                assert_eq!(range, 0..7);
                break;
            }
            lengths.push(range.end - range.start);
        }
        assert_eq!(lengths[0], 16 << 20);
        assert!(*lengths.last().unwrap() <= 5 << 20, "{lengths:?}");
        assert!(
            lengths.is_sorted_by(|a, b| b <= &(a + (1 << 20))),
            "{lengths:?}"
        );
        queue.push(1, once(0..100 << 20));
        assert_eq!(queue.ranges(16 << 20), 7);
        assert_eq!(queue.next(cut, &|file| file == 1), Some((1, 0..100 << 20)));
        queue.push(3, once(0..1));
        queue.remove(3);
        assert_eq!(queue.next(cut, &|_| false), None);
    }

    proptest! {
        #[test]
        fn every_byte_is_asked_for_exactly_once(
            size in 1u64..1 << 24, start in 0u64..1 << 20, most in 1u64..1 << 22, requests in 0usize..40, later in 0u64..1 << 26,
        ) {
            let cut = Cut { most: most.max(size / 500), requests, later };
            let mut queue = Queue::default();
            queue.push(7, once(start..start + size));
            let mut at = start;
            while let Some((file, range)) = queue.next(cut, &|_| false) {
                prop_assert_eq!((file, range.start), (7, at));
                prop_assert!(range.end > range.start);
                prop_assert!(range.end - range.start <= cut.most + cut.most / 4 + 1);
                at = range.end;
            }
            prop_assert_eq!(at, start + size);
        }
    }
}
