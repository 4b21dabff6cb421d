//! The step of UniPC: the corrector of the step before, and the predictor of the coming one, over differences of remembered outputs.
//! Apart from the configuration and the grid; mirrors the same class of diffusers.

use super::arrays::at;
use super::multistep::{History, Levels};
use super::prediction::{Clip, Prediction};
use super::solver::{Move, Solve};

/// `solver_type`: the function B(h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SolverType {
    Bh1,
    Bh2,
}

/// All that decides a step.
#[derive(Debug, Clone)]
pub(super) struct Method {
    pub order: usize,
    pub predict_x0: bool,
    pub solver_type: SolverType,
    pub prediction: Prediction,
    pub clip: Clip,
    pub lower_order_final: bool,
    pub disable_corrector: Vec<usize>,
}

/// UniPC within a run.
#[derive(Debug, Clone)]
pub(super) struct Solver {
    method: Method,
    levels: Levels,
    history: History,
    done: usize,
    last: Option<Last>,
}

/// The step before: the sample it began with, and its order.
#[derive(Debug, Clone)]
struct Last {
    latents: Vec<f32>,
    order: usize,
}

/// The parts of an update that are the same for all numbers of the latents.
#[derive(Debug)]
struct Update {
    of_sample: f32,
    /// What the newest output is multiplied with.
    of_newest: f32,
    /// α B(h) or σ B(h), which the differences are multiplied with.
    of_differences: f32,
    /// How far back each remembered output lies, in steps' lengths.
    distances: Vec<f32>,
    /// The equations for the differences' weights.
    rows: Vec<Vec<f32>>,
    right: Vec<f32>,
}

impl Solver {
    pub fn new(method: Method, levels: Levels) -> Self {
        Self {
            history: History::new(method.order),
            method,
            levels,
            done: 0,
            last: None,
        }
    }

    /// `convert_model_output`.
    fn convert(&self, step: &mut Move<'_>) -> Vec<f32> {
        let prediction = self.method.prediction;
        let level = self.levels.read_at(step.index, prediction);
        step.foretell(|sample, output| prediction.original(level, sample, output));
        if self.method.predict_x0 {
            self.method.clip.apply(step.original);
            return step.original.to_vec();
        }
        let pairs = step.latents.iter().zip(step.output);
        let epsilons = pairs.map(|(sample, output)| prediction.epsilon(level, *sample, *output));
        epsilons.collect()
    }

    /// The update of an order from one call's place to the next one's.
    fn update(&self, from: usize, order: usize) -> Update {
        let (start, end) = (self.levels.log_level(from), self.levels.log_level(from + 1));
        let h = end.lambda - start.lambda;
        let back = (1..order).map(|i| {
            let lambda = self.levels.log_level(from.saturating_sub(i)).lambda;
            (lambda - start.lambda) / h
        });
        let distances: Vec<f32> = back.collect();
        let signed = if self.method.predict_x0 { -h } else { h };
        let first = signed.exp_m1();
        let bh = match self.method.solver_type {
            SolverType::Bh1 => signed,
            SolverType::Bh2 => first,
        };
        let (of_sample, weight) = if self.method.predict_x0 {
            (end.sigma / start.sigma, end.alpha)
        } else {
            (end.alpha / start.alpha, end.sigma)
        };
        let mut update = Update {
            of_sample,
            of_newest: weight * first,
            of_differences: weight * bh,
            distances,
            rows: Vec::new(),
            right: Vec::new(),
        };
        let (mut phi, mut factorial) = (first / signed - 1.0, 1.0f32);
        for i in 1..=order {
            let powers = update.distances.iter().chain(std::iter::once(&1.0));
            let row = powers.map(|distance| distance.powi(i as i32 - 1)).collect();
            update.rows.push(row);
            update.right.push(phi * factorial / bh);
            factorial *= (i + 1) as f32;
            phi = phi / signed - 1.0 / factorial;
        }
        update
    }

    /// The differences of remembered outputs from the newest, at one place.
    fn differences<'a>(&'a self, update: &'a Update, i: usize) -> impl Iterator<Item = f32> + 'a {
        let newest = at(self.history.ago(0), i);
        let distances = update.distances.iter().enumerate();
        distances
            .map(move |(back, distance)| (at(self.history.ago(back + 1), i) - newest) / distance)
    }

