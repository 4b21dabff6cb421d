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
