//! vocab.json of a CTC model, for one language or many, and how characters said frame by frame become a text with words and times.
//! Mirrors `transformers` tokenization_wav2vec2.py (`convert_tokens_to_string`, `_get_word_offsets`).

use std::collections::BTreeMap;

use chandler_nn::weights::Snapshot;
use serde_json::Value;

use super::model::Spoken;
use crate::error::{Result, SpeechError};
use chandler_nn::fields::Fields;

const FILE: &str = "vocab.json";
const SETTINGS: &str = "tokenizer_config.json";
/// Ids past this are a damaged file.
const MOST_IDS: u64 = 1 << 20;

/// The characters of a model's languages.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabularies {
    /// By language; under an empty name those of a model that has one language.
    languages: BTreeMap<String, Vocabulary>,
    default: String,
}

/// The characters of a language.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// By id.
    characters: BTreeMap<u32, String>,
    marks: Marks,
}

/// Characters that are no text.
#[derive(Debug, Clone, PartialEq)]
struct Marks {
    /// Nothing new.
    blank: String,
    /// What is between words, and what it is written as.
    delimiter: String,
    written: String,
    /// What is never written: beginnings and ends.
    ends: Vec<String>,
    lower_case: bool,
}

/// A text and its words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CtcText {
    /// The text.
    pub text: String,
    /// Its words.
    pub words: Vec<CtcWord>,
}

/// A word.
#[derive(Debug, Clone, PartialEq)]
pub struct CtcWord {
    /// As it is written.
    pub text: String,
    /// The frame at which it begins.
    pub start: usize,
    /// The frame after its last.
    pub end: usize,
    /// The mean log probability of its characters' likeliest frames.
    pub log_probability: f32,
}

impl Vocabularies {
    /// Reads a snapshot's vocab.json and tokenizer_config.json.
    ///
    /// # Errors
    /// [`SpeechError::Tokenizer`] when vocab.json is missing or is neither characters with ids nor languages with those.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Self> {
        let fields = Fields::read(snapshot, FILE)?.ok_or_else(|| {
            SpeechError::Tokenizer(format!("{snapshot} has no {FILE}, which a CTC model has"))
        })?;
        let settings = Fields::read(snapshot, SETTINGS)?.unwrap_or_else(|| Fields::none(SETTINGS));
        let marks = Marks::of(&settings)?;
        let nested = fields.entries().all(|(_, value)| value.is_object());
        let mut languages = BTreeMap::new();
        if nested {
            for (language, value) in fields.entries() {
                let entries = value.as_object().into_iter().flatten();
                languages.insert(language.clone(), Vocabulary::of(entries, &marks, language)?);
            }
        } else {
            let vocabulary = Vocabulary::of(fields.entries(), &marks, "")?;
            languages.insert(String::new(), vocabulary);
        }
        let wanted = settings.text("target_lang")?.filter(|_| nested);
        // transformers takes English where nobody says.
        let default = wanted.unwrap_or(if nested { "eng" } else { "" }).to_owned();
        if languages.is_empty() {
            return Err(SpeechError::Tokenizer(format!(
                "{FILE}: there is nothing in it"
            )));
        }
        Ok(Self { languages, default })
    }

    /// Whether a language can be chosen.
    pub fn is_multilingual(&self) -> bool {
        !self.languages.contains_key("")
    }

    /// The languages, by name.
    pub fn languages(&self) -> impl Iterator<Item = &str> {
        self.languages
            .keys()
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    /// The language of the weights that the model comes with; empty for a model of one language.
    pub fn default_language(&self) -> &str {
        &self.default
    }

    /// The characters of a language.
    pub fn of(&self, language: &str) -> Option<&Vocabulary> {
        self.languages.get(language)
    }
}

