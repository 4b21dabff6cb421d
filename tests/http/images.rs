//! OpenAI's routes of pictures, on the mock that draws gradients and leaves the lengths of what it begins with in the first pixels.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chandler::api::{Artifacts, NewArtifact};
use chandler_core::RequestError;
use futures_util::future::BoxFuture;
use image::{Rgba, RgbaImage};
use serde_json::{Value, json};

use super::worker::{Setup, Worker, with};

const DRAW: &str = "/v1/images/generations";
const EDIT: &str = "/v1/images/edits";

async fn drawing() -> Worker {
    Setup::drawing(0).start().await
}

pub fn decoded(text: &Value) -> image::RgbImage {
    let file = BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap();
    image::load_from_memory(&file).unwrap().to_rgb8()
}

fn png(alpha: u8) -> Vec<u8> {
    let mut picture = RgbaImage::from_pixel(8, 8, Rgba([200, 100, 50, 255]));
    picture.put_pixel(0, 0, Rgba([0, 0, 0, alpha]));
    let mut out = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

/// The lengths that the first two pixels tell of.
fn begun_with(picture: &image::RgbImage) -> [usize; 2] {
    [0, 1].map(|x| {
        let [high, middle, low] = picture.get_pixel(x, 0).0.map(usize::from);
        high << 16 | middle << 8 | low
    })
}

#[tokio::test]
async fn pictures_come_as_openai_writes_them() {
    let worker = drawing().await;
    let body = json!({"model": "mock", "prompt": "a red circle", "n": 2, "size": "32x16", "seed": 7, "user": "u",
        "quality": "auto", "background": "opaque", "moderation": "low"});
    let mut answer = worker.answer(DRAW, body).await;
    let data = answer["data"].take();
    let usage = json!({"input_tokens": 3, "output_tokens": 0, "total_tokens": 3, "images": 2,
        "input_tokens_details": {"text_tokens": 3, "image_tokens": 0}});
    assert_eq!(
        answer,
        json!({"created": 0, "data": null, "background": "opaque", "output_format": "png", "quality": "auto", "size": "32x16",
            "usage": usage})
    );
    assert_eq!((&data[0]["seed"], &data[1]["seed"]), (&json!(7), &json!(8)));
    let pictures = [0, 1].map(|at| decoded(&data[at]["b64_json"]));
    assert_eq!(pictures[0].dimensions(), (32, 16));
    assert_ne!(pictures[0], pictures[1]);
    let again = json!({"prompt": "a red circle", "width": 32, "height": 16, "seed": 8.0});
    let again = worker.answer(DRAW, again).await;
    assert_eq!(decoded(&again["data"][0]["b64_json"]), pictures[1]);
    worker.counts(|counters| counters.images == 3).await;
    let metrics = worker.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("chandler_images_total"), "{metrics}");
}

#[tokio::test]
async fn the_same_picture_is_a_file_of_each_format() {
    let worker = drawing().await;
    for (format, magic) in [
        ("png", &b"\x89PNG"[..]),
        ("jpeg", b"\xff\xd8\xff"),
        ("webp", b"RIFF"),
    ] {
        let body = json!({"prompt": "wick", "seed": 1, "output_format": format, "response_format": "data_url"});
        let answer = worker.answer(DRAW, body).await;
        assert_eq!(answer["output_format"], format);
        let url = answer["data"][0]["url"].as_str().unwrap();
        let data = url.strip_prefix(&format!("data:image/{format};base64,"));
        let file = BASE64_STANDARD.decode(data.unwrap()).unwrap();
        assert!(file.starts_with(magic), "{format}");
        // What it was drawn from is in it; JPEG and WebP have it in UTF-16.
        let wide: Vec<u8> = "Seed: 1"
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect();
        let words = if format == "png" {
            b"Seed: 1".to_vec()
        } else {
            wide
        };
        assert!(file.windows(words.len()).any(|bytes| bytes == words));
    }
    let body = json!({"prompt": "wick", "metadata": false});
    let answer = worker.answer(DRAW, body).await;
    let file = BASE64_STANDARD.decode(answer["data"][0]["b64_json"].as_str().unwrap());
    assert!(!file.unwrap().windows(4).any(|bytes| bytes == b"tEXt"));
}

