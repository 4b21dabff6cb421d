//! T5's tokenizer, as SD 3 and FLUX use it: one text, its end, padding up to a length. Apart from CLIP's because it is of another kind
//! (Unigram), reads no windows, and keeps capitals.

use std::fmt;

use chandler_nn::weights::Snapshot;
use serde_json::{Map, Value};

use super::folder::Folder;
use crate::error::{ImageError, Result};

const WHOLE: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";

/// The tokenizer. `Send + Sync`.
pub struct T5Tokenizer {
    inner: tokenizers::Tokenizer,
    end: u32,
    pad: u32,
}

/// A text as an encoder reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct T5Text {
    /// The text's tokens, its end, and padding.
    pub tokens: Vec<u32>,
    /// Tokens at the end of the text that there was no room for.
    pub left_out: usize,
}

impl fmt::Debug for T5Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("T5Tokenizer")
            .field("end", &self.end)
            .field("pad", &self.pad)
            .finish_non_exhaustive()
    }
}

impl T5Tokenizer {
    /// The tokenizer in `folder` of a snapshot: `tokenizer_2` of FLUX, `tokenizer_3` of SD 3.
    ///
    /// # Errors
    /// [`ImageError::Tokenizer`] naming the file that is missing or not what it should be.
    pub fn from_snapshot(snapshot: &Snapshot, folder: &str) -> Result<Self> {
        let folder = Folder {
            snapshot,
            name: folder,
        };
        let Some(mut whole) = folder.object(WHOLE)? else {
            let reason = "it is missing; a sentencepiece model alone is not read, and transformers' save_pretrained makes one of it";
            return Err(folder.fault(WHOLE, reason));
        };
        for wrapping in ["post_processor", "truncation", "padding"] {
            whole.insert(wrapping.into(), Value::Null);
        }
        let bytes =
            serde_json::to_vec(&whole).map_err(|error| ImageError::Tokenizer(error.to_string()))?;
        let inner =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| folder.fault(WHOLE, error))?;
        let config = folder.object(CONFIG)?.unwrap_or_default();
        let special = folder.object(SPECIAL)?.unwrap_or_default();
        let id = |name: &str, default: &str| -> Result<u32> {
            let content = content(&config, name).or_else(|| content(&special, name));
            let content = content.unwrap_or(default);
            inner.token_to_id(content).ok_or_else(|| {
                let reason = format!("{name} {content:?} is not in the vocabulary");
                folder.fault(WHOLE, reason)
            })
        };
        Ok(Self {
            end: id("eos_token", "</s>")?,
            pad: id("pad_token", "<pad>")?,
            inner,
        })
    }

    /// A text cut or padded to `length` tokens (SD 3: 256, FLUX: 512 or 256), its end included, as diffusers does it.
    ///
    /// # Errors
    /// [`ImageError::Tokenizer`] when the tokenizer has no way to write this text, [`ImageError::Input`] for a length of 0.
    pub fn encode(&self, text: &str, length: usize) -> Result<T5Text> {
        let Some(room) = length.checked_sub(1) else {
            return Err(ImageError::Input("a text of 0 tokens".to_owned()));
        };
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| ImageError::Tokenizer(error.to_string()))?;
        let ids = encoding.get_ids();
        let mut tokens: Vec<u32> = ids.iter().copied().take(room).collect();
        tokens.push(self.end);
        tokens.resize(length, self.pad);
        Ok(T5Text {
            tokens,
            left_out: ids.len().saturating_sub(room),
        })
    }
}

/// A special token's text, which is written as it is or in an object.
fn content<'a>(config: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    match config.get(name)? {
        Value::String(content) => Some(content),
        Value::Object(token) => token.get("content")?.as_str(),
        _ => None,
    }
}
