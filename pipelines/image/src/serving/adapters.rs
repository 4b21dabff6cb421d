//! Which of the loaded adapters a request asks for, in its field and in its prompts. Apart from `prepare`, which reads everything else.

use chandler_core::{ImageInput, RequestError};

use crate::prompt::tags;

/// Weights outside ±this are a slip of the keyboard; 2 is much.
const MOST_WEIGHT: f32 = 100.0;

/// A request's adapters by their place in the list of those that are loaded, with their weights; its prompts lose the tags that name
/// some. One that weighs nothing is left out.
///
/// # Errors
/// A name that is not loaded, with those that are; a name that is there twice; a weight that is too large or no number.
pub(super) fn asked(
    input: &mut ImageInput,
    loaded: &[String],
) -> Result<Vec<(u32, f32)>, RequestError> {
    let mut wanted: Vec<(&str, String, f32)> = std::mem::take(&mut input.loras)
        .into_iter()
        .map(|(name, weight)| ("loras", name, weight))
        .collect();
    let prompt = &mut input.prompt;
    let texts = [
        (&mut prompt.first, "prompt"),
        (&mut prompt.second, "prompt_2"),
        (&mut prompt.third, "prompt_3"),
    ];
    for (text, field) in texts {
        let Some(text) = text else { continue };
        let (kept, found) = tags::loras(text, field)?;
        wanted.extend(
            found
                .into_iter()
                .map(|(name, weight)| (field, name, weight)),
        );
        *text = kept;
    }
    let mut asked: Vec<(u32, f32)> = Vec::with_capacity(wanted.len());
    for (field, name, weight) in wanted {
        let refuse = |message: String| Err(RequestError::field(field, message));
        let Some(number) = loaded.iter().position(|known| *known == name) else {
            return refuse(format!(
                "{field}: there is no adapter {name:?}; {}",
                known(loaded)
            ));
        };
        if weight.is_nan() || weight.abs() > MOST_WEIGHT {
            return refuse(format!(
                "{field}: adapter {name:?} weighs {weight}; it must be between -{MOST_WEIGHT} and {MOST_WEIGHT}"
            ));
        }
        let number = number as u32;
        if asked.iter().any(|(other, _)| *other == number) {
            return refuse(format!(
                "{field}: adapter {name:?} is asked for twice; give it one weight"
            ));
        }
        asked.push((number, weight));
    }
    asked.retain(|(_, weight)| *weight != 0.0);
    Ok(asked)
}

fn known(loaded: &[String]) -> String {
    match loaded {
        [] => "this worker was started without any (--lora NAME=PLACE)".to_owned(),
        loaded => format!("the model has {}", loaded.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use chandler_core::Prompts;

    use super::*;

    fn asked_by(loras: &[(&str, f32)], prompt: &str) -> Result<Vec<(u32, f32)>, String> {
        let loaded = ["ink", "chalk", "oil"].map(str::to_owned);
        let mut input = ImageInput {
            prompt: Prompts::one(prompt),
            loras: loras.iter().map(|(n, w)| ((*n).to_owned(), *w)).collect(),
            ..ImageInput::default()
        };
        let asked = asked(&mut input, &loaded).map_err(|error| error.to_string())?;
        assert!(!input.prompt.first.unwrap_or_default().contains('<'));
        Ok(asked)
    }

    #[test]
    fn the_field_and_the_prompt_name_adapters() {
        let both = asked_by(&[("oil", 0.5), ("ink", 0.0)], "a cat <lora:chalk:2>");
        assert_eq!(both, Ok(vec![(2, 0.5), (1, 2.0)]));
    }

    #[test]
    fn what_is_not_loaded_too_heavy_or_there_twice_is_refused() {
        let refused = |loras: &[(&str, f32)], prompt| asked_by(loras, prompt).unwrap_err();
        let unknown = refused(&[("paint", 1.0)], "");
        assert!(
            unknown.contains("loras: there is no adapter \"paint\"; the model has ink, chalk, oil"),
            "{unknown}"
        );
        assert!(refused(&[("ink", f32::NAN)], "").contains("NaN"));
        assert!(refused(&[("ink", -101.0)], "").contains("-101"));
        assert!(
            refused(&[("ink", 1.0)], "<lora:ink>")
                .contains("prompt: adapter \"ink\" is asked for twice")
        );
    }
}
