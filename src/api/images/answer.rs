//! Pictures as an answer: files out of pixels, off the async threads, and what OpenAI's routes and `/predict` write around them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chandler_core::{Collected, Drawn, Preview, Recipe, RequestError, Usage};
use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};

use super::delivery::Delivery;
use super::fields::Wish;
use crate::api::artifacts::{Artifacts, NewArtifact};
use crate::api::state::unix_seconds;
use crate::pictures::{self, Parameters, Pixels};

/// What was asked, for those who write the answer.
#[derive(Debug)]
pub(in crate::api) struct Asked {
    pub(in crate::api) wish: Wish,
    /// The model's name.
    pub(super) model: String,
    /// The request's.
    pub(super) id: String,
    pub(super) store: Option<Arc<dyn Artifacts>>,
}

/// A picture as it stands in an answer.
#[derive(Debug)]
pub(super) struct Made {
    /// Base64, a data URL or an address.
    pub(super) text: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) recipe: Recipe,
}

impl Asked {
    /// A picture's file.
    fn file(&self, drawn: &Drawn) -> Result<Vec<u8>, RequestError> {
        let input = &self.wish.input;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (prompt, negative) = (
            text(&input.prompt.first),
            text(&input.negative_prompt.first),
        );
        let parameters = Parameters {
            prompt: &prompt,
            negative_prompt: &negative,
            model: &self.model,
            clip_skip: input.clip_skip,
            loras: &input.loras,
            ..Parameters::default()
        };
        let (width, height) = (drawn.width, drawn.height);
        let parameters = parameters.of(&drawn.recipe, (width, height));
        let pixels = Pixels {
            width,
            height,
            rgb: &drawn.rgb,
        };
        let parameters = self.wish.has_metadata.then_some(&parameters);
        pictures::encode(pixels, self.wish.encoding, parameters)
            .map_err(|error| RequestError::internal(error.to_string()))
    }

    /// A picture's file as base64. Takes as long as a picture is large: not for an async thread.
    pub(super) fn drawn(&self, drawn: &Drawn) -> Result<String, RequestError> {
        self.file(drawn).map(|file| STANDARD.encode(file))
    }

    /// The same of what is there of one so far.
    pub(super) fn preview(&self, preview: &Preview) -> Result<String, RequestError> {
        let pixels = Pixels {
            width: preview.width,
            height: preview.height,
            rgb: &preview.rgb,
        };
        let file = pictures::encode(pixels, self.wish.encoding, None);
        file.map(|file| STANDARD.encode(file))
            .map_err(|error| RequestError::internal(error.to_string()))
    }

    async fn made(self: Arc<Self>, drawn: Drawn) -> Result<Made, RequestError> {
        let (asked, format) = (self.clone(), self.wish.encoding.format);
        let (width, height) = (drawn.width, drawn.height);
        let encoding = tokio::task::spawn_blocking(move || {
            let file = asked.file(&drawn)?;
            let text = match asked.wish.delivery {
                Delivery::Base64 => STANDARD.encode(file),
                Delivery::DataUrl => format!(
                    "data:{};base64,{}",
                    format.content_type(),
                    STANDARD.encode(file)
                ),
                Delivery::Url => return Ok((Err(Bytes::from(file)), drawn.recipe)),
            };
            Ok((Ok(text), drawn.recipe))
        });
        let (made, recipe) = encoding
            .await
            .map_err(|_| RequestError::internal("a picture could not be written"))??;
        let text = match made {
            Ok(text) => text,
            Err(file) => self.kept(file).await?,
        };
        Ok(Made {
            text,
            width,
            height,
            recipe,
        })
    }

    async fn kept(&self, bytes: Bytes) -> Result<String, RequestError> {
        let format = self.wish.encoding.format;
        let none = || RequestError::internal("the object store is gone");
        let artifact = NewArtifact {
            request: self.id.clone(),
            content_type: format.content_type(),
            extension: format.name(),
            bytes,
        };
        self.store.as_ref().ok_or_else(none)?.keep(artifact).await
    }

