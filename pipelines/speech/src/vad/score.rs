//! The probability that a frame is speech, from its measures and those around it: a perceptron of two hidden layers,
//! trained by tests/vad/train.py on synthesised speech in noise. Small enough that it costs less than the spectra.

use std::collections::VecDeque;

use super::measures::{MEASURES, Measures};

/// Frames that are looked at, relative to the one in question.
const TAPS: [isize; 13] = [-70, -45, -28, -16, -8, -3, 0, 3, 8, 16, 28, 45, 70];
const BEFORE: usize = 70;
const AFTER: usize = 70;
const INPUTS: usize = TAPS.len() * MEASURES;
const FIRST: usize = 32;
const SECOND: usize = 16;

/// Little-endian f32: weights and biases of each layer, each output's weights together.
static WEIGHTS: &[u8] = include_bytes!("weights.bin");
const COUNT: usize = (INPUTS + 1) * FIRST + (FIRST + 1) * SECOND + SECOND + 1;
const _: () = assert!(
    WEIGHTS.len() == COUNT * 4,
    "weights.bin is of another shape: train again"
);

/// Measures in, probabilities out, 0.7 s later.
pub(super) struct Scorer {
    first: Layer,
    second: Layer,
    last: Layer,
    held: VecDeque<Measures>,
    /// Measures taken and probabilities given.
    taken: usize,
    given: usize,
}

impl Scorer {
    pub(super) fn new() -> Self {
        let mut weights = WEIGHTS
            .chunks_exact(4)
            .map(|b| b.try_into().map_or(0.0, f32::from_le_bytes));
        Self {
            first: Layer::read(&mut weights, INPUTS, FIRST),
            second: Layer::read(&mut weights, FIRST, SECOND),
            last: Layer::read(&mut weights, SECOND, 1),
            held: VecDeque::new(),
            taken: 0,
            given: 0,
        }
    }

    /// Takes one frame's measures and gives the probability of the frame for which all are now known.
    pub(super) fn push(&mut self, measures: Measures) -> Option<f32> {
        if self.taken == 0 {
            // Before the beginning it was as at the beginning.
            self.held.extend(std::iter::repeat_n(measures, BEFORE));
        }
        self.taken += 1;
        self.held.push_back(measures);
        (self.held.len() > BEFORE + AFTER).then(|| self.score())
    }

    /// Gives the probability of a frame that the last measures still want.
    pub(super) fn finish(&mut self) -> Option<f32> {
        if self.given == self.taken {
            return None;
        }
        let last = *self.held.back()?;
        while self.held.len() <= BEFORE + AFTER {
            self.held.push_back(last);
        }
        Some(self.score())
    }

    fn score(&mut self) -> f32 {
        let mut inputs = [0.0; INPUTS];
        for (to, tap) in inputs.chunks_mut(MEASURES).zip(TAPS) {
            if let Some(measures) = self.held.get(BEFORE.saturating_add_signed(tap)) {
                to.copy_from_slice(measures);
            }
        }
        self.held.pop_front();
        self.given += 1;
        let rectify = |x: f32| x.max(0.0);
        let first = self.first.apply(&inputs, rectify);
        let second = self.second.apply(&first, rectify);
        let last = self.last.apply(&second, |x| 1.0 / (1.0 + (-x).exp()));
        last.first().copied().unwrap_or(0.0)
    }
}

struct Layer {
    weights: Vec<f32>,
    biases: Vec<f32>,
    inputs: usize,
}

impl Layer {
    fn read(weights: &mut impl Iterator<Item = f32>, inputs: usize, outputs: usize) -> Self {
        Self {
            weights: weights.by_ref().take(inputs * outputs).collect(),
            biases: weights.by_ref().take(outputs).collect(),
            inputs,
        }
    }

    fn apply(&self, inputs: &[f32], activation: impl Fn(f32) -> f32) -> Vec<f32> {
        self.weights
            .chunks_exact(self.inputs)
            .zip(&self.biases)
            .map(|(row, bias)| {
                let sum: f32 = row.iter().zip(inputs).map(|(w, i)| w * i).sum();
                activation(sum + bias)
            })
            .collect()
    }
}
