//! A scheduler's configuration: read from scheduler_config.json, changed by a request, and planned into a run.
//! Apart from the classes, each of which reads its own fields and lays its own grid.

use std::ops::Range;

use chandler_nn::fields::Fields;
use chandler_nn::weights::Snapshot;
use serde_json::{Map, Value, json};

use super::asked::{Asked, Grid, Wanted, wrong};
use super::class::Class;
use super::names;
use super::reader::Reader;
use super::sampler::{Pace, Sampler};
use super::solver::Solver;
use super::{betas, ddim, ddpm, dpm_solver, euler, file, flow_match, heun, lcm, lms, pndm, unipc};
use crate::error::Result;

/// What errors call the configuration.
const FILE: &str = "scheduler_config.json";

/// A scheduler with its fields checked. Cheap to clone beside its tables, which a change reads again.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    class: Class,
    fields: Map<String, Value>,
    train: usize,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Ddim(ddim::Config),
    Ddpm(ddpm::Config),
    Pndm(pndm::Config),
    Euler(euler::Config),
    Heun(heun::Config),
    DpmSolver(dpm_solver::Config),
    UniPc(unipc::Config),
    Lcm(lcm::Config),
    Lms(lms::Config),
    FlowMatchEuler(flow_match::Config),
    FlowMatchHeun(heun::FlowConfig),
}

impl SchedulerConfig {
    /// The configuration in a snapshot's file (`scheduler/scheduler_config.json`), or nothing when it is not there.
    ///
    /// # Errors
    /// As [`SchedulerConfig::read`], and when the file is no JSON object.
    pub fn load(snapshot: &Snapshot, file: &str) -> Result<Option<Self>> {
        let fields = file::load(snapshot, file)?;
        fields.map(|fields| Self::read(&fields)).transpose()
    }

    /// The configuration in a file's fields, of the class that `_class_name` names. Fields that are not there are as the class has
    /// them in diffusers; fields of other classes are kept for [`SchedulerConfig::with`].
    ///
    /// # Errors
    /// Names a class that is not supported, and a field whose value would not do.
    pub fn read(fields: &Fields) -> Result<Self> {
        let Some(name) = fields.text("_class_name")? else {
            return Err(fields.fault("_class_name", "it is missing").into());
        };
        let class = names::find_class(name)
            .map_err(|error| fields.fault("_class_name", error.to_string()))?;
        let Value::Object(mut map) = fields.clone().into_value() else {
            return Err(fields.fault("_class_name", "there is no object").into());
        };
        // diffusers notes there which fields a file did not have, so that another class brings its own defaults.
        if let Some(Value::Array(defaults)) = map.remove("_use_default_values") {
            for field in defaults.iter().filter_map(Value::as_str) {
                map.remove(field);
            }
        }
        let known = |field: &str| {
            Class::ALL
                .iter()
                .any(|class| class.fields().contains(&field))
        };
        for field in map
            .keys()
            .filter(|field| !field.starts_with('_') && !known(field))
        {
            tracing::warn!(
                field,
                "no scheduler here has this field; it is ignored, as diffusers does"
            );
        }
        Self::of(class, map, fields)
    }

