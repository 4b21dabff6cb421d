//! Vertex's way to a model that draws: instances, and bodies without them.

use serde_json::{Value, json};

use super::images::decoded;
use super::worker::{Setup, events};

#[tokio::test]
async fn instances_are_drawn_with_what_their_parameters_add() {
    let worker = Setup::drawing(0).start().await;
    let body = json!({
        "instances": [
            {"task": "text-to-image", "prompt": "a red circle", "negative_prompt": "blue", "width": 32.0, "height": 16.0,
                "num_inference_steps": 3.0, "guidance_scale": 1, "seed": 7.0, "num_images_per_prompt": 2, "scheduler": "DDIMScheduler"},
            "a green square",
            {"task": "image-to-image", "prompt": "b", "init_image": "AAEC", "mask_image": "AAE=", "strength": 0.5, "loras": [{"name": "ink", "weight": 0.25}],
                "clip_skip": 1, "output_format": "jpeg", "quality": 50, "response": "data_url"},
        ],
        "parameters": {"seed": 1, "steps": 4},
    });
    let answer = worker.answer("/predict", body).await;
    let mut predictions = answer["predictions"].clone();
    let images = predictions[0]["images"].take();
    assert_eq!(images.as_array().unwrap().len(), 2);
    assert_eq!(decoded(&images[0]).dimensions(), (32, 16));
    assert_eq!(
        predictions[0],
        json!({"images": null, "seed": 7, "seeds": [7, 8], "format": "png", "width": 32, "height": 16, "steps": 3,
            "scheduler": "DDIMScheduler", "guidance_scale": null, "usage": {"prompt_tokens": 3, "images": 2}})
    );
    assert_eq!(
        (&predictions[1]["seed"], &predictions[1]["steps"]),
        (&json!(1), &json!(4))
    );
    let third = &predictions[2];
    // Half of the steps are left of four.
    assert_eq!(
        (&third["steps"], &third["strength"]),
        (&json!(2), &json!(0.5))
    );
    let url = third["images"][0].as_str().unwrap();
    assert!(url.starts_with("data:image/jpeg;base64,/9j/"), "{url}");
}

#[tokio::test]
async fn what_is_wrong_with_an_instance_is_named_with_its_place() {
    let worker = Setup::drawing(0).start().await;
    for (instance, field, words) in [
        (
            json!({"prompt": "a", "width": 100}),
            "instances[0].width",
            "multiple of 8",
        ),
        (
            json!({"prompt": "a", "num_inference_steps": 99}),
            "instances[0].num_inference_steps",
            "from 1 to 50",
        ),
        (
            json!({"prompt": "a", "cfg_scale": "b"}),
            "instances[0].cfg_scale",
            "a number",
        ),
        (
            json!({"prompt": "a", "init_image": 7}),
            "instances[0].init_image",
            "base64",
        ),
        (
            json!({"prompt": "a", "image_url": "http://127.0.0.1/a.png"}),
            "instances[0].image_url",
            "127.0.0.1",
        ),
        (
            json!({"prompt": ""}),
            "instances[0].prompt",
            "prompt is empty",
        ),
        (
            json!({"prompt": "a", "task": "asr"}),
            "instances[0].task",
            "automatic-speech-recognition",
        ),
        (
            json!({"prompt": "a", "response": "url"}),
            "instances[0].response_format",
            "CHANDLER_OUTPUT_S3",
        ),
        (json!(7), "instances[0]", "a prompt"),
    ] {
        let body = json!({"instances": [instance]});
        let (status, refusal) = worker.refusal("/predict", body.clone()).await;
        let error = &refusal["error"];
        assert_eq!(
            (status, &error["param"]),
            (400, &json!(field)),
            "{body}: {refusal}"
        );
        assert!(
            error["message"].as_str().unwrap().contains(words),
            "{refusal}"
        );
    }
    let body = json!({"instances": [{"prompt": "a"}], "parameters": {"steps": 99}});
    let (_, refusal) = worker.refusal("/predict", body).await;
    assert_eq!(refusal["error"]["param"], "parameters.steps");
    let body = json!({"instances": ["a"], "grouped": true});
    let (_, refusal) = worker.refusal("/predict", body).await;
    assert_eq!(refusal["error"]["param"], "grouped");
}

#[tokio::test]
async fn an_instance_alone_is_a_prediction_or_a_stream() {
    let worker = Setup::drawing(0).start().await;
    let whole = worker
        .answer("/predict", json!({"prompt": "a", "seed": 5}))
        .await;
    assert_eq!((&whole["seed"], &whole["width"]), (&json!(5), &json!(64)));
    let body = json!({"prompt": "a", "seed": 5, "stream": true});
    let text = worker.post("/predict", body).await.text().await.unwrap();
    let frames: String = text.replace("event: image_generation.completed\n", "");
    let events: Vec<Value> = events(&frames);
    assert_eq!(events[0]["type"], "image_generation.completed");
    assert_eq!(events[0]["b64_json"], whole["images"][0]);
    assert_eq!(events[1], "[DONE]");
}

#[tokio::test]
async fn a_picture_that_is_not_to_be_shown_is_black_and_said_to_be() {
    let worker = Setup::drawing(0).start().await;
    let answer = worker
        .answer("/predict", json!({"prompt": "a FORBIDDEN thing"}))
        .await;
    assert_eq!(answer["flagged"], json!([true]));
    assert!(
        decoded(&answer["images"][0])
            .pixels()
            .all(|pixel| pixel.0 == [0; 3])
    );
}

#[tokio::test]
async fn a_model_that_writes_refuses_what_only_one_that_draws_knows() {
    let worker = super::worker::worker().await;
    let body = json!({"instances": [{"prompt": "a", "negative_prompt": "b"}]});
    let (status, refusal) = worker.refusal("/predict", body).await;
    assert_eq!(status, 400);
    assert_eq!(refusal["error"]["param"], "instances[0].negative_prompt");
}

#[tokio::test]
async fn a_bare_prompt_waits_for_the_model_that_makes_something_of_it() {
    let (open, loading) = std::sync::mpsc::channel();
    let mut setup = Setup::drawing(0);
    setup.loading = Some(loading);
    let worker = setup.start().await;
    let asked = worker.post("/predict", json!({"instances": ["a"]}));
    let opened = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        drop(open);
    };
    let (response, ()) = tokio::join!(asked, opened);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["predictions"][0]["width"], 64, "{answer}");
}
