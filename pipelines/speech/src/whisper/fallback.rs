//! Whether a transcript is believed: how repetitive it is, how likely, and whether anybody speaks at all; and what is tried when it is
//! not. Mirrors openai-whisper transcribe.py (`decode_with_fallback`, and the voice activity check after it).

use super::decoding::Decoded;
use super::tokenizer::Tokenizer;
use super::tokens::SpecialTokens;
use crate::repetition::compression_ratio;

/// Bounds of what is believed. Without one, nothing is doubted on its account.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// A text that zlib makes smaller than by this factor's inverse repeats itself.
    pub compression_ratio: Option<f64>,
    /// A mean log probability below this is a guess.
    pub log_probability: Option<f64>,
    /// Silence likelier than this, with a guess for a transcript, is silence.
    pub no_speech: Option<f64>,
}

impl Default for Thresholds {
    /// openai-whisper's.
    fn default() -> Self {
        Self {
            compression_ratio: Some(2.4),
            log_probability: Some(-1.0),
            no_speech: Some(0.6),
        }
    }
}

/// openai-whisper's temperatures, tried one after the other.
pub const TEMPERATURES: [f32; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];

/// A transcript and what it is judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The transcript.
    pub decoded: Decoded,
    /// What it was drawn at.
    pub temperature: f32,
    /// Its text.
    pub text: String,
    /// Bytes of the text over bytes of zlib's version of it.
    pub compression_ratio: f64,
}

impl Attempt {
    /// Looks at a transcript.
    pub fn new(
        decoded: Decoded,
        temperature: f32,
        tokenizer: &Tokenizer,
        tokens: &SpecialTokens,
    ) -> Self {
        let is_word = |id: &u32| !tokens.is_timestamp(*id);
        let words: Vec<u32> = decoded.tokens.iter().copied().filter(is_word).collect();
        let text = tokenizer.decode(&words).trim().to_owned();
        Self {
            compression_ratio: compression_ratio(&text),
            decoded,
            temperature,
            text,
        }
    }
}

impl Thresholds {
    /// Whether another temperature is to be tried.
    pub fn doubts(&self, attempt: &Attempt) -> bool {
        let repeats = self
            .compression_ratio
            .is_some_and(|most| attempt.compression_ratio > most);
        let guesses = self.guesses(attempt);
        // A guess about silence is silence.
        (repeats || guesses) && !(guesses && self.is_quiet(attempt))
    }

    /// Whether the window is passed over: silence is likely, and the transcript is not.
    pub fn is_silence(&self, attempt: &Attempt) -> bool {
        let believed = self
            .log_probability
            .is_some_and(|least| attempt.decoded.mean_log_probability() > least);
        self.is_quiet(attempt) && !believed
    }

    fn guesses(&self, attempt: &Attempt) -> bool {
        self.log_probability
            .is_some_and(|least| attempt.decoded.mean_log_probability() < least)
    }

    fn is_quiet(&self, attempt: &Attempt) -> bool {
        match (self.no_speech, attempt.decoded.no_speech) {
            (Some(most), Some(found)) => f64::from(found) > most,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(mean: f32, no_speech: f32, compression_ratio: f64) -> Attempt {
        Attempt {
            decoded: Decoded {
                tokens: vec![1],
                log_probabilities: vec![],
                sum_log_probability: 2.0 * mean,
                ended: true,
                no_speech: Some(no_speech),
            },
            temperature: 0.0,
            text: String::new(),
            compression_ratio,
        }
    }

    #[test]
    fn silence_is_not_tried_again_and_a_sure_transcript_is_not_silence() {
        let of = |mean, no_speech, ratio| {
            let attempt = attempt(mean, no_speech, ratio);
            let thresholds = Thresholds::default();
            (thresholds.doubts(&attempt), thresholds.is_silence(&attempt))
        };
        assert_eq!(of(-0.5, 0.1, 1.0), (false, false));
        assert_eq!(of(-1.5, 0.1, 1.0), (true, false));
        assert_eq!(of(-0.5, 0.1, 3.0), (true, false));
        assert_eq!(of(-1.5, 0.7, 3.0), (false, true));
        assert_eq!(of(-0.5, 0.7, 3.0), (true, false));
        let none = Thresholds {
            compression_ratio: None,
            log_probability: None,
            no_speech: Some(0.6),
        };
        assert!(none.is_silence(&attempt(-0.5, 0.7, 9.0)));
        assert!(!none.doubts(&attempt(-9.0, 0.7, 9.0)));
    }
}
