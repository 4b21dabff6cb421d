//! How a picture is drawn: the steps, their scheduler and the guidance. Apart from `fields`, which has what is to be drawn.

use chandler_core::{Denoising, Guidance, Micro, Refining, RequestError};
use serde_json::Value;

use super::fields::{MOST_PIXELS, name};
use crate::api::json::{Fields, whole, wrong};

const MOST_STEPS: u32 = 10_000;
/// Entries of a list of timesteps.
const MOST_ENTRIES: usize = 1000;

pub(super) fn denoising(fields: &Fields<'_>) -> Result<Denoising, RequestError> {
    Ok(Denoising {
        steps: fields.whole("steps", 1..=MOST_STEPS)?,
        scheduler: fields
            .string("scheduler")?
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
        scheduler_config: fields
            .object("scheduler_config")?
            .cloned()
            .unwrap_or_default(),
        timesteps: numbers(fields, "timesteps")?,
        sigmas: numbers(fields, "sigmas")?,
        eta: fields.number("eta", 0.0..=1.0)?,
        end: fields.number("denoising_end", 0.0..=1.0)?,
        refining: Refining {
            steps: fields.whole("refiner_inference_steps", 1..=MOST_STEPS)?,
            strength: fields.number("refiner_strength", 0.0..=1.0)?,
        },
    })
}

fn numbers(fields: &Fields<'_>, key: &str) -> Result<Option<Vec<f64>>, RequestError> {
    let Some(list) = fields.array(key)? else {
        return Ok(None);
    };
    let name = name(fields, key);
    if list.is_empty() || list.len() > MOST_ENTRIES {
        let message = format!(
            "{name} has {} entries; it may have 1 to {MOST_ENTRIES}",
            list.len()
        );
        return Err(RequestError::field(name, message));
    }
    let number = |(at, value): (usize, &Value)| {
        value
            .as_f64()
            .ok_or_else(|| wrong(&format!("{name}[{at}]"), value, "a number"))
    };
    list.iter()
        .enumerate()
        .map(number)
        .collect::<Result<_, _>>()
        .map(Some)
}

pub(super) fn guidance(fields: &Fields<'_>) -> Result<Guidance, RequestError> {
    let score = |key: &str| fields.number(key, 0.0..=10.0);
    let scores = match (
        score("aesthetic_score")?,
        score("negative_aesthetic_score")?,
    ) {
        (None, None) => None,
        // The defaults of diffusers' refiner.
        (one, other) => Some([one.unwrap_or(6.0), other.unwrap_or(2.5)]),
    };
    Ok(Guidance {
        scale: fields.number("guidance_scale", 0.0..=1000.0)?,
        true_scale: fields.number("true_cfg_scale", 0.0..=1000.0)?,
        rescale: fields.number("guidance_rescale", 0.0..=1.0)?,
        micro: Micro {
            original_size: pair(fields, "original_size")?,
            crop: pair(fields, "crops_coords_top_left")?,
            target_size: pair(fields, "target_size")?,
            negative_original_size: pair(fields, "negative_original_size")?,
            negative_crop: pair(fields, "negative_crops_coords_top_left")?,
            negative_target_size: pair(fields, "negative_target_size")?,
            aesthetic_scores: scores,
        },
    })
}

/// Two whole numbers, in diffusers' order: first what goes down, then what goes across.
fn pair(fields: &Fields<'_>, key: &str) -> Result<Option<[u32; 2]>, RequestError> {
    let Some(found) = fields.find(key) else {
        return Ok(None);
    };
    match found.value.as_array().map(Vec::as_slice) {
        Some([one, other]) => Ok(Some([
            whole(&format!("{}[0]", found.name), one, 0..=MOST_PIXELS)?,
            whole(&format!("{}[1]", found.name), other, 0..=MOST_PIXELS)?,
        ])),
        _ => Err(wrong(
            &found.name,
            found.value,
            "an array of two whole numbers",
        )),
    }
}
