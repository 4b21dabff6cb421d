//! `chandler templates`: what somebody chose for a model, and what was measured of it, as a table or as JSON.

use std::process::ExitCode;

use super::flags::{CatalogOnly, SettingFlags};
use super::output;
use super::table::table;
use crate::catalog::Template;

/// List the templates (a model on a card with its settings), or those that a text is found in.
///
/// `chandler bench --record` adds what it measures to a template in a file of yours (--models-file). LAST is the newest such
/// result; a template that nobody has measured says so.
#[derive(Debug, clap::Args)]
pub struct Templates {
    /// Only templates with this text in their name, model or hardware
    search: Option<String>,
    /// Print the templates as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingFlags<CatalogOnly>,
}

impl Templates {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let catalog = self.settings.resolve()?.catalog;
        let wanted = self.search.unwrap_or_default();
        let lowered = wanted.to_lowercase();
        let templates = catalog.templates().iter();
        let found: Vec<&Template> = templates.filter(|one| one.mentions(&lowered)).collect();
        if self.json {
            output::print(&(serde_json::to_string_pretty(&found)? + "\n"))?;
        } else if found.is_empty() {
            catalog.find_template(&wanted)?; // says what is near
        } else {
            output::print(&rows(&found))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn rows(templates: &[&Template]) -> String {
    let header = ["TEMPLATE", "MODEL", "HARDWARE", "SETTINGS", "LAST"];
    let row = |template: &&Template| {
        let settings = template.settings.iter();
        let settings: Vec<String> = settings
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        [
            template.id.clone(),
            template.model.clone(),
            template.hardware.clone(),
            settings.join(" "),
            last(template),
        ]
    };
    table(header, templates.iter().map(row))
}

/// The newest result in a few words.
fn last(template: &Template) -> String {
    let Some(result) = template.benchmarks.last() else {
        return "not measured".to_owned();
    };
    let rates = [
        (result.tokens_per_s, "tokens/s"),
        (result.steps_per_s, "steps/s"),
        (result.audio_s_per_s, "s of audio/s"),
    ];
    let rate = rates
        .into_iter()
        .find_map(|(rate, unit)| Some(format!("{:.1} {unit}, ", rate?)));
    format!(
        "{}p50 {:.0} ms at {}, {}",
        rate.unwrap_or_default(),
        result.latency_ms.p50,
        result.concurrency,
        result.date
    )
}
