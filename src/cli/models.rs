//! `chandler models`: the model cards, as a table or as JSON.

use std::process::ExitCode;

use super::flags::{CatalogOnly, SettingFlags};
use super::output;
use crate::catalog::Card;

/// List the models that have a card, or those that a text is found in.
///
/// A model needs no card to be served: a directory in the Hugging Face layout will do. `tested` says how sure we are:
/// "here" (these weights were run here), "parity" (the architecture agrees with the reference implementation on other
/// weights), "expected" (nobody tried), "not-served-yet".
#[derive(Debug, clap::Args)]
pub struct Models {
    /// Only cards with this text in their name, task, architecture or licence
    search: Option<String>,
    /// Print the cards as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingFlags<CatalogOnly>,
}

impl Models {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let catalog = self.settings.resolve()?.catalog;
        let wanted = self.search.unwrap_or_default();
        let found = catalog.search(&wanted);
        if self.json {
            output::print(&(serde_json::to_string_pretty(&found)? + "\n"))?;
        } else if found.is_empty() {
            catalog.find(&wanted)?; // says what is near
        } else {
            output::print(&table(&found))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(cards: &[&Card]) -> String {
    let unknown = || "unknown".to_owned();
    let header = [
        "MODEL",
        "TASK",
        "PARAMETERS",
        "WEIGHTS",
        "CONTEXT",
        "LICENCE",
        "TESTED",
    ]
    .map(str::to_owned);
    let rows = cards.iter().map(|card| {
        let gate = if card.gated == Some(true) {
            " (gated)"
        } else {
            ""
        };
        [
            card.id.clone(),
            card.task.tag().to_owned(),
            card.parameters.map_or_else(unknown, |n| {
                scaled(n, &[(1_000_000_000, "B"), (1_000_000, "M")])
            }),
            card.weight_bytes.map_or_else(unknown, |n| {
                scaled(n, &[(1 << 30, " GiB"), (1 << 20, " MiB")])
            }),
            card.context.map_or_else(unknown, |n| n.to_string()),
            card.licence
                .as_ref()
                .map_or_else(unknown, |licence| format!("{licence}{gate}")),
            card.tested.as_str().to_owned(),
        ]
    });
    let rows: Vec<[String; 7]> = std::iter::once(header).chain(rows).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows
                .iter()
                .filter_map(|r| r.get(column))
                .map(String::len)
                .max()
                .unwrap_or(0);
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A number in the largest unit that it fills.
fn scaled(number: u64, units: &[(u64, &str)]) -> String {
    match units.iter().find(|(unit, _)| number >= *unit) {
        Some((unit, name)) => format!("{:.2}{name}", number as f64 / *unit as f64),
        None => number.to_string(),
    }
}
