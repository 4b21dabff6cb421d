//! What an answer to a range request means: a function of its status and headers, apart from the network, so that every
//! strange answer can be tried out.

use std::ops::Range;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap};

use crate::reach;

/// What was asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked<'a> {
    pub range: Range<u64>,
    /// Of the whole file.
    pub size: u64,
    /// The source's mark of this version of the file, where it has to be the same.
    pub etag: Option<&'a str>,
    /// Whether a whole file may be the answer, of which the beginning is thrown away.
    pub whole: bool,
}

/// What the answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The body holds the bytes, behind so many others.
    Bytes { skip: u64 },
    /// Later, perhaps.
    Later(Trouble),
    /// The link is no good (any more).
    Refused(StatusCode),
    /// There is no such file.
    Missing,
    /// It is not the version that was listed; what tells that.
    Changed(String),
    /// The server gives whole files only.
    NoRanges,
}

/// Why an attempt brought nothing, or not all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub kind: Kind,
    pub reason: String,
    /// How long the source asks to be left alone.
    pub wait: Option<Duration>,
}

/// What a trouble is called when it does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 429.
    Limited,
    /// 503, or silence: the source has too much to do, or the link is too full.
    Overloaded,
    /// Another answer of failure, or none.
    Failing,
    /// An answer that makes no sense.
    Senseless,
}

impl Trouble {
    pub fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
            wait: None,
        }
    }
}

/// What the answer means.
pub(super) fn judge(status: StatusCode, headers: &HeaderMap, asked: &Asked<'_>) -> Answer {
    match status.as_u16() {
        200 | 206 => content(status, headers, asked),
        404 | 410 => Answer::Missing,
        412 => Answer::Changed("the source says 412 Precondition Failed".to_owned()),
        416 => Answer::Changed(format!(
            "bytes {}-{} are beyond its end",
            asked.range.start,
            asked.range.end - 1
        )),
        code @ (408 | 425 | 429 | 500..) => {
            let kind = match code {
                429 => Kind::Limited,
                503 => Kind::Overloaded,
                _ => Kind::Failing,
            };
            Answer::Later(Trouble {
                wait: reach::retry_after(headers),
                ..Trouble::new(kind, format!("HTTP status {status}"))
            })
        }
        // 400 is what R2 says of a signature that has expired; a redirect where there should be bytes is a link for others.
        _ => Answer::Refused(status),
    }
}

fn content(status: StatusCode, headers: &HeaderMap, asked: &Asked<'_>) -> Answer {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let senseless = |reason: String| Answer::Later(Trouble::new(Kind::Senseless, reason));
    if let Some(coding) = text(CONTENT_ENCODING)
        && coding != "identity"
    {
        return senseless(format!(
            "it came encoded ({coding}), which was not asked for"
        ));
    }
    if let (Some(expected), Some(etag)) = (asked.etag, text(ETAG))
        && bare(expected) != bare(etag)
    {
        return Answer::Changed(format!("its ETag is {etag} instead of {expected}"));
    }
    if status == StatusCode::OK {
        return whole(text(CONTENT_LENGTH), asked);
    }
    let Some(said) = text(CONTENT_RANGE) else {
        return senseless("206 without Content-Range".to_owned());
    };
    let wanted = &asked.range;
    match content_range(said) {
        Some((_, Some(total))) if total != asked.size => Answer::Changed(format!(
            "it is {total} bytes long instead of {}",
            asked.size
        )),
        Some((given, _)) if given.start == wanted.start && given.end <= wanted.end => {
            Answer::Bytes { skip: 0 }
        }
        _ => senseless(format!(
            "Content-Range `{said}` where bytes {}-{} were asked for",
            wanted.start,
            wanted.end - 1
        )),
    }
}

/// A whole file where a range was asked for.
fn whole(length: Option<&str>, asked: &Asked<'_>) -> Answer {
    let length = length.and_then(|length| length.parse::<u64>().ok());
    if let Some(length) = length
        && length != asked.size
    {
        // Another version of the file, but more often a page of some proxy's: no reason to throw away what has come.
        let reason = format!("{length} bytes came instead of {}", asked.size);
        return Answer::Later(Trouble::new(Kind::Senseless, reason));
    }
    if asked.whole || asked.range == (0..asked.size) {
        return Answer::Bytes {
            skip: asked.range.start,
        };
    }
    Answer::NoRanges
}

