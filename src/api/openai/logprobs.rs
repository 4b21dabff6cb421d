//! Log-probabilities in OpenAI's two shapes: a list of tokens with bytes (chat), and four parallel lists (completions).

use chandler_core::Token;
use serde::Serialize;
use serde_json::{Map, Value};

/// What a token that the model holds impossible is said to have: JSON knows no minus infinity (vLLM uses the same).
const IMPOSSIBLE: f32 = -9999.0;

#[derive(Debug, Serialize)]
pub(in crate::api) struct ChatLogprobs {
    content: Vec<ChatToken>,
    refusal: Option<Vec<ChatToken>>,
}

#[derive(Debug, Serialize)]
struct ChatToken {
    #[serde(flatten)]
    chosen: Candidate,
    top_logprobs: Vec<Candidate>,
}

#[derive(Debug, Serialize)]
struct Candidate {
    token: String,
    bytes: Vec<u8>,
    logprob: f32,
}

impl Candidate {
    fn new(bytes: Vec<u8>, logprob: f32) -> Self {
        Self {
            token: token_text(&bytes),
            bytes,
            logprob: finite(logprob),
        }
    }
}

/// Whether a token is listed. The one that ended an answer is not (OpenAI's answers have none), nor is any other that
/// gave it no text; the prompt's are, as they were read.
pub(super) fn is_shown(token: &Token) -> bool {
    token.prompt || !token.special
}

/// The tokens of an answer with `top` alternatives each.
pub(in crate::api) fn chat(tokens: Vec<Token>, top: usize) -> ChatLogprobs {
    let content = tokens
        .into_iter()
        .filter(|token| !token.prompt && is_shown(token))
        .map(|token| ChatToken {
            chosen: Candidate::new(token.bytes, token.logprob.unwrap_or(IMPOSSIBLE)),
            top_logprobs: token
                .top
                .into_iter()
                .take(top)
                .map(|t| Candidate::new(t.bytes, t.logprob))
                .collect(),
        })
        .collect();
    ChatLogprobs {
        content,
        refusal: None,
    }
}

/// The same as a list alone, which is where `/v1/responses` wants it.
pub(in crate::api) fn content(tokens: Vec<Token>, top: usize) -> Value {
    serde_json::to_value(chat(tokens, top).content).unwrap_or_else(|_| Value::Array(Vec::new()))
}

#[derive(Debug, Default, Serialize)]
pub(in crate::api) struct TextLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<Map<String, Value>>>,
    text_offset: Vec<usize>,
}

/// Where in a row's text its next token begins, over all its deltas.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::api) struct Offset {
    /// Characters of the tokens so far.
    characters: usize,
    /// Characters of the text so far, which may be behind the tokens.
    text: usize,
}

/// The text that came with tokens, and whether it is the row's last.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Piece<'a> {
    pub(in crate::api) text: &'a str,
    pub(in crate::api) last: bool,
}

impl Offset {
    /// The offset of a token, in characters; moves past it.
    fn pass(&mut self, token: &Token, piece: Piece<'_>) -> usize {
        if token.special {
            return self.characters;
        }
        let bytes = match token.bytes.strip_prefix(b" ") {
            // Why: sentencepiece puts a space before a text's first word, which is no part of the text.
            Some(rest) if self.characters == 0 && self.text == piece.text.chars().count() => {
                match piece.text.chars().next() {
                    Some(first) if first != ' ' => rest,
                    _ => token.bytes.as_slice(),
                }
            }
            _ => token.bytes.as_slice(),
        };
        let continues = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
        // A token that begins inside a character belongs to the character before.
        let inside = usize::from(bytes.first().is_some_and(continues));
        let at = self.characters.saturating_sub(inside);
        self.characters += bytes.iter().filter(|byte| !continues(byte)).count();
        at
    }
}

