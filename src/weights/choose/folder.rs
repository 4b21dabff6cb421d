//! The weights of one folder: one set out of several precisions and several ways of cutting the same tensors into files.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Listed, Read};

/// What a folder's own model is called, the likeliest first; anything else in safetensors comes after.
pub(super) const STEMS: [&str; 3] = ["model", "diffusion_pytorch_model", "pytorch_model"];
/// Beginnings of names that are never a model in the layout of transformers: the publisher's own cut of the same weights, and
/// what goes on top of a model, such as a language of MMS.
const NOT_A_MODEL: [&str; 7] = [
    "consolidated",
    "adapter_",
    "adapter.",
    "optimizer",
    "training_",
    "tokenizer",
    "pytorch_lora_weights",
];

/// Files of one folder that may be its weights, by what they are called without part and mark.
pub(super) struct Folder<'a> {
    prefix: String,
    sets: BTreeMap<(&'a str, String), Set<'a>>,
    variants: &'a [String],
}

/// The same weights in one precision.
#[derive(Default)]
struct Set<'a> {
    single: Option<&'a str>,
    /// Parts, by of how many they say they are.
    parts: BTreeMap<&'a str, Vec<&'a str>>,
    index: Option<&'a str>,
}

/// What is taken of a folder.
pub(super) struct Weights {
    pub files: Vec<String>,
    /// An index that must be read before this is sure.
    pub unsure: Option<String>,
}

/// A weight file's name, taken apart.
struct Name<'a> {
    stem: &'a str,
    mark: String,
    /// `00003` of `-00001-of-00003`.
    of: Option<&'a str>,
    index: bool,
}

impl<'a> Folder<'a> {
    /// Looks at the files directly in the folder with this prefix (empty, or ending in `/`).
    pub(super) fn of(prefix: &str, files: &[Listed<'a>], variants: &'a [String]) -> Self {
        let mut sets: BTreeMap<(&str, String), Set<'_>> = BTreeMap::new();
        for file in files {
            let Some(name) = file.path.strip_prefix(prefix) else {
                continue;
            };
            let Some(read) = (!name.contains('/')).then(|| Name::read(name)).flatten() else {
                continue;
            };
            if NOT_A_MODEL.iter().any(|other| read.stem.starts_with(other)) {
                continue;
            }
            let set = sets.entry((read.stem, read.mark)).or_default();
            match (read.index, read.of) {
                (true, _) => set.index = Some(file.path),
                (false, Some(of)) => set.parts.entry(of).or_default().push(file.path),
                (false, None) => set.single = Some(file.path),
            }
        }
        Self {
            prefix: prefix.to_owned(),
            sets,
            variants,
        }
    }

    /// The set that is taken, or `None` where there are no weights.
    pub(super) fn chosen(&self, read: &Read<'_>) -> Option<Weights> {
        let stems = STEMS
            .iter()
            .copied()
            .filter(|stem| self.sets.keys().any(|(other, _)| other == stem));
        // Where nothing has a usual name, everything that is left is meant: a pipeline of its own knows what it opens.
        let stems: Vec<&str> = match stems.take(1).next() {
            Some(stem) => vec![stem],
            None => {
                let all: BTreeSet<&str> = self.sets.keys().map(|(stem, _)| *stem).collect();
                all.into_iter().collect()
            }
        };
        let mut weights = Weights {
            files: Vec::new(),
            unsure: None,
        };
        for stem in stems {
            if let Some(set) = self.preferred(stem) {
                set.take(&self.prefix, read, &mut weights);
            }
        }
        (!weights.files.is_empty()).then_some(weights)
    }

    /// Whole files, where nothing has a usual name and nothing is cut: any of them may be a model of its own.
    pub(super) fn lonely(&self) -> Vec<&'a str> {
        let usual = |(stem, _): &(&str, String)| STEMS.contains(stem);
        let cut = |set: &Set<'_>| !set.parts.is_empty() || set.index.is_some();
        if self.sets.keys().any(usual) || self.sets.values().any(cut) {
            return Vec::new();
        }
        self.sets.values().filter_map(|set| set.single).collect()
    }