/// `bytes 0-99/1000`: the range, and the size of the whole where it is known.
fn content_range(text: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    (first <= last).then_some((first..last.checked_add(1)?, total))
}

/// An entity tag without its quotes, and without what says that it is a weak one.
fn bare(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], range: Range<u64>) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let asked = Asked {
            range,
            size: 1000,
            etag: Some("\"abc\""),
            whole: false,
        };
        judge(StatusCode::from_u16(status).unwrap(), &map, &asked)
    }

    fn kind(answer: Answer) -> Kind {
        match answer {
            Answer::Later(trouble) => trouble.kind,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_range_is_taken_only_when_it_is_the_one_that_was_asked_for() {
        let range = |text: &str| answer(206, &[("content-range", text)], 100..200);
        let good = Answer::Bytes { skip: 0 };
        assert_eq!(range("bytes 100-199/1000"), good);
        assert_eq!(range("bytes 100-199/*"), good);
        assert_eq!(
            range("bytes 100-149/1000"),
            good,
            "shorter, to be continued"
        );
        for bad in [
            "bytes 0-99/1000",
            "bytes 101-199/1000",
            "bytes 100-200/1000",
            "bytes 199-100/1000",
            "bytes */1000",
            "bytes 100-199",
            "items 100-199/1000",
            "bytes 100-18446744073709551615/*",
        ] {
            assert_eq!(kind(range(bad)), Kind::Senseless, "{bad}");
        }
        assert_eq!(kind(answer(206, &[], 0..10)), Kind::Senseless);
        assert!(matches!(range("bytes 100-199/1001"), Answer::Changed(_)));
        let gzip = [
            ("content-range", "bytes 100-199/1000"),
            ("content-encoding", "gzip"),
        ];
        assert_eq!(kind(answer(206, &gzip, 100..200)), Kind::Senseless);
    }

    #[test]
    fn a_whole_file_is_taken_where_the_whole_file_was_asked_for() {
        assert_eq!(answer(200, &[], 0..1000), Answer::Bytes { skip: 0 });
        assert_eq!(answer(200, &[], 0..100), Answer::NoRanges);
        assert_eq!(answer(200, &[], 100..200), Answer::NoRanges);
        let short = answer(200, &[("content-length", "999")], 0..1000);
        assert_eq!(kind(short), Kind::Senseless);
        let asked = Asked {
            range: 100..1000,
            size: 1000,
            etag: None,
            whole: true,
        };
        let skipped = judge(StatusCode::OK, &HeaderMap::new(), &asked);
        assert_eq!(skipped, Answer::Bytes { skip: 100 });
    }

    #[test]
    fn marks_are_compared_without_quotes_and_weakness() {
        let marked = |etag| {
            let range = ("content-range", "bytes 0-9/1000");
            answer(206, &[range, ("etag", etag)], 0..10)
        };
        for same in ["\"abc\"", "W/\"abc\"", "abc"] {
            assert_eq!(marked(same), Answer::Bytes { skip: 0 }, "{same}");
        }
        assert!(matches!(marked("\"abd\""), Answer::Changed(_)));
    }

    #[test]
    fn failures_are_told_apart() {
        for (status, expected) in [
            (408, Kind::Failing),
            (425, Kind::Failing),
            (429, Kind::Limited),
            (500, Kind::Failing),
            (502, Kind::Failing),
            (503, Kind::Overloaded),
            (504, Kind::Failing),
            (599, Kind::Failing),
        ] {
            assert_eq!(kind(answer(status, &[], 0..10)), expected, "{status}");
        }
        for status in [301, 307, 400, 401, 403, 405] {
            let refused = Answer::Refused(StatusCode::from_u16(status).unwrap());
            assert_eq!(answer(status, &[], 0..10), refused);
        }
        assert_eq!(answer(404, &[], 0..10), Answer::Missing);
        assert!(matches!(answer(412, &[], 0..10), Answer::Changed(_)));
        assert!(matches!(answer(416, &[], 0..10), Answer::Changed(_)));
        let Answer::Later(trouble) = answer(429, &[("retry-after", "3")], 0..1) else {
            panic!("not to be tried again");
        };
        assert_eq!(trouble.wait, Some(Duration::from_secs(3)));
    }
}
