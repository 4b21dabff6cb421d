//! Text to token ids and back, as transformers' fast tokenizers do it, and token by token for a stream. Apart from the chat
//! template, which makes text out of a conversation and knows the tokenizer's special tokens by name alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use chandler_nn::weights::Snapshot;
use serde_json::Value;
use tokenizers::AddedToken;

use crate::error::{Result, TextError};

mod stream;

use stream::Scheme;
pub use stream::StreamDecoder;

/// The file that the tokenizer is read from.
const TOKENIZER_FILE: &str = "tokenizer.json";
/// The file that names the special tokens.
const CONFIG_FILE: &str = "tokenizer_config.json";
/// Where older checkpoints name them.
const MAP_FILE: &str = "special_tokens_map.json";
/// transformers' `SPECIAL_TOKENS_ATTRIBUTES`: the names under which a template sees special tokens.
const NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// A model's tokenizer. `Send + Sync`; share it in an [`Arc`].
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    scheme: Scheme,
    named: BTreeMap<&'static str, String>,
    special: BTreeSet<u32>,
    added: BTreeMap<u32, String>,
    vocab_size: usize,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size)
            .field("named", &self.named)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// The tokenizer of a snapshot: its tokenizer.json, with the special tokens that tokenizer_config.json names.
    ///
    /// `add_bos_token` and `add_eos_token` of tokenizer_config.json are not looked at, because transformers 5 drops both where
    /// there is a tokenizer.json (`tokenization_utils_base.py`, `_from_pretrained`): the post-processor in that file decides.
    ///
    /// # Errors
    /// [`TextError::Tokenizer`] when tokenizer.json is missing, and says how to make one; or when a file is not what it should be.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Self> {
        let Some(bytes) = snapshot.read(TOKENIZER_FILE)? else {
            return Err(missing(snapshot)?);
        };
        let config = read_json(snapshot, CONFIG_FILE)?.unwrap_or(Value::Null);
        // As in transformers: the older file is read only where the newer form is not there.
        let map = if config.get("added_tokens_decoder").is_some() {
            Value::Null
        } else {
            read_json(snapshot, MAP_FILE)?.unwrap_or(Value::Null)
        };
        Self::new(&bytes, &config, &map)
    }

    /// A tokenizer.json alone.
    #[cfg(test)]
    pub(crate) fn of_json(tokenizer: &[u8]) -> Result<Self> {
        Self::new(tokenizer, &Value::Null, &Value::Null)
    }

    fn new(tokenizer: &[u8], config: &Value, map: &Value) -> Result<Self> {
        let mut inner = tokenizers::Tokenizer::from_bytes(tokenizer)
            .map_err(|error| TextError::Tokenizer(format!("{TOKENIZER_FILE}: {error}")))?;
        // A length limit or padding stored by whoever trained the tokenizer is no part of a request.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(foreign)?;
        let split = config.get("split_special_tokens").and_then(Value::as_bool);
        inner.set_encode_special_tokens(split.unwrap_or(false));
        let named = named_tokens(config, map);
        let tokens = tokens_to_add(config, &named, &inner)?;
        if !tokens.is_empty() {
            inner.add_tokens(tokens).map_err(foreign)?;
        }

        let mut added = BTreeMap::new();
        let mut special = BTreeSet::new();
        for (id, token) in inner.get_added_tokens_decoder() {
            if token.special {
                special.insert(id);
            }
            added.insert(id, token.content);
        }
        // An added token may leave a gap behind the model's own vocabulary; the ids below count all the same.
        let last = added.keys().next_back().map_or(0, |id| *id as usize + 1);
        let decoder = serde_json::to_value(inner.get_decoder()).map_err(foreign)?;
        Ok(Self {
            vocab_size: inner.get_vocab_size(true).max(last),
            scheme: Scheme::of(&decoder),
            inner,
            named,
            special,
            added,
        })
    }

    /// The ids of a text. Special tokens in it are recognised by their text, as transformers does; `add_special_tokens` also puts
    /// the model's own around it (a template writes them itself, so after one it is `false`).
    ///
    /// # Errors
    /// [`TextError::Tokenizer`] when the tokenizer has no way to write this text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, add_special_tokens)
            .map_err(foreign)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of these ids; bytes that are no text become U+FFFD, and an id without a token nothing.
    ///
    /// # Errors
    /// [`TextError::Tokenizer`] when tokenizer.json's decoder refuses them.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner.decode(ids, skip_special).map_err(foreign)
    }

    /// One more than the highest id, added tokens included. The model may have a few rows more.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The bytes that a token stands for, which may be a part of a character: `Ġthe` is ` the`, `<0xE6>` is one byte, and an added
    /// token its own text. Nothing for an id without a token.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        if let Some(literal) = self.added.get(&id) {
            return literal.clone().into_bytes();
        }
        self.inner
            .id_to_token(id)
            .map_or_else(Vec::new, |token| self.scheme.bytes(&token))
    }

    /// Whether a text is its tokens' bytes put together, so that [`token_bytes`](Self::token_bytes) tells what a token adds.
    pub fn spells(&self) -> bool {
        self.scheme.spells()
    }

    /// The id of a token by its text as the vocabulary has it.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether `skip_special` leaves this token out.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// All special tokens, ascending.
    pub fn special_ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.special.iter().copied()
    }

    /// The special tokens that have a name (`bos_token`, …), as a template sees them.
    pub fn named_tokens(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.named
            .iter()
            .map(|(name, token)| (*name, token.as_str()))
    }

    /// The text of the token that begins a text.
    pub fn bos_token(&self) -> Option<&str> {
        self.named.get("bos_token").map(String::as_str)
    }

    /// The text of the token that ends one.
    pub fn eos_token(&self) -> Option<&str> {
        self.named.get("eos_token").map(String::as_str)
    }

    /// The id of [`bos_token`](Self::bos_token).
    pub fn bos_id(&self) -> Option<u32> {
        self.token_id(self.bos_token()?)
    }

    /// The id of [`eos_token`](Self::eos_token); generation_config.json may name more.
    pub fn eos_id(&self) -> Option<u32> {
        self.token_id(self.eos_token()?)
    }

    /// The token as the decoder sees it, or nothing when it is to be left out.
    fn piece(&self, id: u32, skip_special: bool) -> Option<String> {
        if skip_special && self.is_special(id) {
            return None;
        }
        match self.added.get(&id) {
            Some(token) => Some(token.clone()),
            None => self.inner.id_to_token(id),
        }
    }

    /// A decoder for one answer; see [`StreamDecoder::new`].
    ///
    /// # Errors
    /// As [`StreamDecoder::new`].
    pub fn stream(
        self: &Arc<Self>,
        prompt_tail: &[u32],
        skip_special: bool,
    ) -> Result<StreamDecoder> {
        StreamDecoder::new(self, prompt_tail, skip_special)
    }
}

