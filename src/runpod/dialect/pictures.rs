//! Pictures to be drawn: the schemas of RunPod's own worker for it (runpod.md 11.2) and of the seeds' (seeds.md 2.3.1), which have the
//! same names, and one output with what the clients of each read. `/predict` draws; its steps become the job's progress.
//!
//! What is not said is the loaded model's own default and not those workers', which are for the one model that each has.

use std::time::Instant;

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::tasks::Reading;
use super::{Call, Known, Shape, has, refiner, shown, take};
use crate::runpod::answer::Failure;
use crate::runpod::growth::Growth;
use crate::sse::Event;
use crate::storage::STORES;

/// What `/predict` takes under the same name. A job without a task that has a name which is not here is refused, as there.
const SAME: [&str; 65] = [
    "prompt",
    "prompt_2",
    "prompt_3",
    "inputs",
    "text",
    "negative_prompt",
    "negative_prompt_2",
    "negative_prompt_3",
    "model",
    "n",
    "num_images",
    "num_images_per_prompt",
    "num_outputs",
    "width",
    "height",
    "size",
    "steps",
    "num_inference_steps",
    "guidance_scale",
    "cfg_scale",
    "true_cfg_scale",
    "guidance_rescale",
    "seed",
    "scheduler",
    "sampler",
    "sampler_name",
    "scheduler_config",
    "timesteps",
    "sigmas",
    "eta",
    "denoising_end",
    "high_noise_frac",
    "refiner_inference_steps",
    "refiner_strength",
    "loras",
    "clip_skip",
    "image",
    "init_image",
    "image_base64",
    "image_url",
    "init_image_url",
    "input_image_url",
    "mask",
    "mask_image",
    "mask_base64",
    "mask_url",
    "mask_image_url",
    "strength",
    "denoising_strength",
    "padding_mask_crop",
    "controls",
    "output_format",
    "output_compression",
    "quality",
    "metadata",
    "response",
    "response_format",
    "original_size",
    "crops_coords_top_left",
    "target_size",
    "negative_original_size",
    "negative_crops_coords_top_left",
    "negative_target_size",
    "aesthetic_score",
    "negative_aesthetic_score",
];
/// Names of a picture to begin with.
const IMAGES: [&str; 6] = [
    "image",
    "init_image",
    "image_base64",
    "image_url",
    "init_image_url",
    "input_image_url",
];
/// How many previews a job may have in its progress.
const PREVIEWS: [&str; 2] = ["partial_images", "previews"];

/// Reads an input that was taken for one of pictures.
///
/// # Errors
/// What is wrong with it, and what would do.
pub(super) fn read(
    mut map: Map<String, Value>,
    reading: Option<Reading>,
    known: &Known,
) -> Result<Call, String> {
    map.retain(|_, value| !value.is_null());
    for store in STORES {
        map.shift_remove(store);
    }
    if super::flag(&mut map, "stream")? {
        return Err("stream is true; a picture is a job's output when it is whole, and its steps are the job's progress: \
             leave out stream"
            .to_owned());
    }
    staged(&mut map)?;
    let previews = PREVIEWS.iter().find_map(|key| take(&mut map, key));
    let begins = IMAGES.iter().any(|field| has(&map, field));
    refiner::translate(&mut map, begins, known);
    if take(&mut map, "task").is_none()
        && let Some(other) = map.keys().find(|key| !SAME.contains(&key.as_str()))
    {
        return Err(format!(
            "Unexpected input. {other} is not a valid input option. (leave it out, or add \"task\": \"text-to-image\", with which \
             the input is an instance of /predict)"
        ));
    }
    let in_urls = in_urls(&mut map)?;
    map.insert("stream".into(), true.into());
    map.insert("progress".into(), true.into());
    if let Some(previews) = previews {
        map.insert("partial_images".into(), previews);
    }
    let shape = Drawing {
        note: reading.map(|reading| reading.because),
        in_urls,
        known: known.clone(),
        begun: Instant::now(),
        steps: None,
        preview: None,
        drawn: Vec::new(),
    };
    Ok(Call {
        method: Method::POST,
        path: "/predict".into(),
        body: Some(Value::Object(map)),
        shape: Box::new(shape),
        growth: Growth::default(),
    })
}

