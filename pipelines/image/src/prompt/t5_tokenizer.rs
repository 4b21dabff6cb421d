//! T5's tokenizer, as SD 3, FLUX and PixArt use it: text to ids, without what stands around them. Apart from CLIP's because it is of another kind
//! (Unigram), and keeps capitals; what an encoder reads is made in `t5_text`.

use std::fmt;

use chandler_nn::weights::Snapshot;
use serde_json::{Map, Value};

use super::folder::Folder;
use super::sentencepiece;
use crate::error::{ImageError, Result};

const WHOLE: &str = "tokenizer.json";
const PIECES: &str = "spiece.model";
const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";

/// The tokenizer. `Send + Sync`.
pub struct T5Tokenizer {
    inner: tokenizers::Tokenizer,
    end: u32,
    pad: u32,
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
    /// The tokenizer in `folder` of a snapshot, `tokenizer_2` of FLUX, `tokenizer_3` of SD 3: tokenizer.json, or where that is missing
    /// spiece.model.
    ///
    /// # Errors
    /// [`ImageError::Tokenizer`] naming the file that is missing or not what it should be.
    pub fn from_snapshot(snapshot: &Snapshot, folder: &str) -> Result<Self> {
        let folder = Folder {
            snapshot,
            name: folder,
        };
        let (file, inner) = match (folder.object(WHOLE)?, folder.bytes(PIECES)?) {
            (Some(whole), _) => (WHOLE, bare(&folder, whole)?),
            (None, Some(bytes)) => {
                let read = sentencepiece::tokenizer(&bytes);
                (PIECES, read.map_err(|reason| folder.fault(PIECES, reason))?)
            }
            (None, None) => {
                let reason = format!("it is missing, and so is {PIECES}");
                return Err(folder.fault(WHOLE, reason));
            }
        };
        let config = folder.object(CONFIG)?.unwrap_or_default();
        let special = folder.object(SPECIAL)?.unwrap_or_default();
        let id = |name: &str, default: &str| -> Result<u32> {
            let content = content(&config, name).or_else(|| content(&special, name));
            let content = content.unwrap_or(default);
            inner.token_to_id(content).ok_or_else(|| {
                let reason = format!("{name} {content:?} is not in the vocabulary");
                folder.fault(file, reason)
            })
        };
        Ok(Self {
            end: id("eos_token", "</s>")?,
            pad: id("pad_token", "<pad>")?,
            inner,
        })
    }

    /// The ids of a text, with nothing after it.
    ///
    /// # Errors
    /// [`ImageError::Tokenizer`] when the tokenizer has no way to write this text.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| ImageError::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Stands after a text.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Fills the room that is left.
    pub fn pad(&self) -> u32 {
        self.pad
    }
}

/// The tokenizer of a tokenizer.json without what it puts around a text.
fn bare(folder: &Folder<'_>, mut whole: Map<String, Value>) -> Result<tokenizers::Tokenizer> {
    for wrapping in ["post_processor", "truncation", "padding"] {
        whole.insert(wrapping.into(), Value::Null);
    }
    let bytes =
        serde_json::to_vec(&whole).map_err(|error| ImageError::Tokenizer(error.to_string()))?;
    tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| folder.fault(WHOLE, error))
}

/// A special token's text, which is written as it is or in an object.
fn content<'a>(config: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    match config.get(name)? {
        Value::String(content) => Some(content),
        Value::Object(token) => token.get("content")?.as_str(),
        _ => None,
    }
}
