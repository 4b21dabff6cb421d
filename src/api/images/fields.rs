//! What a request asks of an image model: one reader of fields for JSON bodies, forms and Vertex's instances, in the words of OpenAI,
//! diffusers, Vertex's Imagen and RunPod's workers. The pictures to begin with are `sources`', the answer's form is `delivery`'s.

use chandler_core::{ImageInput, Picture, Prompts, RequestError, Start};

use super::delivery::{self, Delivery};
use super::{drawing, loras};
use crate::api::json::{Fields, Spellings, wrong};
use crate::pictures::Encoding;

/// Spellings of the same, by where they come from.
pub(in crate::api) const SPELLINGS: &Spellings = &[
    ("prompt", &["inputs", "text"]),
    ("negative_prompt", &["negativePrompt"]),
    (
        "n",
        &[
            "num_images_per_prompt",
            "num_images",
            "num_outputs",
            "sampleCount",
        ],
    ),
    ("steps", &["num_inference_steps", "numInferenceSteps"]),
    ("guidance_scale", &["cfg_scale", "guidanceScale"]),
    ("scheduler", &["sampler", "sampler_name"]),
    ("strength", &["denoising_strength"]),
    ("denoising_end", &["high_noise_frac"]),
    ("refiner_inference_steps", &["refiner_steps"]),
    ("partial_images", &["previews"]),
    ("response_format", &["response"]),
    ("image", &["init_image"]),
    (
        "image_url",
        &["init_image_url", "input_image_url", "imageUrl"],
    ),
    ("mask", &["mask_image"]),
    ("mask_url", &["mask_image_url", "maskUrl"]),
];
/// Pictures of one request at most; OpenAI's bound.
const MOST_PICTURES: u32 = 10;
/// Pixels of a side: no model's own bound, which is lower, but one that a number cannot hurt.
pub(super) const MOST_PIXELS: u32 = 1 << 16;
/// Characters of a prompt, as OpenAI has it.
const MOST_CHARACTERS: usize = 32_000;
/// Pictures of what is there so far.
const MOST_PREVIEWS: u32 = 10;

