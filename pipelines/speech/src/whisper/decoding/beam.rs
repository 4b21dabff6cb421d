//! Beam search as openai-whisper decoding.py has it (BeamSearchDecoder): transcripts that end are put aside until there are enough
//! of them, and the best for its length is taken.

use std::sync::Arc;

use super::job::{DecodeJob, Decoded};
use super::search::{Continuation, Found, Hypothesis, Search, likeliest};
use crate::whisper::rules::Rules;

/// The search.
pub(super) struct Beam {
    rules: Arc<Rules>,
    size: usize,
    /// Ended transcripts that are enough.
    enough: usize,
    length_penalty: Option<f32>,
    /// Tokens that may still come.
    left: usize,
    live: Vec<Hypothesis>,
    ended: Vec<Hypothesis>,
}

/// A row with one more token.
struct Candidate {
    parent: usize,
    token: u32,
    log_probability: f32,
    sum: f32,
}

impl Beam {
    pub(super) fn new(
        job: &DecodeJob,
        size: usize,
        patience: f32,
        length_penalty: Option<f32>,
    ) -> Self {
        let size = size.max(1);
        Self {
            rules: Arc::clone(&job.rules),
            size,
            // Python's round, which takes halves to even.
            enough: ((size as f32 * patience).round_ties_even() as usize).max(1),
            length_penalty,
            left: job.max_tokens,
            live: vec![Hypothesis::default()],
            ended: Vec::new(),
        }
    }

    /// All rows with one more token, best first; of equals those of the first row, likeliest token first.
    fn candidates(&self, found: &mut Found<'_>) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for (parent, row) in self.live.iter().enumerate() {
            let Some(scores) = found.scores(parent, &row.tokens, &self.rules, false) else {
                continue;
            };
            let next = scores.top(self.size + 1).into_iter();
            candidates.extend(next.map(|(token, log_probability)| Candidate {
                parent,
                token,
                log_probability,
                sum: row.sum + log_probability,
            }));
        }
        candidates.sort_by(|a, b| b.sum.total_cmp(&a.sum));
        candidates
    }
}

impl Search for Beam {
    fn advance(&mut self, found: &mut Found<'_>) -> Vec<Continuation> {
        let eot = self.rules.eot;
        let (mut live, mut going_on) = (Vec::new(), Vec::new());
        for candidate in self.candidates(found) {
            let Candidate {
                parent,
                token,
                log_probability,
                ..
            } = candidate;
            let Some(row) = self.live.get(parent) else {
                continue;
            };
            let longer = row.with(token, log_probability, eot);
            if token == eot {
                if self.ended.len() < self.enough {
                    self.ended.push(longer);
                }
            } else {
                live.push(longer);
                going_on.push(Continuation { parent, token });
                if live.len() == self.size {
                    break;
                }
            }
        }
        self.live = live;
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || self.ended.len() >= self.enough {
            going_on.clear();
        }
        going_on
    }

    fn finish(&mut self) -> Option<Decoded> {
        let ended = self.ended.len();
        let mut candidates: Vec<&Hypothesis> = self.ended.iter().collect();
        // Too few have ended: the likeliest of the others count, too.
        self.live.sort_by(|a, b| b.sum.total_cmp(&a.sum));
        let missing = self.size.saturating_sub(ended);
        let begun = |row: &&Hypothesis| !row.log_probabilities.is_empty();
        candidates.extend(self.live.iter().filter(begun).take(missing));
        let best = likeliest(&candidates, self.length_penalty)?;
        let chosen = candidates.get(best)?;
        Some((*chosen).clone().into_decoded(best < ended))
    }
}
