//! Log lines as Cloud Logging reads them: one JSON object each, with its names for severity, time and trace, so that a line
//! is filtered by severity and stands under its request. Apart because only Google's platforms read them so.

use std::fmt;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The format.
pub struct Google;

impl<S, N> FormatEvent<S, N> for Google
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut entry = Entry(Map::new());
        let metadata = event.metadata();
        entry.put("severity", severity(*metadata.level()).into());
        entry.put("time", time.into());
        event.record(&mut entry);
        entry.put("target", metadata.target().into());
        writeln!(writer, "{}", Value::Object(entry.0))
    }
}

/// Cloud Logging has no level below debug.
fn severity(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        _ => "DEBUG",
    }
}

/// The object of one line.
struct Entry(Map<String, Value>);

impl Entry {
    fn put(&mut self, name: &str, value: Value) {
        let name = match name {
            "trace" => "logging.googleapis.com/trace",
            "span_id" => "logging.googleapis.com/spanId",
            other => other,
        };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Entry {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), json!(value)); // what is no number in JSON becomes null
    }
}

#[cfg(test)]
mod tests {
    use super::super::written::Written;
    use super::*;

    #[test]
    fn a_line_has_the_names_that_cloud_logging_reads() {
        let buffer = Written::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(Google)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let trace = Some("0af7651916cd43dd8448eb211c80319c");
            tracing::warn!(status = 503, trace, absent = None::<&str>, "two\nlines");
            tracing::info!(ratio = 0.5, ok = true, "next");
        });
        let written = buffer.text();
        let lines: Vec<Value> = written
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        let mut first = lines[0].clone();
        let time = first["time"].take();
        assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
        assert_eq!(
            first,
            json!({
                "severity": "WARNING", "time": null, "message": "two\nlines", "status": 503,
                "logging.googleapis.com/trace": "0af7651916cd43dd8448eb211c80319c", "target": module_path!(),
            })
        );
        assert_eq!(
            (&lines[1]["severity"], &lines[1]["ratio"], &lines[1]["ok"]),
            (&json!("INFO"), &json!(0.5), &json!(true))
        );
    }
}
