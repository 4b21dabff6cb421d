//! What a transcript is made of: segments, and words where they were asked for. Times are seconds from the audio's beginning.

use chandler_core::SpokenWord;

/// A piece of a transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// The frame at which its window begins.
    pub seek: usize,
    /// When it begins.
    pub start: f64,
    /// When it ends.
    pub end: f64,
    /// Its text, with the space before it. Empty when there is nothing in it, or it lasts no time.
    pub text: String,
    /// Its tokens, times included.
    pub tokens: Vec<u32>,
    /// What its window was decoded at.
    pub temperature: f32,
    /// The mean log probability of its window's tokens.
    pub mean_log_probability: f64,
    /// How much its window's text repeats itself.
    pub compression_ratio: f64,
    /// How likely it is that nobody speaks in its window.
    pub no_speech: Option<f32>,
    /// Its words, where they were asked for.
    pub words: Option<Vec<SpokenWord>>,
}
