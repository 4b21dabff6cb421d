//! Thoughts: a field of their own, nowhere, or in the text; and what they cost.

use serde_json::{Value, json};

use super::worker::{chat_with, worker};

#[tokio::test]
async fn thoughts_have_a_field_of_their_own_unless_asked_otherwise() {
    let worker = worker().await;
    let ask = async |more: Value| {
        let mut body = chat_with("!think", json!({"max_tokens": 4}));
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let answer = worker.answer("/v1/chat/completions", body).await;
        let usage = &answer["usage"];
        assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 3);
        answer["choices"][0]["message"].clone()
    };
    assert_eq!(
        ask(json!({})).await,
        json!({"role": "assistant", "content": "!think", "reasoning_content": "hm so well", "refusal": null})
    );
    assert_eq!(
        ask(json!({"include_reasoning": false})).await,
        json!({"role": "assistant", "content": "!think", "refusal": null})
    );
    assert_eq!(
        ask(json!({"separate_reasoning": false})).await,
        json!({"role": "assistant", "content": "<think>hm so well</think>!think", "refusal": null})
    );
}

#[tokio::test]
async fn streamed_thoughts_come_before_the_text() {
    let worker = worker().await;
    let body = chat_with("!think", json!({"max_tokens": 5, "stream": true}));
    let events = worker.events("/v1/chat/completions", body).await;
    let deltas: Vec<&Value> = events.iter().map(|e| &e["choices"][0]["delta"]).collect();
    let all = |key: &str| -> String { deltas.iter().filter_map(|d| d[key].as_str()).collect() };
    assert_eq!(all("reasoning_content"), "hm so well");
    assert_eq!(all("content"), "!think !think");
}

#[tokio::test]
async fn logprobs_are_those_of_all_tokens() {
    let worker = worker().await;
    let body = chat_with("!think", json!({"max_tokens": 4, "logprobs": true}));
    let answer = worker.answer("/v1/chat/completions", body).await;
    let tokens = answer["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    let text: String = tokens
        .iter()
        .map(|t| t["token"].as_str().unwrap())
        .collect();
    assert_eq!(text, "hm so well!think");
}
