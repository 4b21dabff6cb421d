//! The steps of a request: of the model, and of the refiner that goes on with its drawings. Apart from `prepare`, which puts everything
//! else of a request together.

use chandler_core::{Denoising, Recipe, RequestError};

use super::drawing::{Drawing, Refinement};
use super::prepare::ImagePreparer;
use super::refiner::HandOver;
use crate::error::ImageError;
use crate::schedulers::{self, Begin, Class, Sampler, SchedulerConfig};

/// Steps of a latent consistency model, when nobody says: `LatentConsistencyModelPipeline.__call__`.
const LCM_STEPS: u32 = 4;

/// Steps that are to be laid out.
pub(super) struct Laying<'a> {
    pub(super) scheduler: &'a SchedulerConfig,
    pub(super) denoising: &'a Denoising,
    pub(super) begin: Begin,
    /// The part of the noise's course at which they end.
    pub(super) end: Option<f64>,
}

/// Steps that are laid out.
pub(super) struct Laid {
    pub(super) sampler: Sampler,
    /// The scheduler's class in diffusers.
    class: &'static str,
    /// How many there are from noise to picture, where they were not given one by one.
    pub(super) steps: Option<usize>,
}

/// The steps of all experts.
pub(super) struct Legs {
    base: Laid,
    refining: Refinement,
    hand_over: HandOver,
}

impl ImagePreparer {
    /// The steps of a request.
    pub(super) fn legs(
        &self,
        denoising: &Denoising,
        (begin, hand_over): (Begin, HandOver),
        latent: [usize; 3],
    ) -> Result<Legs, RequestError> {
        let lay = |laying: &Laying<'_>| self.lay(laying, latent);
        let both = |hand_over: HandOver| -> Result<Legs, RequestError> {
            let base = lay(&Laying {
                scheduler: &self.scheduler,
                denoising,
                begin,
                end: hand_over.end(),
            })?;
            let refining = match &self.refiner {
                Some(refiner) => refiner.steps((denoising, base.steps), hand_over, &lay)?,
                None => Refinement::Never,
            };
            Ok(Legs {
                base,
                refining,
                hand_over,
            })
        };
        match (both(hand_over), hand_over) {
            // Nobody has asked for a refiner, and there are too few steps for two.
            (Err(_), HandOver::At { asked: false, .. }) => both(HandOver::Never),
            (legs, _) => legs,
        }
    }

    /// Lays steps out.
    fn lay(&self, laying: &Laying<'_>, latent: [usize; 3]) -> Result<Laid, RequestError> {
        let Laying {
            scheduler,
            denoising,
            begin,
            end,
        } = *laying;
        let config = scheduler
            .with(denoising.scheduler.as_deref(), &denoising.scheduler_config)
            .map_err(|error| of_scheduler(&error))?;
        let given = denoising.timesteps.is_some() || denoising.sigmas.is_some();
        let steps = denoising
            .steps
            .or_else(|| (!given).then(|| self.usual_steps(config.class(), begin)));
        let [_, rows, columns] = latent;
        let steps = steps.map(|steps| steps as usize);
        // FLUX lays its noise levels itself; another scheduler than its own keeps to its own.
        let laid = match (self.design.sigmas, steps) {
            (Some(lay), Some(steps))
                if config.class() == Class::FlowMatchEuler
                    && (1..=config.train_steps()).contains(&steps) =>
            {
                Some(lay(steps))
            }
            _ => None,
        };
        let sampler = config
            .plan(&schedulers::Asked {
                steps: steps.filter(|_| laid.is_none()),
                timesteps: denoising.timesteps.clone(),
                sigmas: laid.or_else(|| denoising.sigmas.clone()),
                eta: denoising.eta,
                begin,
                end,
                image_seq_len: Some(rows * columns / self.design.patch.pow(2)),
            })
            .map_err(|error| of_scheduler(&error))?;
        Ok(Laid {
            sampler,
            class: config.class().name(),
            steps,
        })
    }

    fn usual_steps(&self, class: Class, begin: Begin) -> u32 {
        let [anew, begun] = self.design.defaults.steps;
        self.usual.steps.unwrap_or(match (class, begin) {
            (Class::Lcm, _) => LCM_STEPS,
            (_, Begin::Noise) => anew,
            _ => begun,
        })
    }
}

impl Legs {
    pub(super) fn is_refined(&self) -> bool {
        self.hand_over != HandOver::Never
    }

    /// What they have in the recipe of the pictures.
    pub(super) fn recipe(&self) -> Recipe {
        let all = Drawing::new((0, 0), self.base.sampler.clone(), self.refining.clone());
        let [_, steps] = all.steps();
        Recipe {
            steps: steps as u32,
            scheduler: self.base.class.to_owned(),
            denoising_end: self.hand_over.end(),
            refiner_strength: match self.hand_over {
                HandOver::Redrawn(strength) => Some(strength),
                HandOver::Never | HandOver::At { .. } => None,
            },
            ..Recipe::default()
        }
    }

    /// The pictures of a request: the first has the seed, and each other the next one.
    pub(super) fn drawings(&self, n: u32, seed: u64) -> Vec<Drawing> {
        let draw = |index: u32| {
            let own = (index, seed.wrapping_add(index.into()));
            Drawing::new(own, self.base.sampler.clone(), self.refining.clone())
        };
        (0..n.max(1)).map(draw).collect()
    }
}

/// What a scheduler refuses, as an error of the request; it begins with the field.
fn of_scheduler(error: &ImageError) -> RequestError {
    let text = error.to_string();
    let place = text.split([':', ',']).next().unwrap_or_default();
    let field = match place {
        "scheduler_config.json" => "scheduler_config",
        "end" => "denoising_end",
        "begin" => "strength",
        other => other,
    };
    match field.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        true => RequestError::field(field.to_owned(), text),
        false => RequestError::field("scheduler", text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedulers_refusal_names_its_field() {
        let error = of_scheduler(&ImageError::Input("steps: 0 is no number".to_owned()));
        assert_eq!(error.field.as_deref(), Some("steps"));
        let several = ImageError::Input("steps, sigmas: one of them is to be given".to_owned());
        assert_eq!(of_scheduler(&several).field.as_deref(), Some("steps"));
        let error = of_scheduler(&ImageError::Input("no such thing: x".to_owned()));
        assert_eq!(error.field.as_deref(), Some("scheduler"));
    }
}
