//! `model.safetensors.index.json`: which shard holds which tensor, and no path out of the snapshot.
//! Apart from `directory`, which opens the shards, so that a download can read the index before any of them is there.

use std::collections::{BTreeSet, HashMap, hash_map};
use std::fmt;
use std::path::{Component, Path};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::text::{clip, quoted};
use crate::error::{NnError, Result};

/// A checked index: at least one tensor, and every shard a plain file name ending in `.safetensors`.
pub(super) struct Index {
    shards: Vec<String>,
    /// Tensor name to place in `shards`.
    shard_of: HashMap<Arc<str>, usize>,
}

impl Index {
    /// Reads an index; `file` stands for it in errors.
    pub(super) fn parse(file: &Path, json: &[u8]) -> Result<Self> {
        Self::check(json).map_err(|reason| NnError::WeightFile {
            file: file.to_owned(),
            reason,
        })
    }

    /// The shards' file names, sorted.
    pub(super) fn shards(&self) -> &[String] {
        &self.shards
    }

    /// All tensors, and the place of their shard in [`shards`](Self::shards).
    pub(super) fn into_shard_of(self) -> HashMap<Arc<str>, usize> {
        self.shard_of
    }

    fn check(json: &[u8]) -> Result<Self, String> {
        let raw: RawIndex = serde_json::from_slice(json).map_err(|error| {
            let error = clip(&error.to_string());
            format!(
                "it is not an index of shards, {{\"weight_map\": {{\"tensor\": \"file\"}}}} ({error}): download it again"
            )
        })?;
        let weight_map = raw.weight_map.0;
        if weight_map.is_empty() {
            return Err("its weight_map names no tensor: download it again".to_owned());
        }
        let shards: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
        for shard in &shards {
            if !is_plain_name(shard) {
                return Err(format!(
                    "its weight_map names {}, and a shard is a file of the same directory whose name ends in .safetensors",
                    quoted(shard)
                ));
            }
        }
        let shards: Vec<String> = shards.into_iter().map(str::to_owned).collect();
        let places: HashMap<&str, usize> = shards
            .iter()
            .enumerate()
            .map(|(place, shard)| (shard.as_str(), place))
            .collect();
        let shard_of = weight_map
            .iter()
            .filter_map(|(name, shard)| Some((name.clone(), *places.get(shard.as_str())?)))
            .collect();
        Ok(Self { shards, shard_of })
    }
}

/// Whether it is the name of a weight file and nothing more: no directory, no way up, no root, on no system.
fn is_plain_name(shard: &str) -> bool {
    let mut components = Path::new(shard).components();
    let one = matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(name)), None) if name == shard
    );
    one && shard.ends_with(".safetensors")
        && shard.len() <= 255
        && !shard.contains(|c: char| matches!(c, '/' | '\\' | ':') || c.is_control())
}

#[derive(Deserialize)]
struct RawIndex {
    weight_map: WeightMap,
    #[serde(rename = "metadata")]
    _metadata: Option<IgnoredAny>,
}

/// A map in which a name that is there twice is an error, because which shard counts would be a guess.
struct WeightMap(HashMap<Arc<str>, String>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensor names and file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut shard_of = HashMap::new();
                while let Some((name, shard)) = map.next_entry::<String, String>()? {
                    match shard_of.entry(Arc::from(name)) {
                        hash_map::Entry::Vacant(place) => place.insert(shard),
                        hash_map::Entry::Occupied(place) => {
                            let name = quoted(place.key());
                            return Err(de::Error::custom(format!("{name} is there twice")));
                        }
                    };
                }
                Ok(WeightMap(shard_of))
            }
        }
        deserializer.deserialize_map(Names)
    }
}
