//! What becomes of the guidance that a request asks for: rows in pairs, a number that the denoiser is told, or both.
//! Apart from `prepare`, which puts a request together.

use chandler_core::{ImageInput, RequestError};

use super::families::{Design, Guided};
use super::load::Usual;

/// Guidance at most; what is in use goes to 20.
const MOST: f64 = 1000.0;

/// The guidance of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Guidance {
    guided: Guided,
    /// What is extrapolated by between pairs of rows.
    pub(super) pairs: Option<f64>,
    /// What the denoiser is told.
    pub(super) told: Option<f64>,
}

impl Guidance {
    /// The `guidance_scale` that it came of.
    pub(super) fn asked(self) -> Option<f64> {
        match self.guided {
            Guided::ByPairs => self.pairs,
            Guided::ByTelling | Guided::Never => self.told,
        }
    }

    /// The `true_cfg_scale` that it came of.
    pub(super) fn truly(self) -> Option<f64> {
        match self.guided {
            Guided::ByPairs => None,
            Guided::ByTelling | Guided::Never => self.pairs,
        }
    }
}

/// What becomes of the guidance that is asked for.
pub(super) fn of(
    (design, usual): (&Design, &Usual),
    input: &ImageInput,
) -> Result<Guidance, RequestError> {
    let [anew, begun] = design.defaults.guidance;
    let own = if input.start.is_some() { begun } else { anew };
    let usual = usual.guidance.unwrap_or(own);
    let asked = &input.guidance;
    let scale = within("guidance_scale", asked.scale.unwrap_or(usual), MOST)?;
    within("guidance_rescale", asked.rescale.unwrap_or(0.0), 1.0)?;
    let truly = truly(design, input)?;
    let (pairs, told) = match design.guided {
        Guided::ByPairs => ((scale > 1.0).then_some(scale), None),
        Guided::ByTelling => (truly, Some(scale)),
        Guided::Never if scale > 1.0 => {
            let message = format!(
                "guidance_scale is {scale}; this model was distilled to go without: leave it out"
            );
            return Err(RequestError::unsupported("guidance_scale", message));
        }
        Guided::Never => (truly, None),
    };
    Ok(Guidance {
        guided: design.guided,
        pairs,
        told,
    })
}

/// The guidance by pairs of a model whose own is another or none.
fn truly(design: &Design, input: &ImageInput) -> Result<Option<f64>, RequestError> {
    const FIELD: &str = "true_cfg_scale";
    let Some(scale) = input.guidance.true_scale else {
        return Ok(None);
    };
    if !design.true_guidance {
        let message = "this model is guided by guidance_scale: ask for that";
        return Err(RequestError::unsupported(FIELD, message));
    }
    let scale = within(FIELD, scale, MOST)?;
    if scale > 1.0 && input.negative_prompt.first.is_none() {
        let message = format!(
            "{FIELD} is {scale}, which guides away from a negative prompt: give one, or leave it out"
        );
        return Err(RequestError::field("negative_prompt", message));
    }
    Ok((scale > 1.0).then_some(scale))
}

/// A number of a request from 0 to `most`.
pub(super) fn within(field: &str, number: f64, most: f64) -> Result<f64, RequestError> {
    match (0.0..=most).contains(&number) {
        true => Ok(number),
        false => {
            let message = format!("{field} is {number}; it must be between 0 and {most}");
            Err(RequestError::field(field, message))
        }
    }
}
