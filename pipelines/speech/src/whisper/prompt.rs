//! The tokens before a transcript: what was said before, then start, language and task, then what the transcript begins with.
//! Mirrors openai-whisper decoding.py (`_get_initial_tokens`); hotwords are put as faster-whisper does, where the text before would be.

use super::config::WhisperConfig;
use super::tokens::{SpecialTokens, Task};

/// What goes into a prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PromptParts<'a> {
    /// The language's token; none for a model of one language.
    pub language: Option<u32>,
    /// The task; none for a model of one language.
    pub task: Option<Task>,
    /// Whether the transcript has times.
    pub timestamps: bool,
    /// What was said before, as tokens; only the last of them are used.
    pub previous: &'a [u32],
    /// Words that are likely to be said, as tokens; only the first of them are used.
    pub hotwords: &'a [u32],
    /// What the transcript begins with, as tokens.
    pub prefix: &'a [u32],
}

/// A prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// All its tokens.
    pub tokens: Vec<u32>,
    /// Where `<|startoftranscript|>` is.
    pub sot: usize,
}

/// `<|startoftranscript|>`, language and task.
pub fn start(tokens: &SpecialTokens, language: Option<u32>, task: Option<Task>) -> Vec<u32> {
    let task = task.and_then(|task| tokens.task(task));
    [Some(tokens.sot), language, task]
        .into_iter()
        .flatten()
        .collect()
}

/// The tokens before a text whose place on a window is asked for: no times are in it.
pub fn before_alignment(
    tokens: &SpecialTokens,
    language: Option<u32>,
    task: Option<Task>,
) -> Vec<u32> {
    let mut all = start(tokens, language, task);
    all.extend(tokens.no_timestamps);
    all
}

impl Prompt {
    /// Puts a prompt together. What was said before and hotwords together take half of the model's positions at most, as does the
    /// prefix, which loses its beginning when it is longer.
    pub fn new(parts: &PromptParts<'_>, tokens: &SpecialTokens, config: &WhisperConfig) -> Self {
        let half = most_previous(config);
        let mut all = Vec::new();
        // A prefix says how the transcript goes on, and hotwords before it would be read as its beginning.
        let hotwords = match parts.prefix.is_empty() {
            true => parts.hotwords.get(..half).unwrap_or(parts.hotwords),
            false => &[],
        };
        let previous = last(parts.previous, half - hotwords.len());
        if let Some(before) = tokens.previous
            && !(hotwords.is_empty() && previous.is_empty())
        {
            all.push(before);
            all.extend(hotwords);
            all.extend(previous);
        }
        let sot = all.len();
        all.extend(start(tokens, parts.language, parts.task));
        if let Some(no_timestamps) = tokens.no_timestamps.filter(|_| !parts.timestamps) {
            all.push(no_timestamps);
        }
        all.extend(last(parts.prefix, half));
        Self { tokens: all, sot }
    }

    /// Tokens that a transcript after it may have: `asked`, or half of the model's positions as openai-whisper has it, and no more
    /// than fit, the last of them being chosen and never read.
    pub fn most_tokens(&self, asked: Option<usize>, config: &WhisperConfig) -> usize {
        let most = asked.unwrap_or(config.target_positions / 2);
        most.min((config.target_positions + 1).saturating_sub(self.tokens.len()))
    }
}

/// Tokens of what was said before that a prompt takes.
pub fn most_previous(config: &WhisperConfig) -> usize {
    (config.target_positions / 2).saturating_sub(1)
}

fn last(tokens: &[u32], count: usize) -> &[u32] {
    tokens
        .get(tokens.len().saturating_sub(count)..)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whisper::config::CONFIG_FILE;
    use chandler_nn::fields::Fields;
    use serde_json::json;

    fn model() -> (SpecialTokens, WhisperConfig) {
        let config = json!({
            "architectures": ["WhisperForConditionalGeneration"], "vocab_size": 300, "num_mel_bins": 4, "d_model": 4,
            "encoder_layers": 1, "encoder_attention_heads": 1, "encoder_ffn_dim": 4, "decoder_layers": 1,
            "decoder_attention_heads": 1, "decoder_ffn_dim": 4, "max_source_positions": 8, "max_target_positions": 20,
        });
        let tokens = SpecialTokens {
            eot: 100,
            sot: 101,
            transcribe: Some(104),
            translate: Some(103),
            previous: Some(106),
            language_model: None,
            no_speech: None,
            no_timestamps: Some(108),
            languages: vec![],
        };
        (
            tokens,
            WhisperConfig::of(&Fields::of(CONFIG_FILE, config)).unwrap(),
        )
    }

    fn prompt(parts: &PromptParts<'_>) -> (Vec<u32>, usize) {
        let (tokens, config) = model();
        let prompt = Prompt::new(parts, &tokens, &config);
        (prompt.tokens, prompt.sot)
    }

    #[test]
    fn parts_stand_where_openai_whisper_puts_them() {
        let parts = PromptParts {
            language: Some(102),
            task: Some(Task::Translate),
            timestamps: true,
            ..PromptParts::default()
        };
        assert_eq!(prompt(&parts), (vec![101, 102, 103], 0));
        let with_all = PromptParts {
            previous: &[1, 2],
            prefix: &[7, 8],
            timestamps: false,
            ..parts.clone()
        };
        let expected = vec![106, 1, 2, 101, 102, 103, 108, 7, 8];
        assert_eq!(prompt(&with_all), (expected, 3));
        // A model of one language has neither language nor task.
        let one = PromptParts {
            language: None,
            task: None,
            ..parts
        };
        assert_eq!(prompt(&one), (vec![101], 0));
    }

    #[test]
    fn hotwords_come_first_and_what_is_too_long_loses_its_beginning() {
        let long: Vec<u32> = (0..30).collect();
        let parts = PromptParts {
            timestamps: true,
            previous: &long,
            hotwords: &[50, 51],
            ..PromptParts::default()
        };
        // Nine tokens of what was before fit beside the one that says so.
        let expected = [106, 50, 51, 23, 24, 25, 26, 27, 28, 29, 101];
        assert_eq!(prompt(&parts), (expected.to_vec(), 10));
        let hot = PromptParts {
            hotwords: &long,
            previous: &[],
            ..parts.clone()
        };
        assert_eq!(prompt(&hot).0[..4], [106, 0, 1, 2]);
        assert_eq!(prompt(&hot).1, 10);
        let prefixed = PromptParts {
            prefix: &long,
            ..parts
        };
        let (tokens, sot) = prompt(&prefixed);
        assert_eq!(
            (tokens[1], tokens.len() - sot),
            (21, 10),
            "no hotwords before a prefix"
        );
    }

    #[test]
    fn a_transcript_has_half_of_the_positions_and_no_more_than_are_left() {
        let (tokens, config) = model();
        let long: Vec<u32> = (0..30).collect();
        let parts = PromptParts {
            timestamps: true,
            previous: &long,
            ..PromptParts::default()
        };
        let prompt = Prompt::new(&parts, &tokens, &config);
        assert_eq!(prompt.tokens.len(), 11);
        assert_eq!(prompt.most_tokens(None, &config), 10);
        assert_eq!(prompt.most_tokens(Some(3), &config), 3);
        assert_eq!(prompt.most_tokens(Some(99), &config), 10);
    }
}
