//! DPM-Solver and DPM-Solver++ of one to three steps, and their stochastic forms (Lu et al.): what the configuration says and the grid.
//! Mirrors `DPMSolverMultistepScheduler` in diffusers' `scheduling_dpmsolver_multistep.py`; the step itself is in `dpm_step`.

use std::sync::Arc;

use super::arrays::linspace;
use super::asked::{Asked, Grid, Wanted, not_taken, whole_timesteps};
use super::betas::{self, ZeroSnr};
use super::dpm_singlestep;
pub(super) use super::dpm_step::Solver;
use super::dpm_step::{Algorithm, Method, SolverType};
use super::flow_match::{self, Dynamic};
use super::multistep::{History, Levels, check_falls, whole};
use super::prediction::{self, Clip, Prediction};
use super::reader::Reader;
use super::sigmas::{Course, Final, Sigmas, Table};
use super::spacing::{Spacing, Timesteps};
use crate::error::Result;

const NAME: &str = "DPMSolverMultistepScheduler";

/// What scheduler_config.json says.
#[derive(Debug, Clone)]
pub(super) struct Config {
    alphas: Arc<[f32]>,
    table: Table,
    timesteps: Timesteps,
    method: Method,
    course: DpmCourse,
    /// Timesteps of Karras' sigmas are rounded, except over this schedule.
    cosine: bool,
    last: Final,
    lambda_min_clipped: f64,
    single: Single,
}

/// Whether this is the class of single steps.
#[derive(Debug, Clone, Copy)]
struct Single(bool);

#[derive(Debug, Clone, Copy)]
enum DpmCourse {
    Sigmas(Sigmas),
    /// Evenly in λ (`use_lu_lambdas`).
    Lu,
    Flow {
        shift: f64,
        dynamic: Option<Dynamic>,
    },
}

impl Config {
    /// The single steps have no spacing, offset, rescaling and lu lambdas, and round Karras' timesteps over any schedule.
    pub fn read_singlestep(reader: &Reader<'_>) -> Result<Self> {
        let defaults = betas::Defaults {
            zero_snr: ZeroSnr::Unknown,
            ..betas::USUAL
        };
        let single = Single(true);
        let mut config = Self::of(reader, &defaults, single)?;
        config.timesteps.spacing = Spacing::Linspace;
        config.timesteps.offset = 0;
        config.cosine = false;
        Ok(config)
    }

    pub fn read(reader: &Reader<'_>) -> Result<Self> {
        Self::of(reader, &betas::USUAL, Single(false))
    }

    fn of(reader: &Reader<'_>, defaults: &betas::Defaults, single: Single) -> Result<Self> {
        let alphas = betas::alphas(reader, defaults)?;
        let last = Final::read(reader)?;
        let cosine = reader.0.text("beta_schedule")? == Some("squaredcos_cap_v2");
        // Models whose output has a learned variance drop it before the scheduler, all but the pixel models.
        if let Some(kind) = reader.0.text("variance_type")?
            && kind.starts_with("learned")
        {
            let message = format!(
                "{kind:?} is not supported: the scheduler takes the noise alone; leave it out"
            );
            return Err(reader.fault("variance_type", message));
        }
        Ok(Self {
            table: Table::new(&alphas),
            alphas,
            timesteps: Timesteps::read(reader, Spacing::Linspace)?,
            method: read_method(reader, last, single)?,
            course: read_course(reader, single)?,
            single,
            cosine,
            last,
            lambda_min_clipped: lambda_min_clipped(reader)?,
        })
    }

