//! Whisper's tokenizer: text to ids without special tokens, ids to bytes. Its files come in two layouts (`files`); what its
//! special tokens are for is in `tokens`, and how its pieces make words in `words`.

mod files;
pub mod words;

use std::collections::BTreeMap;
use std::fmt;

use chandler_nn::weights::Snapshot;

use crate::error::{Result, SpeechError};
use files::Files;

/// A byte-level BPE tokenizer and the tokens added to it. `Send + Sync`.
pub struct Tokenizer {
    /// The model and its pre-tokenizer without added tokens: what a client writes is text, even where it looks like a token.
    inner: tokenizers::Tokenizer,
    /// Bytes of every id; none for an id without a token.
    bytes: Vec<Option<Box<[u8]>>>,
    added: BTreeMap<String, u32>,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("ids", &self.bytes.len())
            .field("added", &self.added.len())
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// The tokenizer of a snapshot: tokenizer.json, or vocab.json with merges.txt and added_tokens.json where there is none.
    ///
    /// # Errors
    /// [`SpeechError::Tokenizer`] when there is neither, or a file is not what it should be.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Self> {
        let files = Files::read(snapshot)?;
        let inner = tokenizers::Tokenizer::from_bytes(&files.model)
            .map_err(|error| SpeechError::Tokenizer(format!("{}: {error}", files.name)))?;
        let vocabulary = inner.get_vocab(false);
        let highest = vocabulary.values().chain(files.added.values()).max();
        let mut bytes: Vec<Option<Box<[u8]>>> = Vec::new();
        bytes.resize(highest.map_or(0, |id| *id as usize + 1), None);
        let table = byte_of_char();
        for (piece, id) in &vocabulary {
            if let Some(place) = bytes.get_mut(*id as usize) {
                *place = Some(spelled(piece, &table));
            }
        }
        for (content, id) in &files.added {
            if let Some(place) = bytes.get_mut(*id as usize) {
                *place = Some(content.as_bytes().into());
            }
        }
        Ok(Self {
            inner,
            bytes,
            added: files.added,
        })
    }

    /// The ids of a text, none of them special whatever the text says.
    ///
    /// # Errors
    /// [`SpeechError::Tokenizer`] when the tokenizer has no way to write this text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| SpeechError::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The bytes that a token stands for, which may be a part of a character; an added token's own text; nothing for an id
    /// without a token.
    pub fn bytes(&self, id: u32) -> &[u8] {
        match self.bytes.get(id as usize) {
            Some(Some(bytes)) => bytes,
            _ => &[],
        }
    }

    /// The text of these ids, special ones by their own text; bytes that are no text become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| self.bytes(*id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The id of an added token by its text, such as `<|startoftranscript|>`.
    pub fn added(&self, content: &str) -> Option<u32> {
        self.added.get(content).copied()
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.bytes.len()
    }
}

/// The byte that a character of a byte-level vocabulary stands for: GPT-2's `bytes_to_unicode`, turned round. Printable bytes
/// are themselves, and the others follow each other from U+0100 on.
fn byte_of_char() -> BTreeMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100u32;
    let mut table = BTreeMap::new();
    for byte in 0..=255u8 {
        let character = match printable(byte) {
            true => Some(char::from(byte)),
            false => {
                next += 1;
                char::from_u32(next - 1)
            }
        };
        if let Some(character) = character {
            table.insert(character, byte);
        }
    }
    table
}

/// The bytes of a piece; a character that stands for no byte is itself.
fn spelled(piece: &str, table: &BTreeMap<char, u8>) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(piece.len());
    for character in piece.chars() {
        match table.get(&character) {
            Some(byte) => bytes.push(*byte),
            None => bytes.extend(character.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let table = byte_of_char();
        assert_eq!(table.len(), 256);
        // From GPT-2's vocabulary: a space is Ġ, a newline Ċ.
        assert_eq!((table[&'Ġ'], table[&'Ċ'], table[&'ł']), (b' ', b'\n', 0xA0));
        assert_eq!(*spelled("Ġhé", &table), *b" h\xE9");
    }
}