/// The tokens of a piece of a row, with `top` alternatives each.
pub(in crate::api) fn text(
    tokens: Vec<Token>,
    top: usize,
    piece: Piece<'_>,
    offset: &mut Offset,
) -> TextLogprobs {
    let mut lists = TextLogprobs::default();
    offset.text += piece.text.chars().count();
    // A stop string cuts off text whose tokens are here; before the last piece it is not known where.
    let end = if piece.last { offset.text } else { usize::MAX };
    for token in tokens.into_iter().filter(is_shown) {
        let text = token_text(&token.bytes);
        let alternatives = token.logprob.map(|logprob| {
            let mut map: Map<String, Value> = token
                .top
                .iter()
                .take(top)
                .map(|t| (token_text(&t.bytes), number(t.logprob)))
                .collect();
            // "The API will always return the logprob of the sampled token" (OpenAI's reference, `logprobs`).
            map.entry(text.clone()).or_insert_with(|| number(logprob));
            map
        });
        lists.text_offset.push(offset.pass(&token, piece).min(end));
        lists.token_logprobs.push(token.logprob.map(finite));
        lists.top_logprobs.push(alternatives);
        lists.tokens.push(text);
    }
    lists
}

/// A token's text, or its bytes spelled out where they are only a part of a character.
fn token_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |mut text, byte| {
            text.push_str(&format!("\\x{byte:02x}"));
            text
        }),
    }
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() {
        logprob
    } else {
        IMPOSSIBLE
    }
}

fn number(logprob: f32) -> Value {
    // Why not through f64 as it is: -0.1f32 would be written with its sixteen wrong digits.
    serde_json::to_value(finite(logprob)).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chandler_core::event::TopToken;
    use serde_json::json;

    fn token(bytes: &[u8], logprob: Option<f32>) -> Token {
        Token {
            bytes: bytes.to_vec(),
            logprob,
            top: vec![TopToken {
                id: 9,
                bytes: b" z".to_vec(),
                logprob: -0.25,
            }],
            ..Token::default()
        }
    }

    #[test]
    fn half_a_character_is_spelled_in_bytes_and_offsets_count_characters() {
        let tokens = vec![
            token("é".as_bytes(), None),
            token(b"\xe2\x82", Some(-0.5)),
            token(b"\xac!", Some(f32::NEG_INFINITY)),
        ];
        let whole = Piece {
            text: "é€!",
            last: true,
        };
        let lists = text(tokens, 1, whole, &mut Offset::default());
        let lists = serde_json::to_value(lists).unwrap();
        assert_eq!(
            lists,
            json!({
                "tokens": ["é", "bytes:\\xe2\\x82", "bytes:\\xac\\x21"],
                "token_logprobs": [null, -0.5, -9999.0],
                "top_logprobs": [
                    null,
                    {" z": -0.25, "bytes:\\xe2\\x82": -0.5},
                    {" z": -0.25, "bytes:\\xac\\x21": -9999.0},
                ],
                "text_offset": [0, 1, 1],
            })
        );
    }

    fn special(bytes: &[u8], prompt: bool) -> Token {
        Token {
            special: true,
            prompt,
            ..token(bytes, Some(-0.5))
        }
    }

    #[test]
    fn special_tokens_have_no_width_and_those_that_end_an_answer_are_left_out() {
        let ended = || special(b"</s>", false);
        let tokens = vec![
            special(b"<s>", true),
            token(b" a", None),
            token(b" b", Some(-0.5)),
            ended(),
        ];
        let whole = Piece {
            text: "a b",
            last: true,
        };
        let lists = text(tokens, 0, whole, &mut Offset::default());
        assert_eq!(lists.tokens, ["<s>", " a", " b"]);
        assert_eq!(lists.text_offset, [0, 0, 1]);
        assert!(chat(vec![ended()], 0).content.is_empty());
    }

    #[test]
    fn no_offset_lies_beyond_the_text() {
        let mut offset = Offset::default();
        let pieces = [("", "ab", false), ("a", "cd", false), ("", "ef", true)];
        let offsets: Vec<usize> = pieces
            .into_iter()
            .flat_map(|(shown, bytes, last)| {
                let tokens = vec![token(bytes.as_bytes(), None)];
                text(tokens, 0, Piece { text: shown, last }, &mut offset).text_offset
            })
            .collect();
        assert_eq!(offsets, [0, 2, 1]);
    }

    #[test]
    fn chat_tokens_carry_their_bytes() {
        let list = serde_json::to_value(chat(vec![token(b"a", Some(-0.5))], 1)).unwrap();
        assert_eq!(
            list,
            json!({"content": [{
                "token": "a", "bytes": [97], "logprob": -0.5,
                "top_logprobs": [{"token": " z", "bytes": [32, 122], "logprob": -0.25}],
            }], "refusal": null})
        );
    }
}
