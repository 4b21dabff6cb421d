//! OpenAI's routes: what goes over the wire, to the letter.

use serde_json::json;

use super::worker::{chat, chat_with, worker};

#[tokio::test]
async fn a_chat_answer_has_every_field_the_client_reads() {
    let worker = worker().await;
    let answer = worker
        .answer(
            "/v1/chat/completions",
            chat_with("wick", json!({"max_tokens": 2.0})),
        )
        .await;
    assert_eq!(
        answer,
        json!({
            "id": "ID", "object": "chat.completion", "created": 0, "model": "chandler/mock", "system_fingerprint": "FP",
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": "wick wick", "refusal": null},
                "logprobs": null,
                "finish_reason": "length",
            }],
            "usage": {
                "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
            },
        })
    );
}

#[tokio::test]
async fn several_choices_and_logprobs() {
    let worker = worker().await;
    let body = chat_with(
        "wick",
        json!({"max_tokens": 1, "n": 2, "logprobs": true, "top_logprobs": 2}),
    );
    let answer = worker.answer("/v1/chat/completions", body).await;
    let choice = |index| {
        json!({
            "index": index,
            "message": {"role": "assistant", "content": "wick", "refusal": null},
            "logprobs": {
                "content": [{"token": "wick", "bytes": [119, 105, 99, 107], "logprob": -0.5, "top_logprobs": []}],
                "refusal": null,
            },
            "finish_reason": "length",
        })
    };
    assert_eq!(answer["choices"], json!([choice(0), choice(1)]));
    assert_eq!(answer["usage"]["completion_tokens"], 2);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_answer() {
    let worker = worker().await;
    let ask = async |seed: u64| {
        let body = chat_with("tallow wick flame wax light", json!({"seed": seed}));
        worker.answer("/v1/chat/completions", body).await["choices"].clone()
    };
    assert_eq!(ask(7).await, ask(7).await);
    assert_ne!(ask(7).await, ask(8).await);
}

#[tokio::test]
async fn a_streamed_chat_opens_with_the_role_and_ends_with_done() {
    let worker = worker().await;
    let events = worker
        .events(
            "/v1/chat/completions",
            chat_with("wick", json!({"max_tokens": 2, "stream": true})),
        )
        .await;
    let chunk = |delta, finish| {
        json!({
            "id": "ID", "object": "chat.completion.chunk", "created": 0, "model": "chandler/mock", "system_fingerprint": "FP",
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}],
        })
    };
    // Text that waits for its reader is merged, so the pieces are counted together.
    let text: String = events
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "wick wick");
    assert_eq!(
        events[0],
        chunk(json!({"role": "assistant", "content": ""}), json!(null))
    );
    assert_eq!(events[events.len() - 2], chunk(json!({}), json!("length")));
    assert_eq!(events[events.len() - 1], "[DONE]");
}

#[tokio::test]
async fn usage_comes_in_a_chunk_of_its_own_and_is_null_before() {
    let worker = worker().await;
    let body = chat_with(
        "wick",
        json!({"max_tokens": 2, "n": 2, "stream": true, "stream_options": {"include_usage": true}}),
    );
    let events = worker.events("/v1/chat/completions", body).await;
    let (done, chunks) = events.split_last().unwrap();
    let (usage, before) = chunks.split_last().unwrap();
    assert_eq!(done, "[DONE]");
    assert!(
        before
            .iter()
            .all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some())
    );
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(
        usage["usage"],
        json!({"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5, "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}})
    );
    let roles: Vec<_> = before[..2]
        .iter()
        .map(|c| c["choices"][0]["index"].as_u64().unwrap())
        .collect();
    assert_eq!(roles, [0, 1]);
}

#[tokio::test]
async fn completions_take_every_form_of_prompt() {
    let worker = worker().await;
    let ask = async |prompt| {
        let body = json!({"model": "default", "prompt": prompt, "max_tokens": 1, "n": 2});
        let answer = worker.answer("/v1/completions", body).await;
        let choices = answer["choices"].as_array().unwrap().clone();
        let texts: Vec<String> = choices
            .iter()
            .map(|c| c["text"].as_str().unwrap().to_owned())
            .collect();
        assert!(
            choices
                .iter()
                .zip(0..)
                .all(|(choice, i)| choice["index"] == i)
        );
        (
            texts.join(" "),
            answer["usage"]["prompt_tokens"].as_u64().unwrap(),
        )
    };
    assert_eq!(ask(json!("a")).await, ("a a".into(), 1));
    assert_eq!(ask(json!(["a", "b"])).await, ("a a b b".into(), 2));
    assert_eq!(ask(json!([5])).await, ("t5 t5".into(), 1));
    assert_eq!(ask(json!([[5], [6.0]])).await, ("t5 t5 t6 t6".into(), 2));
}

