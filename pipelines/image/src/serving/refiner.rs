//! A refiner beside a model: what it must be to go on with the model's drawings, and where it does so with a request's. As an ensemble of
//! experts after `diffusers` pipeline_stable_diffusion_xl.py (`denoising_end`) and …_img2img.py (`denoising_start`), or over drawings that
//! are finished, as image-to-image of their latents. Apart from `prepare`, which puts everything else of a request together.

use chandler_core::{Denoising, ImageInput, Micro, Prompts, RequestError};
use chandler_nn::weights::Snapshot;

use super::drawing::Refinement;
use super::guidance::within;
use super::legs::{Laid, Laying};
use super::plan::Plan;
use super::reading::{Reader, Reading, Sought, Told};
use crate::error::{ImageError, Result};
use crate::model_index::Family;
use crate::schedulers::{Begin, SchedulerConfig};

/// Where a refiner goes on when nobody says: `high_noise_frac` in diffusers' documentation of SDXL ("Refine image quality").
const USUAL_END: f64 = 0.8;

/// A refiner that may be built.
pub(super) struct RefinerPlan {
    pub(super) snapshot: Snapshot,
    pub(super) plan: Plan,
}

impl RefinerPlan {
    /// Reads a refiner's small files.
    ///
    /// # Errors
    /// Names what is wrong with them, or in what it does not go with the model.
    pub(super) fn read(snapshot: Option<&Snapshot>, base: &Plan) -> Result<Option<Self>> {
        let Some(snapshot) = snapshot else {
            return Ok(None);
        };
        let plan = Plan::read(snapshot).map_err(named)?;
        goes_with(&plan, base).map_err(named)?;
        Ok(Some(Self {
            snapshot: snapshot.clone(),
            plan,
        }))
    }

    /// What prepares requests for it.
    pub(super) fn preparing(&self) -> Result<Refiner> {
        Ok(Refiner {
            reader: self.plan.reader(&self.snapshot).map_err(named)?,
            scheduler: self.plan.scheduler.clone(),
        })
    }
}

/// An error about a refiner.
pub(super) fn named(error: ImageError) -> ImageError {
    ImageError::Input(format!("refiner: {error}"))
}

fn goes_with(refiner: &Plan, base: &Plan) -> Result<()> {
    let refuse = |message: String| Err(ImageError::Input(message));
    let xl = Family::StableDiffusionXl;
    if base.index.family != xl || refiner.index.family != xl {
        return refuse(format!(
            "{} does not go on with the drawings of {}: both must be of Stable Diffusion XL",
            refiner.index.class, base.index.class
        ));
    }
    let latents = |plan: &Plan| {
        let vae = &plan.vae;
        format!(
            "{} channels of {} pixels, {:?}",
            vae.latent_channels,
            vae.pixels(),
            vae.scaling
        )
    };
    if latents(refiner) != latents(base) {
        return refuse(format!(
            "its latents are {}, and the model's {}: it cannot go on with them",
            latents(refiner),
            latents(base)
        ));
    }
    if refiner.design.takes_mask || base.design.takes_mask {
        return refuse("of models that fill masked parts of pictures none is refined".to_owned());
    }
    if refiner.design.guided != base.design.guided {
        return refuse(format!(
            "it is guided {:?}, and the model {:?}: a request has one guidance for both",
            refiner.design.guided, base.design.guided
        ));
    }
    Ok(())
}

/// Prepares requests for a refiner.
pub(super) struct Refiner {
    reader: Reader,
    scheduler: SchedulerConfig,
}

/// What becomes of a drawing when the model is through with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum HandOver {
    /// It is finished.
    Never,
    /// At this part of the noise's course the refiner goes on, if both have a step then; whether somebody has asked for it.
    At { end: f64, asked: bool },
    /// It is finished, and the refiner changes so much of it.
    Redrawn(f64),
}

impl HandOver {
    /// What a request asks for.
    ///
    /// # Errors
    /// Names the field that there is no refiner for, or that does not go with another.
    pub(super) fn of(input: &ImageInput, is_loaded: bool) -> Result<Self, RequestError> {
        let Denoising { end, refining, .. } = &input.denoising;
        let end = end
            .map(|end| within("denoising_end", end, 1.0))
            .transpose()?;
        let early = end.filter(|end| *end < 1.0);
        let asked = [
            ("denoising_end", early.is_some()),
            ("refiner_strength", refining.strength.is_some()),
            ("refiner_inference_steps", refining.steps.is_some()),
        ];
        let asked = asked.into_iter().find(|(_, asked)| *asked);
        let field = asked.map(|(field, _)| field);
        let unsupported = |field: &str, message: &str| {
            let message = format!("{field}: {message}");
            Err(RequestError::unsupported(field.to_owned(), message))
        };
        let masked = input
            .start
            .as_ref()
            .is_some_and(|start| start.mask.is_some());
        match (field, early, refining.strength) {
            (Some(field), ..) if !is_loaded => unsupported(
                field,
                "this worker has no refiner to go on with its drawings; one is loaded with --refiner PLACE",
            ),
            (Some(field), ..) if masked => unsupported(
                field,
                "a picture that is filled under a mask is not refined",
            ),
            (_, Some(_), Some(_)) => unsupported(
                "refiner_strength",
                "denoising_end has the refiner go on with a drawing that is not finished, and this with one that is: give one of them",
            ),
            (_, Some(end), None) => Ok(Self::At { end, asked: true }),
            (_, None, Some(strength)) => Ok(Self::Redrawn(strength)),
            (Some(field), None, None) if end.is_some() => unsupported(
                field,
                "denoising_end is 1, and leaves the refiner nothing to do",
            ),
            // Somebody who says neither has the refiner for it; a first picture is the model's own to vary.
            (field, None, None)
                if is_loaded && end.is_none() && (field.is_some() || input.start.is_none()) =>
            {
                Ok(Self::At {
                    end: USUAL_END,
                    asked: field.is_some(),
                })
            }
            (_, None, None) => Ok(Self::Never),
        }
    }

