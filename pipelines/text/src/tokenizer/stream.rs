//! Ids to text one at a time: the pieces put together are the decoding of all ids, and no piece ends inside a character. Apart from
//! the tokenizer because it is a state that one answer owns.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use super::Tokenizer;
use crate::error::Result;

/// Ids that a decoder of unknown make sees before the new one.
const WINDOW: usize = 6;
/// Ids that such a decoder may hold back before what it has is given out, finished or not.
const LONGEST_HELD: usize = 24;

/// What tokenizer.json's decoder does, as far as it matters for a stream.
pub(super) enum Scheme {
    /// Each token is a run of bytes, written in GPT-2's alphabet (`ByteLevel`).
    Bytes,
    /// Each token is text, or one byte, as in the files made from SentencePiece.
    Pieces(Pieces),
    /// Anything else: decoded again with a few ids in front.
    Windows {
        /// Whether `▁` is a space in it, which the bytes of a token want to know.
        metaspace: bool,
    },
}

/// `Sequence[Replace…, ByteFallback?, Fuse?, Strip?]`.
#[derive(Default)]
pub(super) struct Pieces {
    replace: Vec<(String, String)>,
    byte_fallback: bool,
    /// A character, and how many of it go at the beginning of the text.
    strip: Option<(char, usize)>,
}

impl Scheme {
    pub(super) fn of(decoder: &Value) -> Self {
        let steps: Vec<&Value> = match kind(decoder) {
            "Sequence" => decoder
                .get("decoders")
                .and_then(Value::as_array)
                .map_or_else(Vec::new, |steps| steps.iter().collect()),
            _ => vec![decoder],
        };
        match steps.as_slice() {
            [one] if kind(one) == "ByteLevel" => Self::Bytes,
            steps => Pieces::of(steps).map_or_else(
                || Self::Windows {
                    metaspace: steps.iter().any(|step| kind(step) == "Metaspace"),
                },
                Self::Pieces,
            ),
        }
    }

    /// Whether the text of several tokens is their bytes put together.
    pub(super) fn spells(&self) -> bool {
        !matches!(self, Self::Windows { metaspace: false })
    }

    /// The bytes of one token of the vocabulary.
    pub(super) fn bytes(&self, token: &str) -> Vec<u8> {
        match self {
            Self::Bytes => bytes_of_alphabet(token),
            Self::Pieces(pieces) => match pieces.read(token) {
                Piece::Byte(byte) => vec![byte],
                Piece::Text(text) => text.into_bytes(),
            },
            Self::Windows { metaspace: true } => token.replace('▁', " ").into_bytes(),
            Self::Windows { metaspace: false } => {
                // WordPiece's mark of a token that goes on with a word.
                token.strip_prefix("##").unwrap_or(token).into()
            }
        }
    }
}

fn kind(decoder: &Value) -> &str {
    decoder.get("type").and_then(Value::as_str).unwrap_or("")
}

enum Piece {
    Byte(u8),
    Text(String),
}

impl Pieces {
    /// The steps in the one order in which they can be done token by token, or nothing.
    fn of(steps: &[&Value]) -> Option<Self> {
        let mut pieces = Self::default();
        let mut fused = false;
        for step in steps {
            match kind(step) {
                "Replace" if !pieces.byte_fallback && !fused => {
                    let from = step.get("pattern")?.get("String")?.as_str()?;
                    let to = step.get("content")?.as_str()?;
                    pieces.replace.push((from.to_owned(), to.to_owned()));
                }
                "ByteFallback" if !fused => pieces.byte_fallback = true,
                "Fuse" => fused = true,
                "Strip" if fused && pieces.strip.is_none() => {
                    let mut characters = step.get("content")?.as_str()?.chars();
                    let character = characters.next()?;
                    let start = usize::try_from(step.get("start")?.as_u64()?).ok()?;
                    if step.get("stop")?.as_u64()? != 0 {
                        return None;
                    }
                    pieces.strip = Some((character, start));
                }
                _ => return None,
            }
        }
        (!steps.is_empty()).then_some(pieces)
    }

    fn read(&self, token: &str) -> Piece {
        let mut text = token.to_owned();
        for (from, to) in &self.replace {
            if text.contains(from.as_str()) {
                text = text.replace(from.as_str(), to);
            }
        }
        match byte_token(&text) {
            Some(byte) if self.byte_fallback => Piece::Byte(byte),
            _ => Piece::Text(text),
        }
    }
}

/// `<0xE6>`, as `tokenizers`' ByteFallback reads it.
fn byte_token(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() != 2 {
        return None;
    }
    u8::from_str_radix(hex, 16).ok()
}

