//! The face that all solvers have towards the sampler, and the choice among them.
//! Apart from the sampler, which keeps the place in the run, because a solver only knows the step at hand.

use super::{
    ddim, ddpm, dpm_singlestep, dpm_solver, euler, flow_match, heun, lcm, lms, pndm, unipc,
};

/// One call's result on its way into the latents.
pub(super) struct Move<'a> {
    /// Which call of the full run this was.
    pub index: usize,
    /// What the model gave.
    pub output: &'a [f32],
    /// The sample, which becomes the next one.
    pub latents: &'a mut [f32],
    /// Fills a slice with fresh standard normal numbers.
    pub noise: &'a mut dyn FnMut(&mut [f32]),
    /// Takes the picture that this call foretells; as long as the latents.
    pub original: &'a mut [f32],
}

impl Move<'_> {
    /// Fresh noise, as much as there are latents.
    pub fn fresh(&mut self) -> Vec<f32> {
        let mut noise = vec![0.0; self.latents.len()];
        (self.noise)(&mut noise);
        noise
    }

    /// Sets the foretold picture from each pair of sample and output.
    pub fn foretell(&mut self, of: impl Fn(f32, f32) -> f32) {
        let pairs = self.latents.iter().zip(self.output);
        for (original, (sample, output)) in self.original.iter_mut().zip(pairs) {
            *original = of(*sample, *output);
        }
    }
}

/// What a solver does.
pub(super) trait Solve {
    /// Goes one call on. The slices of the move are of one length.
    fn advance(&mut self, step: Move<'_>);
    /// The factor on the latents before the model sees them at a call.
    fn input_scale(&self, _index: usize) -> f64 {
        1.0
    }
    /// The weights of picture and noise in a sample at a call.
    fn mixture(&self, index: usize) -> (f32, f32);
}

/// The solver of a run, with what it remembers between steps.
#[derive(Debug, Clone)]
pub(super) enum Solver {
    Ddim(ddim::Solver),
    Ddpm(ddpm::Solver),
    Pndm(pndm::Solver),
    Euler(euler::Solver),
    Heun(heun::Solver),
    Dpm(dpm_solver::Solver),
    DpmSingle(dpm_singlestep::Solver),
    Lms(lms::Solver),
    UniPc(unipc::Solver),
    Lcm(lcm::Solver),
    FlowMatch(flow_match::Solver),
}

impl Solver {
    pub fn get(&self) -> &dyn Solve {
        match self {
            Self::Ddim(solver) => solver,
            Self::Ddpm(solver) => solver,
            Self::Pndm(solver) => solver,
            Self::Euler(solver) => solver,
            Self::Heun(solver) => solver,
            Self::Dpm(solver) => solver,
            Self::DpmSingle(solver) => solver,
            Self::Lms(solver) => solver,
            Self::UniPc(solver) => solver,
            Self::Lcm(solver) => solver,
            Self::FlowMatch(solver) => solver,
        }
    }

    pub fn get_mut(&mut self) -> &mut dyn Solve {
        match self {
            Self::Ddim(solver) => solver,
            Self::Ddpm(solver) => solver,
            Self::Pndm(solver) => solver,
            Self::Euler(solver) => solver,
            Self::Heun(solver) => solver,
            Self::Dpm(solver) => solver,
            Self::DpmSingle(solver) => solver,
            Self::Lms(solver) => solver,
            Self::UniPc(solver) => solver,
            Self::Lcm(solver) => solver,
            Self::FlowMatch(solver) => solver,
        }
    }
}
