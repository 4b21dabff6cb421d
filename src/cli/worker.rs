//! From settings to a running engine: the one place where the command line meets a model.

use super::exit::{Exit, USAGE};
use crate::catalog::{Card, Catalog, Origin};
use crate::config::{Resolution, Settings, Switch};
use crate::engine::load::{self, LoadOptions};
use crate::engine::{Engine, EngineOptions};
use crate::weights;

/// An engine that is loading, and the names that its model answers to.
pub struct Worker {
    /// The engine.
    pub engine: Engine,
    /// The model's name for clients.
    pub id: String,
    /// Its further names.
    pub aliases: Vec<String>,
}

/// Starts loading the model that the settings name. Returns at once; the engine tells how far it is.
///
/// # Errors
/// When there is no such model, before anything is loaded.
pub fn start(resolution: &Resolution) -> anyhow::Result<Worker> {
    let settings = &resolution.settings;
    let card = resolution.card.as_ref();
    let wanted = match card.map(Card::origin) {
        Some(Origin::Mock) => weights::MOCK,
        Some(Origin::Embedded) => weights::DEMO,
        Some(Origin::Hub(id)) => id,
        None => settings.model.as_str(),
    };
    let resolved = weights::resolve(wanted).map_err(|error| {
        let hint = near(&resolution.catalog, card, &settings.model);
        Exit::new(USAGE, format!("{error}{hint}"))
    })?;
    let hub = matches!(card.map(Card::origin), Some(Origin::Hub(_)));
    if let (Some(revision), false) = (settings.revision.as_ref(), hub) {
        tracing::warn!(
            revision,
            model = wanted,
            "this model has no revisions; the setting is ignored"
        );
    }
    let (id, aliases) = names(settings.served_model_name.as_deref(), card, &resolved.id);
    tracing::debug!(
        model = id,
        description = resolved.description,
        "model found"
    );
    let engine = load::start(resolved, load_options(settings), engine_options(settings));
    Ok(Worker {
        engine,
        id,
        aliases,
    })
}

/// A model that has no card and is not here may be a misspelt card.
fn near(catalog: &Catalog, card: Option<&Card>, model: &str) -> String {
    let near = if card.is_none() {
        catalog.near(model)
    } else {
        Vec::new()
    };
    if near.is_empty() {
        return String::new();
    }
    format!("; or did you mean {}?", near.join(", "))
}

/// The name that clients see, and the further ones that they may use.
fn names(served: Option<&str>, card: Option<&Card>, own: &str) -> (String, Vec<String>) {
    let id = served.or(card.map(|card| card.id.as_str())).unwrap_or(own);
    let mut aliases = vec![own.to_owned()];
    if let Some(card) = card {
        aliases.extend(card.names().map(str::to_owned));
        if let Origin::Hub(hub) = card.origin() {
            aliases.push(hub.to_owned());
        }
    }
    aliases.retain(|alias| alias != id);
    aliases.sort();
    aliases.dedup();
    (id.to_owned(), aliases)
}

fn load_options(settings: &Settings) -> LoadOptions {
    LoadOptions {
        device: settings.device.0.clone(),
        dtype: settings.dtype.as_str().to_owned(),
        max_model_len: settings.max_model_len.map(|tokens| tokens.get()),
        max_rows: settings.max_rows.get(),
        prefill_chunk: settings.prefill_chunk.get(),
        kv_cache_bytes: settings.kv_cache.map(|size| size.0),
        prefix_cache: *settings.prefix_cache == Switch::On,
        speculate: settings.speculate.tokens(),
        quantize: settings.quantize.map(|scheme| scheme.as_str().to_owned()),
        cache_dir: settings.cache_dir.value.clone(),
        threads: settings.threads.map(|threads| threads.get()),
    }
}

fn engine_options(settings: &Settings) -> EngineOptions {
    EngineOptions {
        queue: settings.queue.get(),
        load_wait: *settings.load_wait,
        stall: *settings.stall_timeout,
        drain_grace: *settings.drain_grace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_answers_to_its_id_its_aliases_and_its_hub_id() {
        let catalog = Catalog::built_in().unwrap();
        let card = catalog.find("tinyllama").unwrap();
        let hub = "TinyLlama/TinyLlama-1.1B-Chat-v1.0";
        let (id, aliases) = names(None, Some(card), hub);
        assert_eq!(id, "tinyllama-1.1b-chat-v1.0");
        assert_eq!(aliases, [hub, "tinyllama"]);
        let (id, aliases) = names(Some("mine"), None, "directory");
        assert_eq!(
            (id.as_str(), aliases),
            ("mine", vec!["directory".to_owned()])
        );
    }
}
