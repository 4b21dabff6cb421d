//! Vertex AI beyond `/predict`'s own answers (predict.rs): one batch, every dialect on the one path, `/invoke`, and the fields
//! and the grouped answer of the first container.

use std::time::Duration;

use serde_json::{Value, json};

use super::worker::{Setup, chat, with, worker};

#[tokio::test]
async fn instances_run_together_in_one_batch() {
    let mut setup = Setup::slow(20);
    setup.mock.rows = 8;
    let worker = setup.start().await;
    let body = |instances: usize| json!({"instances": vec!["a"; instances], "parameters": {"max_tokens": 10.0}});
    worker.answer("/predict", body(1)).await;
    let alone = worker.engine.counters().steps;
    let together = async {
        worker
            .counts(|c| c.running == 8 && c.rows == 8 && c.queued == 0)
            .await;
    };
    let (answer, ()) = tokio::join!(worker.answer("/predict", body(8)), together);
    assert_eq!(answer["predictions"].as_array().unwrap().len(), 8);
    let steps = worker.engine.counters().steps - alone;
    // One after the other they would take eight times as many; the first may start a step before the others are in, and the last
    // step's answer may be here before the step is counted.
    assert!(
        (alone - 1..=alone + 2).contains(&steps),
        "{steps} for {alone}"
    );
}

#[tokio::test]
async fn nothing_runs_when_the_last_instance_is_refused() {
    let worker = worker().await;
    let mut instances = vec![json!("a"); 9];
    instances.push(json!({"sentence": "b", "task": "tts"}));
    let (status, body) = worker
        .refusal("/predict", json!({"instances": instances}))
        .await;
    assert_eq!(
        (status, &body["error"]["message"]),
        (
            400,
            &json!(
                "instances[9].task is \"tts\" (text-to-speech); the model loaded here does \"text-generation\""
            )
        )
    );
    assert_eq!(body["error"]["code"], "unsupported");
    let counters = worker.engine.counters();
    assert_eq!((counters.steps, counters.completed), (0, 0));
}

#[tokio::test]
async fn every_dialect_comes_in_by_the_one_path() {
    let worker = worker().await;
    let ask = async |body: Value| worker.answer("/predict", body).await;
    let response = ask(json!({"model": "mock", "input": "a b", "max_output_tokens": 2.0})).await;
    assert_eq!(
        (&response["object"], &response["status"]),
        (&json!("response"), &json!("incomplete"))
    );
    let message = json!({
        "anthropic_version": "vertex-2023-10-16", "max_tokens": 2.0, "messages": [{"role": "user", "content": "a"}],
    });
    assert_eq!(ask(message.clone()).await["type"], "message");
    let text = ask(json!(
        with(message.clone(), json!({"system": "b"})).to_string()
    ))
    .await;
    assert_eq!(text["role"], "assistant"); // a body in a JSON string is of any dialect, too
    let header = worker.client.post(worker.url("/predict")).json(&json!({
        "max_tokens": 2, "messages": [{"role": "user", "content": "a"}],
    }));
    let answer = header
        .header("anthropic-version", "2023-06-01")
        .send()
        .await
        .unwrap();
    assert!(answer.headers().contains_key("request-id"));
    assert_eq!(answer.json::<Value>().await.unwrap()["type"], "message");
    assert_eq!(ask(chat("a")).await["object"], "chat.completion");
    assert_eq!(
        ask(json!({"prompt": "a"})).await["object"],
        "text_completion"
    );
}

#[tokio::test]
async fn every_dialect_streams_in_its_own_events() {
    let worker = worker().await;
    let message = json!({
        "anthropic_version": "vertex-2023-10-16", "max_tokens": 2, "messages": [{"role": "user", "content": "a"}],
        "stream": true,
    });
    let events = worker.named_events("/predict", message).await;
    assert_eq!(events.first().unwrap()["type"], "message_start");
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    let response = json!({"input": "a", "max_output_tokens": 2, "stream": true});
    let events = worker.named_events("/predict", response).await;
    assert_eq!(events.first().unwrap()["type"], "response.created");
    for body in [chat("a"), json!({"prompt": "a"})] {
        let events = worker
            .events("/predict", with(body, json!({"stream": true})))
            .await;
        assert_eq!(events.last().unwrap(), "[DONE]");
    }
}

#[tokio::test]
async fn errors_are_in_the_bodys_dialect_and_say_what_would_do() {
    let worker = worker().await;
    let message = json!({"anthropic_version": "vertex-2023-10-16", "messages": []});
    let (status, body) = worker.refusal("/predict", message).await;
    assert_eq!((status, &body["type"]), (400, &json!("error")));
    for embeddings in [
        json!({"model": "mock", "input": ["a", "b"]}),
        json!({"input": "a", "encoding_format": "float"}),
    ] {
        let (status, body) = worker.refusal("/predict", embeddings).await;
        assert_eq!(
            (status, &body["error"]["param"], &body["error"]["message"]),
            (
                400,
                &json!("input"),
                &json!(
                    "input asks for embeddings (feature-extraction); the model loaded here does \"text-generation\""
                )
            )
        );
    }
    let (status, body) = worker.refusal("/predict", json!({"query": "a"})).await;
    assert_eq!(status, 400);
    let said = body["error"]["message"].as_str().unwrap();
    assert!(
        said.contains("instances") && said.contains("anthropic_version"),
        "{said}"
    );
    assert_eq!(worker.engine.counters().steps, 0);
}

