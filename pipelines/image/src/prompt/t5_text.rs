//! A prompt as T5 reads it: one text, its end, padding up to a length, and a weight for each token. Apart from `chunks`, which makes CLIP's
//! windows, and from the tokenizer, which knows no weights.

use candle_core::{DType, Tensor};
use chandler_core::RequestError;

use super::t5_tokenizer::T5Tokenizer;
use super::weighting::Piece;
use crate::error::Result;

/// A text for T5.
#[derive(Debug, Clone, PartialEq)]
pub struct T5Text {
    tokens: Vec<u32>,
    /// One for each token; 1 for its end and what is beyond.
    weights: Vec<f32>,
    /// Tokens that are looked at: all, but for padding that is not.
    seen: usize,
    /// What stands at the end, and beyond it.
    end: u32,
    pad: u32,
}

impl T5Text {
    /// The pieces' tokens, one after the other, and their end. A text without weights is one piece and has the tokens that diffusers gives
    /// it; there are no windows, so that a break says nothing. `field` is what errors name.
    ///
    /// # Errors
    /// A text that the tokenizer has no way to write.
    pub fn new(
        tokenizer: &T5Tokenizer,
        pieces: &[Piece],
        field: &str,
    ) -> Result<Self, RequestError> {
        let (mut tokens, mut weights) = (Vec::new(), Vec::new());
        for piece in pieces {
            let Piece::Text { text, weight } = piece else {
                continue;
            };
            // The tokenizer itself puts a space before a text.
            let text = if pieces.len() > 1 { text.trim() } else { text };
            let ids = tokenizer
                .ids(text)
                .map_err(|error| RequestError::field(field, error.to_string()))?;
            weights.resize(weights.len() + ids.len(), *weight as f32);
            tokens.extend(ids);
        }
        tokens.push(tokenizer.end());
        weights.push(1.0);
        Ok(Self {
            seen: tokens.len(),
            tokens,
            weights,
            end: tokenizer.end(),
            pad: tokenizer.pad(),
        })
    }

    /// Its tokens: the text's, its end, and padding once it was fitted.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Cuts or pads it to `length` tokens, its end included, as diffusers does; gives back how many had no room.
    pub fn fit(&mut self, length: usize) -> usize {
        let left_out = self.tokens.len().saturating_sub(length);
        if left_out > 0 {
            self.tokens.truncate(length);
            self.weights.truncate(length);
            if let (Some(token), Some(weight)) = (self.tokens.last_mut(), self.weights.last_mut()) {
                (*token, *weight) = (self.end, 1.0);
            }
        }
        self.tokens.resize(length, self.pad);
        self.weights.resize(length, 1.0);
        self.seen = length;
        left_out
    }

    /// Pads it to `length` tokens, none of which is looked at; a longer one stays as it is.
    pub fn pad_unseen(&mut self, length: usize) {
        let length = length.max(self.tokens.len());
        self.tokens.resize(length, self.pad);
        self.weights.resize(length, 1.0);
    }

    /// Tokens that are looked at, of those that there are; none beyond.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Multiplies the rows of `hidden` [tokens, width] by the weights. Unlike CLIP's their mean is not brought back: the last norm leaves
    /// one that is about 0, and to divide by it would say nothing.
    ///
    /// # Errors
    /// When there are other rows.
    pub fn weigh(&self, hidden: &Tensor) -> Result<Tensor> {
        if self.weights.iter().all(|weight| *weight == 1.0) {
            return Ok(hidden.clone());
        }
        let column = Tensor::from_slice(&self.weights, (self.weights.len(), 1), hidden.device())?;
        let weighed = hidden.to_dtype(DType::F32)?.broadcast_mul(&column)?;
        Ok(weighed.to_dtype(hidden.dtype())?)
    }
}
