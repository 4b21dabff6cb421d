//! `chandler models`: the model cards, as a table or as JSON.

use std::process::ExitCode;

use super::flags::{CatalogOnly, SettingFlags};
use super::output;
use super::table::{bytes, or_unknown, scaled, table};
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
            output::print(&rows(&found))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn rows(cards: &[&Card]) -> String {
    let header = [
        "MODEL",
        "TASK",
        "PARAMETERS",
        "WEIGHTS",
        "CONTEXT",
        "LICENCE",
        "TESTED",
    ];
    let row = |card: &&Card| {
        let gate = if card.gated == Some(true) {
            " (gated)"
        } else {
            ""
        };
        let licence = card.licence.as_ref();
        [
            card.id.clone(),
            card.task.tag().to_owned(),
            or_unknown(card.parameters.map(count)),
            or_unknown(card.weight_bytes.map(bytes)),
            or_unknown(card.context),
            or_unknown(licence.map(|licence| format!("{licence}{gate}"))),
            card.tested.as_str().to_owned(),
        ]
    };
    table(header, cards.iter().map(row))
}

fn count(number: u64) -> String {
    scaled(number, &[(1_000_000_000, "B"), (1_000_000, "M")])
}
