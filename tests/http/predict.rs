//! Vertex's route: instances to predictions, numbers as doubles, raw OpenAI bodies, and the routes that AIP_* names.

use serde_json::{Value, json};

use super::worker::{Setup, chat, chat_with, worker};

fn usage(prompt: u32, completion: u32) -> Value {
    json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
    })
}

#[tokio::test]
async fn predictions_come_in_order_each_in_its_instances_shape() {
    let worker = worker().await;
    let body = json!({
        "instances": [
            "a",
            {"prompt": "b", "max_tokens": 1.0},
            {"inputs": "c", "parameters": {"max_new_tokens": 1.0, "do_sample": true}},
            {"messages": [{"role": "user", "content": "d"}]},
            {"prompt": "e", "candidateCount": 2.0},
        ],
        "parameters": {"maxOutputTokens": 2.0, "temperature": 1.0, "topK": 40.0},
    });
    let text = |text: &str, tokens| json!({"text": text, "finish_reason": "length", "usage": usage(1, tokens)});
    assert_eq!(
        worker.answer("/predict", body).await,
        json!({"predictions": [
            text("a a", 2),
            text("b", 1),
            text("c", 1),
            {
                "message": {"role": "assistant", "content": "d d", "refusal": null},
                "finish_reason": "length",
                "usage": usage(1, 2),
            },
            {
                "text": "e e", "finish_reason": "length", "usage": usage(1, 4),
                "choices": [{"text": "e e", "finish_reason": "length"}, {"text": "e e", "finish_reason": "length"}],
            },
        ]})
    );
}

#[tokio::test]
async fn one_bad_instance_stops_all_before_any_runs() {
    let mut setup = Setup::default();
    setup.mock.context_length = 3;
    let worker = setup.start().await;
    for (bad, param) in [
        (json!({"prompt": 7}), "instances[1].prompt"),
        (
            json!({"prompt": "a", "max_tokens": 1.5}),
            "instances[1].max_tokens",
        ),
        (
            json!({"prompt": "a", "task": "text-to-image"}),
            "instances[1].task",
        ),
        (
            json!({"prompt": "a", "stream": true}),
            "instances[1].stream",
        ),
        (json!({"prompt": "a b c d"}), "instances[1].prompt"),
        (
            json!({"messages": [{"role": "user", "content": "a b c d"}]}),
            "instances[1].messages",
        ),
        (json!([]), "instances[1]"),
    ] {
        let (status, body) = worker
            .refusal("/predict", json!({"instances": ["a", bad]}))
            .await;
        assert_eq!(
            (status, &body["error"]["param"]),
            (400, &json!(param)),
            "{body}"
        );
    }
    assert_eq!(worker.engine.counters().completed, 0);
    for (body, param) in [
        (json!({"instances": []}), "instances"),
        (json!({"instances": vec!["a"; 257]}), "instances"),
        (json!({"instances": "a"}), "instances"),
        (json!({"instances": ["a"], "parameters": 7}), "parameters"),
        (
            json!({"instances": ["a"], "parameters": {"temperature": 9.0}}),
            "parameters.temperature",
        ),
        (json!({"inputs": "a"}), "instances"),
    ] {
        let (status, body) = worker.refusal("/predict", body).await;
        assert_eq!(
            (status, &body["error"]["param"]),
            (400, &json!(param)),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_task_that_the_model_does_is_fine_and_so_is_a_body_in_a_string() {
    let worker = worker().await;
    let body = json!({"instances": [{"prompt": "a", "task": "text-generation"}]});
    worker.answer("/predict", body.clone()).await;
    worker.answer("/predict", json!(body.to_string())).await;
}

#[tokio::test]
async fn a_raw_openai_body_gets_openais_answer_on_the_same_path() {
    let worker = worker().await;
    let answer = worker.answer("/predict", chat("a")).await;
    assert_eq!(answer["object"], "chat.completion");
    let answer = worker
        .answer("/predict", json!({"model": "mock", "prompt": "a"}))
        .await;
    assert_eq!(answer["object"], "text_completion");
    let events = worker
        .events("/predict", chat_with("a", json!({"stream": true})))
        .await;
    assert_eq!(events.last().unwrap(), "[DONE]");
}

#[tokio::test]
async fn the_routes_that_vertex_names_lead_to_ours() {
    let route = "/v1/endpoints/123/deployedModels/456";
    let mut setup = Setup::default();
    setup.api.health_route = Some(route.into());
    setup.api.predict_route = Some(format!("{route}:predict"));
    let worker = setup.start().await;
    assert_eq!(worker.get(route).await.status(), 200);
    for path in [
        format!("{route}:predict"),
        format!("{route}%3Apredict"),
        "/predict".into(),
    ] {
        worker.answer(&path, json!({"instances": ["a"]})).await;
    }
    assert_eq!(worker.get("/isalive").await.status(), 200);
    assert_eq!(worker.get("/v1/endpoints/9").await.status(), 404);
}

#[tokio::test]
async fn a_route_that_vertex_names_may_be_one_of_ours_or_hold_any_character() {
    for (health, predict) in [
        ("/health", "/predict"),
        ("/isalive", "/v1/chat/completions"),
        ("/", "/{*all}:x"),
        ("", ""),
    ] {
        let mut setup = Setup::default();
        setup.api.health_route = Some(health.into());
        setup.api.predict_route = Some(predict.into());
        let worker = setup.start().await;
        let health = if health.is_empty() { "/health" } else { health };
        assert_eq!(worker.get(health).await.status(), 200);
        if predict.starts_with("/v1") {
            worker.answer(predict, json!({"instances": ["a"]})).await;
        }
        worker.answer("/v1/chat/completions", chat("a")).await;
    }
}
