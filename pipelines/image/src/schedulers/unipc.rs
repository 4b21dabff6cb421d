//! UniPC (Zhao et al., "UniPC: A Unified Predictor-Corrector Framework"): what the configuration says and the grid. Mirrors
//! `UniPCMultistepScheduler` in diffusers' `scheduling_unipc_multistep.py`; the step itself is in `unipc_step`.

use super::arrays::linspace;
use super::asked::{Asked, Grid, Wanted, not_taken, wrong};
use super::betas;
use super::flow_match::{self, Dynamic, Rounding};
use super::multistep::{Levels, check_falls, whole};
use super::prediction::{self, Clip, Prediction};
use super::reader::Reader;
use super::sigmas::{Course, Final, Sigmas, Table};
use super::spacing::{Spacing, Timesteps};
pub(super) use super::unipc_step::Solver;
use super::unipc_step::{Method, SolverType};
use crate::error::Result;

const NAME: &str = "UniPCMultistepScheduler";
/// The reference's distance of the first sigma of a flow from 1, where there is no picture at all.
const BELOW_ONE: f64 = 1e-6;

/// What scheduler_config.json says.
#[derive(Debug, Clone)]
pub(super) struct Config {
    table: Table,
    timesteps: Timesteps,
    method: Method,
    sigmas: Sigmas,
    flow: Option<Flow>,
    last: Final,
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    shift: f64,
    dynamic: Option<Dynamic>,
    terminal: Option<f64>,
}

impl Config {
    pub fn read(reader: &Reader<'_>) -> Result<Self> {
        let alphas = betas::alphas(reader, &betas::USUAL)?;
        if reader.0.get("solver_p").is_some() {
            let message = "another scheduler as the predictor is not supported; leave it out";
            return Err(reader.fault("solver_p", message));
        }
        let last = Final::read(reader)?;
        let sigmas = Sigmas::read(reader)?;
        let flow = read_flow(reader)?;
        if flow.is_some() && !matches!(sigmas.course, Course::Plain | Course::Karras) {
            let message = "true goes with use_karras_sigmas alone: set use_exponential_sigmas and use_beta_sigmas to false";
            return Err(reader.fault("use_flow_sigmas", message));
        }
        Ok(Self {
            table: Table::new(&alphas),
            timesteps: Timesteps::read(reader, Spacing::Linspace)?,
            method: read_method(reader, last)?,
            sigmas,
            flow,
            last,
        })
    }

    pub fn grid(&self, wanted: Wanted<'_>, asked: &Asked) -> Result<Grid> {
        let given = match (wanted, &self.flow, self.sigmas.course) {
            (Wanted::Steps(steps), ..) => Err(steps),
            (Wanted::Sigmas(list), Some(_), Course::Plain) => Ok(list),
            (Wanted::Sigmas(_), ..) => {
                return Err(not_taken(
                    "sigmas",
                    NAME,
                    "only with use_flow_sigmas, and without karras sigmas",
                ));
            }
            (Wanted::Timesteps(_), ..) => {
                return Err(not_taken("timesteps", NAME, "say how many steps"));
            }
        };
        let (timesteps, laid) = match (given, &self.flow) {
            (given, Some(flow)) if self.sigmas.course == Course::Plain => {
                self.flow_course(flow, given, asked)?
            }
            (Err(steps), _) => self.noise_course(steps),
            (Ok(_), _) => return Err(not_taken("sigmas", NAME, "say how many steps")),
        };
        let end = match (self.last, self.sigmas.course, &self.flow) {
            (Final::Zero, ..) => 0.0,
            (Final::SigmaMin, Course::Plain, None) => self.table.lowest(),
            // The reference stands still in the last step of its other courses.
            (Final::SigmaMin, ..) => laid.last().copied().unwrap_or_default() as f32,
        };
        let sigmas = laid.iter().map(|sigma| *sigma as f32);
        let grid = Grid {
            steps: timesteps.len(),
            sigmas: sigmas.chain(std::iter::once(end)).collect(),
            timesteps: whole(timesteps),
        };
        check_falls(&grid, self.method.lower_order_final)?;
        Ok(grid)
    }

    fn noise_course(&self, steps: usize) -> (Vec<f64>, Vec<f64>) {
        let (high, low) = (self.table.highest(), self.table.lowest());
        let train = self.timesteps.train as f64;
        let Some(laid) = self.sigmas.lay(high.into(), low.into(), steps) else {
            let timesteps = self.timesteps.lay_multistep(steps, self.timesteps.train);
            let laid = timesteps.iter().map(|t| self.table.at(*t)).collect();
            return (timesteps, laid);
        };
        if self.flow.is_some() {
            let laid: Vec<f64> = laid
                .into_iter()
                .map(|sigma| sigma / (sigma + 1.0))
                .collect();
            return (laid.iter().map(|sigma| sigma * train).collect(), laid);
        }
        let found = laid.iter().map(|sigma| self.table.timestep_of(*sigma));
        let timesteps = if self.sigmas.course == Course::Karras {
            found.map(f64::round_ties_even).collect()
        } else {
            found.collect()
        };
        (timesteps, laid)
    }

