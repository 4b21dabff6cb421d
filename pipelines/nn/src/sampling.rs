//! From logits to a token. The order is that of `transformers`' generation (logits_process.py): repetition penalty,
//! temperature, top-k, top-p, min-p; OpenAI's penalties and the bias come with the repetition penalty, on raw logits. Here is what
//! the CPU does, one row at a time; in `draw` rows of a pass are drawn where their logits are.

mod draw;

use std::collections::{BTreeMap, HashMap};

pub use draw::{Draw, Drawn, draw};

/// The settings of one request, all decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampler {
    /// 0 takes the most likely token.
    pub temperature: f32,
    /// Keep the k most likely; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set with this probability; 1 keeps all.
    pub top_p: f64,
    /// Keep what is at least this fraction as likely as the most likely; 0 keeps all.
    pub min_p: f64,
    /// 1 changes nothing.
    pub repetition_penalty: f32,
    /// 0 changes nothing.
    pub presence_penalty: f32,
    /// 0 changes nothing.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: BTreeMap<u32, f32>,
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
        }
    }
}

/// How often each token occurs in an answer, and which occur in the prompt.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Token id → (times in the answer, whether it is in the prompt).
    seen: HashMap<u32, (u32, bool)>,
}

impl History {
    /// A history that begins with a prompt.
    pub fn new(prompt: &[u32]) -> Self {
        Self {
            seen: prompt.iter().map(|id| (*id, (0, true))).collect(),
        }
    }

    /// Tokens that occur: each with how often the answer has it.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = (u32, u32)> {
        self.seen.iter().map(|(id, (count, _))| (*id, *count))
    }

    /// How often the answer has a token; none when it does not occur in the prompt either.
    pub(crate) fn times(&self, id: u32) -> Option<u32> {
        self.seen.get(&id).map(|(count, _)| *count)
    }

    /// Adds a token of the answer.
    pub fn push(&mut self, id: u32) {
        self.seen.entry(id).or_default().0 += 1;
    }
}

impl Sampler {
    /// Whether the history of tokens matters.
    pub fn needs_history(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
    }

    /// Whether [`Sampler::adjust`] does anything with no token forbidden.
    pub fn changes_logits(&self) -> bool {
        self.needs_history() || !self.logit_bias.is_empty()
    }

    /// Changes raw logits by penalties and bias; `forbidden` tokens cannot be drawn.
    pub fn adjust(&self, logits: &mut [f32], history: &History, forbidden: &[u32]) {
        if self.needs_history() {
            for (id, (count, _)) in &history.seen {
                let Some(logit) = logits.get_mut(*id as usize) else {
                    continue;
                };
                if self.repetition_penalty != 1.0 {
                    *logit = if *logit < 0.0 {
                        *logit * self.repetition_penalty
                    } else {
                        *logit / self.repetition_penalty
                    };
                }
                if *count > 0 {
                    *logit -= *count as f32 * self.frequency_penalty + self.presence_penalty;
                }
            }
        }
        for (id, bias) in &self.logit_bias {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit += bias;
            }
        }
        for id in forbidden {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// The distribution to draw from: ids, in ascending order, with probabilities that add up to 1.
    pub fn distribution(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let mut kept: Vec<(u32, f32)> = (0u32..)
            .zip(logits.iter().map(|l| l / self.temperature))
            .filter(|(_, l)| *l > f32::NEG_INFINITY)
            .collect();
        if self.top_k > 0 && self.top_k < kept.len() {
            let kth = self.top_k - 1;
            kept.select_nth_unstable_by(kth, |a, b| b.1.total_cmp(&a.1));
            // Why not a plain cut: tokens as likely as the k-th stay, as in TopKLogitsWarper.
            let threshold = kept.get(kth).map_or(f32::NEG_INFINITY, |k| k.1);
            kept.retain(|(_, l)| *l >= threshold);
        }
        let mut kept = softmax(&kept);
        if self.top_p < 1.0 {
            kept = nucleus(kept, self.top_p);
        }
        if self.min_p > 0.0 {
            let most = kept.iter().map(|k| k.1).fold(0.0, f64::max);
            kept.retain(|(_, p)| *p >= self.min_p * most);
        }
        let total: f64 = kept.iter().map(|k| k.1).sum();
        kept.iter_mut().for_each(|k| k.1 /= total);
        kept.sort_unstable_by_key(|k| k.0);
        kept
    }

    /// Chooses a token: `uniform`, a number in [0, 1), decides.
    pub fn choose(&self, logits: &[f32], uniform: f64) -> u32 {
        if self.temperature == 0.0 {
            return most_likely(logits);
        }
        let kept = self.distribution(logits);
        let mut left = uniform;
        for (id, p) in &kept {
            left -= p;
            if left < 0.0 {
                return *id;
            }
        }
        // Rounding may leave a hair over; the last token that can be drawn takes it.
        kept.last().map_or_else(|| most_likely(logits), |k| k.0)
    }
}

/// The first of the largest.
fn most_likely(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, logit) in (0u32..).zip(logits) {
        if *logit > best.1 {
            best = (id, *logit);
        }
    }
    best.0
}

