//! Many measurements in little memory: counts in buckets that are exact below 2048 and a thousandth wide above, as
//! HdrHistogram has them, so that a run of an hour needs no more memory than one of a minute.

use crate::catalog::Spread;

/// Values below this have a bucket each; above, every power of two has half as many.
const EXACT: u64 = 2048;
const HALF: u64 = EXACT / 2;

/// Measurements of one kind, in whole units.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    counts: Vec<u64>,
    count: u64,
    sum: f64,
    least: u64,
    most: u64,
}

impl Series {
    /// Takes one more.
    pub(super) fn add(&mut self, value: u64) {
        let bucket = bucket(value);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        (self.least, self.most) = match self.count {
            0 => (value, value),
            _ => (self.least.min(value), self.most.max(value)),
        };
        self.count += 1;
        self.sum += value as f64;
    }

    /// The least value that this part of all of them does not exceed (nearest rank), to a thousandth.
    pub(super) fn quantile(&self, part: f64) -> u64 {
        let rank = (part * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle(bucket as u64).clamp(self.least, self.most);
            }
        }
        self.most
    }

    /// How they are spread, in units of `unit`; `None` where there are none.
    pub(super) fn spread(&self, unit: f64) -> Option<Spread> {
        let at = |part: f64| rounded(self.quantile(part) as f64 / unit);
        (self.count > 0).then(|| Spread {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            mean: rounded(self.sum / self.count as f64 / unit),
        })
    }
}

/// To three places: what follows is noise.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

fn bucket(value: u64) -> usize {
    if value < EXACT {
        return value as usize;
    }
    // So many bits are dropped that the rest is from HALF to below EXACT.
    let dropped = u64::from(EXACT.leading_zeros() + 1 - value.leading_zeros());
    (dropped * HALF + (value >> dropped)) as usize
}

fn middle(bucket: u64) -> u64 {
    if bucket < EXACT {
        return bucket;
    }
    let dropped = bucket / HALF - 1;
    let first = (bucket % HALF + HALF) << dropped;
    first + (1 << dropped) / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let mut series = Series::default();
        assert_eq!(series.spread(1.0), None);
        for value in (1..=100).rev() {
            series.add(value);
        }
        let spread = series.spread(1.0).unwrap();
        assert_eq!(
            (spread.p50, spread.p90, spread.p99, spread.mean),
            (50.0, 90.0, 99.0, 50.5)
        );
        let mut one = Series::default();
        one.add(123_456_789);
        let spread = one.spread(1000.0).unwrap();
        assert_eq!((spread.p50, spread.p99), (123_456.789, 123_456.789));
    }

    proptest! {
        #[test]
        fn every_value_has_a_bucket_that_is_near_it(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            let middle = middle(bucket(value) as u64);
            prop_assert!(middle.abs_diff(value) as f64 <= value as f64 / 1000.0, "{value} is near {middle}");
        }

        #[test]
        fn a_percentile_is_within_a_thousandth_of_the_sorted_list(mut values in prop::collection::vec(0u64..1 << 40, 1..300), part in 0.01f64..1.0) {
            let mut series = Series::default();
            for value in &values {
                series.add(*value);
            }
            values.sort_unstable();
            let rank = (part * values.len() as f64).ceil().max(1.0) as usize;
            let true_one = values[rank - 1];
            let found = series.quantile(part);
            prop_assert!(found.abs_diff(true_one) as f64 <= true_one as f64 / 1000.0, "{found} for {true_one}");
        }
    }
}
