//! How long to wait before a further attempt: what the source asks for, else full jitter (anything between nothing and a bound
//! that doubles), so that many ranges and many workers do not come back at the same instant.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

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

/// How long the source asks to be left alone: `Retry-After` in seconds or as a date, or the hub's `ratelimit` with nothing
/// left of it.
pub(in crate::weights) fn wanted(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    if let Some(after) = text(RETRY_AFTER.as_str()) {
        if let Ok(seconds) = after.trim().parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = httpdate::parse_http_date(after).ok()?;
        return Some(
            date.duration_since(SystemTime::now())
                .unwrap_or(Duration::ZERO),
        );
    }
    let mut left = None;
    let mut reset = None;
    for part in text("ratelimit")?.split(';') {
        match part.trim().split_once('=') {
            Some(("r", number)) => left = number.parse::<u64>().ok(),
            Some(("t", number)) => reset = number.parse().ok(),
            _ => {}
        }
    }
    reset.filter(|_| left == Some(0)).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn what_the_source_asks_for_is_understood() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (name, value, wait) in [
            ("retry-after", "7", seconds(7)),
            ("retry-after", "soon", None),
            ("retry-after", "-1", None),
            ("retry-after", "Thu, 01 Jan 1970 00:00:00 GMT", seconds(0)),
            ("ratelimit", "\"api\";r=0;t=55", seconds(55)),
            ("ratelimit", "\"resolvers\";r=12;t=55", None),
            ("ratelimit", "nonsense", None),
        ] {
            assert_eq!(wanted(&headers(name, value)), wait, "{name}: {value}");
        }
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let wait = wanted(&headers("retry-after", &soon)).unwrap();
        assert!((58..=60).contains(&wait.as_secs()), "{wait:?}");
        assert_eq!(wanted(&HeaderMap::new()), None);
    }

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
