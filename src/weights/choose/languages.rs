//! The adapters of a model of many languages (MMS): a file for each, of which those are taken whose languages somebody named. The
//! model's own language needs none: it is among the weights.

use std::collections::BTreeMap;

use super::{Listed, Read, has};

/// Says which language is the model's own.
const SETTINGS: &str = "tokenizer_config.json";
/// transformers' own, where nothing is said.
const USUAL: &str = "eng";
/// Every one there is.
const ALL: &str = "all";
/// Languages that an error lists.
const LISTED: usize = 12;

/// The language whose adapter this is.
pub(super) fn of(path: &str) -> Option<&str> {
    let language = path
        .strip_prefix("adapter.")?
        .strip_suffix(".safetensors")?;
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (!language.is_empty() && language.chars().all(named)).then_some(language)
}

/// What must be read to tell whether a language without an adapter is the model's own.
pub(super) fn undecided(files: &[Listed<'_>], wanted: &[String]) -> Option<String> {
    let there = there(files);
    let missing = |language: &String| language != ALL && !there.contains_key(language.as_str());
    let unsure = !there.is_empty() && wanted.iter().any(missing) && has(files, SETTINGS);
    unsure.then(|| SETTINGS.to_owned())
}

/// The files of the wanted languages.
///
/// # Errors
/// A language that has none, with some of those that have.
pub(super) fn chosen(
    files: &[Listed<'_>],
    wanted: &[String],
    read: &Read<'_>,
) -> Result<Vec<String>, String> {
    let there = there(files);
    if there.is_empty() && !wanted.is_empty() {
        return Err(
            "there are no languages to choose from (adapter.LANGUAGE.safetensors beside the weights, as MMS has them); leave out \
             --speech-languages (CHANDLER_SPEECH_LANGUAGES)"
                .to_owned(),
        );
    }
    let mut chosen = Vec::new();
    for language in wanted {
        match there.get(language.as_str()) {
            Some(path) => chosen.push((*path).to_owned()),
            None if language == ALL => chosen.extend(there.values().map(|path| (*path).to_owned())),
            None if *language == own(read) => {}
            None => return Err(missing(language, &there)),
        }
    }
    Ok(chosen)
}

fn there<'a>(files: &[Listed<'a>]) -> BTreeMap<&'a str, &'a str> {
    let adapters = files
        .iter()
        .filter_map(|file| Some((of(file.path)?, file.path)));
    adapters.collect()
}

fn own(read: &Read<'_>) -> String {
    let said = read(SETTINGS).and_then(|json| {
        let settings: serde_json::Value = serde_json::from_slice(&json).ok()?;
        Some(settings.get("target_lang")?.as_str()?.to_owned())
    });
    said.unwrap_or_else(|| USUAL.to_owned())
}

fn missing(language: &str, there: &BTreeMap<&str, &str>) -> String {
    let mut some: Vec<&str> = there.keys().copied().take(LISTED).collect();
    if there.len() > LISTED {
        some.push("…");
    }
    format!(
        "there is no adapter.{language}.safetensors (--speech-languages, CHANDLER_SPEECH_LANGUAGES); it has {} of them: {}",
        there.len(),
        some.join(", ")
    )
}