    /// Where the model's own steps end.
    pub(super) fn end(self) -> Option<f64> {
        match self {
            Self::At { end, .. } => Some(end),
            Self::Never | Self::Redrawn(_) => None,
        }
    }
}

impl Refiner {
    /// What it has to do with a request's drawings, for which the model itself lays so many `steps`.
    pub(super) fn steps(
        &self,
        (denoising, steps): (&Denoising, Option<usize>),
        hand_over: HandOver,
        lay: &dyn Fn(&Laying<'_>) -> Result<Laid, RequestError>,
    ) -> Result<Refinement, RequestError> {
        let (begin, noised) = match hand_over {
            HandOver::Never => return Ok(Refinement::Never),
            HandOver::At { end, .. } => (Begin::Fraction(end), false),
            HandOver::Redrawn(strength) => (Begin::Strength(strength), true),
        };
        let own = denoising.refining.steps;
        let denoising = Denoising {
            steps: own.or(steps.map(|steps| steps as u32)),
            timesteps: denoising.timesteps.clone().filter(|_| own.is_none()),
            sigmas: denoising.sigmas.clone().filter(|_| own.is_none()),
            ..denoising.clone()
        };
        let laid = lay(&Laying {
            scheduler: &self.scheduler,
            denoising: &denoising,
            begin,
            end: None,
        });
        let laid = laid.map_err(|error| {
            let field = match error.field.as_deref() {
                Some("strength") if noised => "refiner_strength",
                Some("strength") => "denoising_end",
                Some("steps") if own.is_some() => "refiner_inference_steps",
                _ => return error,
            };
            let message = format!("{field}: of the refiner's steps, {}", error.message);
            RequestError::field(field, message)
        })?;
        Ok(Refinement::Coming {
            sampler: Box::new(laid.sampler),
            noised,
        })
    }

    /// A request's texts, of which it reads the first.
    pub(super) fn read(&self, sought: &Sought<'_>) -> Result<Reading, RequestError> {
        let first = |prompts: &Prompts| Prompts {
            first: prompts.first.clone(),
            ..Prompts::default()
        };
        let (prompt, negative) = (first(sought.prompt), first(sought.negative));
        let (reading, _) = self.reader.read(&Sought {
            prompt: &prompt,
            negative: &negative,
            ..*sought
        })?;
        Ok(reading)
    }
}

/// The first of a request's numbers that has no place in what the denoisers are told.
pub(super) fn untold(told: Told, refiner: Option<&Refiner>, micro: &Micro) -> Option<&'static str> {
    let field = told.untold(micro)?;
    match refiner {
        Some(refiner) if refiner.reader.told.untold(micro) != Some(field) => {
            // The one that the model is not told; what the refiner is not told is the model's.
            let rest = Micro {
                aesthetic_scores: None,
                ..*micro
            };
            told.untold(&rest)
        }
        _ => Some(field),
    }
}

#[cfg(test)]
mod tests {
    use chandler_core::{Picture, Refining, Start};

    use super::*;

    fn asked(end: Option<f64>, strength: Option<f64>, steps: Option<u32>) -> ImageInput {
        ImageInput {
            denoising: Denoising {
                end,
                refining: Refining { steps, strength },
                ..Denoising::default()
            },
            ..ImageInput::default()
        }
    }

    #[test]
    fn a_request_says_where_the_refiner_goes_on() {
        let of = |input: ImageInput| HandOver::of(&input, true).unwrap();
        let at = |end, asked| HandOver::At { end, asked };
        assert_eq!(of(asked(None, None, None)), at(0.8, false));
        assert_eq!(of(asked(None, None, Some(9))), at(0.8, true));
        assert_eq!(of(asked(Some(0.6), None, None)), at(0.6, true));
        assert_eq!(of(asked(Some(1.0), None, None)), HandOver::Never);
        assert_eq!(of(asked(None, Some(0.3), Some(9))), HandOver::Redrawn(0.3));
        assert_eq!(
            of(asked(Some(1.0), Some(0.3), None)),
            HandOver::Redrawn(0.3)
        );
    }

    #[test]
    fn what_there_is_no_refiner_for_is_refused_by_its_field() {
        let refused = |input: &ImageInput, loaded| {
            let error = HandOver::of(input, loaded).unwrap_err();
            assert!(error.message.starts_with(error.field.as_deref().unwrap()));
            error.field.unwrap_or_default()
        };
        for (input, field) in [
            (asked(Some(0.5), None, None), "denoising_end"),
            (asked(None, Some(0.5), None), "refiner_strength"),
            (asked(None, None, Some(5)), "refiner_inference_steps"),
        ] {
            assert_eq!(refused(&input, false), field);
            let masked = ImageInput {
                start: Some(Start {
                    image: Picture::new(Vec::new()),
                    strength: None,
                    mask: Some(Picture::new(Vec::new())),
                    padding_mask_crop: None,
                }),
                ..input
            };
            assert_eq!(refused(&masked, true), field);
        }
        assert_eq!(
            refused(&asked(Some(0.5), Some(0.5), None), true),
            "refiner_strength"
        );
        assert_eq!(
            refused(&asked(Some(1.0), None, Some(5)), true),
            "refiner_inference_steps"
        );
        assert_eq!(
            refused(&asked(Some(1.5), None, None), true),
            "denoising_end"
        );
        let none = HandOver::of(&asked(Some(1.0), None, None), false);
        assert_eq!(none, Ok(HandOver::Never));
    }
}
