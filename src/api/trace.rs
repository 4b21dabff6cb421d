//! Which trace a request belongs to, as the caller's platform says: W3C's `traceparent`, or Google's older header. Only for
//! log lines, where it puts them under their request; nothing is traced here.

use axum::http::HeaderMap;

/// A trace, and the span in it that called us; both in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    id: String,
    span: String,
}

impl Trace {
    /// The trace that the headers name, if they name one that is well-formed.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let standard = header("traceparent").and_then(Self::w3c);
        standard.or_else(|| header("x-cloud-trace-context").and_then(Self::google))
    }

    /// What a log line has of it.
    pub(super) fn parts(trace: Option<&Self>) -> (Option<&str>, Option<&str>) {
        (
            trace.map(|trace| trace.id.as_str()),
            trace.map(|trace| trace.span.as_str()),
        )
    }

    /// `VERSION-TRACE-SPAN-FLAGS`, all hexadecimal.
    fn w3c(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-').skip(1);
        Self::new(parts.next()?, parts.next()?.to_owned())
    }

    /// `TRACE/SPAN;o=OPTIONS`, the span as a decimal number.
    fn google(text: &str) -> Option<Self> {
        let (id, rest) = text.trim().split_once('/')?;
        let span: u64 = rest.split(';').next()?.parse().ok()?;
        Self::new(id, format!("{span:016x}"))
    }

    fn new(id: &str, span: String) -> Option<Self> {
        let hexadecimal = |text: &str, digits| {
            text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())
        };
        (hexadecimal(id, 32) && hexadecimal(&span, 16)).then(|| Self {
            id: id.to_ascii_lowercase(),
            span,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_headers_name_a_trace_and_nonsense_names_none() {
        let of = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            let trace = Trace::of(&headers)?;
            Some((trace.id, trace.span))
        };
        let id = "0af7651916cd43dd8448eb211c80319c";
        let is = |span: &str| Some((id.to_owned(), span.to_owned()));
        let standard = format!("00-{id}-b7ad6b7169203331-01");
        assert_eq!(of("traceparent", &standard), is("b7ad6b7169203331"));
        let google = format!("{}/255;o=1", id.to_uppercase());
        assert_eq!(of("x-cloud-trace-context", &google), is("00000000000000ff"));
        for bad in ["", "00-abc-def-01", "x", "a/b", &format!("{id}/-1")] {
            assert_eq!(of("traceparent", bad), None);
            assert_eq!(of("x-cloud-trace-context", bad), None);
        }
    }
}