    async fn all(self: &Arc<Self>, images: Vec<Drawn>) -> Result<Vec<Made>, RequestError> {
        let all = images.into_iter().map(|drawn| self.clone().made(drawn));
        let made = try_join_all(all).await?;
        match made.is_empty() {
            true => Err(RequestError::internal(
                "the model has ended without a picture",
            )),
            false => Ok(made),
        }
    }
}

/// What OpenAI counts; there, pictures are tokens too.
pub(super) fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens,
        "output_tokens": 0,
        "total_tokens": usage.prompt_tokens,
        "input_tokens_details": {"text_tokens": usage.prompt_tokens, "image_tokens": 0},
        "images": usage.images,
    })
}

/// The answer of OpenAI's routes.
pub(super) async fn body(asked: &Arc<Asked>, answer: Collected) -> Result<Value, RequestError> {
    let made = asked.all(answer.images).await?;
    let size = made
        .first()
        .map(|one| format!("{}x{}", one.width, one.height));
    let key = match asked.wish.delivery {
        Delivery::Base64 => "b64_json",
        Delivery::DataUrl | Delivery::Url => "url",
    };
    let data: Vec<Value> = made
        .into_iter()
        .map(|one| {
            let mut item = Map::from_iter([(key.to_owned(), one.text.into())]);
            item.insert("seed".into(), one.recipe.seed.into());
            if one.recipe.flagged {
                item.insert("flagged".into(), true.into());
            }
            Value::Object(item)
        })
        .collect();
    Ok(json!({
        "created": unix_seconds(),
        "background": "opaque",
        "data": data,
        "output_format": asked.wish.encoding.format.name(),
        "quality": "auto",
        "size": size,
        "usage": usage(answer.usage),
    }))
}

/// What `/predict` says of one instance.
pub(in crate::api) async fn prediction(
    asked: &Arc<Asked>,
    answer: Collected,
) -> Result<Value, RequestError> {
    let made = asked.all(answer.images).await?;
    let mut map = Map::new();
    let seeds: Vec<u64> = made.iter().map(|one| one.recipe.seed).collect();
    let flagged: Vec<bool> = made.iter().map(|one| one.recipe.flagged).collect();
    if let Some(first) = made.first() {
        map.insert("seed".into(), first.recipe.seed.into());
        map.insert("seeds".into(), seeds.into());
        map.insert("format".into(), asked.wish.encoding.format.name().into());
        map.insert("width".into(), first.width.into());
        map.insert("height".into(), first.height.into());
        map.extend(recipe(&first.recipe));
    }
    if flagged.contains(&true) {
        map.insert("flagged".into(), flagged.into());
    }
    let usage = answer.usage;
    let usage = json!({"prompt_tokens": usage.prompt_tokens, "images": usage.images});
    map.insert("usage".into(), usage);
    let images: Vec<Value> = made.into_iter().map(|one| one.text.into()).collect();
    // First, where callers look for them.
    map.shift_insert(0, "images".into(), images.into());
    Ok(Value::Object(map))
}

/// What was run, with the defaults filled in.
pub(super) fn recipe(recipe: &Recipe) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("steps".into(), recipe.steps.into());
    map.insert("scheduler".into(), recipe.scheduler.clone().into());
    map.insert("guidance_scale".into(), recipe.guidance_scale.into());
    if let Some(scale) = recipe.true_guidance_scale {
        map.insert("true_cfg_scale".into(), scale.into());
    }
    let parts = [
        ("strength", recipe.strength),
        ("denoising_end", recipe.denoising_end),
        ("refiner_strength", recipe.refiner_strength),
    ];
    let parts = parts.into_iter();
    map.extend(parts.filter_map(|(name, part)| Some((name.to_owned(), part?.into()))));
    map
}
