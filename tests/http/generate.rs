//! `/generate` in its three dialects, and `/vocab`.

use serde_json::{Value, json};

use super::worker::{Setup, worker};

const WORDS: &str = "tallow wick flame wax light";

#[tokio::test]
async fn ours_gives_the_seed_with_which_the_answer_comes_again() {
    let worker = worker().await;
    let first = worker.answer("/generate", json!({"prompt": WORDS})).await;
    let seed = first["seed"].as_u64().unwrap();
    assert!(seed < 1 << 49);
    let again = worker
        .answer("/generate", json!({"prompt": WORDS, "seed": seed as f64}))
        .await;
    assert_eq!(first, again);
    let other = worker.answer("/generate", json!({"prompt": WORDS})).await;
    assert_ne!(first["seed"], other["seed"]);
    let answer = worker
        .answer(
            "/generate",
            json!({"prompt": "a", "seed": 1, "max_tokens": 2}),
        )
        .await;
    assert_eq!(
        answer,
        json!({"text": "a a", "finish_reason": "length", "seed": 1, "usage": {
            "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
        }})
    );
}

#[tokio::test]
async fn ours_streams() {
    let worker = worker().await;
    let body = json!({"prompt": "a", "seed": 1, "max_tokens": 2, "stream": true});
    let events = worker.events("/generate", body).await;
    let text: String = events.iter().filter_map(|e| e["text"].as_str()).collect();
    assert_eq!(text, "a a");
    let last = &events[events.len() - 2];
    assert_eq!(
        (&last["finish_reason"], &last["seed"]),
        (&json!("length"), &json!(1))
    );
    assert_eq!(events[events.len() - 1], "[DONE]");
}

#[tokio::test]
async fn the_characters_dialect_keeps_its_words() {
    let worker = worker().await;
    let answer = worker
        .answer(
            "/generate",
            json!({"num_chars": 20.0, "seed": 9, "temperature": 0.8}),
        )
        .await;
    assert_eq!(answer["success"], true);
    assert!(answer["generated_text"].is_string());
    assert_eq!(
        answer["parameters"],
        json!({"seed": 9, "temperature": 0.8, "num_chars": 20})
    );
    for (body, message) in [
        (json!({}), "No JSON data provided"),
        (json!({"seed": 1}), "num_chars is required"),
        (json!({"num_chars": 5001}), "num_chars must be <= 5000"),
        (
            json!({"num_chars": -1}),
            "num_chars must be a positive integer",
        ),
    ] {
        assert_eq!(
            worker.refusal("/generate", body).await,
            (400, json!({"error": message}))
        );
    }
    let empty = worker.post_bytes("/generate", "").await;
    assert_eq!(empty.status(), 400);
    assert_eq!(
        empty.json::<Value>().await.unwrap(),
        json!({"error": "No JSON data provided"})
    );
}

#[tokio::test]
async fn the_context_dialect_gives_tokens_and_refuses_with_422() {
    let worker = worker().await;
    let mut answer = worker
        .answer("/generate", json!({"max_tokens": 3, "context": [7.0]}))
        .await;
    assert!(answer["generation_time"].as_f64().unwrap() >= 0.0);
    answer["generation_time"] = json!(0);
    assert_eq!(answer["tokens"], json!([7, 0, 1, 2]));
    assert!(answer["text"].as_str().unwrap().contains("t7"));
    let answer = worker
        .answer("/generate", json!({"context": null, "seed": 3}))
        .await;
    assert_eq!(answer["tokens"].as_array().unwrap().len(), 100);
    let (status, body) = worker
        .refusal("/generate", json!({"max_tokens": 501}))
        .await;
    assert_eq!(
        (status, body),
        (
            422,
            json!({"detail": [{
                "loc": ["body", "max_tokens"],
                "msg": "max_tokens is 501; it must be a whole number from 1 to 500",
                "type": "value_error",
            }]})
        )
    );
}

#[tokio::test]
async fn before_the_model_is_loaded_each_dialect_says_so_in_its_way() {
    let (hold, loading) = std::sync::mpsc::channel();
    let mut setup = Setup::default();
    setup.engine.load_wait = std::time::Duration::ZERO;
    setup.loading = Some(loading);
    let worker = setup.start().await;
    assert_eq!(
        worker.refusal("/generate", json!({"max_tokens": 5})).await,
        (503, json!({"detail": "Model not loaded"}))
    );
    let (status, body) = worker.refusal("/generate", json!({"num_chars": 5})).await;
    assert_eq!(status, 503);
    assert!(
        body["error"].as_str().unwrap().contains("loading"),
        "{body}"
    );
    let (status, body) = worker.refusal("/generate", json!({"prompt": "a"})).await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("not_ready")));
    assert_eq!(worker.get("/vocab").await.status(), 503);
    drop(hold);
}

#[tokio::test]
async fn the_vocabulary_has_its_size_and_the_window() {
    let worker = worker().await;
    let body: Value = worker.get("/vocab").await.json().await.unwrap();
    assert_eq!(
        body,
        json!({"vocab_size": 0, "characters": [], "block_size": 4096})
    );
}