#[tokio::test]
async fn a_completion_has_its_logprobs_in_four_lists() {
    let worker = worker().await;
    let answer = worker
        .answer(
            "/v1/completions",
            json!({"prompt": "wick", "max_tokens": 2, "logprobs": 1}),
        )
        .await;
    assert_eq!(
        answer,
        json!({
            "id": "ID", "object": "text_completion", "created": 0, "model": "chandler/mock", "system_fingerprint": "FP",
            "choices": [{
                "index": 0,
                "text": "wick wick",
                "logprobs": {
                    "tokens": ["wick", " wick"],
                    "token_logprobs": [-0.5, -0.5],
                    "top_logprobs": [{"wick": -0.5}, {" wick": -0.5}],
                    "text_offset": [0, 4],
                },
                "finish_reason": "length",
            }],
            "usage": {
                "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
            },
        })
    );
}

#[tokio::test]
async fn streamed_completions_are_numbered_and_share_one_usage() {
    let worker = worker().await;
    let body = json!({"prompt": ["a", "b"], "max_tokens": 3, "stream": true, "stream_options": {"include_usage": true}});
    let events = worker.events("/v1/completions", body).await;
    let text = |index: u64| -> String {
        let choices = events.iter().map(|e| &e["choices"][0]);
        choices
            .filter(|c| c["index"] == index)
            .filter_map(|c| c["text"].as_str())
            .collect()
    };
    assert_eq!((text(0), text(1)), ("a a a".into(), "b b b".into()));
    assert_eq!(events[events.len() - 2]["usage"]["completion_tokens"], 6);
    assert_eq!(events[events.len() - 1], "[DONE]");
}

#[tokio::test]
async fn the_model_answers_to_its_id_its_alias_default_and_no_name() {
    let worker = worker().await;
    for name in [
        json!("chandler/mock"),
        json!("mock"),
        json!("default"),
        json!(null),
    ] {
        let mut body = chat("a");
        body["model"] = name;
        worker.answer("/v1/chat/completions", body).await;
    }
    let mut body = chat("a");
    body["model"] = json!("gpt-9");
    assert_eq!(
        worker.refusal("/v1/chat/completions", body).await,
        (
            404,
            json!({"error": {
                "message": "the model \"gpt-9\" is not served here; this worker serves \"chandler/mock\", also as \"default\"; \
                    --model-aliases (CHANDLER_MODEL_ALIASES) gives it further names",
                "type": "invalid_request_error", "param": "model", "code": "model_not_found",
            }})
        )
    );
}

#[tokio::test]
async fn models_are_listed_and_found_with_slashes_escaped_or_not() {
    let worker = worker().await;
    let model = json!({
        "id": "chandler/mock", "object": "model", "created": 0, "owned_by": "chandler", "aliases": ["mock"],
        "task": "text-generation", "max_model_len": 4096,
    });
    let read =
        async |path: &str| -> serde_json::Value { worker.get(path).await.json().await.unwrap() };
    let mut list = read("/v1/models").await;
    assert_eq!(list["object"], "list");
    list["data"][0]["created"] = json!(0);
    assert_eq!(list["data"], json!([model]));
    for path in [
        "/v1/models/chandler/mock",
        "/v1/models/chandler%2Fmock",
        "/v1/models/mock",
        "/v1/models/default",
    ] {
        let mut found = read(path).await;
        found["created"] = json!(0);
        assert_eq!(found, model);
    }
    let missing = worker.get("/v1/models/other").await;
    assert_eq!(missing.status(), 404);
    let body: serde_json::Value = missing.json().await.unwrap();
    assert_eq!(body["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn other_routes_and_methods_are_refused_in_shape() {
    let worker = worker().await;
    for path in ["/v1/embeddings", "/v1", "/nowhere"] {
        let (status, body) = worker.refusal(path, json!({})).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (404, &json!("unknown_url")),
            "{body}"
        );
    }
    let response = worker.get("/v1/chat/completions").await;
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "POST");
    assert_eq!(response.headers()["x-should-retry"], "false");
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "method_not_allowed");
}
