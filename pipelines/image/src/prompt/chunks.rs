//! A prompt as windows of tokens, each with a weight. Apart from the tokenizer, which knows no windows, and from `encode`, which
//! knows no texts.

use chandler_core::RequestError;

use super::clip_tokenizer::ClipTokenizer;
use super::weighting::Piece;

/// The most chunks of a prompt: 1200 tokens with CLIP's window.
pub const MOST_CHUNKS: usize = 16;

/// A window: begin, tokens, end, padding.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// As many as the window is long.
    pub tokens: Vec<u32>,
    /// One for each token; 1 for what stands around the text.
    pub weights: Vec<f32>,
}

/// The windows of one prompt, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunks {
    chunks: Vec<Chunk>,
    /// What an empty text is, for [`Chunks::pad_to`].
    empty: Chunk,
    text_tokens: usize,
}

impl Chunks {
    /// Fills windows with the pieces' tokens, each window with a begin and an end of its own, as AUTOMATIC1111's web UI, compel and
    /// sd_embed do (without the web UI's search for a comma to cut at). A break begins a new window, be the present one empty or
    /// not; one at the end adds nothing. A text that fits is the one window that diffusers makes of it. `field` is what errors name.
    ///
    /// # Errors
    /// More than [`MOST_CHUNKS`], and a text that the tokenizer has no way to write.
    pub fn new(
        tokenizer: &ClipTokenizer,
        pieces: &[Piece],
        field: &str,
    ) -> Result<Self, RequestError> {
        let room = tokenizer.window() - 2;
        let mut bodies: Vec<Vec<(u32, f32)>> = vec![Vec::new()];
        for piece in pieces {
            let Piece::Text { text, weight } = piece else {
                bodies.push(Vec::new());
                continue;
            };
            let ids = tokenizer
                .ids(text)
                .map_err(|error| RequestError::field(field, error.to_string()))?;
            for id in ids {
                match bodies.last_mut() {
                    Some(body) if body.len() < room => body.push((id, *weight as f32)),
                    _ => bodies.push(vec![(id, *weight as f32)]),
                }
            }
        }
        if bodies.len() > 1 && bodies.last().is_some_and(Vec::is_empty) {
            bodies.pop();
        }
        if bodies.len() > MOST_CHUNKS {
            let message = format!(
                "it fills {} chunks of {room} tokens; at most {MOST_CHUNKS} are encoded, {} tokens",
                bodies.len(),
                MOST_CHUNKS * room
            );
            return Err(RequestError::field(field, message));
        }
        Ok(Self {
            chunks: bodies
                .iter()
                .map(|body| Chunk::around(tokenizer, body))
                .collect(),
            empty: Chunk::around(tokenizer, &[]),
            text_tokens: bodies.iter().map(Vec::len).sum(),
        })
    }

    /// Tokens of the text alone.
    pub fn text_tokens(&self) -> usize {
        self.text_tokens
    }

    /// Adds windows of no text until there are `count`: prompt and negative prompt need as many, and those of two tokenizers too.
    pub fn pad_to(&mut self, count: usize) {
        while self.chunks.len() < count {
            self.chunks.push(self.empty.clone());
        }
    }

    /// Lets go of all windows but the first, for models that look at nothing else.
    pub fn keep_first(&mut self) {
        self.chunks.truncate(1);
    }

    /// The windows, in the order of the text.
    pub fn as_slice(&self) -> &[Chunk] {
        &self.chunks
    }

    /// How many there are; never 0.
    pub fn count(&self) -> usize {
        self.chunks.len()
    }
}

impl Chunk {
    fn around(tokenizer: &ClipTokenizer, body: &[(u32, f32)]) -> Self {
        let window = tokenizer.window();
        let (ids, weighed): (Vec<u32>, Vec<f32>) = body.iter().copied().unzip();
        let mut tokens = [&[tokenizer.begin()], ids.as_slice(), &[tokenizer.end()]].concat();
        tokens.resize(window, tokenizer.pad());
        let mut weights = [&[1.0], weighed.as_slice()].concat();
        weights.resize(window, 1.0);
        Self { tokens, weights }
    }
}