impl Marks {
    fn of(settings: &Fields) -> Result<Self> {
        // A special token may be written as a text or as `{"content": …}`.
        let token = |name: &str, default: &str| -> Result<String> {
            match settings.get(name) {
                Some(Value::Object(token)) => {
                    let content = token.get("content").and_then(Value::as_str);
                    Ok(content.unwrap_or(default).to_owned())
                }
                Some(_) => Ok(settings.text(name)?.unwrap_or(default).to_owned()),
                None => Ok(default.to_owned()),
            }
        };
        Ok(Self {
            blank: token("pad_token", "<pad>")?,
            delimiter: token("word_delimiter_token", "|")?,
            written: token("replace_word_delimiter_char", " ")?,
            ends: vec![token("bos_token", "<s>")?, token("eos_token", "</s>")?],
            lower_case: settings.flag("do_lower_case")?.unwrap_or(false),
        })
    }
}

impl Vocabulary {
    fn of<'a>(
        entries: impl Iterator<Item = (&'a String, &'a Value)>,
        marks: &Marks,
        language: &str,
    ) -> Result<Self> {
        let mut characters = BTreeMap::new();
        for (character, id) in entries {
            let Some(id) = id.as_u64().filter(|id| *id < MOST_IDS) else {
                let place = if language.is_empty() { "it" } else { language };
                return Err(SpeechError::Tokenizer(format!(
                    "{FILE}: {place} has {id} for the id of {character:?}, not a number below {MOST_IDS}"
                )));
            };
            characters.insert(id as u32, character.clone());
        }
        Ok(Self {
            characters,
            marks: marks.clone(),
        })
    }

    /// The characters that are said, with frames, one for each run of frames that say the same.
    fn said<'a>(&'a self, frames: &[Spoken]) -> Vec<Said<'a>> {
        let mut said: Vec<Said<'a>> = Vec::new();
        for (frame, spoken) in frames.iter().enumerate() {
            // An id without a character is as good as nothing new: transformers would write <unk>.
            let character = self.characters.get(&spoken.id).map_or("", String::as_str);
            match said.last_mut() {
                Some(last) if last.character == character => {
                    last.end = frame + 1;
                    last.log_probability = last.log_probability.max(spoken.log_probability);
                }
                _ => said.push(Said {
                    character,
                    start: frame,
                    end: frame + 1,
                    log_probability: spoken.log_probability,
                }),
            }
        }
        let marks = &self.marks;
        said.retain(|one| {
            let end = marks.ends.iter().any(|end| end == one.character);
            !one.character.is_empty() && one.character != marks.blank && !end
        });
        said
    }

    /// The text of characters said frame by frame.
    pub fn text(&self, frames: &[Spoken]) -> CtcText {
        let marks = &self.marks;
        let cased = |text: &str| match marks.lower_case {
            true => text.to_lowercase(),
            false => text.to_owned(),
        };
        let said = self.said(frames);
        let (mut text, mut words) = (String::new(), Vec::new());
        let mut word: Vec<&Said<'_>> = Vec::new();
        for one in &said {
            if one.character == marks.delimiter || one.character == marks.written {
                text.push_str(&marks.written);
                words.extend(join(&word, cased));
                word.clear();
            } else {
                text.push_str(one.character);
                word.push(one);
            }
        }
        words.extend(join(&word, cased));
        CtcText {
            text: cased(text.trim()),
            words,
        }
    }
}

/// A character and the frames that say it.
struct Said<'a> {
    character: &'a str,
    start: usize,
    end: usize,
    log_probability: f32,
}

fn join(word: &[&Said<'_>], cased: impl Fn(&str) -> String) -> Option<CtcWord> {
    let (first, last) = (word.first()?, word.last()?);
    let text: String = word.iter().map(|one| one.character).collect();
    let sum: f32 = word.iter().map(|one| one.log_probability).sum();
    Some(CtcWord {
        text: cased(&text),
        start: first.start,
        end: last.end,
        log_probability: sum / word.len() as f32,
    })
}
