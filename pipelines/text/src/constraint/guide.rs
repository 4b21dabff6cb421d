//! One answer within its grammar: which tokens may come next, and whether it may end. Cloned with its row, so that a
//! request that was suspended goes on where it stood.

use chandler_core::RequestError;
use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

use super::FIELD;

/// Bits of a mask's word.
const WORD: usize = 32;

/// The state of one answer.
#[derive(Clone)]
pub(crate) struct Guide {
    matcher: Matcher,
}

impl std::fmt::Debug for Guide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guide").finish_non_exhaustive()
    }
}

/// What may come next.
pub(crate) struct Allowed {
    mask: SimpleVob,
    /// The answer may end here.
    pub(crate) may_end: bool,
}

impl Allowed {
    /// Forbids, in logits by token id, every token that may not come. Returns whether one is left.
    pub(crate) fn restrict(&self, logits: &mut [f32]) -> bool {
        let mut left = false;
        let words = self.mask.as_slice();
        for (index, logits) in logits.chunks_mut(WORD).enumerate() {
            let mut shut = !words.get(index).copied().unwrap_or(0);
            if shut == u32::MAX {
                logits.fill(f32::NEG_INFINITY);
                continue;
            }
            // Within a string nearly all tokens are open, so the few that are not are gone through.
            while shut != 0 {
                if let Some(logit) = logits.get_mut(shut.trailing_zeros() as usize) {
                    *logit = f32::NEG_INFINITY;
                }
                shut &= shut - 1;
            }
            left = left || logits.iter().any(|logit| *logit > f32::NEG_INFINITY);
        }
        left
    }
}

impl Guide {
    pub(super) fn new(matcher: Matcher) -> Self {
        Self { matcher }
    }

    /// The tokens that may come next. Not to be asked of a complete answer.
    pub(crate) fn allowed(&mut self) -> Result<Allowed, RequestError> {
        let mut mask = self.matcher.compute_mask().map_err(|e| refused(&e))?;
        let end = mask.len().saturating_sub(1);
        let end_bit = mask.get(end);
        // The token for the end is none of the model's, whose rows may reach up to its id and past it.
        mask.set(end, false);
        let accepting = self.matcher.is_accepting().map_err(|e| refused(&e))?;
        let may_end = accepting || (end_bit && mask.is_zero());
        Ok(Allowed { mask, may_end })
    }

    /// Takes the token that was chosen.
    ///
    /// # Errors
    /// When the grammar has no place for it, or has grown too large to follow.
    pub(crate) fn accept(&mut self, id: u32) -> Result<(), RequestError> {
        self.matcher.consume_token(id).map_err(|e| refused(&e))
    }

    /// Takes text that a token held besides what it was chosen for.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub(crate) fn accept_text(&mut self, text: &str) -> Result<(), RequestError> {
        if text.is_empty() {
            return Ok(());
        }
        let environment = self.matcher.tok_env().map_err(|e| refused(&e))?;
        let tokens = environment.tok_trie().greedy_tokenize(text.as_bytes());
        self.matcher
            .consume_tokens(&tokens)
            .map_err(|e| refused(&e))
    }

    /// Whether nothing may follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }
}

/// The words of llguidance in one line: without its state, and without the pictures of where in a text something
/// stands.
pub(super) fn in_one_line(error: &str) -> String {
    const LONGEST: usize = 600;
    let words = error.split("\n<").next().unwrap_or_default();
    let telling = |line: &&str| {
        let numbered = line.split_once(" | ").map(|(number, _)| number);
        !line.chars().all(|c| c == '^' || c.is_whitespace())
            && numbered.is_none_or(|number| number.parse::<u32>().is_err())
    };
    let lines: Vec<&str> = words.lines().map(str::trim).filter(telling).collect();
    let whole = lines.join(" ");
    let characters = whole.chars().count();
    if characters <= LONGEST {
        return whole;
    }
    // A long grammar is quoted in the middle; what is wrong with it stands at the end.
    let start: String = whole.chars().take(LONGEST / 2).collect();
    let end: String = whole.chars().skip(characters - LONGEST / 2).collect();
    format!("{start} … {end}")
}

fn refused(error: &dyn std::fmt::Display) -> RequestError {
    let error = error.to_string();
    let message = format!(
        "the answer cannot be kept to its constraint any longer: {}",
        in_one_line(&error)
    );
    RequestError::field(FIELD, message)
}