    /// Another class over the same model (`Scheduler.from_config(other.config)` in diffusers: betas, prediction type, spacing and
    /// what else both have carry over), or the same one, with some fields set. A flow stays a flow: over one, "Euler" and "Heun" are
    /// those of flow matching, and DPM-Solver and UniPC are set to flow sigmas of the same shift.
    ///
    /// # Errors
    /// For an unknown name, with the known ones; for a class that cannot run the model; for a field that the class does not have, with
    /// those it has; and for a value that would not do.
    pub fn with(&self, name: Option<&str>, overrides: &Map<String, Value>) -> Result<Self> {
        let flow = self.is_flow();
        let (class, set) = match name {
            Some(name) => names::find(name, flow)?,
            None => (self.class, Map::new()),
        };
        if flow && !class.takes_flow() {
            let message = format!(
                "{} is for models that predict noise, and this one predicts a flow: FlowMatchEulerDiscrete, FlowMatchHeunDiscrete, DPMSolverMultistep or UniPCMultistep would do",
                class.name()
            );
            return Err(wrong("scheduler", message));
        }
        if !flow && class.is_flow() {
            let message = format!(
                "{} is for models that predict a flow, and this one predicts noise: Euler, Heun, DPMSolverMultistep or another would do",
                class.name()
            );
            return Err(wrong("scheduler", message));
        }
        let mut fields = self.fields.clone();
        if flow && class != self.class {
            carry_flow(class, &mut fields);
        }
        fields.extend(set);
        let known = class.fields();
        if let Some(field) = overrides
            .keys()
            .find(|field| !known.contains(&field.as_str()))
        {
            let short: String = field.chars().take(60).collect();
            let message = format!(
                "{} has no such field; it has {}",
                class.name(),
                known.join(", ")
            );
            return Err(wrong(&format!("scheduler_config: {short}"), message));
        }
        fields.extend(
            overrides
                .iter()
                .map(|(field, value)| (field.clone(), value.clone())),
        );
        fields.insert("_class_name".to_owned(), json!(class.name()));
        let source = Fields::of(FILE, Value::Object(fields.clone()));
        Self::of(class, fields, &source)
    }

    fn of(class: Class, fields: Map<String, Value>, source: &Fields) -> Result<Self> {
        let reader = Reader(source);
        let kind = match class {
            Class::Ddim => Kind::Ddim(ddim::Config::read(&reader)?),
            Class::Ddpm => Kind::Ddpm(ddpm::Config::read(&reader)?),
            Class::Pndm => Kind::Pndm(pndm::Config::read(&reader)?),
            Class::Euler => Kind::Euler(euler::Config::read(&reader)?),
            Class::EulerAncestral => Kind::Euler(euler::Config::read_ancestral(&reader)?),
            Class::Heun => Kind::Heun(heun::Config::read(&reader)?),
            Class::DpmSolverMultistep => Kind::DpmSolver(dpm_solver::Config::read(&reader)?),
            Class::DpmSolverSinglestep => {
                Kind::DpmSolver(dpm_solver::Config::read_singlestep(&reader)?)
            }
            Class::Lms => Kind::Lms(lms::Config::read(&reader)?),
            Class::UniPcMultistep => Kind::UniPc(unipc::Config::read(&reader)?),
            Class::Lcm => Kind::Lcm(lcm::Config::read(&reader)?),
            Class::FlowMatchEuler => Kind::FlowMatchEuler(flow_match::Config::read(&reader)?),
            Class::FlowMatchHeun => Kind::FlowMatchHeun(heun::FlowConfig::read(&reader)?),
        };
        Ok(Self {
            class,
            train: betas::train_steps(&reader)?,
            fields,
            kind,
        })
    }

    /// The class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The number of timesteps that the model was trained on.
    pub fn train_steps(&self) -> usize {
        self.train
    }

    /// The fields as they are written, to be told with a picture.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// Whether the model predicts a flow and not noise.
    pub fn is_flow(&self) -> bool {
        let text = |field: &str| self.fields.get(field).and_then(Value::as_str);
        let on = self.fields.get("use_flow_sigmas").and_then(Value::as_bool);
        self.class.is_flow()
            || (self.class.takes_flow()
                && (on == Some(true) || text("prediction_type") == Some("flow_prediction")))
    }

