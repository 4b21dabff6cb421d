//! A tokenizer's files: tokenizer.json, or the older vocab.json, merges.txt and added_tokens.json, as one form.
//! Apart so that the tokenizer does not know which of them its repository has.

use std::collections::BTreeMap;

use chandler_nn::weights::Snapshot;
use serde_json::{Map, Value, json};

use crate::error::{Result, SpeechError};

const WHOLE: &str = "tokenizer.json";
const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const ADDED: &str = "added_tokens.json";
const CONFIG: &str = "tokenizer_config.json";
/// Ids past this are a damaged file; the largest vocabulary in use has a twentieth of it.
const MOST_IDS: u64 = 1 << 21;

/// What the files say.
pub(super) struct Files {
    /// Which file errors are about.
    pub(super) name: &'static str,
    /// A tokenizer.json without added tokens and without what puts special tokens around a text.
    pub(super) model: Vec<u8>,
    /// The added tokens: their text and id.
    pub(super) added: BTreeMap<String, u32>,
}

impl Files {
    pub(super) fn read(snapshot: &Snapshot) -> Result<Self> {
        let mut files = match object(snapshot, WHOLE)? {
            Some(whole) => Self::of_whole(whole)?,
            None => Self::of_parts(snapshot)?,
        };
        // Some fine-tunes list what they added here alone.
        if let Some(config) = object(snapshot, CONFIG)?
            && let Some(Value::Object(entries)) = config.get("added_tokens_decoder")
        {
            for (id, entry) in entries {
                let content = entry.get("content").and_then(Value::as_str);
                let Some((id, content)) = id.parse::<u64>().ok().map(Value::from).zip(content)
                else {
                    return Err(fault(
                        CONFIG,
                        format!("added_tokens_decoder.{id} is no token"),
                    ));
                };
                files.add(CONFIG, content, &id)?;
            }
        }
        Ok(files)
    }

    fn of_whole(mut whole: Map<String, Value>) -> Result<Self> {
        let listed = whole.insert("added_tokens".into(), json!([]));
        whole.insert("post_processor".into(), Value::Null);
        whole.insert("truncation".into(), Value::Null);
        whole.insert("padding".into(), Value::Null);
        let mut files = Self {
            name: WHOLE,
            model: bytes(&Value::Object(whole))?,
            added: BTreeMap::new(),
        };
        if let Some(Value::Array(listed)) = listed {
            for entry in &listed {
                let content = entry.get("content").and_then(Value::as_str);
                let Some((content, id)) = content.zip(entry.get("id")) else {
                    return Err(fault(
                        WHOLE,
                        format!("added token {entry} has no content or id"),
                    ));
                };
                files.add(WHOLE, content, id)?;
            }
        }
        Ok(files)
    }

    fn of_parts(snapshot: &Snapshot) -> Result<Self> {
        let missing = || {
            let reason = format!(
                "{snapshot} has neither {WHOLE} nor both of {VOCABULARY} and {MERGES}, which a Whisper model has"
            );
            SpeechError::Tokenizer(reason)
        };
        let vocabulary = object(snapshot, VOCABULARY)?.ok_or_else(missing)?;
        let merges = snapshot.read(MERGES)?.ok_or_else(missing)?;
        let merges = String::from_utf8(merges)
            .map_err(|error| fault(MERGES, format!("it is no UTF-8 text: {error}")))?;
        let merges = merges.lines().filter(|line| {
            // The first line is `#version: …`; a merge may begin with # as well.
            !line.is_empty() && !line.starts_with("#version")
        });
        let merges: Vec<&str> = merges.collect();
        let mut files = Self {
            name: VOCABULARY,
            model: Vec::new(),
            added: BTreeMap::new(),
        };
        // Older repositories have special tokens in vocab.json as well.
        for (content, id) in &vocabulary {
            if content.starts_with("<|") && content.ends_with("|>") {
                files.add(VOCABULARY, content, id)?;
            }
        }
        if let Some(entries) = object(snapshot, ADDED)? {
            for (content, id) in &entries {
                files.add(ADDED, content, id)?;
            }
        }
        // transformers' `WhisperTokenizer`, in the form in which it saves itself.
        files.model = bytes(&json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [],
            "normalizer": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                      "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
                      "vocab": vocabulary, "merges": merges},
        }))?;
        Ok(files)
    }

    fn add(&mut self, file: &'static str, content: &str, id: &Value) -> Result<()> {
        let Some(id) = id.as_u64().filter(|id| *id < MOST_IDS) else {
            return Err(fault(
                file,
                format!("{content:?} has {id} for an id, not a number below {MOST_IDS}"),
            ));
        };
        self.added.insert(content.to_owned(), id as u32);
        Ok(())
    }
}

fn object(snapshot: &Snapshot, file: &'static str) -> Result<Option<Map<String, Value>>> {
    let Some(bytes) = snapshot.read(file)? else {
        return Ok(None);
    };
    let map = serde_json::from_slice(&bytes)
        .map_err(|error| fault(file, format!("it is no JSON object: {error}")))?;
    Ok(Some(map))
}

fn bytes(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| SpeechError::Tokenizer(error.to_string()))
}

fn fault(file: &'static str, reason: String) -> SpeechError {
    SpeechError::Tokenizer(format!("{file}: {reason}"))
}