/// A request, read.
#[derive(Debug, Clone, Default)]
pub(in crate::api) struct Wish {
    /// What is asked; pictures to begin with are still missing.
    pub(in crate::api) input: ImageInput,
    /// What is asked of a picture to begin with, should there be one.
    pub(in crate::api) strength: Option<f64>,
    pub(in crate::api) padding_mask_crop: Option<u32>,
    /// The model that it names.
    pub(in crate::api) model: Option<String>,
    pub(in crate::api) encoding: Encoding,
    pub(in crate::api) delivery: Delivery,
    /// Whether the files say what they were drawn from.
    pub(in crate::api) has_metadata: bool,
    pub(in crate::api) stream: bool,
    /// Whether steps are told in a stream.
    pub(in crate::api) progress: bool,
    /// The house's names of fields, and those that this request has for them.
    pub(in crate::api) names: Vec<(&'static str, String)>,
}

impl Wish {
    /// The request with its pictures.
    pub(super) fn with(&self, image: Option<Picture>, mask: Option<Picture>) -> ImageInput {
        let mut input = self.input.clone();
        input.start = image.map(|image| Start {
            image,
            mask,
            strength: self.strength,
            padding_mask_crop: self.padding_mask_crop,
        });
        input
    }
}

/// Reads every field but the pictures.
pub(in crate::api) fn read(fields: &Fields<'_>) -> Result<Wish, RequestError> {
    refuse_unbuilt(fields)?;
    let (width, height) = size(fields)?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let previews = fields
        .whole("partial_images", 0..=MOST_PREVIEWS)?
        .unwrap_or(0);
    if previews > 0 && !stream {
        let name = name(fields, "partial_images");
        let message =
            format!("{name} is {previews}, and only a stream has them; set stream to true");
        return Err(RequestError::field(name, message));
    }
    Ok(Wish {
        input: ImageInput {
            prompt: prompts(fields, ["prompt", "prompt_2", "prompt_3"])?,
            negative_prompt: prompts(
                fields,
                ["negative_prompt", "negative_prompt_2", "negative_prompt_3"],
            )?,
            width,
            height,
            denoising: drawing::denoising(fields)?,
            guidance: drawing::guidance(fields)?,
            seed: seed(fields)?,
            n: fields.whole("n", 1..=MOST_PICTURES)?.unwrap_or(1),
            loras: loras::read(fields)?,
            clip_skip: fields.whole("clip_skip", 0..=100)?,
            previews,
            ..ImageInput::default()
        },
        strength: fields.number("strength", 0.0..=1.0)?,
        padding_mask_crop: fields.whole("padding_mask_crop", 0..=MOST_PIXELS)?,
        model: fields.string("model")?.map(str::to_owned),
        encoding: delivery::encoding(fields)?,
        delivery: delivery::delivery(fields)?,
        has_metadata: fields.boolean("metadata")?.unwrap_or(true),
        stream,
        progress: fields.boolean("progress")?.unwrap_or(false),
        names: names(fields),
    })
}

/// What the request calls a field.
pub(super) fn name(fields: &Fields<'_>, key: &str) -> String {
    let found = fields.find(key).map(|found| found.name);
    found.unwrap_or_else(|| fields.name(key))
}

/// How errors of the model are to call the fields: as the request does.
fn names(fields: &Fields<'_>) -> Vec<(&'static str, String)> {
    let mut names: Vec<(&str, String)> = SPELLINGS
        .iter()
        .filter_map(|(key, _)| Some((*key, fields.find(key)?.name)))
        .collect();
    // The model's own word for it.
    names.extend(
        fields
            .find("steps")
            .map(|found| ("num_inference_steps", found.name)),
    );
    if let Some(size) = fields.find("size") {
        names.extend(["width", "height"].map(|side| (side, size.name.clone())));
    }
    names
}

/// What OpenAI's own models do and none here does. The words that ask for what happens anyway are taken.
fn refuse_unbuilt(fields: &Fields<'_>) -> Result<(), RequestError> {
    let unbuilt: [(&str, &[&str], &str); 4] = [
        (
            "style",
            &[],
            "a picture's style is said in its prompt; leave out style",
        ),
        (
            "background",
            &["auto", "opaque"],
            "pictures are drawn without transparency; background must be auto or opaque",
        ),
        (
            "input_fidelity",
            &["low"],
            "how much of a picture stays is said by strength; leave out input_fidelity",
        ),
        (
            "moderation",
            &["auto", "low"],
            "moderation must be auto or low",
        ),
    ];
    for (key, harmless, why) in unbuilt {
        if let Some(found) = fields.find(key) {
            let is_harmless = found
                .value
                .as_str()
                .is_some_and(|word| harmless.contains(&word));
            if !is_harmless {
                let message = format!("{} is not supported as it is: {why}", found.name);
                return Err(RequestError::unsupported(found.name, message));
            }
        }
    }
    for key in ["frame_count", "frame_duration_ms", "svg"] {
        if let Some(found) = fields.find(key) {
            let message = format!(
                "{} is not supported: pictures are drawn one by one, of pixels",
                found.name
            );
            return Err(RequestError::unsupported(found.name, message));
        }
    }
    Ok(())
}

fn prompts(fields: &Fields<'_>, keys: [&str; 3]) -> Result<Prompts, RequestError> {
    let text = |key: &str| -> Result<Option<String>, RequestError> {
        let Some(text) = fields.string(key)? else {
            return Ok(None);
        };
        if text.chars().count() > MOST_CHARACTERS {
            let name = name(fields, key);
            let message = format!("{name} has more than {MOST_CHARACTERS} characters");
            return Err(RequestError::field(name, message));
        }
        Ok(Some(text.to_owned()))
    };
    let [first, second, third] = keys;
    Ok(Prompts {
        first: text(first)?,
        second: text(second)?,
        third: text(third)?,
    })
}

/// Width and height, by themselves or as OpenAI's `size`.
fn size(fields: &Fields<'_>) -> Result<(Option<u32>, Option<u32>), RequestError> {
    let sides = (
        fields.whole("width", 1..=MOST_PIXELS)?,
        fields.whole("height", 1..=MOST_PIXELS)?,
    );
    let Some(found) = fields.find("size") else {
        return Ok(sides);
    };
    let wanted = "WIDTHxHEIGHT, such as 512x512, or auto";
    let text = found.value.as_str().map(str::trim);
    let size = match text {
        Some("auto") => return Ok(sides),
        Some(text) => text
            .split_once(['x', 'X', '×'])
            .and_then(|(width, height)| {
                let side = |text: &str| {
                    text.trim()
                        .parse::<u32>()
                        .ok()
                        .filter(|n| (1..=MOST_PIXELS).contains(n))
                };
                Some((side(width)?, side(height)?))
            }),
        None => None,
    };
    let (width, height) = size.ok_or_else(|| wrong(&found.name, found.value, wanted))?;
    let differs = |side: Option<u32>, other: u32| side.is_some_and(|side| side != other);
    if differs(sides.0, width) || differs(sides.1, height) {
        let message = format!(
            "{} is {width}x{height}, and width or height says something else",
            found.name
        );
        return Err(RequestError::field(found.name, message));
    }
    Ok((Some(width), Some(height)))
}

/// A seed; -1 is what many clients send for none.
fn seed(fields: &Fields<'_>) -> Result<Option<u64>, RequestError> {
    let none = fields
        .find("seed")
        .is_some_and(|found| found.value.as_f64() == Some(-1.0));
    if none { Ok(None) } else { fields.seed("seed") }
}

#[cfg(test)]
mod tests {
    use chandler_core::{Denoising, Guidance, Micro, Refining};
    use serde_json::{Value, json};

