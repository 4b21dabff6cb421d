//! Rows of logits on the host: the likeliest token, and what turns a logit into the logarithm of a probability.
//! Apart from the models, which each have their own idea of which tokens are allowed.

use crate::kernels::Isa;
use crate::kernels::reduce::{largest, sum_of_exponentials};

/// The first of the largest numbers of a row, and where it is; nothing for a row that is empty or has no number above negative
/// infinity.
pub fn argmax(row: &[f32]) -> Option<(usize, f32)> {
    let most = largest(Isa::detect(), row);
    if most == f32::NEG_INFINITY {
        return None;
    }
    let at = row.iter().position(|x| *x == most)?;
    Some((at, most))
}

/// ln Σ e^x of a row, whose largest number is `most`; negative infinity when that is.
pub fn log_sum_exp(row: &[f32], most: f32) -> f32 {
    if most == f32::NEG_INFINITY {
        return most;
    }
    most + sum_of_exponentials(Isa::detect(), row, most).ln()
}

/// The `count` largest numbers of a row with their places, largest first and of equals the first; fewer when the row has fewer
/// above negative infinity.
pub fn largest_of(row: &[f32], count: usize) -> Vec<(usize, f32)> {
    /// A sorted list of few is kept up while the row goes by.
    fn put(found: &mut Vec<(usize, f32)>, count: usize, (at, x): (usize, f32)) {
        let place = found.partition_point(|(_, y)| *y >= x);
        found.insert(place, (at, x));
        found.truncate(count);
    }
    let mut found: Vec<(usize, f32)> = Vec::with_capacity(count + 1);
    let mut least = f32::NEG_INFINITY;
    for (at, x) in row.iter().enumerate() {
        if *x > least && count > 0 {
            put(&mut found, count, (at, *x));
            if found.len() == count {
                least = found.last().map_or(f32::NEG_INFINITY, |(_, y)| *y);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_are_reduced_as_by_plain_sums(
            row in prop::collection::vec(prop_oneof![9 => -30f32..30.0, 1 => Just(f32::NEG_INFINITY)], 0..300),
            count in 0usize..7,
        ) {
            let mut order: Vec<(usize, f32)> = row.iter().copied().enumerate().collect();
            order.retain(|(_, x)| *x > f32::NEG_INFINITY);
            order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            prop_assert_eq!(argmax(&row), order.first().copied());
            let expected: Vec<(usize, f32)> = order.iter().take(count).copied().collect();
            prop_assert_eq!(largest_of(&row, count), expected);
            if let Some((_, most)) = order.first() {
                let sum: f64 = order.iter().map(|(_, x)| f64::from(*x).exp()).sum();
                let found = f64::from(log_sum_exp(&row, *most));
                prop_assert!((found - sum.ln()).abs() < 1e-5 * (1.0 + sum.ln().abs()));
            } else {
                prop_assert_eq!(log_sum_exp(&row, f32::NEG_INFINITY), f32::NEG_INFINITY);
            }
        }
    }
}