#[tokio::test]
async fn what_is_wrong_is_named_as_the_request_names_it() {
    let worker = drawing().await;
    for (more, field, words) in [
        (json!({"prompt": ""}), "prompt", "prompt is missing"),
        (json!({"size": "100x64"}), "size", "multiple of 8"),
        (json!({"width": 512}), "width", "from 8 to 256"),
        (
            json!({"num_inference_steps": 51}),
            "num_inference_steps",
            "from 1 to 50",
        ),
        (json!({"steps": 0}), "steps", "steps is 0"),
        (json!({"sampler": "dance"}), "sampler", "DDIMScheduler"),
        (json!({"loras": ["chalk"]}), "loras", "ink"),
        (json!({"n": 11}), "n", "from 1 to 10"),
        (json!({"style": "vivid"}), "style", "prompt"),
        (json!({"quality": "hd"}), "quality", "steps"),
        (
            json!({"output_format": "gif"}),
            "output_format",
            "png, jpeg or webp",
        ),
        (json!({"strength": 0.5}), "strength", "without an image"),
        (json!({"mask": "AAEC"}), "mask", "without an image"),
        (json!({"partial_images": 1}), "partial_images", "stream"),
        (
            json!({"response_format": "url"}),
            "response_format",
            "CHANDLER_OUTPUT_S3",
        ),
        (json!({"model": "other"}), "model", "not served"),
        (
            json!({"high_noise_frac": 0.8}),
            "high_noise_frac",
            "refiner",
        ),
        (json!({"refiner_steps": 9}), "refiner_steps", "refiner"),
        (
            json!({"refiner_strength": 0.3}),
            "refiner_strength",
            "refiner",
        ),
    ] {
        let body = with(json!({"prompt": "a"}), more);
        let (status, refusal) = worker.refusal(DRAW, body.clone()).await;
        let error = &refusal["error"];
        assert!(status == 400 || status == 404, "{body}: {refusal}");
        assert_eq!(error["param"], field, "{refusal}");
        assert!(
            error["message"].as_str().unwrap().contains(words),
            "{refusal}"
        );
    }
}

#[tokio::test]
async fn a_model_of_another_kind_says_so_on_both_sides() {
    let writes = super::worker::worker().await;
    let (status, refusal) = writes.refusal(DRAW, json!({"prompt": "a"})).await;
    assert_eq!((status, &refusal["error"]["param"]), (400, &json!("model")));
    let draws = drawing().await;
    let (status, refusal) = draws
        .refusal("/v1/chat/completions", super::worker::chat("a"))
        .await;
    assert_eq!(status, 400);
    let message = refusal["error"]["message"].as_str().unwrap();
    assert!(
        message.ends_with("the model loaded here does \"text-to-image\""),
        "{message}"
    );
}

#[tokio::test]
async fn a_stream_has_previews_steps_and_at_the_end_the_pictures() {
    let worker = drawing().await;
    let body = json!({"prompt": "a b", "steps": 4, "n": 2, "seed": 3, "stream": true, "partial_images": 1, "progress": true, "size": "64x32"});
    let response = worker.post(DRAW, body).await;
    let text = response.text().await.unwrap();
    let (events, done) = text.rsplit_once("data: ").unwrap();
    assert_eq!(done, "[DONE]\n\n");
    let events: Vec<Value> = events
        .split_terminator("\n\n")
        .map(|event| {
            let (name, data) = event.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(data["type"], name.strip_prefix("event: ").unwrap());
            data
        })
        .collect();
    let of = |name: &str| -> Vec<&Value> {
        let name = format!("image_generation.{name}");
        events
            .iter()
            .filter(|event| event["type"] == name)
            .collect()
    };
    let previews = of("partial_image");
    assert_eq!(previews.len(), 2);
    for (at, preview) in previews.iter().enumerate() {
        assert_eq!(
            (&preview["image_index"], &preview["partial_image_index"]),
            (&json!(at), &json!(0))
        );
        assert_eq!(
            (&preview["step"], &preview["size"]),
            (&json!(2), &json!("8x4"))
        );
        assert_eq!(decoded(&preview["b64_json"]).get_pixel(0, 0).0, [127; 3]);
    }
    let completed = of("completed");
    assert_eq!(completed.len(), 2);
    for (at, event) in completed.iter().enumerate() {
        assert!(event["created_at"].is_u64());
        assert_eq!(event["seed"], 3 + at);
        assert_eq!(
            (&event["quality"], &event["background"]),
            (&json!("auto"), &json!("opaque"))
        );
        assert_eq!(
            (&event["output_format"], &event["size"]),
            (&json!("png"), &json!("64x32"))
        );
        assert_eq!(event["usage"]["total_tokens"], 2);
        assert_eq!(decoded(&event["b64_json"]).dimensions(), (64, 32));
    }
    // Steps that a slow reader has not seen are told as the last of them.
    let last = of("progress").pop().unwrap();
    assert_eq!((&last["step"], &last["steps"]), (&json!(4), &json!(4)));
    assert_eq!(events.len(), 4 + of("progress").len());
}

