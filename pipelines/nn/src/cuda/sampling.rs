//! The launch of `chandler_sampling.cu`: what decides about each row, as numbers.

use candle_core::DType;

use super::work::{Argument, Launch, Work, suffix};
use crate::sampling::Draw;

/// Threads of a block, `THREADS` there.
const THREADS: u32 = 1024;
/// Bytes of `Row` there.
const SHARED: u32 = 256 * 4 + 256 * 8 + THREADS * (2 * 8 + 4 + 4) + 24;
/// Words of `Settings`.
const SETTINGS: usize = 14;
/// A token that is not there.
const NO_TOKEN: u32 = u32::MAX;

/// The buffers, as [`Work`] numbers them.
const LOGITS: usize = 0;
const OUT: usize = 1;
const BEFORE: usize = 2;
const SCRATCH: usize = 3;
const NUMBERS: usize = 4;

/// Of logits [rows, vocabulary], the tokens to be drawn, and those drawn before. None for a dtype without a kernel.
pub(crate) fn draw(dtype: DType, vocabulary: usize, draws: &[Draw<'_>]) -> Option<Work> {
    let buffer = |buffer| Argument::Buffer(buffer, 0);
    let mut arguments = [LOGITS, OUT, BEFORE, SCRATCH, NUMBERS].map(buffer).to_vec();
    arguments.push(Argument::U32(u32::try_from(vocabulary).ok()?));
    let mut settings = Vec::with_capacity(draws.len() * SETTINGS);
    let mut changes = vec![];
    for draw in draws {
        let first = draws.len() * SETTINGS + changes.len();
        let count = add_changes(&mut changes, draw);
        settings.extend(of_row(draw, [u32::try_from(first).ok()?, count]));
    }
    settings.extend(changes);
    let launch = Launch {
        kernel: format!("draw_{}", suffix(dtype)?),
        grid: [u32::try_from(draws.len()).ok()?, 1, 1],
        threads: THREADS,
        shared: SHARED,
        arguments,
    };
    Some(Work {
        launches: vec![launch],
        output: None,
        scratch: vec![draws.len() * vocabulary],
        numbers: settings,
    })
}

/// `Settings`, word by word.
fn of_row(draw: &Draw<'_>, [first, count]: [u32; 2]) -> [u32; SETTINGS] {
    let sampler = draw.sampler;
    // Where nothing is drawn these decide nothing; as zeros, settings are those of the pass before, and are on the GPU already.
    let drawn = sampler.temperature != 0.0;
    let [spare, spare_high] = fraction(if drawn { 1.0 - sampler.top_p } else { 0.0 });
    let [uniform, uniform_high] = fraction(if drawn { draw.uniform } else { 0.0 });
    let last = draw.last.filter(|_| sampler.needs_history());
    [
        draw.row as u32,
        sampler.temperature.to_bits(),
        u32::try_from(sampler.top_k).unwrap_or(0), // more than there are tokens: all
        (sampler.min_p as f32).to_bits(),
        spare,
        spare_high,
        uniform,
        uniform_high,
        sampler.repetition_penalty.to_bits(),
        sampler.presence_penalty.to_bits(),
        sampler.frequency_penalty.to_bits(),
        last.map_or(NO_TOKEN, |last| last as u32),
        first,
        count,
    ]
}

/// In units of 2⁻⁶⁴, the lower half first; what is 1 or more is as near to it as can be.
fn fraction(x: f64) -> [u32; 2] {
    let units = (x * 2f64.powi(64)) as u64; // saturates
    [units as u32, (units >> 32) as u32]
}

/// A row's tokens whose logits change, no token twice: `Change` by `Change`. How many.
fn add_changes(changes: &mut Vec<u32>, draw: &Draw<'_>) -> u32 {
    let before = changes.len();
    let sampler = draw.sampler;
    let bias = |id: u32| match draw.forbidden.contains(&id) {
        true => f32::NEG_INFINITY,
        false => sampler.logit_bias.get(&id).copied().unwrap_or(0.0),
    };
    let mut add = |id: u32, times: u32| changes.extend([id, times, bias(id).to_bits()]);
    if sampler.needs_history() {
        draw.history.tokens().for_each(|(id, times)| add(id, times));
    }
    let known = |id: &u32| sampler.needs_history() && draw.history.times(*id).is_some();
    for id in sampler.logit_bias.keys().filter(|id| !known(id)) {
        add(*id, NO_TOKEN);
    }
    for (at, id) in draw.forbidden.iter().enumerate() {
        let twice = draw.forbidden.iter().take(at).any(|other| other == id);
        if !twice && !known(id) && !sampler.logit_bias.contains_key(id) {
            add(*id, NO_TOKEN);
        }
    }
    ((changes.len() - before) / 3) as u32
}
