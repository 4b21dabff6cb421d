//! A window's rows in the batch: a prompt that is being read, or a search whose rows each have a token to go through the decoder.
//! Apart from the batch, which knows windows and passes and not what is done with logits.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use chandler_nn::kv_cache::BlockTable;
use chandler_nn::reduce::{argmax, log_sum_exp};

use super::device_scores;
use super::job::{Alignment, AlignmentJob, DecodeJob, Job, Outcome};
use super::scores::log_probability_base;
use super::search::{self, Continuation, Found, Logits, Search};
use crate::error::Result;
use crate::whisper::caches::Caches;
use crate::whisper::rules::{Allowed, Rules};
use crate::whisper::tokens::SpecialTokens;

/// What a window's rows are at.
pub(super) enum Rows {
    /// Reading tokens, all of one row.
    Reading(Reading),
    /// Choosing tokens.
    Searching(Searching),
}

/// Tokens on their way through the decoder.
pub(super) struct Reading {
    tokens: Vec<u32>,
    /// How many have gone through.
    done: usize,
    table: BlockTable,
    purpose: Purpose,
}

enum Purpose {
    Detect,
    Decode {
        job: DecodeJob,
        no_speech: Option<f32>,
    },
    Align {
        job: AlignmentJob,
        found: Alignment,
    },
}

/// Rows that a search is at work on.
pub(super) struct Searching {
    search: Box<dyn Search>,
    no_speech: Option<f32>,
    rules: Arc<Rules>,
    /// What is forbidden in every row, on the device, once it has been asked for.
    forbidden: Option<Tensor>,
    /// Each row's next token, and its blocks.
    tokens: Vec<u32>,
    tables: Vec<BlockTable>,
}

/// Rows whose likeliest tokens are all that is wanted.
pub(super) struct OnlyLikeliest {
    /// What may come in each.
    pub(super) allowed: Vec<Allowed>,
    /// What is forbidden in each.
    pub(super) forbidden: Tensor,
}

/// What a pass has made of a window's rows.
pub(super) struct Made<'a> {
    /// What was found for the wanted rows.
    pub(super) found: Found<'a>,
    /// Attention scores of the alignment heads, where they were asked for: for each head the rows' scores, one after the other.
    pub(super) scores: Vec<Vec<f32>>,
    /// The special tokens.
    pub(super) tokens: &'a SpecialTokens,
    /// Where the rows' blocks are from.
    pub(super) caches: &'a mut Caches,
}

impl Rows {
    /// The rows of a job, of which nothing has gone through yet.
    pub(super) fn of(job: Job, sot: u32) -> Self {
        let (tokens, purpose) = match job {
            Job::Detect => (vec![sot], Purpose::Detect),
            Job::Decode(job) => (
                job.prompt.clone(),
                Purpose::Decode {
                    job,
                    no_speech: None,
                },
            ),
            Job::Align(job) => {
                let mut tokens = job.prompt.clone();
                tokens.extend(&job.text);
                tokens.push(job.eot);
                let found = Alignment {
                    positions: job.positions,
                    ..Alignment::default()
                };
                (tokens, Purpose::Align { job, found })
            }
        };
        Self::Reading(Reading {
            tokens,
            done: 0,
            table: BlockTable::new(),
            purpose,
        })
    }

    /// Rows that it takes in the next pass, which has room for `budget` of a prompt's.
    pub(super) fn next(&self, budget: usize) -> usize {
        match self {
            Self::Reading(reading) => budget.min(reading.tokens.len() - reading.done),
            Self::Searching(searching) => searching.tokens.len(),
        }
    }

    /// Whether a search is at work: its rows are never left out of a pass.
    pub(super) fn is_searching(&self) -> bool {
        matches!(self, Self::Searching(_))
    }

    /// The tokens of its next rows, and their tables: a table's tokens follow each other.
    pub(super) fn tokens_and_tables(&mut self, rows: usize) -> Vec<(Vec<u32>, &mut BlockTable)> {
        match self {
            Self::Reading(reading) => {
                let tokens = reading.tokens.iter().skip(reading.done).take(rows);
                vec![(tokens.copied().collect(), &mut reading.table)]
            }
            Self::Searching(searching) => {
                let tokens = searching.tokens.iter().map(|token| vec![*token]);
                tokens.zip(&mut searching.tables).collect()
            }
        }
    }

