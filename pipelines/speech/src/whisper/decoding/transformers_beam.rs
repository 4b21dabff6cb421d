//! Beam search as transformers' `generate` has it (generation/utils.py, `_beam_search`, with `early_stopping` off): probabilities
//! are those without the rules, only the best candidates of a step may end, and the search stops when no open beam can do better.

use std::sync::Arc;

use super::job::{DecodeJob, Decoded};
use super::search::{Continuation, Found, Hypothesis, Search};
use crate::whisper::rules::Rules;

/// The search.
pub(super) struct TransformersBeam {
    rules: Arc<Rules>,
    size: usize,
    length_penalty: f32,
    max_tokens: usize,
    /// Tokens chosen so far.
    steps: usize,
    live: Vec<Hypothesis>,
    /// With their scores, best first; at most `size`.
    ended: Vec<Ended>,
}

struct Ended {
    hypothesis: Hypothesis,
    score: f32,
    by_model: bool,
}

impl TransformersBeam {
    pub(super) fn new(job: &DecodeJob, size: usize, length_penalty: f32) -> Self {
        Self {
            rules: Arc::clone(&job.rules),
            size: size.max(1),
            length_penalty,
            max_tokens: job.max_tokens,
            steps: 0,
            live: vec![Hypothesis::default()],
            ended: Vec::new(),
        }
    }

    /// The best continuations of all rows: as many that there are enough to go on when every row's best one ends.
    fn candidates(&self, found: &mut Found<'_>) -> Vec<(usize, u32, f32, f32)> {
        let count = 2 * self.size;
        let mut candidates = Vec::new();
        for (parent, row) in self.live.iter().enumerate() {
            let Some(scores) = found.scores(parent, &row.tokens, &self.rules, true) else {
                continue;
            };
            let next = scores.top_of_whole(count).into_iter();
            candidates.extend(next.map(|(token, p)| (parent, token, p, row.sum + p)));
        }
        candidates.sort_by(|a, b| b.3.total_cmp(&a.3));
        candidates.truncate(count);
        candidates
    }

    fn over_length(&self, sum: f32) -> f32 {
        sum / (self.steps as f32).powf(self.length_penalty)
    }

    fn end(&mut self, hypothesis: Hypothesis, by_model: bool) {
        let score = self.over_length(hypothesis.sum);
        let place = self.ended.partition_point(|other| other.score >= score);
        self.ended.insert(
            place,
            Ended {
                hypothesis,
                score,
                by_model,
            },
        );
        self.ended.truncate(self.size);
    }

    /// Whether an open beam may still be better than the worst that has ended.
    fn can_improve(&self) -> bool {
        let worst = self.ended.last().filter(|_| self.ended.len() >= self.size);
        match (self.live.first(), worst) {
            (Some(best), Some(worst)) => self.over_length(best.sum) > worst.score,
            (best, _) => best.is_some(),
        }
    }
}

impl Search for TransformersBeam {
    fn advance(&mut self, found: &mut Found<'_>) -> Vec<Continuation> {
        let eot = self.rules.eot;
        let candidates = self.candidates(found);
        self.steps += 1;
        let full = self.steps >= self.max_tokens;
        let rows = std::mem::take(&mut self.live);
        let mut going_on = Vec::new();
        for (place, (parent, token, log_probability, _)) in candidates.into_iter().enumerate() {
            let Some(row) = rows.get(parent) else {
                continue;
            };
            let longer = row.with(token, log_probability, eot);
            if token == eot || full {
                if place < self.size {
                    self.end(longer, token == eot);
                }
            } else if self.live.len() < self.size {
                self.live.push(longer);
                going_on.push(Continuation { parent, token });
            }
        }
        if !self.can_improve() {
            going_on.clear();
        }
        going_on
    }

    fn finish(&mut self) -> Option<Decoded> {
        let best = self.ended.first()?;
        let hypothesis = best.hypothesis.clone();
        Some(hypothesis.into_decoded(best.by_model))
    }
}