    pub fn grid(&self, wanted: Wanted<'_>, asked: &Asked) -> Result<Grid> {
        let steps = match wanted {
            Wanted::Steps(steps) => steps,
            Wanted::Timesteps(list) => return self.of_timesteps(list),
            Wanted::Sigmas(_) => return Err(not_taken("sigmas", NAME, "give steps or timesteps")),
        };
        let rounded = |timesteps: Vec<f64>| -> Vec<f64> {
            if self.cosine {
                return timesteps;
            }
            timesteps.into_iter().map(f64::round_ties_even).collect()
        };
        let (timesteps, laid) = match self.course {
            DpmCourse::Flow { shift, dynamic } => self.flow(steps, shift, dynamic, asked)?,
            DpmCourse::Lu => {
                let (low, high) = (self.table.lowest(), self.table.highest());
                let round_log = |sigma: f32| f64::from(f64::from(sigma).ln() as f32);
                let (low, high) = (round_log(low), round_log(high));
                let ramp = linspace(0.0, 1.0, steps).into_iter();
                let laid: Vec<f64> = ramp.map(|x| (high + x * (low - high)).exp()).collect();
                (rounded(self.timesteps_of(&laid)), laid)
            }
            DpmCourse::Sigmas(sigmas) => {
                let (high, low) = (self.table.highest(), self.table.lowest());
                match sigmas.lay(high.into(), low.into(), steps) {
                    None => return self.plain(self.timesteps.lay_multistep(steps, self.in_use())),
                    Some(laid) if sigmas.course == Course::Karras => {
                        (rounded(self.timesteps_of(&laid)), laid)
                    }
                    Some(laid) => (self.timesteps_of(&laid), laid),
                }
            }
        };
        self.finish(timesteps, &laid)
    }

    fn timesteps_of(&self, laid: &[f64]) -> Vec<f64> {
        laid.iter()
            .map(|sigma| self.table.timestep_of(*sigma))
            .collect()
    }

    fn of_timesteps(&self, list: &[f64]) -> Result<Grid> {
        let plain =
            matches!(self.course, DpmCourse::Sigmas(sigmas) if sigmas.course == Course::Plain);
        if !plain {
            let instead = "with karras, exponential, beta, lu or flow sigmas say how many steps";
            return Err(not_taken("timesteps", NAME, instead));
        }
        self.plain(whole_timesteps(list)?)
    }

    fn plain(&self, timesteps: Vec<f64>) -> Result<Grid> {
        let laid: Vec<f64> = timesteps.iter().map(|t| self.table.at(*t)).collect();
        self.finish(timesteps, &laid)
    }

    fn flow(
        &self,
        steps: usize,
        shift: f64,
        dynamic: Option<Dynamic>,
        asked: &Asked,
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let train = self.alphas.len() as f64;
        let shift = match dynamic {
            Some(dynamic) => dynamic.shift(asked)?,
            None => shift,
        };
        let alphas = linspace(1.0, 1.0 / train, steps + 1).into_iter();
        let noise = alphas.map(|alpha| 1.0 - alpha);
        let mut laid: Vec<f64> = noise
            .map(|s| shift * s / (1.0 + (shift - 1.0) * s))
            .collect();
        laid.reverse();
        laid.truncate(steps);
        let timesteps = laid.iter().map(|sigma| sigma * train).collect();
        Ok((timesteps, laid))
    }

    /// The timesteps that `lambda_min_clipped` leaves.
    fn in_use(&self) -> usize {
        let lambda = |alpha: &f32| alpha.sqrt().ln() - (1.0 - alpha).sqrt().ln();
        let clipped = self.lambda_min_clipped as f32;
        let below = self
            .alphas
            .iter()
            .filter(|alpha| lambda(alpha) < clipped)
            .count();
        self.alphas.len() - below
    }

    fn finish(&self, timesteps: Vec<f64>, laid: &[f64]) -> Result<Grid> {
        let end = self.last.sigma(self.table.lowest());
        let sigmas = laid.iter().map(|sigma| *sigma as f32);
        let grid = Grid {
            steps: timesteps.len(),
            sigmas: sigmas.chain(std::iter::once(end)).collect(),
            timesteps: whole(timesteps),
        };
        check_falls(
            &grid,
            !self.single.0 && self.method.ends_in_first_order(grid.steps),
        )?;
        Ok(grid)
    }

