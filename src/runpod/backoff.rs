//! How long to wait before the next try: doubling, bounded, and never in step with other workers.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// A wait that doubles with each failure.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            next: first,
        }
    }

    /// The next wait: between half and all of what doubling says.
    pub(super) fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.most);
        whole.mul_f64(0.5 + 0.5 * fraction())
    }

    /// All is well again.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Anything from 0 to 1. The standard library's hash keys are random per instance, which is all that jitter wants.
fn fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_never_agree() {
        let (first, most) = (Duration::from_millis(100), Duration::from_millis(400));
        let mut backoff = Backoff::new(first, most);
        for whole in [100, 200, 400, 400] {
            let wait = backoff.wait();
            let whole = Duration::from_millis(whole);
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= first);
        let waits: std::collections::BTreeSet<Duration> =
            (0..20).map(|_| Backoff::new(most, most).wait()).collect();
        assert!(waits.len() > 15);
    }
}