    /// `multistep_uni_p_bh_update`: the sample of the next call.
    fn predict(&self, index: usize, order: usize, latents: &mut [f32]) {
        let update = self.update(index, order);
        let weights = match order {
            1 => Vec::new(),
            2 => vec![0.5],
            _ => solve_leading(&update, order - 1),
        };
        for (i, sample) in latents.iter_mut().enumerate() {
            let straight =
                update.of_sample * *sample - update.of_newest * at(self.history.ago(0), i);
            let differences = self.differences(&update, i);
            let bend: f32 = weights.iter().zip(differences).map(|(w, d)| w * d).sum();
            *sample = if order == 1 {
                straight
            } else {
                straight - update.of_differences * bend
            };
        }
    }

    /// `multistep_uni_c_bh_update`: the sample of this call again, now that its output is known.
    fn correct(&self, index: usize, last: &Last, output: &[f32], latents: &mut [f32]) {
        let update = self.update(index.saturating_sub(1), last.order);
        let weights = match last.order {
            1 => vec![0.5],
            order => solve_leading(&update, order),
        };
        let newest_weight = weights.last().copied().unwrap_or_default();
        let rows = latents.iter_mut().zip(&last.latents).zip(output);
        for (i, ((sample, before), output)) in rows.enumerate() {
            let newest = at(self.history.ago(0), i);
            let straight = update.of_sample * before - update.of_newest * newest;
            let differences = self.differences(&update, i);
            let bend: f32 = weights.iter().zip(differences).map(|(w, d)| w * d).sum();
            let bend = bend + newest_weight * (output - newest);
            *sample = straight - update.of_differences * bend;
        }
    }
}

/// The solution of the first equations, by Gaussian elimination with the largest pivot, as LAPACK does it.
fn solve_leading(update: &Update, count: usize) -> Vec<f32> {
    let mut rows: Vec<Vec<f32>> = update
        .rows
        .iter()
        .zip(&update.right)
        .take(count)
        .map(|(row, right)| {
            row.iter()
                .take(count)
                .chain(std::iter::once(right))
                .copied()
                .collect()
        })
        .collect();
    for column in 0..count {
        let size = |row: &Vec<f32>| at(row, column).abs();
        let below = rows.iter().enumerate().skip(column);
        let pivot = below.max_by(|a, b| size(a.1).total_cmp(&size(b.1)));
        let pivot = pivot.map_or(column, |(index, _)| index);
        rows.swap(column, pivot);
        let (upper, lower) = rows.split_at_mut(column + 1);
        let Some(pivot) = upper.last() else { continue };
        for row in lower {
            let factor = at(row, column) / at(pivot, column);
            for (value, above) in row.iter_mut().zip(pivot).skip(column) {
                *value -= factor * above;
            }
        }
    }
    let mut solution = vec![0.0; count];
    for (index, row) in rows.iter().enumerate().rev() {
        let known = row
            .iter()
            .zip(&solution)
            .skip(index + 1)
            .take(count - index - 1);
        let known: f32 = known.map(|(factor, x)| factor * x).sum();
        let value = (at(row, count) - known) / at(row, index);
        if let Some(place) = solution.get_mut(index) {
            *place = value;
        }
    }
    solution
}

impl Solve for Solver {
    fn advance(&mut self, mut step: Move<'_>) {
        let output = self.convert(&mut step);
        let before = step.index.checked_sub(1);
        let enabled = before.filter(|before| !self.method.disable_corrector.contains(before));
        if let (Some(_), Some(last)) = (enabled, &self.last) {
            self.correct(step.index, last, &output, step.latents);
        }
        self.history.push(output);
        let left = self.levels.calls().saturating_sub(step.index);
        let most = if self.method.lower_order_final {
            left
        } else {
            usize::MAX
        };
        let order = self.method.order.min(most).min(self.done + 1).max(1);
        self.last = Some(Last {
            latents: step.latents.to_vec(),
            order,
        });
        self.predict(step.index, order, step.latents);
        self.done += 1;
    }

    fn mixture(&self, index: usize) -> (f32, f32) {
        let level = self.levels.level(index);
        (level.alpha, level.sigma)
    }
}
