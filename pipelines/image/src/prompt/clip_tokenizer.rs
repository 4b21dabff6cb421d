//! CLIP's tokenizer: text to ids, without what stands around them; which ids those are is said beside. Its files come in two
//! layouts (`clip_files`); windows are made in `chunks`.

use std::fmt;

use chandler_nn::weights::Snapshot;

use super::clip_files::ClipFiles;
use super::folder::Folder;
use crate::error::{ImageError, Result};

/// A tokenizer for one of a model's text encoders. `Send + Sync`.
pub struct ClipTokenizer {
    inner: tokenizers::Tokenizer,
    begin: u32,
    end: u32,
    pad: u32,
    window: usize,
}

impl fmt::Debug for ClipTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClipTokenizer")
            .field("begin", &self.begin)
            .field("end", &self.end)
            .field("pad", &self.pad)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl ClipTokenizer {
    /// The tokenizer in `folder` of a snapshot (`tokenizer`, `tokenizer_2`), for an encoder of `positions` positions: the window
    /// is as long, or as `model_max_length` says when that is less.
    ///
    /// # Errors
    /// [`ImageError::Tokenizer`] naming the file that is missing or not what it should be.
    pub fn from_snapshot(snapshot: &Snapshot, folder: &str, positions: usize) -> Result<Self> {
        let folder = Folder {
            snapshot,
            name: folder,
        };
        let files = ClipFiles::read(&folder)?;
        let inner = tokenizers::Tokenizer::from_bytes(&files.tokenizer)
            .map_err(|error| folder.fault("tokenizer.json", error))?;
        for (content, id) in &files.added {
            // The crate gives a token that it does not know the next id that is free, whatever the file says.
            if inner.token_to_id(content) != Some(*id) {
                let reason = format!("added token {content:?} cannot have the id {id}");
                return Err(folder.fault("tokenizer.json", reason));
            }
        }
        let window = files.max_length.unwrap_or(positions).min(positions);
        if window < 3 {
            let reason =
                format!("model_max_length: {window} leaves no room for a text; 77 is usual");
            return Err(folder.fault("tokenizer_config.json", reason));
        }
        Ok(Self {
            inner,
            begin: files.begin,
            end: files.end,
            pad: files.pad,
            window,
        })
    }

    /// The ids of a text, with nothing before or after it. A special token that is written out is that token, as in transformers.
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

    /// Stands before a text.
    pub fn begin(&self) -> u32 {
        self.begin
    }

    /// Stands after a text.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Fills the room that is left: `<|endoftext|>` for CLIP L, `!` for the OpenCLIP encoders.
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// Tokens that the encoder reads at once, begin and end included: 77.
    pub fn window(&self) -> usize {
        self.window
    }
}
