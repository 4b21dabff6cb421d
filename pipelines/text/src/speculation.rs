//! Guessing ahead by looking back (prompt lookup, Saxena 2023; `PromptLookupCandidateGenerator` in transformers, n-gram
//! speculation in vLLM): what followed the last few tokens where they stood before is proposed as what follows now. One
//! pass over all guesses tells which of them the sampler would have chosen, so that no answer depends on any of this.

/// The longest run of tokens that is looked for, and the shortest: a single token says too little of what follows it.
const LONGEST: usize = 4;
const SHORTEST: usize = 2;

/// At most `most` tokens that may follow `prompt` and `answer`; none where their end has not occurred before.
///
/// Of several places with the longest run the latest counts. A run that reaches into its own continuation is continued
/// with itself, as in LZ77, so that a loop is guessed as far as is wanted.
pub(crate) fn propose(prompt: &[u32], answer: &[u32], most: usize) -> Vec<u32> {
    let len = prompt.len() + answer.len();
    let at = |position: usize| match position.checked_sub(prompt.len()) {
        None => prompt.get(position),
        Some(position) => answer.get(position),
    };
    if most == 0 || len <= SHORTEST {
        return Vec::new();
    }
    let mut best = (0, 0);
    for end in (SHORTEST..len).rev() {
        let longest = LONGEST.min(end);
        let run = (1..=longest).take_while(|back| at(end - back) == at(len - back));
        let run = run.count();
        if run > best.0 {
            best = (run, end);
        }
        if run == LONGEST {
            break;
        }
    }
    let (run, end) = best;
    if run < SHORTEST {
        return Vec::new();
    }
    let period = len - end;
    (0..most)
        .filter_map(|ahead| at(end + ahead % period).copied())
        .collect()
}

/// How many tokens a row is guessed ahead: half as many after a guess that was wrong from its first token, up again
/// with guesses that hold. Guesses that fail cost as much as tokens of a prompt, and text that repeats once may never
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reach {
    /// How often the usual number is halved.
    halvings: u32,
}

impl Reach {
    /// Tokens to guess when `most` is the usual number; at least one.
    pub(crate) fn of(self, most: usize) -> usize {
        match most {
            0 => 0,
            _ => (most >> self.halvings.min(usize::BITS - 1)).max(1),
        }
    }

    /// Learns from a pass in which `accepted` of `proposed` tokens stood.
    pub(crate) fn learn(&mut self, proposed: usize, accepted: usize) {
        if accepted == 0 {
            self.halvings = (self.halvings + 1).min(6);
        } else if accepted == proposed {
            self.halvings = self.halvings.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_same_tokens_before_is_proposed() {
        assert_eq!(propose(&[9, 1, 2, 3, 4, 5, 6], &[8, 1, 2], 3), [3, 4, 5]);
        assert_eq!(
            propose(&[9, 1, 2, 3], &[8, 1, 2], 8),
            [3, 8, 1, 2, 3, 8, 1, 2]
        );
        assert_eq!(propose(&[1, 2, 3], &[4, 5], 8), [0u32; 0]);
        assert_eq!(
            propose(&[1, 2, 3, 1], &[], 8),
            [0u32; 0],
            "one token is too few"
        );
        assert_eq!(propose(&[1, 2, 3, 1], &[2], 0), [0u32; 0]);
        for short in [vec![], vec![1], vec![1, 1]] {
            assert_eq!(propose(&short, &[], 4), [0u32; 0]);
        }
        assert_eq!(propose(&[1, 1, 1], &[], 4), [1, 1, 1, 1]);
    }

    #[test]
    fn the_longest_run_wins_and_then_the_latest() {
        assert_eq!(propose(&[7, 1, 2, 5, 5, 1, 2, 6], &[7, 1, 2], 1), [5]);
        assert_eq!(propose(&[7, 1, 2, 5, 7, 1, 2, 6], &[7, 1, 2], 1), [6]);
    }

    #[test]
    fn a_loop_is_guessed_as_far_as_is_wanted() {
        assert_eq!(propose(&[5], &[1, 2, 1, 2, 1, 2], 5), [1, 2, 1, 2, 1]);
    }

    #[test]
    fn guesses_that_fail_grow_shorter_and_never_stop() {
        let mut reach = Reach::default();
        assert_eq!((reach.of(8), reach.of(0)), (8, 0));
        for _ in 0..10 {
            reach.learn(4, 0);
        }
        assert_eq!(reach.of(8), 1);
        reach.learn(4, 2);
        assert_eq!(reach.of(8), 1);
        for _ in 0..10 {
            reach.learn(1, 1);
        }
        assert_eq!(reach.of(8), 8);
    }
}
