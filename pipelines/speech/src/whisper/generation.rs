//! generation_config.json of a Whisper model, with config.json where older checkpoints have it there: special tokens, what is never
//! written, which heads follow the speech.

use chandler_nn::weights::Snapshot;

use super::config::{CONFIG_FILE, WhisperConfig};
use super::languages;
use super::tokenizer::Tokenizer;
use super::tokens::{SpecialTokens, Task};
use crate::error::Result;
use chandler_nn::fields::Fields;

const FILE: &str = "generation_config.json";
/// The vocabulary of the English-only models in openai-whisper; multilingual ones have one more and beyond.
const ENGLISH_VOCAB: usize = 51_864;

/// How a model's makers have it decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The special tokens.
    pub tokens: SpecialTokens,
    /// Whether languages and tasks can be chosen.
    pub multilingual: bool,
    /// Tokens that are never written.
    pub suppress: Vec<u32>,
    /// Tokens that a transcript does not begin with.
    pub begin_suppress: Vec<u32>,
    /// The latest time that a transcript may begin with, in timestamp tokens after 0.
    pub max_initial_timestamp: Option<u32>,
    /// Decoder layers and heads whose attention follows the speech.
    pub alignment_heads: Vec<(usize, usize)>,
    /// The language that a fine-tune is for, when a request names none.
    pub default_language: Option<u32>,
    /// The task that it is for.
    pub default_task: Option<Task>,
}

impl Generation {
    /// Reads a snapshot's generation_config.json.
    ///
    /// # Errors
    /// Names the field that is not what it should be, or the special token that is nowhere.
    pub fn from_snapshot(
        snapshot: &Snapshot,
        config: &WhisperConfig,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        let read = |file| -> Result<Fields> {
            Ok(Fields::read(snapshot, file)?.unwrap_or_else(|| Fields::none(file)))
        };
        Self::of([&read(FILE)?, &read(CONFIG_FILE)?], config, tokenizer)
    }

    fn of(files: [&Fields; 2], config: &WhisperConfig, tokenizer: &Tokenizer) -> Result<Self> {
        let [own, model] = files;
        let vocab = config.vocab_size;
        let tokens = SpecialTokens::read(files, config, tokenizer)?;
        let ids = |name: &str| -> Result<Vec<u32>> {
            let found = match own.ids(name, vocab)? {
                Some(found) => Some(found),
                None => model.ids(name, vocab)?,
            };
            Ok(found.unwrap_or_default())
        };
        let most = config.source_positions;
        let initial = own.get("max_initial_timestamp_index").map(|value| {
            let index = value.as_u64().filter(|index| *index <= most as u64);
            let message = || format!("{value} is not a whole number from 0 to {most}");
            index.ok_or_else(|| own.fault("max_initial_timestamp_index", message()))
        });
        let (default_language, default_task) = defaults(files, &tokens, vocab)?;
        Ok(Self {
            multilingual: multilingual(own, config, &tokens)?,
            suppress: ids("suppress_tokens")?,
            begin_suppress: ids("begin_suppress_tokens")?,
            max_initial_timestamp: initial.transpose()?.map(|index| index as u32),
            alignment_heads: alignment_heads(own, config)?,
            default_language,
            default_task,
            tokens,
        })
    }
}

fn multilingual(own: &Fields, config: &WhisperConfig, tokens: &SpecialTokens) -> Result<bool> {
    let languages = match tokens.transcribe {
        Some(_) => tokens.languages.len(),
        None => 0,
    };
    Ok(match own.flag("is_multilingual")? {
        Some(said) => said && languages > 0,
        // The English models' tokenizer knows all languages, too; their vocabulary tells them.
        None => languages > 1 && config.vocab_size != ENGLISH_VOCAB,
    })
}

/// The heads that are listed; where none are, all heads of the last half of the layers, as openai-whisper's model.py takes.
fn alignment_heads(own: &Fields, config: &WhisperConfig) -> Result<Vec<(usize, usize)>> {
    let (layers, heads) = (config.decoder.layers, config.decoder.heads);
    let is_empty = |value: &serde_json::Value| value.as_array().is_some_and(Vec::is_empty);
    let Some(listed) = own.get("alignment_heads").filter(|value| !is_empty(value)) else {
        let all = |layer| (0..heads).map(move |head| (layer, head));
        return Ok((layers / 2..layers).flat_map(all).collect());
    };
    let pair = |value: &serde_json::Value| {
        let [layer, head] = value.as_array()?.as_slice() else {
            return None;
        };
        let (layer, head) = (layer.as_u64()? as usize, head.as_u64()? as usize);
        (layer < layers && head < heads).then_some((layer, head))
    };
    let found: Option<Vec<_>> = listed
        .as_array()
        .and_then(|list| list.iter().map(pair).collect());
    found.ok_or_else(|| {
        let message = format!(
            "{listed} is no list of [layer, head] with a layer below {layers} and a head below {heads}"
        );
        own.fault("alignment_heads", message).into()
    })
}

/// What a checkpoint is for when nobody says: `language` and `task`, or the older `forced_decoder_ids`.
fn defaults(
    files: [&Fields; 2],
    tokens: &SpecialTokens,
    vocab: usize,
) -> Result<(Option<u32>, Option<Task>)> {
    let [own, _] = files;
    let task_of = |id: u32| match id {
        id if Some(id) == tokens.transcribe => Some(Task::Transcribe),
        id if Some(id) == tokens.translate => Some(Task::Translate),
        _ => None,
    };
    let language = match own.text("language")? {
        None => None,
        Some(written) => {
            let code = written.trim_matches(['<', '|', '>']);
            let known = languages::code_of(code).and_then(|code| tokens.language(code));
            let id = known.or_else(|| tokens.language(code));
            let fault = || {
                own.fault(
                    "language",
                    format!("{written:?} is no language of the model"),
                )
            };
            Some(id.ok_or_else(fault)?)
        }
    };
    let task = match own.text("task")? {
        None => None,
        Some("transcribe") => Some(Task::Transcribe),
        Some("translate") => Some(Task::Translate),
        Some(other) => {
            let message = format!("{other:?} is no task; transcribe and translate are");
            return Err(own.fault("task", message).into());
        }
    };
    let forced = forced_ids(files, vocab)?;
    let is_language = |id: &u32| tokens.languages.iter().any(|language| language.id == *id);
    Ok((
        language.or_else(|| forced.iter().copied().find(is_language)),
        task.or_else(|| forced.iter().copied().find_map(task_of)),
    ))
}

/// The tokens of `forced_decoder_ids`, a list of [place, id or null].
fn forced_ids(files: [&Fields; 2], vocab: usize) -> Result<Vec<u32>> {
    const FIELD: &str = "forced_decoder_ids";
    let Some(file) = files.into_iter().find(|file| file.get(FIELD).is_some()) else {
        return Ok(Vec::new());
    };
    let listed = file.get(FIELD).and_then(|value| value.as_array());
    let id = |entry: &serde_json::Value| match entry.as_array()?.as_slice() {
        [_, serde_json::Value::Null] => Some(None),
        [_, id] => {
            let id = id.as_u64().filter(|id| *id < vocab as u64)?;
            Some(Some(id as u32))
        }
        _ => None,
    };
    let found: Option<Vec<Option<u32>>> = listed.and_then(|list| list.iter().map(id).collect());
    match found {
        Some(found) => Ok(found.into_iter().flatten().collect()),
        None => Err(file
            .fault(
                FIELD,
                format!("it is no list of [place, token id below {vocab}]"),
            )
            .into()),
    }
}
