//! Rows that each go their own way: the likeliest token, a drawn one, or one that is given. Mirrors openai-whisper decoding.py
//! (GreedyDecoder) with its ranking of several samples.

use std::sync::Arc;

use chandler_core::random::Stream;

use super::job::{DecodeJob, Decoded, Strategy};
use super::scores::Scores;
use super::search::{Continuation, Found, Hypothesis, Search, likeliest};
use crate::whisper::rules::{Allowed, Rules};

/// Rows of their own.
pub(super) struct Samples {
    rules: Arc<Rules>,
    draw: Draw,
    length_penalty: Option<f32>,
    max_tokens: usize,
    rows: Vec<Row>,
    /// Which of the rows the next logits are of; none before the first.
    live: Option<Vec<usize>>,
}

struct Row {
    hypothesis: Hypothesis,
    ended: bool,
}

/// How a row's token is chosen.
enum Draw {
    Likeliest,
    Random {
        temperature: f32,
        seed: u64,
        first: u64,
    },
    Given(Arc<[u32]>),
}

impl Draw {
    fn choose(&self, scores: &Scores<'_>, row: usize, step: usize) -> Option<(u32, f32)> {
        match self {
            Self::Likeliest => scores.likeliest(),
            Self::Random {
                temperature,
                seed,
                first,
            } => {
                let stream = Stream::new(*seed, row as u32);
                scores.draw(*temperature, stream, first + step as u64)
            }
            Self::Given(tokens) => {
                let token = *tokens.get(step)?;
                Some((token, scores.log_probability(token)))
            }
        }
    }
}

impl Samples {
    pub(super) fn new(job: &DecodeJob) -> Self {
        let (draw, length_penalty, max_tokens) = match &job.strategy {
            Strategy::Sample {
                temperature,
                length_penalty,
                seed,
                first_draw,
                ..
            } if *temperature > 0.0 => {
                let draw = Draw::Random {
                    temperature: *temperature,
                    seed: *seed,
                    first: *first_draw,
                };
                (draw, *length_penalty, job.max_tokens)
            }
            Strategy::Replay(tokens) => {
                let most = job.max_tokens.min(tokens.len());
                (Draw::Given(Arc::clone(tokens)), None, most)
            }
            _ => (Draw::Likeliest, None, job.max_tokens),
        };
        let row = |_| Row {
            hypothesis: Hypothesis::default(),
            ended: false,
        };
        Self {
            rules: Arc::clone(&job.rules),
            draw,
            length_penalty,
            max_tokens,
            rows: (0..job.strategy.rows()).map(row).collect(),
            live: None,
        }
    }
}

impl Search for Samples {
    fn advance(&mut self, found: &mut Found<'_>) -> Vec<Continuation> {
        let first = self.live.is_none();
        let live = self
            .live
            .take()
            .unwrap_or_else(|| (0..self.rows.len()).collect());
        let mut going_on = Vec::new();
        let mut still_live = Vec::new();
        for (place, index) in live.into_iter().enumerate() {
            let parent = if first { 0 } else { place };
            let Some(row) = self.rows.get_mut(index) else {
                continue;
            };
            let sampled = &row.hypothesis.tokens;
            let step = sampled.len();
            let chosen = match found {
                Found::Likeliest(all) => all.get(parent).copied().flatten(),
                Found::Logits(logits) => logits
                    .scores(parent, sampled, &self.rules, false)
                    .and_then(|scores| self.draw.choose(&scores, index, step)),
            };
            let Some((token, log_probability)) = chosen else {
                continue;
            };
            let eot = self.rules.eot;
            row.hypothesis.push(token, log_probability, eot);
            row.ended = token == eot;
            if !row.ended && row.hypothesis.tokens.len() < self.max_tokens {
                going_on.push(Continuation { parent, token });
                still_live.push(index);
            }
        }
        self.live = Some(still_live);
        going_on
    }

    fn only_likeliest(&self) -> Option<Vec<Allowed>> {
        let live = self
            .live
            .as_ref()
            .filter(|_| matches!(self.draw, Draw::Likeliest))?;
        let rows = live.iter().filter_map(|index| self.rows.get(*index));
        Some(
            rows.map(|row| self.rules.allowed(&row.hypothesis.tokens))
                .collect(),
        )
    }

    fn finish(&mut self) -> Option<Decoded> {
        let chose = |row: &&Row| !row.hypothesis.log_probabilities.is_empty();
        let rows: Vec<&Row> = self.rows.iter().filter(chose).collect();
        let candidates: Vec<&Hypothesis> = rows.iter().map(|row| &row.hypothesis).collect();
        let best = rows.get(likeliest(&candidates, self.length_penalty)?)?;
        Some(best.hypothesis.clone().into_decoded(best.ended))
    }
}
