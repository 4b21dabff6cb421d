//! Server-sent events out of the bytes of an answer, whole ones only. Apart from those who read them (the dialects of jobs, and
//! what measures endpoints), which each make something else of them.

use serde_json::Value;

/// One event as it came, with the blank line that ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event(String);

impl Event {
    /// All of it.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Its data, unless that is the mark of the end.
    pub(crate) fn data(&self) -> Option<Value> {
        let lines = self.0.lines().filter_map(|line| line.strip_prefix("data:"));
        let data: Vec<&str> = lines.map(str::trim_start).collect();
        serde_json::from_str(&data.join("\n")).ok()
    }

    /// The error that it tells of: OpenAI's and Anthropic's as `error`, a failed response's within it.
    pub(crate) fn error(&self) -> Option<Value> {
        // Why the search: most events tell of no error, and need not be parsed to see it.
        if !self.0.contains("\"error\"") {
            return None;
        }
        let data = self.data()?;
        let found = data.get("error").or_else(|| {
            let failed = data
                .get("type")
                .is_some_and(|kind| kind == "response.failed");
            data.pointer("/response/error").filter(|_| failed)
        });
        found.filter(|error| !error.is_null()).cloned()
    }
}

/// Cuts a body into events; keeps what is not whole yet.
#[derive(Debug, Default)]
pub(crate) struct Splitter(Vec<u8>);

impl Splitter {
    /// Takes more bytes and gives the events that are whole with them. Comments only keep connections alive: they are left
    /// out.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.0.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = end_of_event(&self.0) {
            let rest = self.0.split_off(end);
            let event = std::mem::replace(&mut self.0, rest);
            let text = String::from_utf8_lossy(&event).into_owned();
            if !text.starts_with(':') {
                events.push(Event(text));
            }
        }
        events
    }

    /// Bytes of what is not whole yet.
    pub(crate) fn held(&self) -> usize {
        self.0.len()
    }
}

/// Where the first event ends, with the blank line after it, which some servers write as `\r\n`.
fn end_of_event(bytes: &[u8]) -> Option<usize> {
    let after = |mark: &[u8]| {
        let at = bytes.windows(mark.len()).position(|part| part == mark);
        at.map(|at| at + mark.len())
    };
    after(b"\n\n").into_iter().chain(after(b"\r\n\r\n")).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_whole_however_the_bytes_come() {
        let body = "data: {\"a\":\"ü\"}\n\n: ping\n\nevent: x\ndata: {}\n\ndata: [DONE]\n\n";
        for size in [1, 2, 3, 7, 1000] {
            let mut splitter = Splitter::default();
            let chunks = body.as_bytes().chunks(size);
            let events: Vec<Event> = chunks.flat_map(|chunk| splitter.push(chunk)).collect();
            let texts: Vec<&str> = events.iter().map(Event::text).collect();
            assert_eq!(
                texts,
                [
                    "data: {\"a\":\"ü\"}\n\n",
                    "event: x\ndata: {}\n\n",
                    "data: [DONE]\n\n"
                ]
            );
            assert_eq!(events[0].data(), Some(json!({"a": "ü"})));
            assert!(events[2].data().is_none());
        }
    }

    #[test]
    fn blank_lines_may_have_carriage_returns() {
        let mut splitter = Splitter::default();
        let events = splitter.push(b"data: {\"a\":1}\r\n\r\ndata: {\"a\":2}\n\ndata: {");
        let data: Vec<Option<Value>> = events.iter().map(Event::data).collect();
        assert_eq!(data, [Some(json!({"a": 1})), Some(json!({"a": 2}))]);
        assert_eq!(splitter.held(), "data: {".len());
    }

    #[test]
    fn every_dialects_error_is_seen_and_no_other_event_is_one() {
        let error = |text: &str| Event(format!("{text}\n\n")).error();
        let told = Some(json!({"message": "x"}));
        assert_eq!(error("data: {\"error\":{\"message\":\"x\"}}"), told);
        assert_eq!(
            error("event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":\"x\"}}"),
            told
        );
        assert_eq!(
            error(
                "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"message\":\"x\"}}}"
            ),
            told
        );
        assert_eq!(
            error("data: {\"choices\":[{\"text\":\"an \\\"error\\\"\"}]}"),
            None
        );
        assert_eq!(
            error("data: {\"type\":\"response.created\",\"response\":{\"error\":null}}"),
            None
        );
    }
}
