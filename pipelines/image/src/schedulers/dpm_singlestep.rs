//! DPM-Solver in single steps: one, two or three calls from the same sample, of rising order. Mirrors `DPMSolverSinglestepScheduler`
//! in diffusers' `scheduling_dpmsolver_singlestep.py`; configuration and grid are those of `dpm_solver`.

use super::arrays::at;
use super::dpm_step::{Method, SolverType};
use super::multistep::{History, Levels};
use super::solver::{Move, Solve};

/// DPM-Solver in single steps within a run.
#[derive(Debug, Clone)]
pub(super) struct Solver {
    method: Method,
    levels: Levels,
    /// The order of each call.
    orders: Vec<usize>,
    history: History,
    done: usize,
    /// The sample that the calls of a step start from.
    anchor: Vec<f32>,
}

impl Solver {
    pub fn new(method: Method, levels: Levels) -> Self {
        Self {
            orders: orders(&method, levels.calls()),
            history: History::new(method.order),
            method,
            levels,
            done: 0,
            anchor: Vec::new(),
        }
    }

    /// The outputs' differences from the first of the step, at one place.
    fn differences(&self, order: usize, index: usize) -> impl Fn(usize) -> [f32; 3] + '_ {
        let lambda = |ago: usize| self.levels.log_level(index.saturating_sub(ago)).lambda;
        let start = lambda(order - 1);
        let h = self.levels.log_level(index + 1).lambda - start;
        let r0 = (lambda(0) - start) / h;
        let r1 = (lambda(1) - start) / h;
        let heun = self.method.solver_type == SolverType::Heun;
        move |i| {
            let output = |ago: usize| at(self.history.ago(ago), i);
            let first = output(order - 1);
            match order {
                1 => [first, 0.0, 0.0],
                2 => [first, 1.0 / r0 * (output(0) - first), 0.0],
                _ => {
                    let near = 1.0 / r1 * (output(1) - first);
                    let far = 1.0 / r0 * (output(0) - first);
                    if heun {
                        let slope = (r0 * near - r1 * far) / (r0 - r1);
                        [first, slope, 2.0 * (far - near) / (r0 - r1)]
                    } else {
                        [first, far, 0.0]
                    }
                }
            }
        }
    }
}

/// `get_order_list`. Where the reference cannot end in a full step, it ends in lower orders, whatever `lower_order_final` says.
fn orders(method: &Method, steps: usize) -> Vec<usize> {
    let most = method.order;
    let lower = method.lower_order_final || !steps.is_multiple_of(most) || method.ends_in_zero;
    let mut orders: Vec<usize> = (0..steps).map(|call| call % most + 1).collect();
    if lower {
        let tail: &[usize] = match (most, steps % most) {
            (3, 0) => &[1, 2, 1],
            (2, 0) => &[1, 1],
            _ => &[],
        };
        let from = orders.len().saturating_sub(tail.len());
        orders.truncate(from);
        orders.extend_from_slice(tail);
    }
    if let (true, Some(last)) = (method.ends_in_zero, orders.last_mut()) {
        *last = 1;
    }
    orders
}

impl Solve for Solver {
    fn advance(&mut self, mut step: Move<'_>) {
        let output = self.method.convert(&self.levels, &mut step);
        self.history.push(output);
        self.done += 1;
        let noise = self.method.algorithm.draws_noise().then(|| step.fresh());
        let planned = self.orders.get(step.index).copied().unwrap_or(1);
        let order = planned.min(self.done);
        if order == 1 {
            self.anchor = step.latents.to_vec();
        }
        let from = self.levels.log_level(step.index.saturating_sub(order - 1));
        let to = self.levels.log_level(step.index + 1);
        let weights = self.method.weights(order, from, to);
        let differences = self.differences(order, step.index);
        for (i, sample) in step.latents.iter_mut().enumerate() {
            let fresh = noise.as_ref().map(|noise| at(noise, i));
            *sample = weights.apply(order, at(&self.anchor, i), differences(i), fresh);
        }
    }

    fn mixture(&self, index: usize) -> (f32, f32) {
        let level = self.levels.level(index);
        (level.alpha, level.sigma)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedulers::dpm_step::Algorithm;
    use crate::schedulers::prediction::{Clip, Prediction};

    #[test]
    fn orders_rise_and_end_low() {
        let method = |order, lower_order_final, ends_in_zero| Method {
            order,
            algorithm: Algorithm::DataOde,
            solver_type: SolverType::Midpoint,
            prediction: Prediction::Epsilon,
            clip: Clip::none(),
            lower_order_final,
            euler_at_final: false,
            ends_in_zero,
        };
        assert_eq!(orders(&method(2, false, true), 5), [1, 2, 1, 2, 1]);
        assert_eq!(orders(&method(2, false, false), 4), [1, 2, 1, 2]);
        assert_eq!(orders(&method(2, true, false), 4), [1, 2, 1, 1]);
        assert_eq!(orders(&method(3, false, true), 6), [1, 2, 3, 1, 2, 1]);
        assert_eq!(orders(&method(3, true, false), 5), [1, 2, 3, 1, 2]);
        assert_eq!(orders(&method(3, true, true), 2), [1, 1]);
    }
}
