//! `chandler endpoints list`.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::output;
use crate::cli::provision::{Places, rebuild, runtime};
use crate::cli::table;
use crate::provision::Record;

/// List the endpoints that this machine made.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Ask each platform how they are; otherwise what this machine saw last is shown
    #[arg(long)]
    live: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    places: Places,
}

impl List {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let records = self.places.records()?.all()?;
        let mut states = Vec::new();
        for record in &records {
            states.push(match self.live {
                true => self.ask(record)?,
                false => record.state.as_str().to_owned(),
            });
        }
        let text = match self.json {
            true => json_of(&records, &states),
            false => text_of(&records, &states),
        };
        output::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    /// One that cannot be asked does not hide the others.
    fn ask(&self, record: &Record) -> anyhow::Result<String> {
        let asked = rebuild(record, self.places.patience());
        let runtime = runtime()?;
        let status = match &asked {
            Ok(platform) => runtime.block_on(platform.status(&record.name)),
            Err(error) => return Ok(format!("unknown: {error:#}")),
        };
        Ok(status.map_or_else(
            |error| format!("unknown: {error}"),
            |status| status.phase.to_string(),
        ))
    }
}

fn model(record: &Record) -> &str {
    record
        .deployment
        .pointer("/served/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn json_of(records: &[Record], states: &[String]) -> String {
    let rows: Vec<Value> = records
        .iter()
        .zip(states)
        .map(|(record, state)| {
            json!({
                "name": record.name,
                "platform": record.platform,
                "model": model(record),
                "state": state,
                "url": record.url,
                "error": record.error,
                "created": record.created,
                "updated": record.updated,
            })
        })
        .collect();
    format!("{:#}\n", Value::Array(rows))
}

fn text_of(records: &[Record], states: &[String]) -> String {
    if records.is_empty() {
        return "none; `chandler provision` makes one\n".to_owned();
    }
    let rows = records.iter().zip(states).map(|(record, state)| {
        [
            record.name.to_string(),
            record.platform.clone(),
            model(record).to_owned(),
            state.clone(),
            record
                .url
                .clone()
                .or_else(|| record.error.clone())
                .unwrap_or_default(),
        ]
    });
    table::table(["NAME", "PLATFORM", "MODEL", "STATE", "URL"], rows)
}
