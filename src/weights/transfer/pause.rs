//! How long to wait before a further attempt: what the source asks for (`reach::retry_after`), else full jitter (anything between
//! nothing and a bound that doubles), so that many ranges and many workers do not come back at the same instant.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use super::Options;

/// The pause after this many attempts without a byte.
pub(in crate::weights) fn backoff(options: &Options, failures: u32) -> Duration {
    let doubled = 1u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    let bound = options.backoff.saturating_mul(doubled);
    bound.min(options.longest_backoff).mul_f64(fraction())
}

/// A pause that the source asks for, and a little more, for the others who were told the same.
pub(in crate::weights) fn asked(wait: Duration) -> Duration {
    wait + Duration::from_millis(250).mul_f64(fraction())
}

/// Anything from 0 to 1. The standard library's hash keys differ from instance to instance, which is all that jitter wants.
fn fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_are_bounded_and_scatter() {
        let options = Options {
            backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_millis(400),
            ..Options::default()
        };
        for (failures, bound) in [(1, 100), (2, 200), (3, 400), (4, 400), (99, 400)] {
            let all: Vec<Duration> = (0..200).map(|_| backoff(&options, failures)).collect();
            assert!(all.iter().all(|p| *p <= Duration::from_millis(bound)));
            let long = all
                .iter()
                .filter(|p| **p > Duration::from_millis(bound / 2));
            assert!((50..150).contains(&long.count()));
        }
    }
}