fn foreign(error: impl fmt::Display) -> TextError {
    TextError::Tokenizer(error.to_string())
}

/// What to do when there is no tokenizer.json.
fn missing(snapshot: &Snapshot) -> Result<TextError> {
    let mut found = Vec::new();
    for file in ["tokenizer.model", "vocab.json", "tekken.json", "vocab.txt"] {
        // Too large to read, or odd in another way, is still a file that is there.
        if !matches!(snapshot.read(file), Ok(None)) {
            found.push(file);
        }
    }
    Ok(TextError::Tokenizer(if found.is_empty() {
        format!("{snapshot} has no {TOKENIZER_FILE}, and nothing that one could be made from")
    } else {
        format!(
            "{snapshot} has {} and no {TOKENIZER_FILE}, which is the one form that is read; to make it: python -c \"from \
             transformers import AutoTokenizer as T; T.from_pretrained('{snapshot}').save_pretrained('{snapshot}')\"",
            found.join(", ")
        )
    }))
}

/// A JSON file of the snapshot, if it is there.
pub(crate) fn read_json(snapshot: &Snapshot, file: &str) -> Result<Option<Value>> {
    let Some(bytes) = snapshot.read(file)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| TextError::Tokenizer(format!("{file} is not JSON: {error}")))
}

/// The text of a special token, written as a string or as `{"content": …}`.
fn content(value: &Value) -> Option<&str> {
    value
        .as_str()
        .or_else(|| value.get("content").and_then(Value::as_str))
}

fn named_tokens(config: &Value, map: &Value) -> BTreeMap<&'static str, String> {
    NAMES
        .iter()
        .filter_map(|name| {
            let found = [config, map]
                .iter()
                .find_map(|file| file.get(name).and_then(content))?;
            Some((*name, found.to_owned()))
        })
        .collect()
}

/// What transformers adds to the tokenizer when it loads (`TokenizersBackend.__init__`): the tokens that tokenizer_config.json
/// lists, by id, with their flags; then named ones that are still unknown, as special ones.
fn tokens_to_add(
    config: &Value,
    named: &BTreeMap<&'static str, String>,
    inner: &tokenizers::Tokenizer,
) -> Result<Vec<AddedToken>> {
    let mut listed = BTreeMap::new();
    if let Some(entries) = config
        .get("added_tokens_decoder")
        .and_then(Value::as_object)
    {
        for (id, entry) in entries {
            let place = || format!("{CONFIG_FILE}: added_tokens_decoder.{id}");
            let number: u32 = id
                .parse()
                .map_err(|_| TextError::Tokenizer(format!("{} is no token id", place())))?;
            let token: AddedToken = match entry {
                Value::String(text) => AddedToken::from(text, true),
                _ => added_token(entry)
                    .ok_or_else(|| TextError::Tokenizer(format!("{} has no content", place())))?,
            };
            listed.insert(number, token);
        }
    }
    let known: BTreeSet<String> = inner
        .get_added_tokens_decoder()
        .into_values()
        .map(|token| token.content)
        .chain(listed.values().map(|token| token.content.clone()))
        .collect();
    let mut tokens: Vec<AddedToken> = listed.into_values().collect();
    let extra = ["extra_special_tokens", "additional_special_tokens"]
        .iter()
        .filter_map(|key| config.get(key).and_then(Value::as_array))
        .flatten()
        .filter_map(content);
    for token in named.values().map(String::as_str).chain(extra) {
        if !known.contains(token) && !tokens.iter().any(|other| other.content == token) {
            tokens.push(AddedToken::from(token, true));
        }
    }
    Ok(tokens)
}

fn added_token(entry: &Value) -> Option<AddedToken> {
    let flag = |name: &str| entry.get(name).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(false);
    Some(
        AddedToken::from(entry.get("content")?.as_str()?, special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!special)),
    )
}