    use super::*;
    use crate::pictures::Format;

    fn wish(body: Value) -> Result<Wish, RequestError> {
        read(&Fields::new(body.as_object().unwrap()).spelled(SPELLINGS))
    }

    #[test]
    fn every_field_has_its_place() {
        let body = json!({
            "prompt": "p", "prompt_2": "q", "negative_prompt": "r", "width": 64.0, "height": 32, "num_inference_steps": 9.0,
            "scheduler": "euler", "scheduler_config": {"use_karras_sigmas": true}, "timesteps": [9, 5.5], "sigmas": [2.0], "eta": 0.5,
            "high_noise_frac": 0.8, "refiner_steps": 12, "refiner_strength": 0.25, "cfg_scale": 3.5, "true_cfg_scale": 2, "guidance_rescale": 0.7, "original_size": [1, 2], "crops_coords_top_left": [0, 0],
            "target_size": [3.0, 4.0], "aesthetic_score": 7, "seed": 5, "num_images": 2, "loras": [{"name": "ink", "weight": 0.5}],
            "clip_skip": 1, "previews": 2, "strength": 0.6, "padding_mask_crop": 8, "model": "m", "output_format": "jpeg",
            "output_compression": 80, "metadata": false, "stream": true, "progress": true, "user": "u", "background": "auto",
        });
        let wish = wish(body).unwrap();
        let input = ImageInput {
            prompt: Prompts {
                first: Some("p".into()),
                second: Some("q".into()),
                third: None,
            },
            negative_prompt: Prompts::one("r"),
            width: Some(64),
            height: Some(32),
            denoising: Denoising {
                steps: Some(9),
                scheduler: Some("euler".into()),
                scheduler_config: json!({"use_karras_sigmas": true})
                    .as_object()
                    .unwrap()
                    .clone(),
                timesteps: Some(vec![9.0, 5.5]),
                sigmas: Some(vec![2.0]),
                eta: Some(0.5),
                end: Some(0.8),
                refining: Refining {
                    steps: Some(12),
                    strength: Some(0.25),
                },
            },
            guidance: Guidance {
                scale: Some(3.5),
                true_scale: Some(2.0),
                rescale: Some(0.7),
                micro: Micro {
                    original_size: Some([1, 2]),
                    crop: Some([0, 0]),
                    target_size: Some([3, 4]),
                    aesthetic_scores: Some([7.0, 2.5]),
                    ..Micro::default()
                },
            },
            seed: Some(5),
            n: 2,
            loras: vec![("ink".into(), 0.5)],
            clip_skip: Some(1),
            previews: 2,
            ..ImageInput::default()
        };
        assert_eq!(wish.input, input);
        assert_eq!(
            (wish.strength, wish.padding_mask_crop),
            (Some(0.6), Some(8))
        );
        assert_eq!(
            (wish.encoding.format, wish.encoding.quality),
            (Format::Jpeg, Some(80))
        );
        assert!(wish.stream && wish.progress && !wish.has_metadata);
    }

