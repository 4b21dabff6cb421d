//! A request between the front door and the batch, and again when it was taken out: everything that it needs to go on.
//! Apart from how it is prepared, which is long.

use std::ops::Range;
use std::sync::Arc;

use chandler_core::{Cost, Prepared};

use crate::ranking::Candidate;
use crate::row::{Plan, Row};

/// A request that is ready for the batch, or was taken out of it.
#[derive(Debug)]
pub struct TextPrepared {
    pub(crate) plan: Arc<Plan>,
    pub(crate) rows: Vec<Row>,
    /// The first event, and the echo, have been sent.
    pub(crate) started: bool,
    pub(crate) progress: PromptProgress,
    /// What each row has said, where the best of them are kept at the end; else none.
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) block_size: usize,
    /// What the grammar takes, roughly.
    pub(crate) grammar_bytes: usize,
}

/// How a request's prompt came into the cache; outlasts a suspension.
#[derive(Debug, Default)]
pub(crate) struct PromptProgress {
    /// It has been looked up.
    pub(crate) looked_up: bool,
    /// Tokens that have been read or found, from the first on.
    pub(crate) furthest: usize,
    /// Tokens that were found, and had not been read by this very request before.
    pub(crate) cached: usize,
}

impl TextPrepared {
    /// Tokens of a row that are decided: the prompt's, and its answer's so far.
    pub(crate) fn len(&self, row: usize) -> usize {
        let answer = self.rows.get(row).map_or(0, |row| row.generated.len());
        self.plan.prompt.len() + answer
    }

    /// The tokens of a row at some positions, as far as they are decided.
    pub(crate) fn tokens(&self, row: usize, positions: Range<usize>) -> Vec<u32> {
        let prompt = self.plan.prompt.as_slice();
        let answer = self.rows.get(row).map_or(&[][..], |row| &row.generated);
        let all = prompt.iter().chain(answer);
        all.skip(positions.start)
            .take(positions.len())
            .copied()
            .collect()
    }

    /// Whether the prompt's own log-probabilities are wanted and have not been given yet.
    pub(crate) fn scores_prompt(&self) -> bool {
        self.plan.scores_prompt() && !self.rows.iter().all(|row| row.echoed)
    }

    /// These positions were found in the cache. Returns how many tokens of the prompt this is true of for the first
    /// time.
    pub(crate) fn found(&mut self, positions: Range<usize>) -> usize {
        let end = positions.end.min(self.plan.prompt.len());
        let fresh = end.saturating_sub(positions.start.max(self.progress.furthest));
        self.progress.cached += fresh;
        self.read_to(end);
        fresh
    }

    /// The prompt has gone through the model up to here.
    pub(crate) fn read_to(&mut self, position: usize) {
        let read = position.min(self.plan.prompt.len());
        self.progress.furthest = self.progress.furthest.max(read);
    }
}

impl Prepared for TextPrepared {
    fn cost(&self) -> Cost {
        let longest = self.plan.prompt.len() + self.plan.max_tokens as usize;
        Cost {
            rows: self.rows.len(),
            blocks: longest.div_ceil(self.block_size) * self.rows.len(),
            bytes: self.plan.prompt.len() * 4 + self.rows.len() * 512 + self.grammar_bytes,
        }
    }
}
