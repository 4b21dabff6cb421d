//! From settings to a running engine: the one place where the command line meets a model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::MultiProgress;

use super::exit::{Exit, USAGE};
use super::places;
use super::progress::Screen;
use super::threads;
use crate::catalog::{Card, Origin};
use crate::config::{Adapters, NamedAdapter, Resolution, Settings, Switch, Value};
use crate::engine::load::{self, LoadOptions, Model};
use crate::engine::{Beside, Engine, EngineOptions, Fetch, Role};
use crate::machine::Machine;
use crate::weights::progress::Progress;
use crate::weights::store::Store;
use crate::weights::{self, Source};

/// An engine that is loading, and the names that its model answers to.
pub struct Worker {
    /// The engine.
    pub engine: Engine,
    /// The model's name for clients.
    pub id: String,
    /// Its further names.
    pub aliases: Vec<String>,
    /// How far each file is that has to be fetched.
    pub progress: Arc<Progress>,
}

impl Worker {
    /// Where its loading is shown.
    pub fn screen(&self, bars: &MultiProgress) -> Screen {
        Screen {
            bars: bars.clone(),
            progress: self.progress.clone(),
        }
    }

    /// Ends the engine, where a model was loaded: its thread gives back what it has on a GPU, and libraries that are asked for that while
    /// the process takes them down may abort it.
    pub async fn end(&self) {
        self.engine.drain();
        if self.engine.info().is_some() {
            // Why ignored: who does not end in this time is cut off by the process.
            let _ = tokio::time::timeout(LAST_WORDS, self.engine.stopped()).await;
        }
    }
}

/// How long a process that has its answer waits for its engine.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Starts loading the model that the settings name; the process began at `started`. Returns at once; the engine tells how
/// far it is.
///
/// # Errors
/// When there is no such model, before anything is loaded.
pub fn start(resolution: &Resolution, started: Instant) -> anyhow::Result<Worker> {
    let settings = &resolution.settings;
    let card = resolution.card.as_ref();
    let wanted = places::model(resolution)?;
    let resolved = weights::resolve(&wanted.location)
        .map_err(|error| Exit::new(USAGE, format!("{error}{}", wanted.hint)))?;
    let said = (
        settings.served_model_name.as_deref(),
        &settings.model_aliases[..],
    );
    let (id, aliases) = names(said, card, &resolved.id);
    let mock = matches!(resolved.source, Source::Mock(_));
    check_adapters(&settings.lora, &id, &aliases, mock)?;
    tracing::debug!(
        model = id,
        description = resolved.description,
        "model found"
    );
    let progress = Arc::new(Progress::default());
    let mut load = load_options(settings);
    load.fetch = Some(Fetch {
        store: Store::new(places::store_options(settings)),
        refresh: *settings.refresh == Switch::On,
        progress: progress.clone(),
    });
    load.beside = beside(settings)?;
    if let (true, Some(other)) = (mock, load.beside.first()) {
        let setting = other.role.setting();
        let message = format!("{setting}: the mock has nothing for it to go with: leave it out");
        return Err(Exit::new(USAGE, message).into());
    }
    let model = Model {
        source: resolved.source,
        wanted,
    };
    let engine = load::start(model, load, engine_options(settings, started));
    Ok(Worker {
        engine,
        id,
        aliases,
        progress,
    })
}

/// What goes beside the model.
fn beside(settings: &Settings) -> Result<Vec<Beside>, Exit> {
    let named = |role, other: &NamedAdapter, wanted| Beside {
        role,
        name: other.name.clone(),
        wanted,
    };
    let only = |role, wanted| Beside {
        role,
        name: String::new(),
        wanted,
    };
    let mut all = Vec::new();
    for adapter in &settings.lora.0 {
        all.push(named(Role::Adapter, adapter, places::adapter(adapter)?));
    }
    for control in &settings.control.0 {
        all.push(named(Role::Control, control, places::control(control)?));
    }
    if let Some(place) = settings.refiner.as_deref() {
        all.push(only(Role::Refiner, places::refiner(place)?));
    }
    if let Some(place) = settings.preview.as_deref() {
        all.push(only(Role::Preview, places::preview(place)?));
    }
    Ok(all)
}

/// Adapters are called like models, so that none may have the model's own name.
fn check_adapters(
    adapters: &Adapters,
    id: &str,
    aliases: &[String],
    mock: bool,
) -> anyhow::Result<()> {
    let refuse = |message: String| Err(Exit::new(USAGE, message).into());
    for NamedAdapter { name, .. } in &adapters.0 {
        if name == id || aliases.contains(name) {
            return refuse(format!(
                "lora: the model itself is called {name}; give the adapter another name"
            ));
        }
        if mock {
            return refuse(format!("lora: the mock has no layers for adapter {name}"));
        }
    }
    Ok(())
}

/// The name that clients see, and the further ones that they may use.
fn names(
    (served, further): (Option<&str>, &[String]),
    card: Option<&Card>,
    own: &str,
) -> (String, Vec<String>) {
    let id = served.or(card.map(|card| card.id.as_str())).unwrap_or(own);
    let mut aliases = further.to_vec();
    aliases.push(own.to_owned());
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
        image_steps: settings.image_steps.map(|steps| steps.get()),
        image_guidance: settings.image_guidance.map(|guidance| guidance.0),
        safety_checker: *settings.safety_checker == Switch::On,
        speculate: settings.speculate.tokens(),
        quantize: settings.quantize.map(|scheme| scheme.as_str().to_owned()),
        activations: settings.activations.as_str().to_owned(),
        cache_dir: settings.cache_dir.value.clone(),
        host_memory: Machine::here().memory().map(|memory| memory.available),
        threads: Some(threads::wanted(settings)),
        ..LoadOptions::default()
    }
}

fn engine_options(settings: &Settings, started: Instant) -> EngineOptions {
    EngineOptions {
        queue: settings.queue.get(),
        load_wait: *settings.load_wait,
        stall: *settings.stall_timeout,
        drain_grace: *settings.drain_grace,
        park_after: *settings.park_after,
        free_memory: || Machine::here().memory().map(|memory| memory.available),
        started: Some(started),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn an_adapter_has_a_name_of_its_own_and_a_model_to_go_with() {
        let adapters = |text: &str| Adapters::parse(text).unwrap();
        let check = |text: &str, mock: bool| {
            check_adapters(&adapters(text), "model", &["alias".to_owned()], mock)
                .map_err(|error| error.to_string())
        };
        assert!(check("a=x,b=y", false).is_ok());
        for name in ["model", "alias"] {
            let error = check(&format!("{name}=x"), false).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        assert!(check("a=x", true).is_err());
    }

    #[test]
    fn a_model_answers_to_its_id_its_aliases_and_its_hub_id() {
        let catalog = Catalog::built_in().unwrap();
        let card = catalog.find("tinyllama").unwrap();
        let hub = "TinyLlama/TinyLlama-1.1B-Chat-v1.0";
        let (id, aliases) = names((None, &[]), Some(card), hub);
        assert_eq!(id, "tinyllama-1.1b-chat-v1.0");
        assert_eq!(aliases, [hub, "tinyllama"]);
        let further = ["whisper-1".to_owned(), "mine".to_owned()];
        let (id, aliases) = names((Some("mine"), &further), None, "directory");
        assert_eq!(id, "mine");
        assert_eq!(aliases, ["directory", "whisper-1"]);
    }
}