fn softmax(logits: &[(u32, f32)]) -> Vec<(u32, f64)> {
    let most = logits.iter().map(|l| l.1).fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<(u32, f64)> = logits
        .iter()
        .map(|(id, l)| (*id, f64::from(l - most).exp()))
        .collect();
    let total: f64 = weights.iter().map(|w| w.1).sum();
    weights.into_iter().map(|(id, w)| (id, w / total)).collect()
}

/// Drops the least likely tokens whose probabilities together are at most 1 − p; the most likely stays.
fn nucleus(mut kept: Vec<(u32, f64)>, top_p: f64) -> Vec<(u32, f64)> {
    let mut spare = 1.0 - top_p;
    // Why: tokens under spare/n add up to at most `spare`, so all of them go; what is left to sort is short.
    let floor = spare / kept.len().max(1) as f64;
    let tail: f64 = kept.iter().filter(|k| k.1 < floor).map(|k| k.1).sum();
    spare -= tail;
    kept.retain(|k| k.1 >= floor);
    kept.sort_unstable_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
    let mut drop = 0;
    for (_, p) in kept.iter().take(kept.len().saturating_sub(1)) {
        spare -= p;
        if spare < 0.0 {
            break;
        }
        drop += 1;
    }
    kept.split_off(drop)
}

/// Natural logarithms of the probabilities that raw logits stand for: of `chosen`, and of the `top` most likely.
pub fn log_probabilities(logits: &[f32], chosen: u32, top: usize) -> (f32, Vec<(u32, f32)>) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|l| f64::from(l - most).exp()).sum();
    let normaliser = f64::from(most) + total.ln();
    let of = |logit: f32| (f64::from(logit) - normaliser) as f32;
    let chosen = logits
        .get(chosen as usize)
        .map_or(f32::NEG_INFINITY, |l| of(*l));
    if top == 0 {
        return (chosen, Vec::new());
    }
    let mut ranked: Vec<(u32, f32)> = (0u32..).zip(logits.iter().copied()).collect();
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if top < ranked.len() {
        ranked.select_nth_unstable_by(top, order);
        ranked.truncate(top);
    }
    ranked.sort_unstable_by(order);
    (
        chosen,
        ranked.into_iter().map(|(id, l)| (id, of(l))).collect(),
    )
}

#[cfg(test)]
mod tests {
    use chandler_core::random::Stream;

    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, -1.0, 3.0];

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let sampler = Sampler {
            temperature: 0.0,
            ..Sampler::default()
        };
        assert_eq!(sampler.choose(&LOGITS, 0.3), 1);
    }

    #[test]
    fn draws_follow_the_distribution() {
        let sampler = Sampler::default();
        let expected = sampler.distribution(&LOGITS);
        let mut counts = [0u32; 5];
        for position in 0..40_000 {
            counts[sampler.choose(&LOGITS, Stream::new(5, 0).uniform(position)) as usize] += 1;
        }
        for (id, p) in expected {
            let found = f64::from(counts[id as usize]) / 40_000.0;
            assert!((found - p).abs() < 0.01, "token {id}: {found} of {p}");
        }
    }

    #[test]
    fn a_tiny_top_p_leaves_the_most_likely_and_forbidden_tokens_are_never_drawn() {
        let sampler = Sampler {
            top_p: 1e-9,
            ..Sampler::default()
        };
        let mut logits = LOGITS;
        sampler.adjust(&mut logits, &History::default(), &[1]);
        assert_eq!(sampler.distribution(&logits), [(4, 1.0)]);
    }

    #[test]
    fn log_probabilities_add_up() {
        let (chosen, top) = log_probabilities(&LOGITS, 2, 5);
        let total: f32 = top.iter().map(|t| t.1.exp()).sum();
        assert!((total - 1.0).abs() < 1e-6);
        assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 4, 2, 0, 3]);
        assert!(top.contains(&(2, chosen)));
    }
}
