//! The likeliest tokens under the rules, found on the device: of each row two numbers come back. What `scores` does on the host, in
//! tensor operations; the two are tested against each other.

use candle_core::{D, DType, Device, Tensor};

use super::search::Likeliest;
use crate::error::Result;
use crate::whisper::rules::{Allowed, Rules};

/// Forbidden tokens of later rows, as numbers to be added to a row of logits: [1, vocabulary].
pub(super) fn forbidden(rules: &Rules, vocab: usize, device: &Device) -> Result<Tensor> {
    let mut mask = vec![0.0f32; vocab];
    for id in rules.forbidden(false) {
        if let Some(x) = mask.get_mut(id as usize) {
            *x = f32::NEG_INFINITY;
        }
    }
    Ok(Tensor::from_vec(mask, (1, vocab), device)?)
}

/// The likeliest token of each row of `logits` [rows, vocabulary] and its log probability; nothing for a row in which no token may
/// come. `masks` are [`forbidden`] of each row.
pub(super) fn likeliest(
    logits: &Tensor,
    allowed: &[Allowed],
    masks: &[Tensor],
) -> Result<Vec<Likeliest>> {
    let (rows, vocab) = logits.dims2()?;
    let device = logits.device();
    // Ids fit f32 exactly; candle compares what is of one type.
    let column = |of: &dyn Fn(&Allowed) -> u32| {
        let numbers: Vec<f32> = allowed
            .iter()
            .map(|one| of(one).min(vocab as u32) as f32)
            .collect();
        Tensor::from_vec(numbers, (rows, 1), device)
    };
    let ids = Tensor::arange(0u32, vocab as u32, device)?
        .to_dtype(DType::F32)?
        .unsqueeze(0)?;
    let below = |bound: &Tensor| ids.broadcast_lt(bound);
    let is_text = below(&column(&|one| one.split)?)?;
    let too_low = below(&column(&|one| one.text_from)?)?;
    let too_early = below(&column(&|one| one.times.start)?)?;
    let early_enough = below(&column(&|one| one.times.end)?)?;
    let nothing = Tensor::full(f32::NEG_INFINITY, (rows, vocab), device)?;
    let x = (logits.to_dtype(DType::F32)? + Tensor::cat(masks, 0)?)?;
    let words = too_low.where_cond(&nothing, &x)?;
    let words = is_text.where_cond(&words, &nothing)?;
    let times = too_early.where_cond(&nothing, &x)?;
    let times = early_enough.where_cond(&times, &nothing)?;
    let times = is_text.where_cond(&nothing, &times)?;
    let times_win = log_sum_exp(&times)?.gt(&words.max_keepdim(D::Minus1)?)?;
    let words = times_win
        .broadcast_as((rows, vocab))?
        .where_cond(&nothing, &words)?;
    let left = is_text.where_cond(&words, &times)?;
    let most = left.max_keepdim(D::Minus1)?;
    let log_probability = (&most - log_sum_exp(&left)?)?;
    let found = Tensor::cat(
        &[
            &left.argmax_keepdim(D::Minus1)?.to_dtype(DType::F32)?,
            &log_probability,
            &most,
        ],
        1,
    )?;
    let found: Vec<Vec<f32>> = found.to_vec2()?;
    let of = |row: Vec<f32>| match *row.as_slice() {
        [id, log_probability, most] if most > f32::NEG_INFINITY => {
            Some((id as u32, log_probability))
        }
        _ => None,
    };
    Ok(found.into_iter().map(of).collect())
}

/// ln Σ e^x of each row, [rows, 1]; negative infinity for a row of nothing else.
fn log_sum_exp(x: &Tensor) -> Result<Tensor> {
    // A row of negative infinities less its largest would be no number.
    let most = x.max_keepdim(D::Minus1)?.maximum(f64::from(f32::MIN))?;
    let sum = x.broadcast_sub(&most)?.exp()?.sum_keepdim(D::Minus1)?;
    Ok((sum.log()? + most)?)
}

#[cfg(test)]
mod tests {
    use super::super::scores::Scores;
    use super::*;
    use crate::whisper::rules::TimestampRules;

    #[test]
    fn the_device_chooses_what_the_host_chooses() {
        const VOCAB: usize = 40;
        let rules = Rules {
            suppress: vec![1, 2, 9],
            begin_suppress: vec![],
            timestamps: Some(TimestampRules {
                no_timestamps: 24,
                begin: 25,
                max_initial: None,
            }),
            eot: 20,
        };
        let plain = Rules {
            timestamps: None,
            ..rules.clone()
        };
        let nothing = Rules {
            suppress: (0..VOCAB as u32).collect(),
            ..plain.clone()
        };
        let histories: [&[u32]; 5] = [
            &[26],
            &[26, 3],
            &[26, 3, 30],
            &[26, 3, 30, 30],
            &[26, 3, 30, 31, 8],
        ];
        let mut rows = Vec::new();
        for (n, history) in histories.iter().cycle().take(60).enumerate() {
            let rules = [&rules, &rules, &plain, &nothing][n % 4];
            let row: Vec<f32> = (0..VOCAB)
                .map(|i| ((n * 7919 + i * 104_729) as f32 * 0.37).sin() * 2.0)
                .collect();
            rows.push((rules, rules.allowed(history), row));
        }
        let all: Vec<f32> = rows.iter().flat_map(|(_, _, row)| row.clone()).collect();
        let logits = Tensor::from_vec(all, (rows.len(), VOCAB), &Device::Cpu).unwrap();
        let allowed: Vec<Allowed> = rows.iter().map(|(_, allowed, _)| allowed.clone()).collect();
        let masks: Vec<Tensor> = rows
            .iter()
            .map(|(rules, ..)| forbidden(rules, VOCAB, &Device::Cpu).unwrap())
            .collect();
        let found = likeliest(&logits, &allowed, &masks).unwrap();
        let (mut times, mut none) = (0, 0);
        for ((rules, allowed, mut row), found) in rows.into_iter().zip(found) {
            match (
                Scores::new(&mut row, rules, &allowed, false).likeliest(),
                found,
            ) {
                (Some((id, p)), Some((other, q))) => {
                    assert_eq!(id, other);
                    assert!((p - q).abs() < 1e-5, "{p}, {q}");
                    times += usize::from(id >= 25 && rules.timestamps.is_some());
                }
                (host, device) => {
                    assert_eq!(host, device);
                    none += 1;
                }
            }
        }
        assert!(
            times > 5 && none == 15,
            "{times} times, {none} without a token"
        );
    }
}