/// Whether pictures are wanted as data URLs, as they are where nothing is said.
fn in_urls(map: &mut Map<String, Value>) -> Result<bool, String> {
    let format = ["response", "response_format"]
        .iter()
        .find_map(|key| take(map, key));
    match format {
        None => Ok(true),
        Some(Value::String(name)) if matches!(name.as_str(), "url" | "data_url") => Ok(true),
        Some(Value::String(name)) if matches!(name.as_str(), "base64" | "b64_json") => Ok(false),
        Some(other) => {
            let is = other
                .as_str()
                .map_or_else(|| shown(&other), |name| format!("{name:?}"));
            Err(format!("response is {is}; it must be url or base64"))
        }
    }
}

/// A picture that the seed's API has put into a bucket, with the address under which it lies there.
fn staged(map: &mut Map<String, Value>) -> Result<(), String> {
    for field in ["input_image_r2", "image_r2"] {
        let Some(place) = take(map, field) else {
            continue;
        };
        let address = place.get("url").and_then(Value::as_str);
        let Some(address) = address.filter(|address| address.starts_with("http")) else {
            return Err(format!(
                "{field} has no url; it must be an object with url, an http(s) address that may be a signed one: a job's picture is not read \
                 from a bucket by its key"
            ));
        };
        if IMAGES.iter().any(|other| has(map, other)) {
            return Err(format!(
                "{field} is given beside another picture; leave out one"
            ));
        }
        map.insert("image_url".to_owned(), address.into());
    }
    Ok(())
}

/// A job's pictures on their way.
struct Drawing {
    /// How the input was read, where that may surprise.
    note: Option<String>,
    /// Whether pictures are data URLs, for which the store puts addresses where there is one, and not plain base64.
    in_urls: bool,
    known: Known,
    begun: Instant,
    /// Done and in all, as it was last told and has not gone out.
    steps: Option<(u64, u64)>,
    /// What is there so far, likewise.
    preview: Option<String>,
    /// The events of whole pictures.
    drawn: Vec<Value>,
}

impl Drawing {
    fn text(&self, event: &mut Value) -> String {
        let text = match event.get_mut("b64_json").map(Value::take) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let format = event.get("output_format").and_then(Value::as_str);
        match self.in_urls {
            true => format!("data:image/{};base64,{text}", format.unwrap_or("png")),
            false => text,
        }
    }
}

impl Shape for Drawing {
    fn whole(&self, answer: Value) -> Value {
        answer
    }

    fn event(&mut self, event: &Event) {
        let Some(mut data) = event.data() else {
            return;
        };
        let kind = data.get("type").and_then(Value::as_str).unwrap_or_default();
        let number = |key: &str| data.get(key).and_then(Value::as_u64);
        match kind.rsplit_once('.').map_or(kind, |(_, kind)| kind) {
            "progress" => self.steps = number("step").zip(number("steps")).or(self.steps),
            // The first picture's alone: a progress is small, and replaced by the next.
            "partial_image" if number("image_index") == Some(0) => {
                self.preview = Some(self.text(&mut data));
            }
            "completed" => self.drawn.push(data),
            _ => {}
        }
    }

    fn chunks(&mut self) -> Vec<Value> {
        Vec::new()
    }

    fn progress(&mut self) -> Option<Value> {
        let preview = self.preview.take();
        let steps = self.steps.take();
        let mut told = match steps {
            Some((step, steps)) => {
                let percent = 100 * step / steps.max(1);
                json!({"progress": percent, "step": step, "steps": steps})
            }
            None => json!({}),
        };
        if let Some(preview) = &preview {
            told["preview"] = preview.clone().into();
        }
        (steps.is_some() || preview.is_some()).then_some(told)
    }

    fn is_stream(&self) -> bool {
        false
    }