/// GPT-2's alphabet back to bytes; a token with a character that is not in it stands for itself, as in `tokenizers`' ByteLevel.
fn bytes_of_alphabet(token: &str) -> Vec<u8> {
    // Made once at its full size: a whole vocabulary goes through here.
    let mut bytes = Vec::with_capacity(token.len());
    for character in token.chars() {
        match byte_of_character(character) {
            Some(byte) => bytes.push(byte),
            None => return token.into(),
        }
    }
    bytes
}

/// `bytes_to_unicode` of openai/gpt-2's encoder.py, backwards: printable Latin-1 is itself, and the 68 other bytes follow from
/// U+0100 in their order.
fn byte_of_character(character: char) -> Option<u8> {
    let code = u32::from(character);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u8::try_from(code).ok(),
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// Turns the ids of one answer into text as they come. `Clone`, because a request may be suspended and taken up again.
///
/// What it gives is put together exactly what [`Tokenizer::decode`] gives for the same ids, with one exception that has to be: with
/// byte fallback, a run of bytes that turns out to be broken becomes U+FFFD as a whole, and its first characters may have been given
/// out already. Those stay.
#[derive(Clone)]
pub struct StreamDecoder {
    tokenizer: Arc<Tokenizer>,
    skip_special: bool,
    /// Special tokens that are shown all the same.
    shown: Arc<[u32]>,
    state: State,
}

#[derive(Clone)]
enum State {
    /// Bytes of a character that is not whole yet.
    Bytes(Vec<u8>),
    Pieces {
        held: Vec<u8>,
        /// The run of bytes is broken: all that follows of it is U+FFFD.
        broken: bool,
        /// Characters that are still to go at the beginning.
        strip: usize,
    },
    Windows {
        ids: VecDeque<u32>,
        /// How many ids in front are given out.
        read: usize,
        /// The text of those.
        given: String,
    },
}

impl std::fmt::Debug for StreamDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamDecoder").finish_non_exhaustive()
    }
}

impl StreamDecoder {
    /// A decoder for an answer that follows `prompt_tail` (the last ids of the prompt, a handful is enough): what the answer begins
    /// with is then seen as the middle of a text, so that its first space stays, and a character of which the prompt holds the
    /// first bytes becomes whole. With no tail the answer is a text of its own.
    ///
    /// # Errors
    /// As [`push`](Self::push), for the tail.
    pub fn new(
        tokenizer: &Arc<Tokenizer>,
        prompt_tail: &[u32],
        skip_special: bool,
    ) -> Result<Self> {
        let state = match &tokenizer.scheme {
            Scheme::Bytes => State::Bytes(Vec::new()),
            Scheme::Pieces(pieces) => State::Pieces {
                held: Vec::new(),
                broken: false,
                strip: pieces.strip.map_or(0, |(_, count)| count),
            },
            Scheme::Windows { .. } => State::Windows {
                ids: VecDeque::new(),
                read: 0,
                given: String::new(),
            },
        };
        let mut decoder = Self {
            tokenizer: Arc::clone(tokenizer),
            skip_special,
            shown: Arc::default(),
            state,
        };
        let start = prompt_tail.len().saturating_sub(WINDOW);
        for id in prompt_tail.get(start..).unwrap_or_default() {
            // Its text is the prompt's; it is here for what comes after.
            decoder.push(*id)?;
        }
        Ok(decoder)
    }

    /// The same decoder, which from here on shows these special tokens' text: a reader of the answer looks for it.
    pub fn showing(mut self, ids: Arc<[u32]>) -> Self {
        self.shown = ids;
        self
    }

