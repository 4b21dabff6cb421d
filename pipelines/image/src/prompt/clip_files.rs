//! The files of a CLIP tokenizer: tokenizer.json, or the older vocab.json with merges.txt; and what the files beside them say of
//! special tokens. Apart so that the tokenizer does not know which of them its repository has.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::folder::Folder;
use crate::error::{ImageError, Result};

const WHOLE: &str = "tokenizer.json";
const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const ADDED: &str = "added_tokens.json";
const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";
/// Ids past this are a damaged file; CLIP's vocabulary has a fortieth of it.
const MOST_IDS: u64 = 1 << 21;

/// What the files say.
pub(super) struct ClipFiles {
    /// The model and what it is wrapped in, as a tokenizer.json that puts nothing around a text.
    pub(super) tokenizer: Vec<u8>,
    /// Text and id of every added token.
    pub(super) added: Vec<(String, u32)>,
    /// What stands before a text, after it, and in the room that is left.
    pub(super) begin: u32,
    pub(super) end: u32,
    pub(super) pad: u32,
    /// Tokens of a text, begin and end included, where the files say.
    pub(super) max_length: Option<usize>,
}

/// Vocabulary and merges, and added tokens as a tokenizer.json lists them, by id.
struct Parts {
    vocabulary: Map<String, Value>,
    merges: Vec<Value>,
    added: BTreeMap<u64, Value>,
}

impl ClipFiles {
    pub(super) fn read(folder: &Folder<'_>) -> Result<Self> {
        let config = folder.object(CONFIG)?.unwrap_or_default();
        let special = folder.object(SPECIAL)?.unwrap_or_default();
        let mut parts = match folder.object(WHOLE)? {
            Some(whole) => Parts::of_whole(folder, whole)?,
            None => Parts::of_two(folder)?,
        };
        parts.add_listed(folder, &config)?;
        // transformers makes every special token an added one, with this result: where `!` is for padding, a `!` of a text is too.
        let mut special_id = |name: &str, default: &str| -> Result<u32> {
            let written = config.get(name).or_else(|| special.get(name));
            let written = written.filter(|value| !value.is_null());
            parts.special(folder, written.unwrap_or(&json!(default)))
        };
        let begin = special_id("bos_token", "<|startoftext|>")?;
        let end = special_id("eos_token", "<|endoftext|>")?;
        let pad = special_id("pad_token", "<|endoftext|>")?;
        let unknown = special_id("unk_token", "<|endoftext|>")?;
        Ok(Self {
            begin,
            end,
            pad,
            // transformers writes 1e30 where there is no limit.
            max_length: config
                .get("model_max_length")
                .and_then(Value::as_u64)
                .and_then(|length| usize::try_from(length).ok()),
            added: parts.added_tokens(),
            tokenizer: parts.whole(unknown)?,
        })
    }
}

impl Parts {
    fn of_whole(folder: &Folder<'_>, mut whole: Map<String, Value>) -> Result<Self> {
        let mut model = match whole.remove("model") {
            Some(Value::Object(model)) => model,
            _ => return Err(folder.fault(WHOLE, "it has no model")),
        };
        let suffix = model.get("end_of_word_suffix").and_then(Value::as_str);
        if suffix != Some("</w>") {
            let reason =
                format!("its model has {suffix:?} for an end_of_word_suffix; CLIP's has \"</w>\"");
            return Err(folder.fault(WHOLE, reason));
        }
        let (Some(Value::Object(vocabulary)), Some(Value::Array(merges))) =
            (model.remove("vocab"), model.remove("merges"))
        else {
            return Err(folder.fault(WHOLE, "its model has no vocab and merges, which BPE has"));
        };
        let mut parts = Self {
            vocabulary,
            merges,
            added: BTreeMap::new(),
        };
        if let Some(Value::Array(listed)) = whole.remove("added_tokens") {
            for token in listed {
                let id = token.get("id").cloned().unwrap_or(Value::Null);
                parts.add(folder, WHOLE, (&id, token))?;
            }
        }
        Ok(parts)
    }