    fn output(&mut self, _: Vec<Value>) -> Value {
        let mut drawn = std::mem::take(&mut self.drawn);
        let images: Vec<Value> = drawn
            .iter_mut()
            .map(|event| self.text(event).into())
            .collect();
        let seeds: Vec<Value> = drawn.iter_mut().map(|event| event["seed"].take()).collect();
        let flagged: Vec<bool> = drawn
            .iter()
            .map(|event| event.get("flagged") == Some(&Value::Bool(true)))
            .collect();
        let mut output = Map::new();
        output.insert(
            "image_url".into(),
            images.first().cloned().unwrap_or_default(),
        );
        output.insert("images".into(), images.into());
        output.insert("seed".into(), seeds.first().cloned().unwrap_or_default());
        output.insert("seeds".into(), seeds.into());
        if let Some(served) = self.known.served.get() {
            output.insert("model_id".into(), served.model.clone().into());
        }
        if let Some(first) = drawn.first_mut() {
            let size = first["size"].as_str().and_then(|size| size.split_once('x'));
            if let Some((width, height)) = size {
                let side = |side: &str| Value::from(side.parse::<u32>().ok());
                output.insert("width".into(), side(width));
                output.insert("height".into(), side(height));
            }
            output.insert("format".into(), first["output_format"].take());
            for key in [
                "steps",
                "scheduler",
                "guidance_scale",
                "strength",
                "denoising_end",
                "refiner_strength",
            ] {
                if let Some(value) = first.get_mut(key) {
                    output.insert(key.into(), value.take());
                }
            }
        }
        if flagged.contains(&true) {
            output.insert("flagged".into(), flagged.into());
        }
        let took = self.begun.elapsed().as_millis() as u64;
        output.insert("execution_duration_ms".into(), took.into());
        Value::Object(output)
    }

    fn error(&self, failure: Failure) -> String {
        match &self.note {
            Some(note) => format!("{} ({note})", failure.message),
            None => failure.message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runpod::dialect::recognise;
    use crate::runpod::dialect::tests::known;

    fn body(input: Value) -> Result<Value, String> {
        let call = recognise(input, &known(Some("text-to-image")))?;
        assert_eq!(
            (call.method, call.path.as_str()),
            (Method::POST, "/predict")
        );
        let mut body = call.body.unwrap();
        for key in ["stream", "progress"] {
            assert_eq!(
                body.as_object_mut().unwrap().shift_remove(key),
                Some(json!(true))
            );
        }
        Ok(body)
    }

    #[test]
    fn the_workers_inputs_are_bodies_of_ours() {
        for (input, expected) in [
            // RunPod's own, with its defaults written out.
            (
                json!({"prompt": "a", "negative_prompt": null, "height": 1024, "width": 1024, "seed": null, "scheduler": "K_EULER",
                    "num_inference_steps": 25, "refiner_inference_steps": 50, "guidance_scale": 7.5, "strength": 0.3,
                    "image_url": null, "num_images": 1, "high_noise_frac": null}),
                json!({"prompt": "a", "height": 1024, "width": 1024, "scheduler": "K_EULER", "num_inference_steps": 25,
                    "guidance_scale": 7.5, "num_images": 1}),
            ),
            // The seed's, with its store.
            (
                json!({"prompt": "a", "input_image_r2": {"key": "k", "url": "https://r2.example/k?sig"}, "strength": 0.5,
                    "s3Config": {"accessId": "a"}, "num_inference_steps": 28}),
                json!({"prompt": "a", "strength": 0.5, "num_inference_steps": 28, "image_url": "https://r2.example/k?sig"}),
            ),
            (json!({"prompt": "a"}), json!({"prompt": "a"})),
            (
                json!({"task": "image2img", "prompt": "a", "image": "AAE=", "previews": 2, "anything": 1}),
                json!({"prompt": "a", "image": "AAE=", "anything": 1, "partial_images": 2}),
            ),
        ] {
            assert_eq!(body(input.clone()), Ok(expected), "{input}");
        }
    }

    #[test]
    fn what_is_not_taken_is_named() {
        for (input, words) in [
            (
                json!({"prompt": "a", "num_images": 1, "colour": "red"}),
                "Unexpected input. colour is not",
            ),
            (json!({"prompt": "a", "stream": true}), "stream is true"),
            (
                json!({"prompt": "a", "image_r2": {"key": "k"}}),
                "image_r2 has no url",
            ),
            (
                json!({"image": "a", "image_r2": {"url": "http://a"}}),
                "image_r2 is given beside",
            ),
            (
                json!({"prompt": "a", "response": "paper"}),
                "response is \"paper\"",
            ),
        ] {
            let error = body(input).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
    }
}
