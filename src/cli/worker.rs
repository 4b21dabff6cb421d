//! From settings to a running engine: the one place where the command line meets a model.

use super::exit::{Exit, USAGE};
use crate::catalog::{Card, Catalog, Origin};
use crate::config::{Adapters, NamedAdapter, Resolution, Settings, Switch, Value};
use crate::engine::load::{self, LoadOptions};
use crate::engine::{Engine, EngineOptions};
use crate::weights::{self, Source};

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
    check_adapters(&settings.lora, &id, &aliases, &resolved.source)?;
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

/// Adapters are called like models, so that none may have the model's own name; and each is a directory, as long as no store
/// is read.
fn check_adapters(
    adapters: &Adapters,
    id: &str,
    aliases: &[String],
    source: &Source,
) -> anyhow::Result<()> {
    let refuse = |message: String| Err(Exit::new(USAGE, message).into());
    for adapter in &adapters.0 {
        let NamedAdapter { name, path, .. } = adapter;
        if name == id || aliases.contains(name) {
            return refuse(format!(
                "lora: the model itself is called {name}; give the adapter another name"
            ));
        }
        if matches!(source, Source::Mock) {
            return refuse(format!("lora: the mock has no layers for adapter {name}"));
        }
        if !path.is_dir() {
            return refuse(format!(
                "lora: {name}={}: there is no such directory; adapters on the hub or in a bucket are not read yet: download it, \
                 and give the directory that holds adapter_config.json",
                path.display()
            ));
        }
    }
    Ok(())
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
        allow_cpu: settings.allow_cpu.0,
        cuda_tuning: settings.cuda_tuning.show(),
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
        adapters: settings
            .lora
            .0
            .iter()
            .map(|adapter| (adapter.name.clone(), adapter.path.clone()))
            .collect(),
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

    #[cfg(feature = "text")]
    #[test]
    fn an_adapter_has_a_name_of_its_own_and_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().to_str().unwrap();
        let source = weights::resolve("demo").unwrap().source;
        let check = |text: &str, source: &Source| {
            let adapters = Adapters::parse(text).unwrap();
            check_adapters(&adapters, "model", &["alias".to_owned()], source)
                .map_err(|error| error.to_string())
        };
        assert!(check(&format!("a={here},b={here}"), &source).is_ok());
        for name in ["model", "alias"] {
            let error = check(&format!("{name}={here}"), &source).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        let error = check("sql=someone/sql-lora", &source).unwrap_err();
        assert!(
            error.contains("someone/sql-lora") && error.contains("hub"),
            "{error}"
        );
        assert!(check(&format!("a={here}"), &Source::Mock).is_err());
    }

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
