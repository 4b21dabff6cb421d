//! CLIP's vocabulary, compiled in for checkpoints that come without one: every text encoder of Stable Diffusion has this one.
//! `clip_merges.bin` holds, in their order, the merges that OpenAI published with CLIP under the MIT licence (`clip_merges.LICENSE`
//! beside it), each as the ids of the two tokens that become one, in two bytes each, low byte first;
//! tests/fixtures/make_clip_merges.py made it.

use serde_json::{Map, Value};

use crate::error::{ImageError, Result};

const MERGES: &[u8] = include_bytes!("clip_merges.bin");
const END_OF_WORD: &str = "</w>";
/// Tokens of one byte each.
const BYTES: usize = 256;
const SPECIAL: [&str; 2] = ["<|startoftext|>", "<|endoftext|>"];
/// All tokens: a byte alone and at a word's end, what merges make, and the two that begin and end a text.
pub(crate) const TOKENS: u64 = 49_408;

/// Every token by its id, and which two each merge puts together.
pub(crate) struct Vocabulary {
    tokens: Vec<String>,
    merges: Vec<(usize, usize)>,
}

impl Vocabulary {
    /// Puts every merge's two tokens together.
    ///
    /// # Errors
    /// When the compiled-in table is damaged.
    pub(crate) fn read() -> Result<Self> {
        let damaged = || ImageError::Tokenizer("the built-in vocabulary is damaged".to_owned());
        let mut tokens: Vec<String> = byte_characters().map(String::from).collect();
        tokens.extend_from_within(..);
        for token in tokens.iter_mut().skip(BYTES) {
            token.push_str(END_OF_WORD);
        }
        let mut merges = Vec::with_capacity(MERGES.len() / 4);
        for pair in MERGES.chunks_exact(4) {
            let [a, b, c, d] = pair else {
                return Err(damaged());
            };
            let (left, right) = (
                usize::from(u16::from_le_bytes([*a, *b])),
                usize::from(u16::from_le_bytes([*c, *d])),
            );
            let both = tokens.get(left).zip(tokens.get(right));
            let (first, second) = both.ok_or_else(damaged)?;
            tokens.push(format!("{first}{second}"));
            merges.push((left, right));
        }
        tokens.extend(SPECIAL.map(str::to_owned));
        match tokens.len() as u64 {
            TOKENS => Ok(Self { tokens, merges }),
            _ => Err(damaged()),
        }
    }

    /// As transformers saves it.
    ///
    /// # Errors
    /// Never for these tokens.
    pub(crate) fn vocab_json(&self) -> Result<Vec<u8>> {
        let tokens = self.tokens.iter().enumerate();
        let map: Map<String, Value> = tokens.map(|(id, t)| (t.clone(), id.into())).collect();
        serde_json::to_vec(&map).map_err(|error| ImageError::Tokenizer(error.to_string()))
    }

    /// As transformers saves them.
    pub(crate) fn merges_txt(&self) -> Vec<u8> {
        let mut text = "#version: 0.2\n".to_owned();
        for (left, right) in &self.merges {
            let token = |id: &usize| self.tokens.get(*id).map_or("", String::as_str);
            text.push_str(&format!("{} {}\n", token(left), token(right)));
        }
        text.into_bytes()
    }
}

/// GPT-2's characters for bytes, in the order of CLIP's ids: printable ones stand for themselves, and what is left follows.
fn byte_characters() -> impl Iterator<Item = char> {
    let printable = ('!'..='~')
        .chain('\u{A1}'..='\u{AC}')
        .chain('\u{AE}'..='\u{FF}');
    printable.chain('\u{100}'..).take(BYTES)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use chandler_nn::weights::{Snapshot, StaticSource};

    use super::*;
    use crate::prompt::clip_tokenizer::ClipTokenizer;

    const EXPECTED: &str = include_str!("../../tests/fixtures/clip/built_in.json");
    const NO_WEIGHTS: &[u8] = b"\x02\0\0\0\0\0\0\0{}";

    #[test]
    fn ids_are_those_of_transformers_with_what_openai_published() {
        let vocabulary = Vocabulary::read().unwrap();
        let files = [
            ("vocab.json", vocabulary.vocab_json().unwrap()),
            ("merges.txt", vocabulary.merges_txt()),
        ];
        let files = files.map(|(name, bytes)| (format!("tokenizer/{name}"), bytes));
        let weights = Arc::new(StaticSource::new("none", NO_WEIGHTS).unwrap());
        let snapshot = Snapshot::composed("built in", files.into(), weights);
        let tokenizer = ClipTokenizer::from_snapshot(&snapshot, "tokenizer", 77).unwrap();
        let expected: BTreeMap<String, Vec<u32>> = serde_json::from_str(EXPECTED).unwrap();
        assert_eq!(expected.len(), 4);
        for (text, mut wanted) in expected {
            assert_eq!(wanted.remove(0), tokenizer.begin());
            assert_eq!(wanted.pop(), Some(tokenizer.end()));
            assert_eq!(tokenizer.ids(&text).unwrap(), wanted, "{text:?}");
        }
    }
}
