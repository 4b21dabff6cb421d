//! A hub with a model on it, a cache of its own, and ways to ask for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chandler::weights::hub::HubOptions;
use chandler::weights::store::{Ask, Fetched, Store};
use chandler::weights::{Location, StoreOptions, Wanted, WeightsError};
use hub_double::{Content, Double, Options, Repo, Side};
use tempfile::TempDir;

/// Bytes of each of the model's two shards.
pub const SHARD: u64 = 6 << 20;
pub const REPO: &str = "org/model";

/// What is wanted of the model.
pub const WANTED: [&str; 6] = [
    "config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// A model of two shards beside what nobody needs.
pub fn model(id: &str, seed: u64) -> Repo {
    let index = r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    Repo::new(id)
        .git("README.md", "# A model")
        .git("config.json", format!(r#"{{"seed": {seed}}}"#))
        .git("tokenizer.json", "{}")
        .git("tokenizer_config.json", "{}")
        .git("model.safetensors.index.json", index)
        .lfs(
            "model-00001-of-00002.safetensors",
            Content::synthetic(seed, SHARD),
        )
        .lfs(
            "model-00002-of-00002.safetensors",
            Content::synthetic(seed + 1, SHARD),
        )
        .lfs("pytorch_model.bin", Content::synthetic(seed + 2, SHARD))
        .lfs("onnx/model.onnx", Content::synthetic(seed + 3, SHARD))
}

/// A hub with that model, and an empty cache.
pub struct World {
    pub hub: Double,
    pub home: TempDir,
}

impl World {
    pub fn new() -> Self {
        let hub = Double::start(Options::default()).unwrap();
        hub.put(model(REPO, 1));
        Self {
            hub,
            home: tempfile::tempdir().unwrap(),
        }
    }

    pub fn cache(&self) -> PathBuf {
        self.home.path().join("hub")
    }

    /// Options that are impatient, so that a test of a hub that is gone does not take a minute.
    pub fn options(&self) -> StoreOptions {
        let hub = HubOptions {
            endpoint: self.hub.url().to_string(),
            tries: 1,
            backoff: Duration::from_millis(5),
            longest_backoff: Duration::from_millis(10),
            ..HubOptions::default()
        };
        StoreOptions {
            cache: Some(self.cache()),
            ..StoreOptions::new(hub)
        }
    }

    pub fn store(&self) -> Store {
        Store::new(self.options())
    }

    /// Requests that came to the hub and its CDN since the last look.
    pub fn requests(&self) -> Vec<String> {
        let seen = self.hub.seen();
        self.hub.forget();
        seen.iter()
            .map(|one| format!("{} {}", one.method, one.path))
            .collect()
    }

    pub fn cdn_requests(&self) -> usize {
        self.hub.seen_by(Side::Cdn).len()
    }
}

pub fn wanted(text: &str) -> Wanted {
    Wanted::model(Location::read(text).unwrap())
}

pub fn fetch(store: &Store, text: &str) -> Result<Fetched, WeightsError> {
    store.fetch(&wanted(text), &Ask::default())
}

pub fn refreshed(store: &Store, text: &str) -> Result<Fetched, WeightsError> {
    let ask = Ask {
        refresh: true,
        ..Ask::default()
    };
    store.fetch(&wanted(text), &ask)
}

/// The directory holds the model with this seed, byte for byte, and nothing besides.
pub fn holds(dir: &Path, seed: u64) {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, WANTED);
    for (name, seed) in [(WANTED[1], seed), (WANTED[2], seed + 1)] {
        let bytes = std::fs::read(dir.join(name)).unwrap();
        let wanted = Content::synthetic(seed, SHARD).bytes().unwrap();
        assert!(bytes == wanted, "{name} is not what the hub has");
    }
    let config = std::fs::read_to_string(dir.join("config.json")).unwrap();
    assert_eq!(config, format!(r#"{{"seed": {seed}}}"#));
}
