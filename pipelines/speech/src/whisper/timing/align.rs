//! From attention to positions: the alignment heads' attention over the audio, normed over tokens, smoothed over time, averaged, and
//! the cheapest path through it. Mirrors openai-whisper timing.py (`find_alignment`, `median_filter`).

use rayon::prelude::*;

use super::path::arrivals;
use crate::whisper::decoding::Alignment;

/// The encoder's position at which each token after `prompt` begins, and the one at which the last of them ends: one more than
/// there are text tokens. `filter_width` is odd; `prompt` counts the tokens before the text.
pub fn token_positions(alignment: &Alignment, prompt: usize, filter_width: usize) -> Vec<usize> {
    let Alignment {
        scores,
        rows,
        positions,
        ..
    } = alignment;
    let (rows, positions) = (*rows, *positions);
    let heads: Vec<Vec<f32>> = scores
        .par_iter()
        .map(|scores| {
            let mut weights = scores.clone();
            weights.chunks_exact_mut(positions.max(1)).for_each(softmax);
            smoothed(weights, positions, filter_width)
        })
        .collect();
    // A token's row tells where the token after it is said: the text begins in the row of the prompt's last token, and what ends
    // it has no row to come.
    let first = prompt.saturating_sub(1);
    let text_rows = rows.saturating_sub(first + 1);
    arrivals(
        &negated_mean(&heads, first * positions, text_rows * positions),
        text_rows,
        positions,
    )
}

/// Norms each column over the rows, and takes the median of neighbours in each row.
pub fn smoothed(mut weights: Vec<f32>, positions: usize, filter_width: usize) -> Vec<f32> {
    norm_columns(&mut weights, positions);
    median_filtered(&weights, positions, filter_width)
}

/// −1 times the mean of the heads, of `count` numbers from `start` on.
pub fn negated_mean(heads: &[Vec<f32>], start: usize, count: usize) -> Vec<f32> {
    let number = |at: usize| {
        let sum: f32 = heads.iter().filter_map(|head| head.get(start + at)).sum();
        -(sum / heads.len().max(1) as f32)
    };
    (0..count).map(number).collect()
}

/// e^x over the sum of a row's.
pub fn softmax(row: &mut [f32]) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in row.iter_mut() {
        *x = (*x - most).exp();
        sum += *x;
    }
    row.iter_mut().for_each(|x| *x /= sum);
}

/// Takes the mean off each column of [rows, positions] and divides by its deviation; a column that does not vary is all zero.
fn norm_columns(weights: &mut [f32], positions: usize) {
    if positions == 0 {
        return;
    }
    let rows = (weights.len() / positions) as f64;
    let (mut sums, mut squares) = (vec![0.0f64; positions], vec![0.0f64; positions]);
    for row in weights.chunks_exact(positions) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += f64::from(*x);
        }
    }
    sums.iter_mut().for_each(|sum| *sum /= rows);
    for row in weights.chunks_exact(positions) {
        for ((square, mean), x) in squares.iter_mut().zip(&sums).zip(row) {
            *square += (f64::from(*x) - mean).powi(2);
        }
    }
    for row in weights.chunks_exact_mut(positions) {
        for ((square, mean), x) in squares.iter().zip(&sums).zip(row) {
            let deviation = (square / rows).sqrt();
            *x = match deviation > 0.0 {
                true => ((f64::from(*x) - mean) / deviation) as f32,
                false => 0.0,
            };
        }
    }
}

/// The median of `width` neighbours in each row of [rows, positions]; past a row's ends it is mirrored. A row that is too short to
/// be mirrored is left as it is.
fn median_filtered(weights: &[f32], positions: usize, width: usize) -> Vec<f32> {
    let half = width / 2;
    if half == 0 || positions <= half {
        return weights.to_vec();
    }
    let mut out = Vec::with_capacity(weights.len());
    let mut neighbours = vec![0.0f32; width];
    let mirrored = |at: isize| match at {
        at if at < 0 => at.unsigned_abs(),
        at if at as usize >= positions => 2 * (positions - 1) - at as usize,
        at => at as usize,
    };
    for row in weights.chunks_exact(positions) {
        for position in 0..positions {
            for (offset, neighbour) in neighbours.iter_mut().enumerate() {
                let at = mirrored(position as isize + offset as isize - half as isize);
                *neighbour = row.get(at).copied().unwrap_or_default();
            }
            let (_, median, _) = neighbours.select_nth_unstable_by(half, f32::total_cmp);
            out.push(*median);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_mirror_at_the_ends() {
        let row = [5.0, 1.0, 9.0, 2.0, 8.0];
        // Of 9 1 5 1 9, 1 5 1 9 2, 5 1 9 2 8, 1 9 2 8 2, 9 2 8 2 9.
        assert_eq!(median_filtered(&row, 5, 5), [5.0, 2.0, 5.0, 2.0, 8.0]);
        assert_eq!(median_filtered(&row, 5, 11), row);
        assert_eq!(median_filtered(&row, 5, 1), row);
    }

    #[test]
    fn a_column_that_does_not_vary_is_nothing() {
        let mut weights = vec![1.0, 2.0, 1.0, 4.0];
        norm_columns(&mut weights, 2);
        assert_eq!(weights, [0.0, -1.0, 0.0, 1.0]);
    }
}
