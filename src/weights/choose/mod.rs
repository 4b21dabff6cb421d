//! Which files of a listing are needed, decided before one of them is fetched: one precision, safetensors over everything else,
//! and none of what other frameworks or the training left. Apart from the store, so that it can be tried on any listing.

pub mod adapter;
mod checkpoint;
mod folder;
mod gguf;
mod languages;
mod small;

#[cfg(test)]
mod listings;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::location::{FileChoice, is_checkpoint};
use super::{Kind, Location, StoreOptions, Wanted, WeightsError};
use folder::Folder;

/// The list of a diffusers pipeline's parts.
const MODEL_INDEX: &str = "model_index.json";
/// Any of these says what the weights beside it are.
const INDICES: [&str; 3] = [MODEL_INDEX, "config.json", "adapter_config.json"];

/// A file of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Its path, with `/` between the parts.
    pub path: &'a str,
    /// Bytes.
    pub size: u64,
}

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Rule {
    kind: Kind,
    file: Option<FileChoice>,
    /// Marks of precision in the order of preference; the empty one is no mark.
    variants: Vec<String>,
    /// Of a model of many, whose adapters are files of their own.
    languages: Vec<String>,
    /// Where it is looked for, for errors.
    place: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// The files that are needed, in the listing's order.
    pub files: Vec<String>,
    /// The model's one file, or the first of a split GGUF, where it is one; an adapter's where it was named.
    pub file: Option<String>,
    /// The others, and why they are not needed.
    pub skipped: Vec<Skipped>,
}

/// A file that is not needed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// Its path.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Why not.
    pub why: &'static str,
}

/// Reads a file that others depend on, if it is at hand: an index of shards, the list of a pipeline's parts.
pub type Read<'a> = dyn Fn(&str) -> Option<Vec<u8>> + 'a;