#[tokio::test]
async fn an_error_before_the_first_step_is_no_stream() {
    let worker = drawing().await;
    let body = json!({"prompt": "a", "steps": 99, "stream": true});
    let (status, refusal) = worker.refusal(DRAW, body).await;
    assert_eq!((status, &refusal["error"]["param"]), (400, &json!("steps")));
}

#[tokio::test]
async fn who_goes_away_is_not_drawn_for() {
    let worker = Setup::drawing(50).start().await;
    let body = json!({"prompt": "a", "steps": 50, "stream": true, "progress": true});
    let mut response = worker.post(DRAW, body.clone()).await;
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    worker.counts(|counters| counters.cancelled == 1).await;
    let mut whole = body;
    whole["stream"] = json!(false);
    let request = worker.client.post(worker.url(DRAW)).json(&whole);
    let cut = request.timeout(Duration::from_millis(150)).send().await;
    assert!(cut.unwrap_err().is_timeout());
    worker.counts(|counters| counters.cancelled == 2).await;
    worker.is_empty().await;
}

#[tokio::test]
async fn an_edit_begins_with_its_picture_and_knows_openais_masks() {
    let worker = drawing().await;
    let (picture, mask) = (png(255), png(0));
    let fields = [
        ("prompt", "a hat"),
        ("n", "1"),
        ("size", "64x64"),
        ("strength", "0.5"),
        ("seed", "4"),
        ("loras", "[{\"name\": \"ink\", \"weight\": 0.5}]"),
    ];
    let mut grey_of_mask = 0;
    for name in ["image", "image[]"] {
        let files = [(name, picture.as_slice()), ("mask", mask.as_slice())];
        let response = worker.files(EDIT, &fields, &files).await;
        assert_eq!(response.status(), 200);
        let answer: Value = response.json().await.unwrap();
        let [image, grey] = begun_with(&decoded(&answer["data"][0]["b64_json"]));
        assert_eq!(image, picture.len());
        // A grey picture of our own, and not the one that was sent.
        assert!(grey > 0 && grey != mask.len());
        grey_of_mask = grey;
    }
    // Without a mask it is what is transparent of the picture, where anything is.
    let encoded = |file: &[u8]| BASE64_STANDARD.encode(file);
    for (route, alpha, masked) in [(EDIT, 255, false), (EDIT, 0, true), (DRAW, 0, false)] {
        let picture = png(alpha);
        let body = json!({"prompt": "a hat", "image": encoded(&picture), "seed": 4});
        let answer = worker.answer(route, body).await;
        let begun = begun_with(&decoded(&answer["data"][0]["b64_json"]));
        assert_eq!(begun[0], picture.len());
        assert_eq!(begun[1] == grey_of_mask, masked, "{route}");
    }
    let response = worker
        .files(
            "/v1/images/variations",
            &[("n", "2")],
            &[("image", &picture)],
        )
        .await;
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_edit_that_cannot_be_says_what_is_wrong() {
    let worker = drawing().await;
    let (picture, prompt) = (png(255), ("prompt", "a"));
    let refused = async |fields: &[(&str, &str)], files: &[(&str, &[u8])]| {
        let response = worker.files(EDIT, fields, files).await;
        let status = response.status().as_u16();
        let mut error = response.json::<Value>().await.unwrap()["error"].take();
        (
            status,
            error["param"].take(),
            error["message"].as_str().unwrap().to_owned(),
        )
    };
    let image = ("image", picture.as_slice());
    for (fields, files, field, words) in [
        (&[prompt][..], &[][..], "image", "image is missing"),
        (&[], &[image], "prompt", "prompt is missing"),
        (
            &[prompt],
            &[image, ("mask", picture.as_slice())],
            "mask",
            "alpha channel",
        ),
        (
            &[prompt],
            &[image, ("mask", &b"text"[..])],
            "mask",
            "not a picture",
        ),
        (&[prompt], &[image, image], "image", "given twice"),
        (
            &[prompt],
            &[("photo", picture.as_slice())],
            "photo",
            "`image` and `mask`",
        ),
        (&[prompt], &[("image", &b""[..])], "image", "empty"),
        (&[prompt, ("image", "AAE=")], &[image], "image", "twice"),
        (&[prompt, ("n", "many")], &[image], "n", "whole number"),
    ] {
        let (status, param, message) = refused(fields, files).await;
        assert_eq!((status, &param), (400, &json!(field)), "{message}");
        assert!(message.contains(words), "{message}");
    }
    let response = worker.post_bytes(EDIT, "prompt").await;
    assert_eq!(response.status(), 415);
    let large = vec![0; (50 << 20) + 1];
    let (status, param, _) = refused(&[prompt], &[("image", &large)]).await;
    assert_eq!((status, param), (413, json!("image")));
}

/// A store that remembers what it got.
#[derive(Debug, Default)]
struct Shelf(Mutex<Vec<NewArtifact>>);

impl Artifacts for Shelf {
    fn keep(&self, artifact: NewArtifact) -> BoxFuture<'_, Result<String, RequestError>> {
        let mut kept = self.0.lock().unwrap();
        kept.push(artifact);
        let url = format!("https://store.example/{}", kept.len());
        Box::pin(std::future::ready(Ok(url)))
    }
}

