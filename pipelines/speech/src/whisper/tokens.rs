//! Whisper's special tokens: which id starts a transcript, names a language, a task or a time. From generation_config.json and
//! config.json where they say so, else from what the tokenizer calls them.

use super::config::WhisperConfig;
use super::languages::LANGUAGES;
use super::tokenizer::Tokenizer;
use crate::error::Result;
use chandler_nn::fields::Fields;

/// What is to be made of speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Task {
    /// Its words, in its language.
    #[default]
    Transcribe,
    /// Its meaning, in English.
    Translate,
}

/// A language that the model has a token for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Language {
    /// Its code, such as `en`.
    pub code: String,
    /// The token.
    pub id: u32,
}

/// Ids of the special tokens. Those that a model may lack are options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `<|endoftext|>`
    pub eot: u32,
    /// `<|startoftranscript|>`
    pub sot: u32,
    /// `<|transcribe|>`
    pub transcribe: Option<u32>,
    /// `<|translate|>`
    pub translate: Option<u32>,
    /// `<|startofprev|>`: what was said before follows.
    pub previous: Option<u32>,
    /// `<|startoflm|>`
    pub language_model: Option<u32>,
    /// `<|nospeech|>`
    pub no_speech: Option<u32>,
    /// `<|notimestamps|>`; the tokens after it are times.
    pub no_timestamps: Option<u32>,
    /// The languages, in the order of their ids.
    pub languages: Vec<Language>,
}

impl SpecialTokens {
    /// Looks in generation_config.json, config.json and the tokenizer, in this order.
    ///
    /// # Errors
    /// Names the field that is no token id, or the token that neither of them has.
    pub(crate) fn read(
        files: [&Fields; 2],
        config: &WhisperConfig,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        let vocab = config.vocab_size;
        let named = |name: &str| tokenizer.added(name).filter(|id| (*id as usize) < vocab);
        let find = |field: &str, names: &[&str]| -> Result<Option<u32>> {
            for file in files {
                if let Some(id) = file.id(field, vocab)? {
                    return Ok(Some(id));
                }
            }
            Ok(names.iter().find_map(|name| named(name)))
        };
        let needed = |field: &str, name: &str| -> Result<u32> {
            find(field, &[name])?.ok_or_else(|| {
                let message =
                    format!("it is missing, and the tokenizer has no {name} below {vocab}");
                files[0].fault(field, message).into()
            })
        };
        let [generation, _] = files;
        let tasks = generation
            .ids_by_name("task_to_id", vocab)?
            .unwrap_or_default();
        let task = |name: &str| {
            let listed = tasks.iter().find(|(task, _)| task == name);
            listed
                .map(|(_, id)| *id)
                .or_else(|| named(&format!("<|{name}|>")))
        };
        let no_timestamps = find("no_timestamps_token_id", &["<|notimestamps|>"])?;
        let no_speech = named("<|nospeech|>").or_else(|| named("<|nocaptions|>"));
        Ok(Self {
            eot: needed("eos_token_id", "<|endoftext|>")?,
            sot: needed("decoder_start_token_id", "<|startoftranscript|>")?,
            transcribe: task("transcribe"),
            translate: task("translate"),
            previous: find("prev_sot_token_id", &["<|startofprev|>"])?,
            language_model: named("<|startoflm|>"),
            // Where no token is called so, transformers takes the one before it.
            no_speech: no_speech.or_else(|| no_timestamps?.checked_sub(1)),
            no_timestamps,
            languages: languages(generation, vocab, named)?,
        })
    }

    /// The token of time 0; later times follow.
    pub fn timestamp_begin(&self) -> Option<u32> {
        self.no_timestamps.map(|id| id + 1)
    }

    /// Whether a token is a time.
    pub fn is_timestamp(&self, id: u32) -> bool {
        self.timestamp_begin().is_some_and(|begin| id >= begin)
    }

    /// The token of a language, by its code.
    pub fn language(&self, code: &str) -> Option<u32> {
        let found = self.languages.iter().find(|language| language.code == code);
        found.map(|language| language.id)
    }

    /// The token of a task.
    pub fn task(&self, task: Task) -> Option<u32> {
        match task {
            Task::Transcribe => self.transcribe,
            Task::Translate => self.translate,
        }
    }

    /// What is never part of a transcript, besides what the model's makers list: openai-whisper's decoding.py adds these to any
    /// list (`_get_suppress_tokens`).
    pub fn control(&self) -> impl Iterator<Item = u32> {
        let all = [
            Some(self.sot),
            self.transcribe,
            self.translate,
            self.previous,
            self.language_model,
            self.no_speech,
        ];
        all.into_iter().flatten()
    }
}

/// From `lang_to_id`, which may know languages of a fine-tune; in older checkpoints from the tokenizer's tokens.
fn languages(
    generation: &Fields,
    vocab: usize,
    named: impl Fn(&str) -> Option<u32>,
) -> Result<Vec<Language>> {
    let listed = generation.ids_by_name("lang_to_id", vocab)?;
    let mut languages: Vec<Language> = match listed {
        Some(listed) => listed
            .into_iter()
            .map(|(token, id)| Language {
                code: token.trim_matches(['<', '|', '>']).to_owned(),
                id,
            })
            .collect(),
        None => LANGUAGES
            .iter()
            .filter_map(|(code, _)| {
                Some(Language {
                    code: (*code).to_owned(),
                    id: named(&format!("<|{code}|>"))?,
                })
            })
            .collect(),
    };
    languages.sort_by_key(|language| language.id);
    Ok(languages)
}
