//! `best_of`: more rows are run than are given, and the likeliest are kept. Apart from the rows, which know nothing of
//! each other: nothing of such a request is said before all have ended, since nothing that was said may be taken back.

use chandler_core::TextDelta;

/// What a row has said so far, unheard, and how likely that was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Candidate {
    pub(crate) said: TextDelta,
    /// Sum of its tokens' log-probabilities by the model's raw logits, before temperature, filters and penalties.
    log_probability: f64,
    tokens: usize,
}

impl Candidate {
    /// A token was chosen that had this log-probability.
    pub(crate) fn scored(&mut self, log_probability: f32) {
        self.log_probability += f64::from(log_probability);
        self.tokens += 1;
    }

    /// The mean log-probability of its tokens, as OpenAI's `best_of` is documented ("highest log probability per
    /// token").
    fn score(&self) -> f64 {
        self.log_probability / self.tokens.max(1) as f64
    }
}

/// The `n` best, best first and numbered from 0; of equals the one that was started first.
pub(crate) fn best(mut candidates: Vec<Candidate>, n: usize) -> Vec<TextDelta> {
    candidates.sort_by(|a, b| b.score().total_cmp(&a.score()));
    candidates.truncate(n);
    (0..)
        .zip(candidates)
        .map(|(row, candidate)| TextDelta {
            row,
            ..candidate.said
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(row: u32, log_probabilities: &[f32]) -> Candidate {
        let mut candidate = Candidate::default();
        candidate.said.text = row.to_string();
        log_probabilities.iter().for_each(|p| candidate.scored(*p));
        candidate
    }

    #[test]
    fn the_mean_decides_and_not_the_sum() {
        let all = vec![
            candidate(0, &[-1.0]),
            candidate(1, &[-0.5, -0.5, -0.5]),
            candidate(2, &[-2.0]),
            candidate(3, &[-1.0, -1.0]),
        ];
        let kept = best(all, 3);
        let texts: Vec<_> = kept.iter().map(|d| (d.row, d.text.as_str())).collect();
        assert_eq!(texts, [(0, "1"), (1, "0"), (2, "3")]);
    }
}