    pub fn solver(&self, grid: &Grid) -> super::solver::Solver {
        let flow = matches!(self.course, DpmCourse::Flow { .. });
        let levels = Levels::new(grid, flow);
        if self.single.0 {
            return super::solver::Solver::DpmSingle(dpm_singlestep::Solver::new(
                self.method,
                levels,
            ));
        }
        let history = History::new(self.method.order);
        super::solver::Solver::Dpm(Solver::new(self.method, levels, history))
    }
}

fn read_method(reader: &Reader<'_>, last: Final, single: Single) -> Result<Method> {
    // "deis" and UniPC's solver types come from configurations of other classes, which the reference takes for its own defaults.
    let algorithms = [
        ("dpmsolver++", Algorithm::DataOde),
        ("dpmsolver", Algorithm::NoiseOde),
        ("sde-dpmsolver++", Algorithm::DataSde),
        ("sde-dpmsolver", Algorithm::NoiseSde),
        ("deis", Algorithm::DataOde),
    ];
    let types = [
        ("midpoint", SolverType::Midpoint),
        ("heun", SolverType::Heun),
        ("logrho", SolverType::Midpoint),
        ("bh1", SolverType::Midpoint),
        ("bh2", SolverType::Midpoint),
    ];
    let algorithm = reader.choice("algorithm_type", &algorithms, Algorithm::DataOde)?;
    if !algorithm.of_data() && last == Final::Zero {
        let message = "\"zero\" is not for algorithm_type \"dpmsolver\" and \"sde-dpmsolver\": set it to \"sigma_min\", or take \"dpmsolver++\"";
        return Err(reader.fault("final_sigmas_type", message));
    }
    let words = if algorithm.of_data() {
        prediction::ALL
    } else {
        prediction::USUAL
    };
    if single.0 && algorithm == Algorithm::NoiseSde {
        let message =
            "\"sde-dpmsolver\" is not for DPMSolverSinglestepScheduler: take \"sde-dpmsolver++\"";
        return Err(reader.fault("algorithm_type", message));
    }
    let order = reader.whole("solver_order", 1..=3, 2)?;
    if algorithm == Algorithm::NoiseSde && order == 3 {
        let message = "3 is not for algorithm_type \"sde-dpmsolver\": set it to 1 or 2";
        return Err(reader.fault("solver_order", message));
    }
    Ok(Method {
        order,
        algorithm,
        solver_type: reader.choice("solver_type", &types, SolverType::Midpoint)?,
        prediction: reader.choice("prediction_type", words, Prediction::Epsilon)?,
        clip: Clip::thresholding(reader)?,
        lower_order_final: reader.flag("lower_order_final", !single.0)?,
        euler_at_final: reader.flag("euler_at_final", false)?,
        ends_in_zero: last == Final::Zero,
    })
}

fn read_course(reader: &Reader<'_>, single: Single) -> Result<DpmCourse> {
    let sigmas = Sigmas::read(reader)?;
    let flow = reader.flag("use_flow_sigmas", false)?;
    let lu = !single.0 && reader.flag("use_lu_lambdas", false)?;
    let shift = flow_match::shift(reader, "flow_shift")?;
    match (sigmas.course, flow, lu) {
        (_, false, false) => Ok(DpmCourse::Sigmas(sigmas)),
        (Course::Plain, false, true) => Ok(DpmCourse::Lu),
        (Course::Plain, true, false) => Ok(DpmCourse::Flow {
            shift,
            dynamic: Dynamic::read(reader)?,
        }),
        _ => {
            let message = "only one of karras, exponential, beta, lu and flow sigmas may be in use";
            Err(reader.fault("use_flow_sigmas, use_lu_lambdas", message))
        }
    }
}

/// A number, or minus infinity, which Python writes as `-Infinity`; see [`super::file`].
fn lambda_min_clipped(reader: &Reader<'_>) -> Result<f64> {
    if reader
        .0
        .get("lambda_min_clipped")
        .and_then(|value| value.as_str())
        == Some(super::file::MINUS_INFINITY)
    {
        return Ok(f64::NEG_INFINITY);
    }
    reader.number_or("lambda_min_clipped", -1e3..=0.0, f64::NEG_INFINITY)
}
