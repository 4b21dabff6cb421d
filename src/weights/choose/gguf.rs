//! One GGUF model out of a repository that has it in a dozen quantisations.

use std::collections::{BTreeMap, BTreeSet};

use super::{Choice, Listed, split};
use crate::weights::location::{FileChoice, is_gguf, without_part};

/// Names that an error lists at most.
const LISTED: usize = 12;

/// Whether a file may be a model, and not what goes beside one.
pub(super) fn is_model(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    is_gguf(path) && !name.starts_with("mmproj") && !name.contains("imatrix")
}

/// The models of a listing, each with its parts, by their path without ending and part.
fn models<'a>(files: &[Listed<'a>]) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut models: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files.iter().filter(|file| is_gguf(file.path)) {
        models.entry(base(file.path)).or_default().push(file.path);
    }
    for parts in models.values_mut() {
        parts.sort_unstable();
    }
    models
}

fn base(path: &str) -> &str {
    let stem = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
    without_part(stem)
}

/// The one that was named.
pub(super) fn choose(files: &[Listed<'_>], choice: &FileChoice) -> Result<Choice, String> {
    let models = models(files);
    let found: Vec<&Vec<&str>> = match choice {
        FileChoice::File(name) if files.iter().any(|file| file.path == name) => {
            models.get(base(name)).into_iter().collect()
        }
        FileChoice::File(_) => Vec::new(),
        FileChoice::Quant(quant) => models
            .iter()
            .filter(|(base, parts)| {
                parts.iter().all(|part| is_model(part)) && mentions(base, quant)
            })
            .map(|(_, parts)| parts)
            .collect(),
    };
    let asked = match choice {
        FileChoice::File(name) => format!("the file {name}"),
        FileChoice::Quant(quant) => format!("a GGUF file of the quantisation {quant}"),
    };
    match found.as_slice() {
        [parts] => whole(files, parts),
        [] if models.is_empty() => Err(format!("it has no GGUF files, and {asked} was asked for")),
        [] => Err(format!(
            "it does not have {asked}; it has {}",
            names(&models)
        )),
        several => {
            let several: Vec<&str> = several
                .iter()
                .filter_map(|parts| parts.first().copied())
                .collect();
            Err(format!(
                "{asked} is more than one: name one of {}",
                several.join(", ")
            ))
        }
    }
}

/// The only one there is, where nobody said which.
pub(super) fn only(files: &[Listed<'_>], place: &str) -> Result<Choice, String> {
    let mut models = models(files);
    models.retain(|_, parts| parts.iter().all(|part| is_model(part)));
    let mut each = models.values();
    match (each.next(), each.next()) {
        (Some(parts), None) => whole(files, parts),
        _ => Err(format!(
            "it holds {} GGUF models, and which one is meant is not said: give {place}:Q4_K_M or {place}:FILE; it has {}",
            models.len(),
            names(&models)
        )),
    }
}

/// All parts of a model, if they are all there.
fn whole(files: &[Listed<'_>], parts: &[&str]) -> Result<Choice, String> {
    let first = parts.first().copied().unwrap_or_default();
    let stem = first.rsplit_once('.').map_or(first, |(stem, _)| stem);
    let count = match without_part(stem) == stem {
        true => 1,
        false => stem
            .rsplit('-')
            .next()
            .and_then(|count| count.parse().ok())
            .unwrap_or(0),
    };
    if count != parts.len() {
        return Err(format!(
            "of {first} and its further parts {} of {count} are there",
            parts.len()
        ));
    }
    let needed: BTreeSet<String> = parts.iter().map(|part| (*part).to_owned()).collect();
    Ok(split(files, &needed, Some(first.to_owned())))
}

/// Whether a quantisation stands in a name as a word of its own: `Q4_K` is not in `Q4_K_M`, nor `Q4_0` in `IQ4_0`.
fn mentions(name: &str, quant: &str) -> bool {
    let (name, quant) = (name.to_ascii_lowercase(), quant.to_ascii_lowercase());
    let of_a_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    name.match_indices(&quant).any(|(at, found)| {
        let before = name.get(..at).and_then(|text| text.chars().next_back());
        let after = name
            .get(at + found.len()..)
            .and_then(|text| text.chars().next());
        !of_a_word(before) && !of_a_word(after)
    })
}

fn names(models: &BTreeMap<&str, Vec<&str>>) -> String {
    let firsts = models.values().filter_map(|parts| parts.first().copied());
    let mut names: Vec<&str> = firsts.take(LISTED).collect();
    if models.len() > LISTED {
        names.push("…");
    }
    names.join(", ")
}