    /// Its tables, in the order of its rows.
    pub(super) fn tables(&self) -> &[BlockTable] {
        match self {
            Self::Reading(reading) => std::slice::from_ref(&reading.table),
            Self::Searching(searching) => &searching.tables,
        }
    }

    /// Which of its next `rows` rows it wants the logits of, counted from its first.
    pub(super) fn wanted(&self, rows: usize) -> Vec<usize> {
        match self {
            Self::Searching(_) => (0..rows).collect(),
            Self::Reading(reading) => {
                let chunk = reading.done..reading.done + rows;
                let wanted = |at: &usize| chunk.contains(at);
                let all = reading.wanted();
                all.into_iter()
                    .filter(wanted)
                    .map(|at| at - chunk.start)
                    .collect()
            }
        }
    }

    /// What is to be found on the device, when that is all that its rows want.
    pub(super) fn only_likeliest(
        &mut self,
        vocab: usize,
        device: &Device,
    ) -> Result<Option<OnlyLikeliest>> {
        let Self::Searching(searching) = self else {
            return Ok(None);
        };
        let Some(allowed) = searching.search.only_likeliest() else {
            return Ok(None);
        };
        let forbidden = match searching.forbidden.take() {
            Some(forbidden) => forbidden,
            None => device_scores::forbidden(&searching.rules, vocab, device)?,
        };
        searching.forbidden = Some(forbidden.clone());
        Ok(Some(OnlyLikeliest { allowed, forbidden }))
    }

    /// The positions over which attention is to be taken down.
    pub(super) fn probed(&self) -> Option<usize> {
        match self {
            Self::Reading(Reading {
                purpose: Purpose::Align { job, .. },
                ..
            }) => Some(job.positions),
            _ => None,
        }
    }

    /// Takes what a pass has made of its `rows` rows; an outcome when it is done, and its blocks are given back then.
    pub(super) fn take(&mut self, rows: usize, made: Made<'_>) -> Option<Outcome> {
        match self {
            Self::Reading(reading) => {
                let end = reading.done + rows;
                let chunk = std::mem::replace(&mut reading.done, end)..end;
                match reading.take(chunk, made)? {
                    Next::Done(outcome) => Some(outcome),
                    Next::Search(searching, outcome) => {
                        *self = Self::Searching(searching);
                        outcome
                    }
                }
            }
            Self::Searching(searching) => searching.take(made.found, made.caches),
        }
    }

    /// Gives all blocks back.
    pub(super) fn free(self, caches: &mut Caches) {
        match self {
            Self::Reading(reading) => caches.free(reading.table),
            Self::Searching(searching) => {
                searching
                    .tables
                    .into_iter()
                    .for_each(|table| caches.free(table));
            }
        }
    }
}

/// What follows reading.
enum Next {
    Done(Outcome),
    Search(Searching, Option<Outcome>),
}

impl Reading {
    /// All rows whose logits are wanted, ascending.
    fn wanted(&self) -> Vec<usize> {
        let last = self.tokens.len().saturating_sub(1);
        match &self.purpose {
            Purpose::Detect => vec![last],
            Purpose::Decode { job, .. } if job.sot < last => vec![job.sot, last],
            Purpose::Decode { .. } => vec![last],
            Purpose::Align { job, .. } => {
                let first = job.prompt.len().saturating_sub(1);
                (first..first + job.text.len()).collect()
            }
        }
    }