    /// Sigmas of a flow: given (`Ok`), or so many (`Err`).
    fn flow_course(
        &self,
        flow: &Flow,
        given: Result<&[f64], usize>,
        asked: &Asked,
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let train = self.timesteps.train as f64;
        let mut laid = match given {
            Ok(list) if list.iter().all(|sigma| *sigma > 0.0 && *sigma <= 1.0) => list.to_vec(),
            Ok(_) => return Err(wrong("sigmas", "those of a flow are above 0 and at most 1")),
            Err(steps) => {
                let mut all = linspace(1.0, 1.0 / train, steps + 1);
                all.truncate(steps);
                all
            }
        };
        match &flow.dynamic {
            Some(dynamic) => {
                let shift = dynamic.shift(asked)?;
                laid.iter_mut()
                    .for_each(|t| *t = Rounding::Double.dynamic_shift(shift, *t));
            }
            None => laid
                .iter_mut()
                .for_each(|t| *t = Rounding::Double.shift(flow.shift, *t)),
        }
        if let Some(terminal) = flow.terminal {
            Rounding::Double.stretch(&mut laid, terminal);
        }
        if let Some(first) = laid.first_mut()
            && (*first - 1.0).abs() < BELOW_ONE
        {
            *first -= BELOW_ONE;
        }
        let timesteps = laid.iter().map(|sigma| sigma * train).collect();
        Ok((timesteps, laid))
    }

    pub fn solver(&self, grid: &Grid) -> Solver {
        let levels = Levels::new(grid, self.flow.is_some());
        Solver::new(self.method.clone(), levels)
    }
}

fn read_flow(reader: &Reader<'_>) -> Result<Option<Flow>> {
    let flow = Flow {
        shift: flow_match::shift(reader, "flow_shift")?,
        dynamic: Dynamic::read(reader)?,
        terminal: flow_match::shift_terminal(reader)?,
    };
    let on = reader.flag("use_flow_sigmas", false)?;
    if !on && flow.terminal.is_some() {
        let message = "it goes with use_flow_sigmas only: set that to true, or leave this out";
        return Err(reader.fault("shift_terminal", message));
    }
    Ok(on.then_some(flow))
}

fn read_method(reader: &Reader<'_>, last: Final) -> Result<Method> {
    // DPM-Solver's types come from its configurations, which the reference takes for bh2.
    let types = [
        ("bh2", SolverType::Bh2),
        ("bh1", SolverType::Bh1),
        ("midpoint", SolverType::Bh2),
        ("heun", SolverType::Bh2),
        ("logrho", SolverType::Bh2),
    ];
    let predict_x0 = reader.flag("predict_x0", true)?;
    let words = if predict_x0 {
        prediction::ALL
    } else {
        prediction::USUAL
    };
    let method = Method {
        order: reader.whole("solver_order", 1..=4, 2)?,
        predict_x0,
        solver_type: reader.choice("solver_type", &types, SolverType::Bh2)?,
        prediction: reader.choice("prediction_type", words, Prediction::Epsilon)?,
        clip: Clip::thresholding(reader)?,
        lower_order_final: reader.flag("lower_order_final", true)?,
        disable_corrector: disable_corrector(reader)?,
    };
    if last == Final::Zero && method.order > 1 && !method.lower_order_final {
        let message = "false makes numbers that are none at a last sigma of zero: set it to true, or final_sigmas_type to \"sigma_min\"";
        return Err(reader.fault("lower_order_final", message));
    }
    if last == Final::Zero && !predict_x0 {
        let message = "false makes numbers that are none at a last sigma of zero: set it to true, or final_sigmas_type to \"sigma_min\"";
        return Err(reader.fault("predict_x0", message));
    }
    Ok(method)
}

/// The steps whose output corrects nothing.
fn disable_corrector(reader: &Reader<'_>) -> Result<Vec<usize>> {
    let listed = reader
        .numbers("disable_corrector", betas::MOST_TRAIN_STEPS)?
        .unwrap_or_default();
    match listed
        .iter()
        .find(|step| step.fract() != 0.0 || **step < 0.0)
    {
        Some(bad) => {
            let message = format!("{bad} is not the number of a step");
            Err(reader.fault("disable_corrector", message))
        }
        None => Ok(listed.into_iter().map(|step| step as usize).collect()),
    }
}
