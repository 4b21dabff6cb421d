//! A mixture of experts: a router chooses a few feed-forward layers for each row, and shares of the row's result.
//! Mirrors `transformers` modeling_mixtral.py (MixtralSparseMoeBlock) and modeling_qwen3_moe.py.
//!
//! Each expert runs once over all rows that chose it. A row's result is the sum over its experts in the order of their
//! numbers, one multiplication and addition each, so that its bits do not depend on which rows are beside it.

use candle_core::{DType, Tensor};
use chandler_nn::lora::{AdapterRows, Projection};

use super::feed_forward::Gated;
use super::projection::project;
use crate::error::Result;

/// Experts and their router.
pub(super) struct Experts {
    pub(super) router: Projection,
    pub(super) experts: Vec<Gated>,
    /// How many a row goes through.
    pub(super) per_token: usize,
    /// Whether a row's shares are made to add up to 1.
    pub(super) normalised: bool,
}

/// Which experts the rows go to.
#[derive(Debug, PartialEq)]
struct Routes {
    /// For each expert, the rows that chose it, ascending.
    rows: Vec<Vec<u32>>,
    /// For each row's n-th expert, in the order of experts, where its result is once all experts' are one after the other.
    places: Vec<Vec<u32>>,
    /// For each row's n-th expert, its share.
    shares: Vec<Vec<f32>>,
}

impl Experts {
    pub(super) fn bytes(&self) -> usize {
        self.router.bytes() + self.experts.iter().map(Gated::bytes).sum::<usize>()
    }

    /// `x` [rows, hidden] to [rows, hidden].
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, device) = (x.dim(0)?, x.device());
        if rows == 0 {
            return Ok(x.clone());
        }
        // No adapter is for a router or an expert: see `projection`.
        let none = AdapterRows::default();
        let [scores] = project([&self.router], x, &none)?;
        let scores: Vec<Vec<f32>> = scores.to_dtype(DType::F32)?.to_vec2()?;
        let routes = self.route(&scores);
        let mut results = Vec::new();
        for (expert, chosen) in self.experts.iter().zip(&routes.rows) {
            if chosen.is_empty() {
                continue;
            }
            let chosen = Tensor::new(chosen.as_slice(), device)?;
            results.push(expert.forward(&x.index_select(&chosen, 0)?, &none)?);
        }
        let results = Tensor::cat(&results, 0)?;
        let mut sum: Option<Tensor> = None;
        for (places, shares) in routes.places.iter().zip(&routes.shares) {
            let places = Tensor::new(places.as_slice(), device)?;
            let shares = Tensor::new(shares.as_slice(), device)?
                .to_dtype(results.dtype())?
                .reshape((rows, 1))?;
            let part = results.index_select(&places, 0)?.broadcast_mul(&shares)?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        sum.ok_or_else(|| candle_core::Error::msg("a row goes through no expert").into())
    }

    /// From the router's scores, a row each.
    fn route(&self, scores: &[Vec<f32>]) -> Routes {
        let chosen: Vec<Vec<(usize, f32)>> = scores.iter().map(|row| self.choose(row)).collect();
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); self.experts.len()];
        for (row, chosen) in chosen.iter().enumerate() {
            for (expert, _) in chosen {
                if let Some(rows) = rows.get_mut(*expert) {
                    rows.push(row as u32);
                }
            }
        }
        // Where each expert's results begin, counted up while its rows are met again in the same order.
        let mut next: Vec<u32> = rows
            .iter()
            .scan(0, |end, rows| {
                let start = *end;
                *end += rows.len() as u32;
                Some(start)
            })
            .collect();
        let mut routes = Routes {
            rows,
            places: vec![Vec::new(); self.per_token],
            shares: vec![Vec::new(); self.per_token],
        };
        for chosen in chosen {
            let slots = routes.places.iter_mut().zip(&mut routes.shares);
            for ((expert, share), (places, shares)) in chosen.into_iter().zip(slots) {
                if let Some(next) = next.get_mut(expert) {
                    places.push(*next);
                    shares.push(share);
                    *next += 1;
                }
            }
        }
        routes
    }

    /// A row's experts in the order of their numbers, with their shares: softmax over all, then the largest. Of equals the
    /// first is taken.
    fn choose(&self, scores: &[f32]) -> Vec<(usize, f32)> {
        let largest = scores.iter().copied().fold(f32::MIN, f32::max);
        let weights: Vec<f32> = scores.iter().map(|s| (s - largest).exp()).collect();
        let sum: f32 = weights.iter().sum();
        let mut shares: Vec<(usize, f32)> =
            weights.into_iter().map(|w| w / sum).enumerate().collect();
        // Stable, so that of equals the first stays before the other.
        shares.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        shares.truncate(self.per_token);
        if self.normalised {
            let sum: f32 = shares.iter().map(|(_, share)| share).sum();
            shares.iter_mut().for_each(|(_, share)| *share /= sum);
        }
        shares.sort_by_key(|(expert, _)| *expert);
        shares
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use chandler_nn::activation::Activation;
    use chandler_nn::linear::Linear;
    use chandler_nn::weights::HostTensor;

    use super::*;

    fn linear() -> Projection {
        let weight = HostTensor::from_bytes("w", DType::F32, vec![1, 1], vec![0; 4]).unwrap();
        Linear::new(weight, None, &Device::Cpu, DType::F32)
            .unwrap()
            .into()
    }

    fn experts(count: usize, per_token: usize, normalised: bool) -> Experts {
        let expert = || Gated {
            gate: linear(),
            up: linear(),
            down: linear(),
            activation: Activation::Silu,
        };
        Experts {
            router: linear(),
            experts: (0..count).map(|_| expert()).collect(),
            per_token,
            normalised,
        }
    }

    #[test]
    fn a_row_goes_to_its_largest_scores_and_of_equals_to_the_first() {
        let chosen = experts(4, 2, false).choose(&[1.0, 3.0, 0.0, 3.0]);
        let sum = 1f32.exp() + 2.0 * 3f32.exp() + 1.0;
        assert_eq!(chosen.iter().map(|(e, _)| *e).collect::<Vec<_>>(), [1, 3]);
        assert!(
            chosen
                .iter()
                .all(|(_, share)| (share - 3f32.exp() / sum).abs() < 1e-6)
        );
        let chosen = experts(4, 3, true).choose(&[2.0, 2.0, 2.0, 2.0]);
        assert_eq!(chosen, [(0, 1.0 / 3.0), (1, 1.0 / 3.0), (2, 1.0 / 3.0)]);
    }

    #[test]
    fn every_row_finds_its_results_among_all_experts() {
        let scores = [[9.0, 0.0, 8.0], [0.0, 9.0, 8.0], [9.0, 8.0, 0.0]].map(Vec::from);
        let routes = experts(3, 2, true).route(&scores);
        assert_eq!(routes.rows, [vec![0, 2], vec![1, 2], vec![0, 1]]);
        assert_eq!(routes.places, [vec![0, 2, 1], vec![4, 5, 3]]);
    }
}