    fn take(&mut self, chunk: Range<usize>, made: Made<'_>) -> Option<Next> {
        let ends = chunk.contains(&self.tokens.len().saturating_sub(1));
        let mut wanted = self.wanted();
        wanted.retain(|at| chunk.contains(at));
        let Made { caches, .. } = made;
        let Found::Logits(Logits { numbers, vocab }) = made.found else {
            return None;
        };
        match &mut self.purpose {
            Purpose::Detect => {
                let row = numbers.chunks_exact(vocab).next()?;
                caches.free(std::mem::take(&mut self.table));
                Some(Next::Done(Outcome::Languages(languages(row, made.tokens))))
            }
            Purpose::Decode { job, no_speech } => {
                let of_sot = wanted.iter().position(|at| *at == job.sot);
                let row = of_sot.and_then(|place| numbers.chunks_exact(vocab).nth(place));
                if let (Some(row), Some(id)) = (row, made.tokens.no_speech) {
                    *no_speech = Some(probability(row, id));
                }
                if !ends {
                    return None;
                }
                let mut searching = Searching {
                    search: search::of(job),
                    no_speech: *no_speech,
                    rules: Arc::clone(&job.rules),
                    forbidden: None,
                    tokens: vec![],
                    tables: vec![std::mem::take(&mut self.table)],
                };
                // The last row's logits are what the first token is chosen from.
                let last = wanted.len().saturating_sub(1) * vocab;
                let numbers = numbers.get_mut(last..).unwrap_or_default();
                let logits = Found::Logits(Logits { numbers, vocab });
                let outcome = searching.take(logits, caches);
                Some(Next::Search(searching, outcome))
            }
            Purpose::Align { job, found } => {
                found.take(job, &wanted, (numbers, vocab), made.scores);
                found.rows += chunk.len();
                if !ends {
                    return None;
                }
                caches.free(std::mem::take(&mut self.table));
                Some(Next::Done(Outcome::Aligned(std::mem::take(found))))
            }
        }
    }
}

impl Alignment {
    /// Adds what another piece of the tokens gave.
    fn take(
        &mut self,
        job: &AlignmentJob,
        wanted: &[usize],
        (logits, vocab): (&[f32], usize),
        scores: Vec<Vec<f32>>,
    ) {
        self.scores.resize(scores.len(), Vec::new());
        for (all, more) in self.scores.iter_mut().zip(scores) {
            all.extend(more);
        }
        let first = job.prompt.len().saturating_sub(1);
        let rows = logits.chunks_exact(vocab);
        for (at, row) in wanted.iter().zip(rows) {
            // Among text tokens alone, as openai-whisper's timing.py takes it.
            let text = row.get(..job.eot as usize).unwrap_or(row);
            let id = at.checked_sub(first).and_then(|at| job.text.get(at));
            if let Some(id) = id {
                self.probabilities.push(probability(text, *id));
            }
        }
    }
}

impl Searching {
    fn take(&mut self, mut found: Found<'_>, caches: &mut Caches) -> Option<Outcome> {
        let going_on = self.search.advance(&mut found);
        self.regroup(&going_on, caches);
        if !going_on.is_empty() {
            return None;
        }
        Some(match self.search.finish() {
            Some(decoded) => Outcome::Decoded(super::Decoded {
                no_speech: self.no_speech,
                ..decoded
            }),
            None => {
                Outcome::Failed("the rules leave the model no token, or it gave no numbers".into())
            }
        })
    }

    /// Makes rows of those that go on: a table goes with its last continuation, and is forked for the others.
    fn regroup(&mut self, going_on: &[Continuation], caches: &mut Caches) {
        let mut uses = vec![0usize; self.tables.len()];
        for continuation in going_on {
            if let Some(uses) = uses.get_mut(continuation.parent) {
                *uses += 1;
            }
        }
        let mut old: Vec<Option<BlockTable>> = std::mem::take(&mut self.tables)
            .into_iter()
            .map(Some)
            .collect();
        self.tokens.clear();
        for Continuation { parent, token } in going_on {
            let (Some(slot), Some(uses)) = (old.get_mut(*parent), uses.get_mut(*parent)) else {
                continue;
            };
            *uses -= 1;
            let table = match (*uses, slot.as_ref()) {
                (0, _) => slot.take(),
                (_, Some(table)) => Some(caches.fork(table)),
                (_, None) => None,
            };
            if let Some(table) = table {
                self.tokens.push(*token);
                self.tables.push(table);
            }
        }
        old.into_iter()
            .flatten()
            .for_each(|table| caches.free(table));
    }
}

/// The probability of one token, among all of a row.
fn probability(row: &[f32], id: u32) -> f32 {
    let logit = row.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
    (logit - log_probability_base(row)).exp()
}

/// The probabilities of the model's languages, among themselves.
fn languages(row: &[f32], tokens: &SpecialTokens) -> Vec<f32> {
    let logit = |id: u32| row.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
    let logits: Vec<f32> = tokens
        .languages
        .iter()
        .map(|language| logit(language.id))
        .collect();
    let base = argmax(&logits).map_or(0.0, |(_, most)| log_sum_exp(&logits, most));
    logits
        .into_iter()
        .map(|logit| (logit - base).exp())
        .collect()
}
