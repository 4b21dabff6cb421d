//! What a server says about when to come back. Apart from the client because those who speak their own protocol read it, too.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// How long a server asks to be left alone: `Retry-After` in seconds or as a date, or the hub's `ratelimit` with nothing
/// left of it.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
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
    fn what_a_server_asks_for_is_understood() {
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
            assert_eq!(retry_after(&headers(name, value)), wait, "{name}: {value}");
        }
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let wait = retry_after(&headers("retry-after", &soon)).unwrap();
        assert!((58..=60).contains(&wait.as_secs()), "{wait:?}");
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
