//! Log lines as RunPod's console reads them: `{"requestId", "message", "level"}` on standard output, each under the job that it
//! is about, and never longer than the console takes.

use std::fmt;

use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Characters of a message; the middle of a longer one is left out, as the SDK does.
const LONGEST: usize = 4096;
const CUT: &str = " ...TRUNCATED... ";
/// The field of a span or an event that names its job.
const ID: &str = "request_id";

/// The format of lines.
pub struct RunPod;

/// Of a span's fields only the job's id is kept.
pub struct OnlyId;

impl<'writer> FormatFields<'writer> for OnlyId {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut line = Line::default();
        fields.record(&mut line);
        writer.write_str(&line.id.unwrap_or_default())
    }
}

impl<S> FormatEvent<S, OnlyId> for RunPod
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, OnlyId>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        let id = line.id.take().or_else(|| {
            // From the event's own span outwards.
            context.event_scope()?.find_map(|span| {
                let extensions = span.extensions();
                let fields = &extensions.get::<FormattedFields<OnlyId>>()?.fields;
                (!fields.is_empty()).then(|| fields.clone())
            })
        });
        let level = event.metadata().level().as_str();
        let line = json!({"requestId": id, "message": shortened(line.text()), "level": level});
        writeln!(writer, "{line}")
    }
}

fn shortened(text: String) -> String {
    let length = text.chars().count();
    if length <= LONGEST {
        return text;
    }
    let half = (LONGEST - CUT.len()) / 2;
    let begin: String = text.chars().take(half).collect();
    let end: String = text.chars().skip(length - half).collect();
    begin + CUT + &end
}

/// What an event says: its message, and its fields after it.
#[derive(Default)]
struct Line {
    id: Option<String>,
    message: String,
    fields: String,
}

impl Line {
    fn text(self) -> String {
        match self.message.is_empty() {
            true => self.fields.trim_start().to_owned(),
            false => self.message + &self.fields,
        }
    }

    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        match field.name() {
            ID => self.id = Some(value.to_string()),
            "message" => self.message = value.to_string(),
            name => self.fields += &format!(" {name}={value}"),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::written::Written;
    use super::*;

    #[test]
    fn a_line_stands_under_its_job_and_is_never_too_long() {
        let buffer = Written::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .fmt_fields(OnlyId)
            .event_format(RunPod)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(tries = 3, why = "it rains", "no job");
            let job = tracing::info_span!("job", request_id = "a-u1", other = 1);
            job.in_scope(|| {
                tracing::info_span!("inner", depth = 2).in_scope(|| tracing::info!("under\nit"));
                tracing::info!(request_id = "b-u1", "its own");
                tracing::error!("{}", "é".repeat(9000));
            });
        });
        let written = buffer.text();
        let lines: Vec<Value> = written
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let line = |id: Option<&str>, message: &str, level: &str| json!({"requestId": id, "message": message, "level": level});
        assert_eq!(lines[0], line(None, "no job tries=3 why=it rains", "WARN"));
        assert_eq!(lines[1], line(Some("a-u1"), "under\nit", "INFO"));
        assert_eq!(lines[2], line(Some("b-u1"), "its own", "INFO"));
        let long = lines[3]["message"].as_str().unwrap();
        let length = long.chars().count();
        assert!(length <= LONGEST && length > LONGEST - 4, "{length}");
        assert!(long.contains("TRUNCATED") && long.ends_with('é'));
    }
}