    fn of_two(folder: &Folder<'_>) -> Result<Self> {
        let missing = || {
            let wanted = format!(
                "there is neither it nor both of {VOCABULARY} and {MERGES}, one of which a CLIP tokenizer has"
            );
            folder.fault(WHOLE, wanted)
        };
        let vocabulary = folder.object(VOCABULARY)?.ok_or_else(missing)?;
        let merges = folder.bytes(MERGES)?.ok_or_else(missing)?;
        let merges = String::from_utf8(merges)
            .map_err(|error| folder.fault(MERGES, format!("it is no UTF-8 text: {error}")))?;
        // The first line is `#version: …`; a merge may begin with # as well.
        let lines = merges
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with("#version"));
        let mut parts = Self {
            vocabulary,
            merges: lines.map(Value::from).collect(),
            added: BTreeMap::new(),
        };
        for (content, id) in folder.object(ADDED)?.unwrap_or_default() {
            let token = added_token(&content, false);
            parts.add(folder, ADDED, (&id, token))?;
        }
        Ok(parts)
    }

    /// What tokenizer_config.json lists.
    fn add_listed(&mut self, folder: &Folder<'_>, config: &Map<String, Value>) -> Result<()> {
        let Some(Value::Object(listed)) = config.get("added_tokens_decoder") else {
            return Ok(());
        };
        for (id, token) in listed {
            let id = id.parse::<u64>().map_or(Value::Null, Value::from);
            self.add(folder, CONFIG, (&id, token.clone()))?;
        }
        Ok(())
    }

    fn add(&mut self, folder: &Folder<'_>, file: &str, token: (&Value, Value)) -> Result<()> {
        let (id, token) = token;
        let content = token.get("content").and_then(Value::as_str);
        let id = id.as_u64().filter(|id| *id < MOST_IDS);
        let (Some(content), Some(id)) = (content, id) else {
            let reason = format!(
                "added token {token} has no content, or no id that is a number below {MOST_IDS}"
            );
            return Err(folder.fault(file, reason));
        };
        let flag = |name: &str| token.get(name).and_then(Value::as_bool);
        let special = flag("special").unwrap_or(false);
        let mut whole = added_token(content, special);
        if let Value::Object(whole) = &mut whole {
            whole.insert("id".into(), id.into());
            for name in ["single_word", "lstrip", "rstrip", "normalized"] {
                if let Some(written) = flag(name) {
                    whole.insert(name.into(), written.into());
                }
            }
        }
        self.added.entry(id).or_insert(whole);
        Ok(())
    }

    /// The id of a special token, which becomes an added one.
    fn special(&mut self, folder: &Folder<'_>, written: &Value) -> Result<u32> {
        let (content, token) = match written {
            Value::String(content) => (content.as_str(), added_token(content, true)),
            Value::Object(fields) => {
                let content = fields.get("content").and_then(Value::as_str);
                let Some(content) = content else {
                    return Err(folder.fault(CONFIG, format!("{written} is no token")));
                };
                let mut token = fields.clone();
                token.insert("special".into(), true.into());
                (content, Value::Object(token))
            }
            other => return Err(folder.fault(CONFIG, format!("{other} is no token"))),
        };
        let added = self
            .added
            .iter()
            .find(|(_, token)| token.get("content").and_then(Value::as_str) == Some(content))
            .map(|(id, _)| Value::from(*id));
        let id = added.or_else(|| self.vocabulary.get(content).cloned());
        let Some(id) = id else {
            let reason = format!("special token {content:?} is not in the vocabulary");
            return Err(folder.fault(CONFIG, reason));
        };
        self.add(folder, CONFIG, (&id, token))?;
        id.as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| folder.fault(CONFIG, format!("{content:?} has {id} for an id")))
    }

    fn added_tokens(&self) -> Vec<(String, u32)> {
        let content = |token: &Value| Some(token.get("content")?.as_str()?.to_owned());
        self.added
            .iter()
            .filter_map(|(id, token)| Some((content(token)?, u32::try_from(*id).ok()?)))
            .collect()
    }

    /// A tokenizer.json of it: `transformers` models/clip/tokenization_clip.py, `CLIPTokenizer`, which builds the same around
    /// vocabulary and merges whatever its file says.
    fn whole(self, unknown: u32) -> Result<Vec<u8>> {
        const PIECES: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
        let unknown = self
            .vocabulary
            .iter()
            .find(|(_, id)| id.as_u64() == Some(u64::from(unknown)))
            .map(|(content, _)| content.clone());
        let added: Vec<Value> = self.added.into_values().collect();
        let whole = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                {"type": "Lowercase"},
            ]},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PIECES}, "behavior": "Removed", "invert": true},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            ]},
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": "",
                      "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false,
                      "vocab": self.vocabulary, "merges": self.merges},
        });
        serde_json::to_vec(&whole).map_err(|error| ImageError::Tokenizer(error.to_string()))
    }
}

/// As `tokenizers` has them by default: what is special is looked for in the text as it is written, what is not in its lowercase.
fn added_token(content: &str, special: bool) -> Value {
    json!({"content": content, "single_word": false, "lstrip": false, "rstrip": false,
           "normalized": !special, "special": special})
}