    #[test]
    fn a_size_is_two_sides() {
        let sides = |body: Value| wish(body).map(|wish| (wish.input.width, wish.input.height));
        assert_eq!(sides(json!({"size": "64x32"})), Ok((Some(64), Some(32))));
        assert_eq!(
            sides(json!({"size": "auto", "width": 8})),
            Ok((Some(8), None))
        );
        assert_eq!(
            sides(json!({"size": "64x32", "width": 64})),
            Ok((Some(64), Some(32)))
        );
        for body in [
            json!({"size": "64"}),
            json!({"size": "0x64"}),
            json!({"size": 64}),
            json!({"size": "axb"}),
            json!({"size": "64x32", "height": 64}),
        ] {
            assert_eq!(sides(body).unwrap_err().field.as_deref(), Some("size"));
        }
    }

    #[test]
    fn what_is_wrong_or_not_built_is_named_as_it_was_written() {
        for (body, field) in [
            (json!({"num_inference_steps": 0}), "num_inference_steps"),
            (json!({"steps": 1.5}), "steps"),
            (json!({"n": 11}), "n"),
            (json!({"sampleCount": 0}), "sampleCount"),
            (json!({"strength": 1.5}), "strength"),
            (json!({"guidance_scale": "7"}), "guidance_scale"),
            (json!({"style": "vivid"}), "style"),
            (json!({"background": "transparent"}), "background"),
            (json!({"quality": "hd"}), "quality"),
            (json!({"moderation": "high"}), "moderation"),
            (json!({"input_fidelity": "high"}), "input_fidelity"),
            (json!({"frame_count": 3}), "frame_count"),
            (json!({"output_format": "gif"}), "output_format"),
            (json!({"output_compression": 50}), "output_compression"),
            (json!({"response": "paper"}), "response"),
            (json!({"partial_images": 2}), "partial_images"),
            (json!({"timesteps": []}), "timesteps"),
            (json!({"sigmas": ["a"]}), "sigmas[0]"),
            (json!({"target_size": [1]}), "target_size"),
            (json!({"loras": [{"weight": 1}]}), "loras[0].name"),
            (json!({"prompt": "a".repeat(40_000)}), "prompt"),
        ] {
            let error = wish(body.clone()).unwrap_err();
            assert_eq!(
                error.field.as_deref(),
                Some(field),
                "{body}: {}",
                error.message
            );
        }
    }

    #[test]
    fn a_seed_of_minus_one_is_none() {
        assert_eq!(wish(json!({"seed": -1})).unwrap().input.seed, None);
        assert_eq!(
            wish(json!({"seed": -2})).unwrap().input.seed,
            Some(u64::MAX - 1)
        );
    }
}
