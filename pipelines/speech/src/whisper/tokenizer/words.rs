//! From tokens to words: runs of tokens that are whole characters, and for languages with spaces the runs between them.
//! Mirrors openai-whisper tokenizer.py (`split_to_word_tokens`).

use super::Tokenizer;
use crate::whisper::languages;

/// Python's `string.punctuation`.
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// A word and its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// As it is written, with the space before it.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
}

impl Tokenizer {
    /// The words of these tokens, of which those from `eot` on are words of their own; `language` is a code.
    pub fn words(&self, tokens: &[u32], eot: u32, language: &str) -> Vec<Word> {
        let characters = self.whole_characters(tokens);
        match languages::has_spaces(language) {
            true => join_until_space(characters, eot),
            false => characters,
        }
    }

    /// The shortest runs of tokens that are text by themselves. A run that holds bytes of no character ends where the whole text
    /// has them too.
    fn whole_characters(&self, tokens: &[u32]) -> Vec<Word> {
        let whole: Vec<char> = self.decode(tokens).chars().collect();
        let mut words = Vec::new();
        let (mut run, mut offset) = (Vec::new(), 0);
        for token in tokens {
            run.push(*token);
            let text = self.decode(&run);
            let broken = text.chars().position(|c| c == char::REPLACEMENT_CHARACTER);
            let is_whole = match broken {
                None => true,
                Some(at) => whole.get(offset + at) == Some(&char::REPLACEMENT_CHARACTER),
            };
            if is_whole {
                offset += text.chars().count();
                words.push(Word {
                    text,
                    tokens: std::mem::take(&mut run),
                });
            }
        }
        words
    }
}

/// Adds each run to the word before it unless it begins with a space, is punctuation or is special.
fn join_until_space(runs: Vec<Word>, eot: u32) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    for run in runs {
        let special = run.tokens.first().is_some_and(|token| *token >= eot);
        // As Python's `in` has it: nothing but spaces is punctuation, too.
        let punctuation = PUNCTUATION.contains(run.text.trim());
        match words.last_mut() {
            Some(word) if !special && !punctuation && !run.text.starts_with(' ') => {
                word.text.push_str(&run.text);
                word.tokens.extend(run.tokens);
            }
            _ => words.push(run),
        }
    }
    words
}
