//! The embedded image model: pictures that diffusers drew from the same noise, each alone and then all of them together.

use std::time::Duration;

use anyhow::Context;
use chandler_core::{Denoising, Guidance, ImageInput, Input, Prompts};
use serde::{Deserialize, Serialize};

use super::company::{self, Question, median};
use crate::cli::ask::Answer;
use crate::engine::Engine;

#[cfg(feature = "image")]
const RECORDED: &str = include_str!("../../../pipelines/demo/image/drawn/pictures.json");
#[cfg(not(feature = "image"))]
const RECORDED: &str = "[]";

#[cfg(feature = "image")]
macro_rules! pictures {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../pipelines/demo/image/drawn/", $name)))),*]
    };
}
#[cfg(feature = "image")]
const PICTURES: &[(&str, &[u8])] = pictures!["circle.png", "square.png", "two.png"];
#[cfg(not(feature = "image"))]
const PICTURES: &[(&str, &[u8])] = &[];

/// How far the values of red, green and blue may be from the recorded ones in the mean, of 255: f16 and bf16 move an edge by a
/// fraction of a pixel, and another picture is further off by ten times.
const CLOSE: f64 = 4.0;

/// A request with the picture that the reference implementation drew.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    rgb: Vec<u8>,
    recorded: Recorded,
}

#[derive(Debug, Clone, Deserialize)]
struct Recorded {
    file: String,
    prompt: String,
    seed: u64,
    steps: u32,
    guidance_scale: f64,
}

/// What was recorded; nothing in a build without image models.
pub(super) fn recorded() -> anyhow::Result<Vec<Picture>> {
    let all: Vec<Recorded> =
        serde_json::from_str(RECORDED).context("the recorded pictures are not right")?;
    all.into_iter()
        .map(|recorded| {
            let found = PICTURES.iter().find(|(name, _)| *name == recorded.file);
            let (_, bytes) =
                found.with_context(|| format!("there is no picture {}", recorded.file))?;
            let rgb = image::load_from_memory(bytes)?.to_rgb8().into_raw();
            Ok(Picture { rgb, recorded })
        })
        .collect()
}

impl Question for Picture {
    fn input(&self) -> Input {
        let Recorded {
            prompt,
            seed,
            steps,
            guidance_scale,
            ..
        } = &self.recorded;
        Input::Image(Box::new(ImageInput {
            prompt: Prompts::one(prompt.clone()),
            seed: Some(*seed),
            denoising: Denoising {
                steps: Some(*steps),
                ..Denoising::default()
            },
            guidance: Guidance {
                scale: Some(*guidance_scale),
                ..Guidance::default()
            },
            ..ImageInput::default()
        }))
    }

    fn name(&self) -> String {
        let Recorded { file, prompt, .. } = &self.recorded;
        format!("{file} ({prompt})")
    }

    fn difference(&self, answer: &Answer) -> Option<String> {
        let [drawn] = answer.collected.images.as_slice() else {
            return Some(format!("{} pictures", answer.collected.images.len()));
        };
        if drawn.rgb.len() != self.rgb.len() {
            return Some(format!("{}×{} pixels", drawn.width, drawn.height));
        }
        let pairs = drawn.rgb.iter().zip(&self.rgb);
        let sum: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
        let mean = sum / self.rgb.len().max(1) as f64;
        (mean > CLOSE).then(|| format!("values are off by {mean:.1} of 255 in the mean"))
    }
}

/// How the model did.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    model: String,
    load_ms: f64,
    /// Of a picture, in its median.
    picture_ms: f64,
    /// Pictures a second, all together.
    pictures_per_second: f64,
    passed: usize,
    pub(super) failed: Vec<String>,
}

/// Draws everything.
pub(super) async fn examine(
    engine: &Engine,
    model: String,
    load: Duration,
    pictures: &[Picture],
) -> Report {
    let found = company::examine(engine, pictures).await;
    let took = |answer: &Answer| answer.total.as_secs_f64() * 1000.0;
    Report {
        model,
        load_ms: load.as_secs_f64() * 1000.0,
        picture_ms: median(found.alone.iter().map(took)),
        pictures_per_second: found.a_second_together(found.together.len() as f64),
        passed: found.passed,
        failed: found.failed,
    }
}

impl Report {
    pub(super) fn as_text(&self) -> String {
        let failures = self.failed.iter().map(|failure| format!("  {failure}\n"));
        format!(
            "model                     {}\n\
             load time                 {:.1} ms\n\
             a picture                 {:.0} ms (median), {:.1} a second together\n\
             pictures                  {} as recorded, {} not\n{}",
            self.model,
            self.load_ms,
            self.picture_ms,
            self.pictures_per_second,
            self.passed,
            self.failed.len(),
            failures.collect::<String>(),
        )
    }
}

#[cfg(all(test, feature = "image"))]
mod tests {
    use super::*;

    #[test]
    fn every_recorded_picture_is_here_and_is_one() {
        let pictures = recorded().unwrap();
        assert_eq!(pictures.len(), PICTURES.len());
        assert!(
            pictures
                .iter()
                .all(|picture| picture.rgb.len() == 3 * 64 * 64)
        );
    }
}
