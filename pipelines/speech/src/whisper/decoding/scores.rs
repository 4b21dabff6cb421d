//! One row of logits under the rules: what is forbidden is taken out, times win where together they are likelier than any word,
//! and what is left is a distribution. Apart from the searches, which only choose.

use chandler_core::random::Stream;
use chandler_nn::reduce::{argmax, largest_of, log_sum_exp};

use crate::whisper::rules::{Allowed, Rules};

/// A row of logits in which what is forbidden is negative infinity.
pub(super) struct Scores<'a> {
    row: &'a [f32],
    /// ln Σ e^logit over what is left: a logit less this is the logarithm of its probability.
    normaliser: f32,
    best: Option<(u32, f32)>,
    /// The same over all logits, before anything was forbidden.
    whole: f32,
}

impl<'a> Scores<'a> {
    /// Applies the rules to a row. `whole` is asked for by those who measure probabilities without the rules.
    pub(super) fn new(row: &'a mut [f32], rules: &Rules, allowed: &Allowed, whole: bool) -> Self {
        let whole = match whole {
            true => log_probability_base(row),
            false => 0.0,
        };
        for id in rules.forbidden(allowed.first) {
            if let Some(logit) = row.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let split = (allowed.split as usize).min(row.len());
        let (text, times) = row.split_at_mut(split);
        forbid(text, 0..allowed.text_from as usize);
        let within = |id: u32| (id.saturating_sub(allowed.split)) as usize;
        forbid(times, 0..within(allowed.times.start));
        forbid(times, within(allowed.times.end)..times.len());
        let (best_text, best_time) = (argmax(text), argmax(times));
        let sum_of = |part: &[f32], best: Option<(usize, f32)>| match best {
            Some((_, most)) => log_sum_exp(part, most),
            None => f32::NEG_INFINITY,
        };
        let of_times = sum_of(times, best_time);
        let times_win = best_time.is_some() && best_text.is_none_or(|(_, most)| of_times > most);
        let of_text = match times_win {
            true => {
                text.fill(f32::NEG_INFINITY);
                f32::NEG_INFINITY
            }
            false => sum_of(text, best_text),
        };
        let best_text = best_text.filter(|_| !times_win);
        let best = match (best_text, best_time) {
            (Some((at, a)), Some((_, b))) if a >= b => Some((at, a)),
            (_, Some((at, b))) => Some((split + at, b)),
            (text, None) => text,
        };
        Self {
            row,
            normaliser: log_of_sum(of_text, of_times),
            best: best.map(|(at, logit)| (at as u32, logit)),
            whole,
        }
    }

    /// The likeliest token and its log probability; nothing when no token may come, or the model gave no numbers.
    pub(super) fn likeliest(&self) -> Option<(u32, f32)> {
        self.best.map(|(id, logit)| (id, logit - self.normaliser))
    }

    /// A token drawn at a temperature, by the number that `stream` has at `position`; its log probability is that at temperature 1,
    /// as openai-whisper's GreedyDecoder counts it.
    pub(super) fn draw(
        &self,
        temperature: f32,
        stream: Stream,
        position: u64,
    ) -> Option<(u32, f32)> {
        let (likeliest, most) = self.best?;
        let weight = |logit: &f32| match *logit {
            f32::NEG_INFINITY => 0.0,
            logit => f64::from((logit - most) / temperature).exp(),
        };
        let total: f64 = self.row.iter().map(weight).sum();
        let mut left = stream.uniform(position) * total;
        let mut drawn = likeliest;
        for (id, logit) in (0u32..).zip(self.row) {
            let weight = weight(logit);
            if weight > 0.0 {
                // Rounding may leave a hair over; the last token that can be drawn takes it.
                drawn = id;
                left -= weight;
                if left < 0.0 {
                    break;
                }
            }
        }
        Some((drawn, self.log_probability(drawn)))
    }

    /// The `count` likeliest tokens with log probabilities, likeliest first.
    pub(super) fn top(&self, count: usize) -> Vec<(u32, f32)> {
        self.largest(count, self.normaliser)
    }

    /// The same with probabilities as they are without the rules.
    pub(super) fn top_of_whole(&self, count: usize) -> Vec<(u32, f32)> {
        self.largest(count, self.whole)
    }

    /// The log probability of a token.
    pub(super) fn log_probability(&self, id: u32) -> f32 {
        let logit = self.row.get(id as usize).copied();
        logit.unwrap_or(f32::NEG_INFINITY) - self.normaliser
    }

    fn largest(&self, count: usize, normaliser: f32) -> Vec<(u32, f32)> {
        largest_of(self.row, count)
            .into_iter()
            .map(|(at, logit)| (at as u32, logit - normaliser))
            .collect()
    }
}

/// ln Σ e^logit of a row as it is.
pub(super) fn log_probability_base(row: &[f32]) -> f32 {
    argmax(row).map_or(f32::NEG_INFINITY, |(_, most)| log_sum_exp(row, most))
}

fn forbid(part: &mut [f32], range: std::ops::Range<usize>) {
    let range = range.start.min(part.len())..range.end.min(part.len());
    if let Some(part) = part.get_mut(range) {
        part.fill(f32::NEG_INFINITY);
    }
}

/// ln(e^a + e^b)
fn log_of_sum(a: f32, b: f32) -> f32 {
    let (more, less) = (a.max(b), a.min(b));
    match less {
        f32::NEG_INFINITY => more,
        less => more + (less - more).exp().ln_1p(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whisper::rules::TimestampRules;

    fn rules() -> Rules {
        Rules {
            suppress: vec![1],
            begin_suppress: vec![],
            timestamps: Some(TimestampRules {
                no_timestamps: 4,
                begin: 5,
                max_initial: None,
            }),
            eot: 3,
        }
    }

    #[test]
    fn times_win_where_together_they_are_likelier_than_any_word() {
        let logits = [0.0, 9.0, 2.0, 1.0, 9.0, 1.2, 1.1, 1.0];
        let allowed = rules().allowed(&[5, 2]);
        let mut row = logits;
        let scores = Scores::new(&mut row, &rules(), &allowed, false);
        // ln(e^1.1 + e^1.0) = 1.74 is less than 2.
        assert_eq!(scores.likeliest().unwrap().0, 2);
        let mut row = logits;
        row[7] = 1.8;
        let scores = Scores::new(&mut row, &rules(), &allowed, false);
        let (id, log_probability) = scores.likeliest().unwrap();
        assert_eq!(id, 7);
        let expected = 1.8 - (1.1f32.exp() + 1.8f32.exp()).ln();
        assert!((log_probability - expected).abs() < 1e-6);
        assert_eq!(
            scores.top(9).iter().map(|t| t.0).collect::<Vec<_>>(),
            [7, 6]
        );
    }

    #[test]
    fn draws_follow_the_distribution_and_never_what_is_forbidden() {
        let allowed = rules().allowed(&[5]);
        let mut counts = [0u32; 8];
        for position in 0..20_000 {
            let mut row = [0.0, 9.0, 2.0, 1.0, 9.0, 1.2, 1.1, 1.0];
            let scores = Scores::new(&mut row, &rules(), &allowed, false);
            let (id, _) = scores.draw(2.0, Stream::new(3, 0), position).unwrap();
            counts[id as usize] += 1;
        }
        let total: f64 = [0.0f64, 1.0, 0.5].iter().map(|x| x.exp()).sum();
        for (id, logit) in [(0, 0.0f64), (2, 1.0), (3, 0.5)] {
            let expected = logit.exp() / total;
            assert!(
                (f64::from(counts[id]) / 20_000.0 - expected).abs() < 0.015,
                "{counts:?}"
            );
        }
        assert_eq!(counts[1] + counts[4] + counts[5] + counts[6] + counts[7], 0);
    }

    #[test]
    fn a_row_without_numbers_has_no_likeliest_token() {
        let allowed = rules().allowed(&[5, 2]);
        let mut row = [f32::NAN; 8];
        let scores = Scores::new(&mut row, &rules(), &allowed, true);
        assert!(scores.likeliest().is_none() && scores.top(3).is_empty());
        assert!(scores.draw(1.0, Stream::new(1, 0), 0).is_none());
    }
}
