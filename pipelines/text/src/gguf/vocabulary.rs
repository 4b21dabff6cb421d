//! The tokens that a GGUF file lists, with their kinds, and the tokens that the metadata names.
//! Apart from the two ways of making a tokenizer.json out of them.

use chandler_nn::weights::gguf::Metadata;
use serde_json::{Map, Value, json};

use crate::error::Result;

/// What a token is, by its number in `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A piece of text, a byte, or a place that nothing uses.
    Plain,
    /// A token of the model's own, which no text becomes by merging, and which is left out of answers.
    Control,
    /// A token that is found whole in a text, and is text.
    UserDefined,
}

/// The tokens of a file.
pub(super) struct Vocabulary<'a> {
    pub(super) metadata: &'a Metadata,
    pub(super) tokens: &'a [String],
    kinds: Option<&'a [i64]>,
}

const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";

impl<'a> Vocabulary<'a> {
    /// Reads the lists, which must be of one length.
    pub(super) fn read(metadata: &'a Metadata) -> Result<Self> {
        let Some(tokens) = metadata.texts(TOKENS)?.filter(|tokens| !tokens.is_empty()) else {
            return Err(metadata
                .refuse(
                    TOKENS,
                    "is missing: put the model's tokenizer.json beside the file",
                )
                .into());
        };
        let kinds = metadata.integers(KINDS)?;
        let found = Self {
            metadata,
            tokens,
            kinds,
        };
        found.expect_length(KINDS, kinds.map(<[i64]>::len))?;
        Ok(found)
    }

    fn expect_length(&self, key: &str, length: Option<usize>) -> Result<()> {
        let tokens = self.tokens.len();
        match length {
            Some(length) if length != tokens => Err(self
                .metadata
                .refuse(
                    key,
                    &format!("has {length} elements, and there are {tokens} tokens"),
                )
                .into()),
            _ => Ok(()),
        }
    }

    /// Every token's score, as `llama` has them.
    pub(super) fn scores(&self) -> Result<Option<&'a [f32]>> {
        let scores = self.metadata.floats(SCORES)?;
        self.expect_length(SCORES, scores.map(<[f32]>::len))?;
        Ok(scores)
    }

    /// Pairs of tokens that are merged, the first first.
    pub(super) fn merges(&self) -> Result<Option<Vec<(String, String)>>> {
        let Some(merges) = self.metadata.texts(MERGES)? else {
            return Ok(None);
        };
        let pair = |merge: &String| -> Result<(String, String)> {
            // The second half is never empty, and a token may begin with a space in no vocabulary of bytes.
            match merge.split_once(' ') {
                Some((first, second)) if !first.is_empty() && !second.is_empty() => {
                    Ok((first.to_owned(), second.to_owned()))
                }
                _ => Err(self
                    .metadata
                    .refuse(
                        MERGES,
                        &format!("has {merge:?}, and two tokens with a space between are wanted"),
                    )
                    .into()),
            }
        };
        merges.iter().map(pair).collect::<Result<_>>().map(Some)
    }

    /// What a token is.
    pub(super) fn kind(&self, id: usize) -> Kind {
        match self.kinds.and_then(|kinds| kinds.get(id)) {
            Some(3) => Kind::Control,
            Some(4) => Kind::UserDefined,
            _ => Kind::Plain,
        }
    }

    /// The token whose number stands at `tokenizer.ggml.NAME_token_id`.
    pub(super) fn named(&self, name: &str) -> Result<Option<&'a str>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Some(id) = self.metadata.unsigned(&key)? else {
            return Ok(None);
        };
        let token = usize::try_from(id).ok().and_then(|id| self.tokens.get(id));
        match token {
            Some(token) => Ok(Some(token)),
            None => Err(self
                .metadata
                .refuse(
                    &key,
                    &format!("is {id}, and there are {} tokens", self.tokens.len()),
                )
                .into()),
        }
    }

    /// tokenizer.json's `added_tokens`: the control and the user-defined ones that `keep` says, found whole in a text.
    pub(super) fn added(&self, keep: impl Fn(&str) -> bool) -> Value {
        let added = self.tokens.iter().enumerate().filter_map(|(id, token)| {
            let special = match self.kind(id) {
                Kind::Plain => return None,
                Kind::Control => true,
                Kind::UserDefined => false,
            };
            (keep(token) && !token.is_empty()).then(|| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": special})
            })
        });
        added.collect()
    }

    /// tokenizer.json's `post_processor`: the beginning and the end token, where the file says that they are added.
    pub(super) fn around(&self, adds_bos: bool) -> Result<Value> {
        let flag = |name: &str| {
            self.metadata
                .flag(&format!("tokenizer.ggml.add_{name}_token"))
        };
        let bos = self.named("bos")?;
        let eos = self.named("eos")?;
        let bos = bos.filter(|_| adds_bos);
        let bos = match flag("bos")? {
            Some(true) => self.named("bos")?,
            Some(false) => None,
            None => bos,
        };
        let adds_eos = flag("eos")? == Some(true);
        let eos = eos.filter(|_| adds_eos);
        let special = |token: &str, of: u8| json!({"SpecialToken": {"id": token, "type_id": of}});
        let sequence = |id: &str, of: u8| json!({"Sequence": {"id": id, "type_id": of}});
        let part = |id: &str, of: u8| {
            let mut part = Vec::new();
            part.extend(bos.map(|token| special(token, of)));
            part.push(sequence(id, of));
            part.extend(eos.map(|token| special(token, of)));
            part
        };
        let single = part("A", 0);
        let pair = [single.clone(), part("B", 1)].concat();
        let mut tokens = Map::new();
        for token in [bos, eos].into_iter().flatten() {
            let id = self
                .tokens
                .iter()
                .position(|other| other == token)
                .unwrap_or(0);
            tokens.insert(
                token.to_owned(),
                json!({"id": token, "ids": [id], "tokens": [token]}),
            );
        }
        Ok(
            json!({"type": "TemplateProcessing", "single": single, "pair": pair,
                  "special_tokens": tokens}),
        )
    }

    /// tokenizer_config.json: the named tokens and the chat template.
    pub(super) fn config(&self) -> Result<Value> {
        let mut config = Map::new();
        for (name, key) in [
            ("bos_token", "bos"),
            ("eos_token", "eos"),
            ("unk_token", "unknown"),
            ("pad_token", "padding"),
        ] {
            if let Some(token) = self.named(key)? {
                config.insert(name.to_owned(), json!(token));
            }
        }
        if let Some(template) = self.metadata.text("tokenizer.chat_template")? {
            config.insert("chat_template".to_owned(), json!(template));
        }
        Ok(Value::Object(config))
    }
}
