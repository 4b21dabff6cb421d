//! What every way of choosing tokens is to the batch: it is given a row of logits for each of its rows, and says which rows go on
//! with which token. Its rows share and fork their keys and values by this alone.

use super::beam::Beam;
use super::job::{DecodeJob, Decoded, Strategy};
use super::samples::Samples;
use super::scores::Scores;
use super::transformers_beam::TransformersBeam;
use crate::whisper::rules::{Allowed, Rules};

/// A row that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Continuation {
    /// The row that it comes from.
    pub(super) parent: usize,
    /// The token that it goes on with.
    pub(super) token: u32,
}

/// A row's tokens so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Hypothesis {
    pub(super) tokens: Vec<u32>,
    pub(super) log_probabilities: Vec<f32>,
    /// Added up in f32, token by token, as the references do.
    pub(super) sum: f32,
}

impl Hypothesis {
    /// The same with one more token; the one that ends it counts, and is not kept.
    pub(super) fn with(&self, token: u32, log_probability: f32, eot: u32) -> Self {
        let mut longer = self.clone();
        longer.push(token, log_probability, eot);
        longer
    }

    pub(super) fn push(&mut self, token: u32, log_probability: f32, eot: u32) {
        if token != eot {
            self.tokens.push(token);
        }
        self.log_probabilities.push(log_probability);
        self.sum += log_probability;
    }

    pub(super) fn into_decoded(self, ended: bool) -> Decoded {
        Decoded {
            tokens: self.tokens,
            log_probabilities: self.log_probabilities,
            sum_log_probability: self.sum,
            ended,
            no_speech: None,
        }
    }
}

/// The logits of a search's rows, one after the other.
pub(super) struct Logits<'a> {
    pub(super) numbers: &'a mut [f32],
    pub(super) vocab: usize,
}

impl Found<'_> {
    /// The scores of a row whose tokens so far are `sampled`; nothing where there are no logits.
    pub(super) fn scores(
        &mut self,
        row: usize,
        sampled: &[u32],
        rules: &Rules,
        whole: bool,
    ) -> Option<Scores<'_>> {
        match self {
            Self::Logits(logits) => logits.scores(row, sampled, rules, whole),
            Self::Likeliest(_) => None,
        }
    }
}

impl Logits<'_> {
    /// The scores of a row whose tokens so far are `sampled`.
    pub(super) fn scores(
        &mut self,
        row: usize,
        sampled: &[u32],
        rules: &Rules,
        whole: bool,
    ) -> Option<Scores<'_>> {
        let row = self.numbers.chunks_exact_mut(self.vocab).nth(row)?;
        Some(Scores::new(row, rules, &rules.allowed(sampled), whole))
    }
}

/// A row's likeliest token and its log probability; nothing where no token may come.
pub(super) type Likeliest = Option<(u32, f32)>;

/// What a pass found for a search's rows.
pub(super) enum Found<'a> {
    /// Their logits.
    Logits(Logits<'a>),
    /// Their likeliest tokens with log probabilities, where no other may be chosen.
    Likeliest(&'a [Likeliest]),
}

/// A way of choosing tokens.
pub(super) trait Search {
    /// Chooses, from what was found for each row that went on last time; one row at the beginning. None go on when it is over.
    fn advance(&mut self, found: &mut Found<'_>) -> Vec<Continuation>;

    /// What may come next in each row, when the likeliest of it is all that is asked for.
    fn only_likeliest(&self) -> Option<Vec<Allowed>> {
        None
    }

    /// The transcript that it has chosen; nothing when it was left no token.
    fn finish(&mut self) -> Option<Decoded>;
}

/// The search of a job.
pub(super) fn of(job: &DecodeJob) -> Box<dyn Search> {
    match &job.strategy {
        Strategy::Greedy | Strategy::Sample { .. } | Strategy::Replay(_) => {
            Box::new(Samples::new(job))
        }
        Strategy::Beam {
            size,
            patience,
            length_penalty,
        } => Box::new(Beam::new(job, *size, *patience, *length_penalty)),
        Strategy::TransformersBeam {
            size,
            length_penalty,
        } => Box::new(TransformersBeam::new(job, *size, *length_penalty)),
    }
}

/// Which of some transcripts is the best: openai-whisper's MaximumLikelihoodRanker. Of equals the first.
pub(super) fn likeliest(candidates: &[&Hypothesis], length_penalty: Option<f32>) -> Option<usize> {
    let score = |candidate: &Hypothesis| {
        let length = candidate.tokens.len() as f64;
        f64::from(candidate.sum)
            / match length_penalty {
                Some(penalty) => ((5.0 + length) / 6.0).powf(f64::from(penalty)),
                // A transcript of no tokens: openai-whisper divides by zero there.
                None => length.max(1.0),
            }
    };
    let mut best: Option<(usize, f64)> = None;
    for (index, candidate) in candidates.iter().enumerate() {
        let score = score(candidate);
        if best.is_none_or(|(_, so_far)| score > so_far) {
            best = Some((index, score));
        }
    }
    best.map(|(index, _)| index)
}