#[tokio::test]
async fn invoke_leads_to_every_route_with_the_prefix_and_without() {
    let mut setup = Setup::default();
    setup.api.api_keys = vec!["a-key".into()].into();
    let worker = setup.start().await;
    for path in ["/invoke/v1/chat/completions", "/v1/chat/completions"] {
        let request = worker.client.post(worker.url(path)).json(&chat("a"));
        let answer = request.bearer_auth("a-key").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        // The prefix opens nothing.
        assert_eq!(worker.post(path, chat("a")).await.status(), 401, "{path}");
    }
    let models = worker.client.get(worker.url("/invoke/v1/models"));
    assert_eq!(
        models.bearer_auth("a-key").send().await.unwrap().status(),
        200
    );
    assert_eq!(worker.get("/invoke/isalive").await.status(), 200);
    let lost = worker.client.get(worker.url("/invoke/"));
    assert_eq!(
        lost.bearer_auth("a-key").send().await.unwrap().status(),
        404
    );
}

#[tokio::test]
async fn the_first_containers_instances_are_understood_or_named() {
    let worker = worker().await;
    let body = json!({"instances": [
        {"sentence": "a", "max_tokens": 1.0},
        {"sentence": "b", "task": "text-generation", "max_tokens": 1.0},
    ]});
    let answer = worker.answer("/predict", body.clone()).await;
    assert_eq!(
        (
            &answer["predictions"][0]["text"],
            &answer["predictions"][1]["text"]
        ),
        (&json!("a"), &json!("b"))
    );
    // A body that is a JSON string holding JSON, as that container's callers sent it.
    worker.answer("/predict", json!(body.to_string())).await;
    for (bad, param) in [
        (
            json!({"task": "asr", "audio": "UklGRg=="}),
            "instances[1].task",
        ),
        (
            json!({"task": "translate_to_english", "sentence": "a", "source_language": "Luganda"}),
            "instances[1].task",
        ),
        (
            json!({"task": "translate_from_english", "sentence": "a", "target_language": "Acholi"}),
            "instances[1].task",
        ),
        (
            json!({"task": "translate", "sentence": "a"}),
            "instances[1].task",
        ),
        (
            json!({"task": "sing", "sentence": "a"}),
            "instances[1].task",
        ),
        (json!({"audio": "UklGRg=="}), "instances[1].audio"),
        (
            json!({"sentence": "a", "target_language": "Ateso"}),
            "instances[1].target_language",
        ),
        (json!({"task": "text-generation"}), "instances[1]"),
    ] {
        let body = json!({"instances": [{"sentence": "a"}, bad]});
        let (status, body) = worker.refusal("/predict", body).await;
        assert_eq!(
            (status, &body["error"]["param"]),
            (400, &json!(param)),
            "{body}"
        );
    }
}

#[tokio::test]
async fn the_grouped_answer_comes_on_request_with_all_its_lists() {
    let worker = worker().await;
    let instances = json!([{"sentence": "a"}, "b"]);
    let grouped = json!({
        "transcripts": [], "to_english_translations": [], "from_english_translations": [], "base64_audio": [],
        "generated_texts": ["a", "b"],
    });
    for body in [
        json!({"instances": instances, "grouped": true, "parameters": {"max_tokens": 1}}),
        json!({"instances": instances, "parameters": {"max_tokens": 1, "grouped": true}}),
    ] {
        assert_eq!(worker.answer("/predict", body).await, grouped);
    }
    let usual = worker
        .answer(
            "/predict",
            json!({"instances": instances, "grouped": false}),
        )
        .await;
    assert!(usual["predictions"].is_array());
    for (instance, param) in [
        (
            json!({"messages": [{"role": "user", "content": "a"}]}),
            "instances[0].messages",
        ),
        (json!({"prompt": "a", "n": 2}), "instances[0].n"),
        (
            json!({"prompt": "a", "logprobs": 1}),
            "instances[0].logprobs",
        ),
    ] {
        let body = json!({"instances": [instance], "grouped": true});
        let (status, body) = worker.refusal("/predict", body).await;
        assert_eq!((status, &body["error"]["param"]), (400, &json!(param)));
    }
    let (status, body) = worker
        .refusal("/predict", json!({"instances": ["a"], "grouped": "yes"}))
        .await;
    assert_eq!((status, &body["error"]["param"]), (400, &json!("grouped")));
}

#[tokio::test]
async fn a_task_waits_for_the_model_that_will_do_it() {
    let (hold, loading) = std::sync::mpsc::channel();
    let setup = Setup {
        loading: Some(loading),
        ..Setup::default()
    };
    let worker = setup.start().await;
    let release = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(hold);
    };
    let asks = json!({"instances": ["a"], "parameters": {"task": "asr"}});
    let ((status, body), ()) = tokio::join!(worker.refusal("/predict", asks), release);
    assert_eq!(
        (status, &body["error"]["param"]),
        (400, &json!("parameters.task"))
    );
}