    /// A run as it is asked for.
    ///
    /// # Errors
    /// Names a field of `asked` that is missing or would not do, or that this class does not take.
    pub fn plan(&self, asked: &Asked) -> Result<Sampler> {
        if asked.eta.is_some_and(|eta| eta != 0.0) && self.class != Class::Ddim {
            let message = format!(
                "it is for DDIMScheduler, and {} has no such weight: leave it out",
                self.class.name()
            );
            return Err(wrong("eta", message));
        }
        let grid = self.grid(asked)?;
        let by_fraction = asked.end.is_some() || matches!(asked.begin, super::Begin::Fraction(_));
        let told = match &self.kind {
            Kind::Euler(config) => config.has_training_timesteps(),
            _ => true,
        };
        if by_fraction && !told {
            let message = "a part of the course cannot be told with timestep_type \"continuous\": give strength, or run it all";
            return Err(wrong("begin, end", message));
        }
        let pace = self.pace();
        let order = if pace == Pace::Pairs { 2 } else { 1 };
        let run = asked.window(&grid, order, !self.is_flow(), self.train)?;
        let solver = self.solver(&grid, asked, &run)?;
        let init_noise_sigma = match &self.kind {
            Kind::Euler(config) => config.init_noise_sigma(&grid),
            Kind::Heun(config) => config.init_noise_sigma(&grid),
            Kind::Lms(config) => config.init_noise_sigma(&grid),
            _ => 1.0,
        };
        Ok(Sampler::new(
            grid.timesteps,
            run,
            solver,
            pace,
            init_noise_sigma,
        ))
    }

    fn grid(&self, asked: &Asked) -> Result<Grid> {
        // Flows count from 1, where there is nothing but noise at the last.
        let highest = self.train - usize::from(!self.class.is_flow());
        let wanted: Wanted<'_> = asked.wanted(self.train, highest)?;
        match &self.kind {
            Kind::Ddim(config) => config.grid(wanted),
            Kind::Ddpm(config) => config.grid(wanted),
            Kind::Pndm(config) => config.grid(wanted, asked.begin),
            Kind::Euler(config) => config.grid(wanted),
            Kind::Heun(config) => config.grid(wanted),
            Kind::DpmSolver(config) => config.grid(wanted, asked),
            Kind::UniPc(config) => config.grid(wanted, asked),
            Kind::Lcm(config) => config.grid(wanted),
            Kind::Lms(config) => config.grid(wanted),
            Kind::FlowMatchEuler(config) => config.grid(wanted, asked),
            Kind::FlowMatchHeun(config) => config.grid(wanted),
        }
    }

    fn solver(&self, grid: &Grid, asked: &Asked, run: &Range<usize>) -> Result<Solver> {
        Ok(match &self.kind {
            Kind::Ddim(config) => Solver::Ddim(config.solver(grid, asked)?),
            Kind::Ddpm(config) => Solver::Ddpm(config.solver(grid)),
            Kind::Pndm(config) => Solver::Pndm(config.solver(grid, run)?),
            Kind::Euler(config) => Solver::Euler(config.solver(grid)),
            Kind::Heun(config) => Solver::Heun(config.solver(grid)),
            Kind::DpmSolver(config) => config.solver(grid),
            Kind::Lms(config) => Solver::Lms(config.solver(grid)),
            Kind::UniPc(config) => Solver::UniPc(config.solver(grid)),
            Kind::Lcm(config) => Solver::Lcm(config.solver(grid)),
            Kind::FlowMatchEuler(config) => Solver::FlowMatch(config.solver(grid)),
            Kind::FlowMatchHeun(config) => Solver::Heun(config.solver(grid)),
        })
    }

    fn pace(&self) -> Pace {
        match &self.kind {
            Kind::Heun(_) | Kind::FlowMatchHeun(_) => Pace::Pairs,
            Kind::Pndm(config) if config.skip_prk_steps => Pace::FirstTwice,
            Kind::Pndm(_) => Pace::RungeKutta,
            _ => Pace::Each,
        }
    }
}

/// Says a flow in the fields of another class.
fn carry_flow(class: Class, fields: &mut Map<String, Value>) {
    if class.is_flow() {
        if let Some(shift) = fields.get("flow_shift").cloned() {
            fields.entry("shift").or_insert(shift);
        }
        return;
    }
    let shift = fields.get("shift").cloned();
    fields.insert("prediction_type".to_owned(), json!("flow_prediction"));
    fields.insert("use_flow_sigmas".to_owned(), json!(true));
    if let Some(shift) = shift {
        fields.entry("flow_shift").or_insert(shift);
    }
}
