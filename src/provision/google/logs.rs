//! Log lines by Cloud Logging's `entries:list` (<https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list>).

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Rest, entries, text};
use crate::provision::platform::LogSink;
use crate::provision::{Call, ProvisionError, Secrets};

/// Between two looks while following.
const LOOK: Duration = Duration::from_secs(3);
/// The most that a page may hold.
const PAGE: u32 = 1000;

/// Whose lines.
pub(in crate::provision) struct Entries {
    /// The API's address.
    pub api: String,
    pub project: String,
    /// In Logging's query language.
    pub filter: String,
}

impl Entries {
    fn call(&self, rest: &Rest, since: &str, token: &str) -> Call {
        let filter = match since {
            "" => self.filter.clone(),
            since => format!("{} AND timestamp>=\"{since}\"", self.filter),
        };
        let mut body = json!({
            "resourceNames": [format!("projects/{}", self.project)],
            "filter": filter, "orderBy": "timestamp asc", "pageSize": PAGE,
        });
        if let (false, Some(body)) = (token.is_empty(), body.as_object_mut()) {
            body.insert("pageToken".to_owned(), token.into());
        }
        let url = format!("{}/v2/entries:list", self.api);
        rest.call("read the log", Method::POST, url)
            .with(body)
            .repeatable()
    }
}

/// Hands the lines to `sink`, the oldest first.
pub(in crate::provision) async fn tail(
    rest: &Rest,
    of: &Entries,
    follow: bool,
    sink: LogSink<'_>,
) -> Result<(), ProvisionError> {
    let mut since = String::new();
    // Entries at the last moment that was seen: the next query gives them again.
    let mut seen: BTreeSet<String> = BTreeSet::new();
    loop {
        let mut token = String::new();
        // A page's token belongs to the query that it came from.
        let from = since.clone();
        loop {
            let call = of.call(rest, &from, &token);
            let page = rest.api.send(&call, &Secrets::default()).await?;
            for entry in entries(&page, "/entries") {
                let time = text(entry, "/timestamp");
                if time > since.as_str() {
                    since = time.to_owned();
                    seen.clear();
                }
                let new = seen.insert(text(entry, "/insertId").to_owned());
                if new && !sink(&line(entry)) {
                    return Ok(());
                }
            }
            token = text(&page, "/nextPageToken").to_owned();
            if token.is_empty() {
                break;
            }
        }
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(LOOK.mul_f64(rest.api.patience().pace)).await;
    }
}

/// An entry as a line: when, how grave, and what.
fn line(entry: &Value) -> String {
    let payload = match entry.get("jsonPayload") {
        Some(payload) => match text(payload, "/message") {
            "" => payload.to_string(),
            message => message.to_owned(),
        },
        None => text(entry, "/textPayload").trim_end().to_owned(),
    };
    let severity = match text(entry, "/severity") {
        "" => "DEFAULT",
        severity => severity,
    };
    format!("{} {severity} {payload}", text(entry, "/timestamp"))
}
