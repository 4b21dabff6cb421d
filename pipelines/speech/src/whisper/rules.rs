//! Which tokens may follow: those that are never written, and the grammar of times, which come in pairs and never go back.
//! Mirrors openai-whisper decoding.py (SuppressBlank, SuppressTokens, ApplyTimestampRules) and `transformers` logits_process.py
//! (WhisperTimeStampLogitsProcessor), which ask the same of the same numbers; they differ in where the numbers come from
//! (a model's generation_config.json there, options and constants here), and that is decided by whoever builds [`Rules`].

use std::ops::Range;

use super::generation::Generation;
use super::tokens::SpecialTokens;

/// What a window's tokens must keep to.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Never written. Sorted, each once.
    pub suppress: Vec<u32>,
    /// Not written first.
    pub begin_suppress: Vec<u32>,
    /// The grammar of times; without it any token may follow any other.
    pub timestamps: Option<TimestampRules>,
    /// The token that ends a transcript.
    pub eot: u32,
}

/// The grammar of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampRules {
    /// `<|notimestamps|>`, which is asked for before and never written.
    pub no_timestamps: u32,
    /// The token of time 0.
    pub begin: u32,
    /// The latest first time, in tokens after `begin`.
    pub max_initial: Option<u32>,
}

/// The tokens that may come next. Below `split` are words and special tokens, from it on times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// Whether this is the first token.
    pub first: bool,
    /// The first id below `split` that may come; as high as `split` when none may.
    pub text_from: u32,
    /// The times that may come.
    pub times: Range<u32>,
    /// Where times begin; past every id where there is no grammar of times.
    pub split: u32,
}

impl Rules {
    /// As transformers' `generate` takes them from a checkpoint: what it lists and nothing else.
    pub fn of_checkpoint(generation: &Generation, timestamps: bool) -> Self {
        let Generation { tokens, .. } = generation;
        let times = tokens.no_timestamps.filter(|_| timestamps);
        Self {
            suppress: sorted(generation.suppress.iter().copied()),
            begin_suppress: sorted(generation.begin_suppress.iter().copied()),
            timestamps: times.map(|no_timestamps| TimestampRules {
                no_timestamps,
                begin: no_timestamps + 1,
                max_initial: generation.max_initial_timestamp,
            }),
            eot: tokens.eot,
        }
    }

    /// The same with what openai-whisper adds to any list: tokens that steer, and silence.
    pub fn with_control_tokens(self, tokens: &SpecialTokens) -> Self {
        self.with_suppressed(tokens.control())
    }

    /// The same with these never written either.
    pub fn with_suppressed(mut self, ids: impl IntoIterator<Item = u32>) -> Self {
        self.suppress = sorted(self.suppress.iter().copied().chain(ids));
        self
    }

    /// What may follow these tokens, which were chosen since the prompt.
    pub fn allowed(&self, sampled: &[u32]) -> Allowed {
        let first = sampled.is_empty();
        let Some(rules) = self.timestamps else {
            return Allowed {
                first,
                text_from: 0,
                times: 0..0,
                split: u32::MAX,
            };
        };
        let is_time = |id: &u32| *id >= rules.begin;
        let last = sampled.last().is_some_and(is_time);
        // Python's `len(seq) < 2 or …`: the first token stands after a time.
        let before = sampled.len() < 2 || sampled.iter().rev().nth(1).is_some_and(is_time);
        let latest = sampled.iter().rev().find(|id| is_time(id)).copied();
        let earliest = match latest {
            // The end of a segment may be where the next begins; otherwise time goes on.
            Some(latest) if last && !before => latest,
            Some(latest) => latest + 1,
            None => rules.begin,
        };
        let (text_from, times) = match (last, before) {
            (true, true) => (0, rules.begin..rules.begin),
            // The end of a segment: another begins, or the transcript ends.
            (true, false) => (self.eot, earliest..u32::MAX),
            (false, _) => (0, earliest..u32::MAX),
        };
        match (first, rules.max_initial) {
            (false, _) => Allowed {
                first,
                text_from,
                times,
                split: rules.begin,
            },
            (true, most) => Allowed {
                first,
                text_from: rules.begin,
                times: rules.begin..most.map_or(u32::MAX, |most| rules.begin + most + 1),
                split: rules.begin,
            },
        }
    }

    /// Ids that are forbidden whatever came before, apart from the grammar of times.
    pub fn forbidden(&self, first: bool) -> impl Iterator<Item = u32> + '_ {
        let begin = self.begin_suppress.iter().filter(move |_| first);
        let unasked = self.timestamps.map(|rules| rules.no_timestamps);
        self.suppress.iter().chain(begin).copied().chain(unasked)
    }
}

fn sorted(ids: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut ids: Vec<u32> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: u32 = 100;

    fn rules() -> Rules {
        Rules {
            suppress: vec![3],
            begin_suppress: vec![5],
            timestamps: Some(TimestampRules {
                no_timestamps: 99,
                begin: BEGIN,
                max_initial: Some(2),
            }),
            eot: 90,
        }
    }

    fn next(sampled: &[u32]) -> (u32, Range<u32>) {
        let allowed = rules().allowed(sampled);
        (allowed.text_from, allowed.times)
    }

    #[test]
    fn times_come_in_pairs_and_never_go_back() {
        // First a time, and no late one.
        assert_eq!(next(&[]), (BEGIN, 100..103));
        // After the first time, words.
        assert_eq!(next(&[101]), (0, 100..100));
        // After words anything later than the last time.
        assert_eq!(next(&[101, 7]), (0, 102..u32::MAX));
        // After an end, a beginning at or after it, or the end of all.
        assert_eq!(next(&[101, 7, 110]), (90, 110..u32::MAX));
        // After a pair, words.
        assert_eq!(next(&[101, 7, 110, 110]), (0, 100..100));
        assert_eq!(next(&[101, 7, 110, 112, 8]), (0, 113..u32::MAX));
        let without = Rules {
            timestamps: None,
            ..rules()
        };
        assert_eq!(without.allowed(&[]).split, u32::MAX);
    }

    #[test]
    fn what_is_not_written_first_may_be_written_later() {
        let ids = |first| rules().forbidden(first).collect::<Vec<_>>();
        assert_eq!(ids(true), [3, 5, 99]);
        assert_eq!(ids(false), [3, 99]);
    }
}
