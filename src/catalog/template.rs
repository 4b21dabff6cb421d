//! One template: a model on a card with its settings, and what was measured of it. Apart from the cards that it names,
//! because those are facts and this is a choice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Benchmark;

/// The hardware of a template that needs no GPU.
pub const CPU: &str = "cpu";

/// A template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Its name.
    pub id: String,
    /// A model by its card: an id, an alias or a hub id.
    pub model: String,
    /// A hardware card's id or alias, or `cpu`.
    pub hardware: String,
    /// Settings of the worker, by the keys of the settings file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, toml::Value>,
    /// Anything a person should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What `chandler bench --record` measured, the oldest first.
    #[serde(default, rename = "benchmark", skip_serializing_if = "Vec::is_empty")]
    pub benchmarks: Vec<Benchmark>,
}

impl Template {
    /// Whether a lower-case text stands in what describes it.
    pub fn mentions(&self, wanted: &str) -> bool {
        [&self.id, &self.model, &self.hardware]
            .into_iter()
            .any(|text| text.to_lowercase().contains(wanted))
    }

    /// Whether it needs no GPU.
    pub fn is_on_the_cpu(&self) -> bool {
        self.hardware.eq_ignore_ascii_case(CPU)
    }

    /// Checks its benchmarks.
    ///
    /// # Errors
    /// What is not possible, and in which.
    pub fn check(&self) -> Result<(), String> {
        for (at, benchmark) in self.benchmarks.iter().enumerate() {
            let which = |what| format!("benchmark {} ({}): {what}", at + 1, benchmark.date);
            benchmark.check().map_err(which)?;
        }
        Ok(())
    }
}
