//! When a streamed answer tells what it costs: never, at its end, or with each chunk what it has come to so far.

use chandler_core::{TextDelta, Usage};

use super::types::UsageBody;

/// What the client asks for in `stream_options`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::api) enum UsageWish {
    #[default]
    Never,
    /// OpenAI's `include_usage`.
    AtTheEnd,
    /// vLLM's `continuous_usage_stats` with it.
    AllAlong,
}

/// What an answer has come to so far.
#[derive(Debug, Default)]
pub(super) struct RunningUsage {
    wish: UsageWish,
    so_far: Usage,
}

impl RunningUsage {
    pub(super) fn new(wish: UsageWish) -> Self {
        Self {
            wish,
            so_far: Usage::default(),
        }
    }

    pub(super) fn started(&mut self, prompt_tokens: u32, cached_tokens: u32) {
        let usage = &mut self.so_far;
        usage.prompt_tokens = usage.prompt_tokens.saturating_add(prompt_tokens);
        usage.cached_tokens = usage.cached_tokens.saturating_add(cached_tokens);
    }

    pub(super) fn wrote(&mut self, delta: &TextDelta) {
        let tokens = delta.tokens.iter().filter(|token| !token.prompt).count();
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        self.so_far.completion_tokens = self.so_far.completion_tokens.saturating_add(tokens);
    }

    /// The `usage` of a chunk before the last: absent, null, or what there is.
    pub(super) fn of_chunk(&self) -> Option<Option<UsageBody>> {
        match self.wish {
            UsageWish::Never => None,
            UsageWish::AtTheEnd => Some(None),
            UsageWish::AllAlong => Some(Some(self.so_far.into())),
        }
    }

    /// Whether a chunk of its own tells the sum.
    pub(super) fn is_wanted(&self) -> bool {
        self.wish != UsageWish::Never
    }
}
