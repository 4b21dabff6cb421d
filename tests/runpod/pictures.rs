//! Jobs of pictures, on the mock that draws gradients: what the clients of both workers read, progress, and stores.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chandler::api::{self, ApiSettings};
use chandler::engine::{Engine, EngineOptions};
use chandler::runpod::{Handler, Piece, Streaming, Work};
use chandler_core::mock::MockArtist;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::jobs::{Jobs, job};

async fn jobs() -> Jobs<Engine> {
    let settings = ApiSettings {
        model_id: "mock-image".into(),
        ..ApiSettings::default()
    };
    let engine = Engine::start(EngineOptions::default(), |_| {
        Ok(MockArtist::new(4, Duration::ZERO))
    });
    engine.loaded().await.unwrap();
    let inner = api::inner_router(settings, engine.clone());
    Jobs {
        handler: Handler::new(inner, Streaming::default()),
        worker: engine,
    }
}

/// All pieces of a job but its end, and its end's body.
async fn pieces(jobs: &Jobs<Engine>, input: Value) -> (Vec<Value>, Value) {
    let mut pieces: Vec<Piece> = jobs.handler.start(job(input)).collect().await;
    let Some(Piece::Done(outcome)) = pieces.pop() else {
        panic!("no outcome");
    };
    assert!(!outcome.is_stream);
    let progress = pieces.into_iter().map(|piece| match piece {
        Piece::Progress(value) => value,
        other => panic!("{other:?}"),
    });
    (progress.collect(), outcome.body)
}

fn picture(url: &Value) -> image::RgbImage {
    let data = url.as_str().unwrap().strip_prefix("data:image/png;base64,");
    let file = BASE64_STANDARD.decode(data.unwrap()).unwrap();
    image::load_from_memory(&file).unwrap().to_rgb8()
}

#[tokio::test]
async fn a_job_has_what_the_clients_of_both_workers_read() {
    let jobs = jobs().await;
    let input = json!({"prompt": "a red circle", "negative_prompt": "blue", "height": 16, "width": 32, "seed": 7, "scheduler": "DDIM",
        "num_inference_steps": 3, "refiner_inference_steps": 50, "guidance_scale": 7.5, "strength": 0.3, "image_url": null,
        "num_images": 2, "high_noise_frac": null});
    let (_, mut body) = pieces(&jobs, input).await;
    let mut output = body["output"].take();
    let images = output["images"].take();
    assert_eq!(output["image_url"].take(), images[0]);
    assert!(output["execution_duration_ms"].take().is_u64());
    assert_eq!(images.as_array().unwrap().len(), 2);
    assert_eq!(picture(&images[0]).dimensions(), (32, 16));
    assert_ne!(images[0], images[1]);
    assert_eq!(
        output,
        json!({"images": null, "image_url": null, "seed": 7, "seeds": [7, 8], "model_id": "mock-image", "width": 32, "height": 16,
            "format": "png", "steps": 3, "scheduler": "DDIMScheduler", "guidance_scale": 7.5, "execution_duration_ms": null})
    );
}

#[tokio::test]
async fn steps_are_the_jobs_progress_with_previews_where_they_are_asked_for() {
    let jobs = jobs().await;
    let input = json!({"task": "text_to_image", "prompt": "a", "steps": 4, "previews": 1, "seed": 1, "response": "base64"});
    let (progress, body) = pieces(&jobs, input).await;
    let last = progress
        .iter()
        .rev()
        .find(|told| told.get("step").is_some());
    assert_eq!(
        last.unwrap(),
        &json!({"progress": 100, "step": 4, "steps": 4})
    );
    let previews: Vec<&Value> = progress
        .iter()
        .filter_map(|told| told.get("preview"))
        .collect();
    assert_eq!(previews.len(), 1);
    let text = body["output"]["image_url"].as_str().unwrap();
    assert!(
        BASE64_STANDARD
            .decode(text)
            .unwrap()
            .starts_with(b"\x89PNG")
    );
}

#[tokio::test]
async fn a_picture_to_begin_with_comes_with_the_job() {
    let jobs = jobs().await;
    let input = json!({"prompt": "a", "image": BASE64_STANDARD.encode([7; 300]), "strength": 0.5, "seed": 1});
    let (_, body) = pieces(&jobs, input).await;
    assert_eq!(
        picture(&body["output"]["images"][0]).get_pixel(0, 0).0,
        [0, 1, 44]
    );
    assert_eq!(
        (&body["output"]["steps"], &body["output"]["strength"]),
        (&json!(2), &json!(0.5))
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_job_is_its_error() {
    let jobs = jobs().await;
    for (input, words) in [
        (
            json!({"prompt": "a", "width": 100}),
            "width is 100; it must be a multiple of 8",
        ),
        (
            json!({"prompt": "a", "num_inference_steps": 99}),
            "num_inference_steps is 99",
        ),
        (
            json!({"prompt": "a", "num_images": 1, "colour": "red"}),
            "Unexpected input. colour is not a valid input option.",
        ),
        (
            json!({"prompt": "a", "image_url": "http://169.254.169.254/"}),
            "image_url: ",
        ),
        (json!({"task": "text2img"}), "prompt is empty"),
        (
            json!({"prompt": "a", "num_images": 1, "high_noise_frac": 0.8}),
            "high_noise_frac: the mock has no refiner",
        ),
        (json!({"prompt": "a", "num_frames": 8}), "text-to-video"),
    ] {
        let (_, body) = pieces(&jobs, input.clone()).await;
        let error = body["error"]
            .as_str()
            .unwrap_or_else(|| panic!("{input}: {body}"));
        assert!(error.contains(words), "{input}: {error}");
    }
}

#[tokio::test]
async fn the_routes_of_pictures_are_there_for_jobs_too() {
    let jobs = jobs().await;
    let input = json!({"openai_route": "/v1/images/generations", "openai_input": {"prompt": "a", "size": "16x8"}});
    let output = jobs.output(input).await;
    let output = output.get(0).unwrap_or(&output);
    assert_eq!(output["size"], "16x8", "{output}");
}