    fn preferred(&self, stem: &'a str) -> Option<&Set<'a>> {
        let of = |mark: &str| {
            let set = self.sets.get(&(stem, mark.to_owned()))?;
            set.has_weights().then_some(set)
        };
        let named = self.variants.iter().find_map(|mark| of(mark));
        // A repository may have nothing but `model.fp16.safetensors`.
        let any = || {
            let sets = self.sets.iter();
            let mut sets = sets.filter(|((other, _), set)| *other == stem && set.has_weights());
            sets.next().map(|(_, set)| set)
        };
        named.or_else(|| of("")).or_else(any)
    }
}

impl Set<'_> {
    fn has_weights(&self) -> bool {
        self.single.is_some() || !self.parts.is_empty() || self.index.is_some()
    }

    fn take(&self, prefix: &str, read: &Read<'_>, weights: &mut Weights) {
        // The same weights twice: every loader takes the single file.
        if let Some(single) = self.single {
            weights.files.push(single.to_owned());
            return;
        }
        let Some(index) = self.index else {
            let parts = self.parts.values().flatten();
            weights.files.extend(parts.map(|part| (*part).to_owned()));
            return;
        };
        weights.files.push(index.to_owned());
        match read(index).and_then(|json| shards(&json)) {
            Some(shards) => {
                let shards = shards.into_iter().map(|shard| format!("{prefix}{shard}"));
                weights.files.extend(shards);
            }
            None => {
                // By their names, which is right in all but odd repositories; and in these the index is asked.
                let parts = self.parts.values().flatten();
                weights.files.extend(parts.map(|part| (*part).to_owned()));
                let whole = self
                    .parts
                    .iter()
                    .all(|(of, parts)| of.parse::<usize>().is_ok_and(|count| count == parts.len()));
                if self.parts.len() != 1 || !whole {
                    weights.unsure = Some(index.to_owned());
                }
            }
        }
    }
}

/// The shards that an index names.
fn shards(json: &[u8]) -> Option<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(json).ok()?;
    Some(index.weight_map.into_values().collect())
}

impl<'a> Name<'a> {
    /// `model.safetensors`, `model.fp16.safetensors`, `model-00001-of-00002.safetensors`, with a mark before or behind the
    /// part, and `model.safetensors.index.json`, with a mark before `.safetensors` or before `.json`.
    fn read(name: &'a str) -> Option<Self> {
        if let Some(body) = name.strip_suffix(".json") {
            let (base, rest) = body.split_once(".safetensors.index")?;
            let (stem, mark) = base.split_once('.').unwrap_or((base, ""));
            let mark = match rest.strip_prefix('.') {
                Some(behind) => behind,
                None => mark,
            };
            return Some(Self {
                stem,
                mark: mark.to_owned(),
                of: None,
                index: true,
            });
        }
        let body = name.strip_suffix(".safetensors")?;
        let Some(at) = part_at(body) else {
            let known = |stem: &str| STEMS.contains(&stem);
            return Some(match body.split_once('.') {
                Some((stem, mark)) if known(stem) => Self::whole(stem, mark),
                _ => Self::whole(body, ""),
            });
        };
        let (before, part) = body.split_at_checked(at)?;
        let (of, behind) = part.get(10..)?.split_at_checked(5)?;
        let (stem, mark) = before.split_once('.').unwrap_or((before, ""));
        let mark = behind.strip_prefix('.').unwrap_or(mark);
        Some(Self {
            stem,
            mark: mark.to_owned(),
            of: Some(of),
            index: false,
        })
    }

    fn whole(stem: &'a str, mark: &str) -> Self {
        Self {
            stem,
            mark: mark.to_owned(),
            of: None,
            index: false,
        }
    }
}

/// Where `-00001-of-00002` begins.
fn part_at(body: &str) -> Option<usize> {
    let digits = |text: Option<&str>| {
        text.is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    body.match_indices("-of-").find_map(|(of, _)| {
        let at = of.checked_sub(6)?;
        let right = body.get(at..=at)? == "-"
            && digits(body.get(at + 1..of))
            && digits(body.get(of + 4..of + 9));
        right.then_some(at)
    })
}
