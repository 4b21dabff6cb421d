//! A form with pictures: its texts become the JSON object that the same request would be, its files stay as they are.

use axum::body::BodyDataStream;
use bytes::{Bytes, BytesMut};
use chandler_core::{ErrorKind, RequestError};
use serde_json::{Map, Value};

use crate::api::audio::Sorts;
use crate::api::multipart::Multipart;
use crate::api::sent::Kind;

/// Bytes of a field that is no file, and of all of them together.
const TEXT: usize = 128 << 10;
const TEXTS: usize = 1 << 20;
const PARTS: usize = 256;

const SORTS: Sorts = Sorts {
    switches: &["stream", "progress", "metadata"],
    values: &[
        "n",
        "num_images",
        "num_images_per_prompt",
        "num_outputs",
        "sampleCount",
        "width",
        "height",
        "steps",
        "num_inference_steps",
        "numInferenceSteps",
        "guidance_scale",
        "guidanceScale",
        "cfg_scale",
        "true_cfg_scale",
        "guidance_rescale",
        "seed",
        "strength",
        "denoising_strength",
        "padding_mask_crop",
        "clip_skip",
        "eta",
        "denoising_end",
        "high_noise_frac",
        "refiner_inference_steps",
        "refiner_steps",
        "refiner_strength",
        "timesteps",
        "sigmas",
        "scheduler_config",
        "loras",
        "controls",
        "partial_images",
        "previews",
        "output_compression",
        "quality",
        "original_size",
        "crops_coords_top_left",
        "target_size",
        "negative_original_size",
        "negative_crops_coords_top_left",
        "negative_target_size",
        "aesthetic_score",
        "negative_aesthetic_score",
    ],
    lists: &[],
};

/// What a form held.
#[derive(Debug, Default)]
pub(super) struct Form {
    pub(super) fields: Map<String, Value>,
    pub(super) image: Option<Bytes>,
    pub(super) mask: Option<Bytes>,
}

/// Reads all of a form.
///
/// # Errors
/// What the form must not hold, by name.
pub(super) async fn read(
    kind: &Kind,
    body: &mut BodyDataStream,
    boundary: &str,
) -> Result<Form, RequestError> {
    let mut multipart = Multipart::new(body, boundary);
    let mut form = Form::default();
    let (mut parts, mut texts) = (0, 0);
    while let Some(part) = multipart.next().await? {
        parts += 1;
        if parts > PARTS {
            let message = format!("the form has more than {PARTS} parts");
            return Err(too_large(None, message));
        }
        let name = part.name;
        if part.is_file {
            let file = file(kind, &mut multipart, &name).await?;
            put(&mut form, &name, file)?;
            continue;
        }
        let mut text = Vec::new();
        while let Some(piece) = multipart.piece().await? {
            texts += piece.len();
            if text.len() + piece.len() > TEXT || texts > TEXTS {
                let message = format!(
                    "{name} is too long: a field may have {TEXT} bytes, and all of them {TEXTS}"
                );
                return Err(too_large(Some(name), message));
            }
            text.extend_from_slice(&piece);
        }
        let text = String::from_utf8(text).map_err(|_| {
            let message = format!("{name} is not UTF-8");
            RequestError::field(name.clone(), message)
        })?;
        SORTS.put(&mut form.fields, &name, &text)?;
    }
    Ok(form)
}

async fn file(
    kind: &Kind,
    multipart: &mut Multipart<&mut BodyDataStream>,
    name: &str,
) -> Result<Bytes, RequestError> {
    let mut file = BytesMut::new();
    while let Some(piece) = multipart.piece().await? {
        if (file.len() + piece.len()) as u64 > kind.limit {
            return Err(kind.over_limit(name));
        }
        file.extend_from_slice(&piece);
    }
    if file.is_empty() {
        let message = format!("{name} is empty; it must be {}", kind.a);
        return Err(RequestError::field(name, message));
    }
    Ok(file.freeze())
}

/// OpenAI's clients write `image` for one picture and `image[]` for each of a list.
fn put(form: &mut Form, name: &str, file: Bytes) -> Result<(), RequestError> {
    let place = match name {
        "image" | "image[]" | "image[0]" => &mut form.image,
        "mask" => &mut form.mask,
        _ => {
            let message = format!("{name} is a file; pictures are sent as `image` and `mask`");
            return Err(RequestError::field(name, message));
        }
    };
    match place.replace(file) {
        None => Ok(()),
        Some(_) => {
            let message = format!("{name} is given twice; one picture can be begun with");
            Err(RequestError::unsupported(name, message))
        }
    }
}

fn too_large(field: Option<String>, message: String) -> RequestError {
    RequestError {
        field,
        ..RequestError::new(ErrorKind::TooLarge, message).with_code("request_too_large")
    }
}