    /// Takes the next id and gives the text that is now final; often a word, sometimes nothing.
    ///
    /// # Errors
    /// [`TextError::Tokenizer`](crate::error::TextError::Tokenizer) when tokenizer.json's decoder refuses.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let tokenizer = &self.tokenizer;
        let skip = self.skip_special && !self.shown.contains(&id);
        // Those that are skipped never get into a window, so with some shown nothing in it is to be skipped.
        let skip_window = self.skip_special && self.shown.is_empty();
        let Some(token) = tokenizer.piece(id, skip) else {
            return Ok(String::new());
        };
        match (&mut self.state, &tokenizer.scheme) {
            (State::Bytes(held), _) => {
                held.extend(bytes_of_alphabet(&token));
                Ok(whole_characters(held))
            }
            (
                State::Pieces {
                    held,
                    broken,
                    strip,
                },
                Scheme::Pieces(pieces),
            ) => {
                let text = match pieces.read(&token) {
                    Piece::Byte(byte) => push_byte(held, broken, byte),
                    Piece::Text(text) => {
                        *broken = false;
                        replacements(std::mem::take(held).len()) + &text
                    }
                };
                Ok(strip_start(text, pieces, strip))
            }
            (State::Windows { ids, read, given }, _) => {
                ids.push_back(id);
                let text = tokenizer.decode(ids.make_contiguous(), skip_window)?;
                let held = ids.len() - *read;
                let unfinished = text.ends_with('\u{fffd}') && held < LONGEST_HELD;
                let new = match text.strip_prefix(given.as_str()) {
                    Some(new) if !new.is_empty() && !unfinished => new.to_owned(),
                    // The decoder changed its mind about what was given out; go on from here.
                    None if held >= LONGEST_HELD => String::new(),
                    _ => return Ok(String::new()),
                };
                *read = ids.len();
                forget(ids, read);
                *given = tokenizer.decode(ids.make_contiguous(), skip_window)?;
                Ok(new)
            }
            // The state is made from the scheme, so these two never meet.
            (State::Pieces { .. }, _) => Ok(String::new()),
        }
    }

    /// What is still held when the answer ends: the bytes of an unfinished character, as U+FFFD. The decoder may go on after it.
    pub fn finish(&mut self) -> String {
        let tokenizer = &self.tokenizer;
        let skip_window = self.skip_special && self.shown.is_empty();
        match &mut self.state {
            State::Bytes(held) => String::from_utf8_lossy(&std::mem::take(held)).into_owned(),
            State::Pieces { held, broken, .. } => {
                *broken = false;
                replacements(std::mem::take(held).len())
            }
            State::Windows { ids, read, given } => {
                let text = tokenizer
                    .decode(ids.make_contiguous(), skip_window)
                    .unwrap_or_default();
                let new = text.strip_prefix(given.as_str()).unwrap_or("").to_owned();
                *read = ids.len();
                *given = text;
                new
            }
        }
    }
}

/// Drops ids that the next decodings need no more.
fn forget(ids: &mut VecDeque<u32>, read: &mut usize) {
    while ids.len() > WINDOW {
        ids.pop_front();
    }
    *read = ids.len();
}

fn replacements(count: usize) -> String {
    "\u{fffd}".repeat(count)
}

/// Takes the characters that are whole from the front of the bytes. What can become no character is U+FFFD, as in
/// `String::from_utf8_lossy`, which the full decode uses; what still may is left.
fn whole_characters(held: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut left = 0;
    for chunk in held.utf8_chunks() {
        text.push_str(chunk.valid());
        left = chunk.invalid().len();
        if left > 0 {
            text.push('\u{fffd}');
        }
    }
    let tail = held.get(held.len() - left..).unwrap_or_default();
    let unfinished = std::str::from_utf8(tail).is_err_and(|error| error.error_len().is_none());
    if left > 0 && unfinished {
        text.pop();
        held.drain(..held.len() - left);
    } else {
        held.clear();
    }
    text
}

/// One more byte of a run. A broken run is U+FFFD for each of its bytes, as ByteFallback does it.
fn push_byte(held: &mut Vec<u8>, broken: &mut bool, byte: u8) -> String {
    if *broken {
        return replacements(1);
    }
    held.push(byte);
    match std::str::from_utf8(held) {
        Ok(text) => {
            let text = text.to_owned();
            held.clear();
            text
        }
        Err(error) if error.error_len().is_none() => String::new(),
        Err(_) => {
            *broken = true;
            replacements(std::mem::take(held).len())
        }
    }
}

/// The Strip step: so many of one character go at the beginning of the whole text.
fn strip_start(text: String, pieces: &Pieces, strip: &mut usize) -> String {
    let Some((character, _)) = pieces.strip else {
        return text;
    };
    if *strip == 0 || text.is_empty() {
        return text;
    }
    let mut rest = text.as_str();
    while *strip > 0 {
        match rest.strip_prefix(character) {
            Some(shorter) => {
                rest = shorter;
                *strip -= 1;
                if rest.is_empty() {
                    break;
                }
            }
            None => *strip = 0,
        }
    }
    rest.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_covers_every_byte_once() {
        let mut seen: Vec<u8> = (0..=0x143u32)
            .filter_map(char::from_u32)
            .filter_map(byte_of_character)
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..=255).collect::<Vec<u8>>());
        assert_eq!(bytes_of_alphabet("Ġthe"), b" the");
        assert_eq!(bytes_of_alphabet("Ċ"), b"\n");
        assert_eq!(bytes_of_alphabet("a b"), b"a b", "a space is not in it");
    }

    #[test]
    fn characters_wait_until_they_are_whole() {
        let mut held = "a🕯".as_bytes().to_vec();
        held.pop();
        assert_eq!(whole_characters(&mut held), "a");
        assert_eq!(held.len(), 3);
        held.push(b'x');
        assert_eq!(whole_characters(&mut held), "\u{fffd}x");
        assert!(held.is_empty());
    }
}