#[tokio::test]
async fn pictures_lie_in_the_store_where_their_addresses_are_asked_for() {
    let shelf = Arc::new(Shelf::default());
    let mut setup = Setup::drawing(0);
    setup.api.artifacts = Some(shelf.clone());
    let worker = setup.start().await;
    let body = json!({"prompt": "a", "response_format": "url", "output_format": "jpeg", "n": 2});
    let answer = worker.answer(DRAW, body).await;
    let urls: Vec<&str> = [0, 1]
        .map(|at| answer["data"][at]["url"].as_str().unwrap())
        .to_vec();
    assert!(
        urls.iter()
            .all(|url| url.starts_with("https://store.example/"))
    );
    assert_ne!(urls[0], urls[1]);
    let kept = shelf.0.lock().unwrap().clone();
    assert_eq!(kept.len(), 2);
    assert_eq!(
        (kept[0].content_type, kept[0].extension),
        ("image/jpeg", "jpeg")
    );
    assert!(kept[0].bytes.starts_with(b"\xff\xd8"));
    let streamed = json!({"prompt": "a", "response_format": "url", "stream": true});
    let (status, refusal) = worker.refusal(DRAW, streamed).await;
    assert_eq!(
        (status, &refusal["error"]["param"]),
        (400, &json!("response_format"))
    );
}

#[tokio::test]
async fn ten_large_pictures_are_one_answer_however_fast_they_come() {
    let worker = drawing().await;
    let body = json!({"prompt": "a", "n": 10, "size": "256x256", "seed": 1, "steps": 2});
    let answer = worker.answer(DRAW, body.clone()).await;
    let whole: Vec<&Value> = answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["b64_json"])
        .collect();
    assert_eq!(whole.len(), 10);
    let text = worker
        .post(DRAW, with(body, json!({"stream": true})))
        .await
        .text()
        .await
        .unwrap();
    let streamed: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .collect();
    let streamed: Vec<&Value> = streamed.iter().map(|event| &event["b64_json"]).collect();
    assert_eq!(streamed, whole);
}
