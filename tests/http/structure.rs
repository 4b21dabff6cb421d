//! Answers in a form that was asked for, in every spelling that reaches the model; and the best of several.

use serde_json::{Value, json};

use super::worker::{chat_with, worker};

fn schema() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}, "size": {"type": "integer"}}})
}

#[tokio::test]
async fn a_schema_in_any_spelling_gives_its_json() {
    let worker = worker().await;
    for more in [
        json!({"response_format": {"type": "json_schema", "json_schema":
            {"name": "a", "strict": true, "schema": schema()}}}),
        json!({"guided_json": schema()}),
        json!({"structured_outputs": {"json": schema()}}),
    ] {
        let answer = worker
            .answer("/v1/chat/completions", chat_with("a", more.clone()))
            .await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["message"]["content"], r#"{"city":"wick","size":7}"#);
        assert_eq!(choice["finish_reason"], "stop");
        let mut body = more;
        body["prompt"] = json!("a");
        body["max_tokens"] = json!(50);
        let answer = worker.answer("/v1/completions", body.clone()).await;
        assert_eq!(answer["choices"][0]["text"], r#"{"city":"wick","size":7}"#);
        let answer = worker
            .answer("/predict", json!({"instances": [body]}))
            .await;
        assert_eq!(
            answer["predictions"][0]["text"],
            r#"{"city":"wick","size":7}"#
        );
    }
}

#[tokio::test]
async fn a_form_that_the_model_cannot_keep_is_named_as_it_was_asked_for() {
    let worker = worker().await;
    for (more, param) in [
        (json!({"guided_regex": "a+"}), "guided_regex"),
        (
            json!({"structured_outputs": {"grammar": "start: \"a\""}}),
            "structured_outputs.grammar",
        ),
    ] {
        let (status, body) = worker
            .refusal("/v1/chat/completions", chat_with("a", more))
            .await;
        assert_eq!((status, &body["error"]["param"]), (400, &json!(param)));
    }
}

#[tokio::test]
async fn the_best_of_several_is_one_answer_and_costs_several() {
    let worker = worker().await;
    let body = json!({"prompt": "a", "n": 1, "best_of": 3, "max_tokens": 2});
    let answer = worker.answer("/v1/completions", body).await;
    assert_eq!(answer["choices"].as_array().unwrap().len(), 1);
    assert_eq!(answer["usage"]["completion_tokens"], 6);
    let body = json!({"prompt": "a", "best_of": 3, "stream": true});
    let (status, body) = worker.refusal("/v1/completions", body).await;
    assert_eq!(status, 400);
    assert_eq!(
        body["error"]["message"],
        "best_of is 3 with stream; leave it out, or set it to n"
    );
}