impl Rule {
    /// For what somebody wants.
    pub fn new(wanted: &Wanted, options: &StoreOptions) -> Self {
        let file = match &wanted.location {
            Location::Hub { file, .. } => file.clone(),
            Location::S3(place) | Location::Gs(place) => place.file.clone().map(FileChoice::File),
            Location::File(path) => {
                let name = path
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned());
                name.map(FileChoice::File)
            }
            _ => None,
        };
        let place = match &wanted.location {
            Location::Hub { repo, .. } => repo.clone(),
            other => other.to_string(),
        };
        Self {
            kind: wanted.kind,
            file,
            variants: options.variants.clone(),
            languages: wanted.languages.clone(),
            place,
        }
    }

    /// What the files are to be.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Files that must be read before the choice is sure; small, and needed themselves.
    pub fn undecided(&self, files: &[Listed<'_>]) -> Vec<String> {
        if self.file.is_some() || self.kind == Kind::Adapter {
            return Vec::new();
        }
        let parts = files.iter().filter(|file| file.path == MODEL_INDEX);
        let parts: Vec<String> = parts.map(|file| file.path.to_owned()).collect();
        if !parts.is_empty() {
            return parts;
        }
        let unread: &Read<'_> = &|_| None;
        let weights = Folder::of("", files, &self.variants).chosen(unread);
        let index = weights.and_then(|weights| weights.unsure);
        let languages = languages::undecided(files, &self.languages);
        index.into_iter().chain(languages).collect()
    }

    /// Chooses.
    ///
    /// # Errors
    /// [`WeightsError::NoModel`], which says what there is instead.
    pub fn choose(&self, files: &[Listed<'_>], read: &Read<'_>) -> Result<Choice, WeightsError> {
        let refuse = |reason: String| WeightsError::NoModel {
            place: self.place.clone(),
            reason,
        };
        let languages = languages::chosen(files, &self.languages, read).map_err(refuse)?;
        match (self.kind, &self.file) {
            (Kind::Adapter, named) => {
                let named = named.as_ref().map(FileChoice::as_str);
                return adapter::choose(files, named).map_err(refuse);
            }
            (Kind::Model, Some(FileChoice::File(name))) if is_checkpoint(name) => {
                return checkpoint::named(files, name).map_err(refuse);
            }
            (Kind::Model, Some(choice)) => return gguf::choose(files, choice).map_err(refuse),
            (Kind::Model, None) => {}
        }
        let lonely = Folder::of("", files, &self.variants).lonely();
        if !INDICES.iter().any(|name| has(files, name)) && !lonely.is_empty() {
            return checkpoint::only(files, &lonely, &self.place).map_err(refuse);
        }
        let needed = match has(files, MODEL_INDEX) {
            true => self.diffusers(files, read),
            false => self.model(files, read),
        };
        match needed {
            Ok(mut needed) => {
                needed.extend(languages);
                Ok(split(files, &needed, None))
            }
            Err(None) => gguf::only(files, &self.place).map_err(refuse),
            Err(Some(reason)) => Err(refuse(reason)),
        }
    }

    /// A model in the layout of transformers; `Err(None)` where only a GGUF could be meant.
    fn model(
        &self,
        files: &[Listed<'_>],
        read: &Read<'_>,
    ) -> Result<BTreeSet<String>, Option<String>> {
        let Some(weights) = Folder::of("", files, &self.variants).chosen(read) else {
            return Err(without_weights(files));
        };
        let mut needed: BTreeSet<String> = weights.files.into_iter().collect();
        let modules = files.iter().filter_map(|file| small::module_of(file.path));
        for module in modules.collect::<BTreeSet<_>>() {
            needed.extend(self.part(module, files, read));
        }
        needed.extend(small::beside("", files));
        needed.extend(small::templates(files));
        Ok(needed)
    }

    /// A pipeline of several parts, each in a folder of its own.
    fn diffusers(
        &self,
        files: &[Listed<'_>],
        read: &Read<'_>,
    ) -> Result<BTreeSet<String>, Option<String>> {
        let mut folders: BTreeSet<&str> = files
            .iter()
            .filter_map(|file| Some(file.path.split_once('/')?.0))
            .collect();
        if let Some(parts) = read(MODEL_INDEX).and_then(|json| parts_of(&json)) {
            folders.retain(|folder| parts.contains(*folder));
        }
        let mut needed = BTreeSet::from([MODEL_INDEX.to_owned()]);
        for folder in folders {
            needed.extend(self.part(folder, files, read));
        }
        let weights = needed.iter().any(|path| path.ends_with(".safetensors"));
        match weights {
            true => Ok(needed),
            false => Err(without_weights(files).or_else(|| {
                Some("model_index.json names no part that has weights in safetensors".to_owned())
            })),
        }
    }

    /// What is needed of a folder.
    fn part(&self, folder: &str, files: &[Listed<'_>], read: &Read<'_>) -> Vec<String> {
        let prefix = format!("{folder}/");
        let weights = Folder::of(&prefix, files, &self.variants).chosen(read);
        let mut needed = weights.map(|weights| weights.files).unwrap_or_default();
        needed.extend(small::beside(&prefix, files));
        needed
    }
}

fn has(files: &[Listed<'_>], path: &str) -> bool {
    files.iter().any(|file| file.path == path)
}

/// The parts that a pipeline consists of: a part that is not used is `[null, null]`.
fn parts_of(json: &[u8]) -> Option<BTreeSet<String>> {
    let index: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json).ok()?;
    let used = index.into_iter().filter(|(name, value)| {
        let first = value.as_array().and_then(|value| value.first());
        !name.starts_with('_') && first.is_some_and(serde_json::Value::is_string)
    });
    Some(used.map(|(name, _)| name).collect())
}

/// Why there are no weights, or `None` where there are some in GGUF.
fn without_weights(files: &[Listed<'_>]) -> Option<String> {
    if files.iter().any(|file| gguf::is_model(file.path)) {
        return None;
    }
    if has(files, "adapter_config.json") {
        return Some(
            "this is an adapter (LoRA), and no model: give its base model, and this one as --lora NAME=PLACE".to_owned(),
        );
    }
    if files.iter().any(|file| small::is_pickle(file.path)) {
        return Some(
            "the weights are there as pickles only (.bin, .pt, .ckpt), which are programs and are never opened: convert them \
             to safetensors, or use a revision that has them (on the hub perhaps refs/pr/1)"
                .to_owned(),
        );
    }
    Some(format!(
        "there are no weights in safetensors or GGUF; {}",
        small::what_is_there(files)
    ))
}

/// Takes a listing apart into what is needed and what is not.
fn split(files: &[Listed<'_>], needed: &BTreeSet<String>, file: Option<String>) -> Choice {
    let (chosen, rest): (Vec<&Listed<'_>>, Vec<&Listed<'_>>) =
        files.iter().partition(|file| needed.contains(file.path));
    Choice {
        files: chosen.iter().map(|file| file.path.to_owned()).collect(),
        file,
        skipped: rest
            .iter()
            .map(|file| Skipped {
                path: file.path.to_owned(),
                size: file.size,
                why: small::why_not(file.path),
            })
            .collect(),
    }
}
