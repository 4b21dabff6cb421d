//! What a window can be asked for, and what comes back: its language, a transcript, or how a transcript lies on it.

use std::sync::Arc;

use crate::whisper::rules::Rules;

/// A question about a window.
#[derive(Debug, Clone)]
pub enum Job {
    /// Which language it is in.
    Detect,
    /// A transcript.
    Decode(DecodeJob),
    /// How a transcript lies on it.
    Align(AlignmentJob),
}

impl Job {
    /// Sequences of the batch that it may grow to.
    pub fn sequences(&self) -> usize {
        match self {
            Self::Decode(job) => job.strategy.rows(),
            Self::Detect | Self::Align(_) => 1,
        }
    }
}

/// How a window is to be transcribed.
#[derive(Debug, Clone)]
pub struct DecodeJob {
    /// All tokens before the transcript; see [`crate::whisper::prompt`].
    pub prompt: Vec<u32>,
    /// Where `<|startoftranscript|>` is in it, whose logits tell silence.
    pub sot: usize,
    /// What the transcript must keep to.
    pub rules: Arc<Rules>,
    /// How tokens are chosen.
    pub strategy: Strategy,
    /// Tokens at most, the one that ends it included.
    pub max_tokens: usize,
}

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Strategy {
    /// The likeliest, one after the other.
    Greedy,
    /// Drawn at a temperature: the best of several transcripts.
    Sample {
        /// Above 0.
        temperature: f32,
        /// How many.
        best_of: usize,
        /// Longer transcripts are preferred by it; see [`Strategy::Beam`].
        length_penalty: Option<f32>,
        /// With [`Self::Sample::first_draw`] decides what is drawn.
        seed: u64,
        /// The place in the seed's stream of the first token; those of one request must lie apart by more than `max_tokens`.
        first_draw: u64,
    },
    /// Several transcripts side by side, as openai-whisper's BeamSearchDecoder.
    Beam {
        /// How many.
        size: usize,
        /// Transcripts that have ended before the search does, as a multiple of `size`.
        patience: f32,
        /// Transcripts are ranked by their log probability over ((5 + length) / 6)^penalty, or over their length without one.
        length_penalty: Option<f32>,
    },
    /// Several transcripts side by side, as transformers' `generate` with `num_beams`.
    TransformersBeam {
        /// How many.
        size: usize,
        /// Transcripts are ranked by their log probability over length^penalty.
        length_penalty: f32,
    },
    /// Tokens that somebody else has chosen, and the probabilities that they have here: to replay what a reference drew.
    Replay(Arc<[u32]>),
}

impl Strategy {
    /// Rows of the batch at most.
    pub fn rows(&self) -> usize {
        match self {
            Self::Greedy | Self::Replay(_) => 1,
            Self::Sample { best_of, .. } => (*best_of).max(1),
            Self::Beam { size, .. } | Self::TransformersBeam { size, .. } => (*size).max(1),
        }
    }
}

/// A transcript of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Its tokens, without the one that ends it.
    pub tokens: Vec<u32>,
    /// The log probability of each token, and of the one that ends it where there is one.
    pub log_probabilities: Vec<f32>,
    /// Their sum, in f32 as they came.
    pub sum_log_probability: f32,
    /// Whether the model ended it, and not the limit.
    pub ended: bool,
    /// How likely it is that nobody speaks; nothing for a model without such a token.
    pub no_speech: Option<f32>,
}

impl Decoded {
    /// The mean log probability, counted as openai-whisper does: over one token more than there are.
    pub fn mean_log_probability(&self) -> f64 {
        f64::from(self.sum_log_probability) / (self.tokens.len() + 1) as f64
    }
}

/// A transcript whose place on the window is asked for.
#[derive(Debug, Clone)]
pub struct AlignmentJob {
    /// The tokens before the text: start, language, task and `<|notimestamps|>`.
    pub prompt: Vec<u32>,
    /// Its text tokens.
    pub text: Vec<u32>,
    /// The token that ends it.
    pub eot: u32,
    /// Positions of the window that hold audio: attention to the others is left out.
    pub positions: usize,
}

/// How a transcript lies on a window.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Alignment {
    /// For each alignment head the scores before the softmax [rows, positions], a row for every token of prompt, text and end.
    pub scores: Vec<Vec<f32>>,
    /// Rows of each.
    pub rows: usize,
    /// Positions of each row.
    pub positions: usize,
    /// The probability of each text token among the text tokens, after those before it.
    pub probabilities: Vec<f32>,
}

/// An answer about a window.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The probabilities of the model's languages, in the order of their tokens.
    Languages(Vec<f32>),
    /// A transcript.
    Decoded(Decoded),
    /// How a transcript lies on it.
    Aligned(Alignment),
    /// No answer, and why: the model gave no numbers, or the rules leave no token.
    Failed(String),
}
