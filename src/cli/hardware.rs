//! `chandler hardware`: the hardware cards, as a table or as JSON.

use std::process::ExitCode;

use serde_json::json;

use super::flags::{CatalogOnly, SettingFlags};
use super::output;
use super::table::{or_unknown, table};
use crate::catalog::Hardware;

/// List the GPUs that have a card, or those that a text is found in, the cheapest first.
///
/// COST is an order and no price: prices are read from the platforms. POOL is RunPod's, whose catalog has the last word.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Only cards with this text in their name, a platform's name for them, their generation or their platforms
    search: Option<String>,
    /// Print the cards as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingFlags<CatalogOnly>,
}

impl List {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let catalog = self.settings.resolve()?.catalog;
        let wanted = self.search.unwrap_or_default();
        let lowered = wanted.to_lowercase();
        let cards = catalog.hardware().iter();
        let mut found: Vec<&Hardware> = cards.filter(|card| card.mentions(&lowered)).collect();
        found.sort_by_key(|card| (card.cost_order, card.memory_gb));
        if self.json {
            let cards: Result<Vec<_>, _> = found.iter().map(|card| in_json(card)).collect();
            output::print(&(serde_json::to_string_pretty(&cards?)? + "\n"))?;
        } else if found.is_empty() {
            catalog.find_hardware(&wanted)?; // says what is near
        } else {
            output::print(&rows(&found))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A card with what follows from it.
fn in_json(card: &Hardware) -> Result<serde_json::Value, serde_json::Error> {
    let mut value = serde_json::to_value(card)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("bf16".to_owned(), json!(card.bf16()));
        object.insert("platforms".to_owned(), json!(card.platforms()));
    }
    Ok(value)
}

fn rows(cards: &[&Hardware]) -> String {
    let header = [
        "HARDWARE",
        "MEMORY",
        "GENERATION",
        "CUDA",
        "BF16",
        "COST",
        "POOL",
        "PLATFORMS",
    ];
    let row = |card: &&Hardware| {
        [
            card.id.clone(),
            format!("{} GB", card.memory_gb),
            card.architecture.as_str().to_owned(),
            card.capability.clone(),
            if card.bf16() { "yes" } else { "no" }.to_owned(),
            card.cost_order.to_string(),
            or_unknown(card.runpod_pool.as_ref()),
            card.platforms().join(", "),
        ]
    };
    table(header, cards.iter().map(row))
}
