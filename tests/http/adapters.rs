//! Adapters as model ids.

use serde_json::{Value, json};

use super::worker::{Setup, Worker, chat};

async fn adapted() -> Worker {
    let mut setup = Setup::default();
    setup.mock.adapters = vec!["tallow".into()];
    setup.start().await
}

#[tokio::test]
async fn an_adapter_answers_to_its_name_in_every_dialect() {
    let worker = adapted().await;
    for name in ["tallow", "mock:tallow", "chandler/mock:tallow"] {
        let mut body = chat("a");
        body["model"] = json!(name);
        body["max_tokens"] = json!(1);
        let answer = worker.answer("/v1/chat/completions", body.clone()).await;
        assert_eq!(answer["choices"][0]["message"]["content"], "tallow:a");
        assert_eq!(answer["model"], "tallow");
        let message = worker.answer("/v1/messages", body).await;
        assert_eq!(message["content"][0]["text"], "tallow:a");
        let body = json!({"model": name, "input": "a", "max_output_tokens": 1});
        let response = worker.answer("/v1/responses", body).await;
        assert_eq!(response["output"][0]["content"][0]["text"], "tallow:a");
        let body = json!({"model": name, "prompt": "a", "max_tokens": 1});
        for path in ["/v1/completions", "/predict"] {
            let answer = worker.answer(path, body.clone()).await;
            assert_eq!(answer["choices"][0]["text"], "tallow:a");
        }
        assert_eq!(
            worker.answer("/generate", body.clone()).await["text"],
            "tallow:a"
        );
        let answer = worker
            .answer("/predict", json!({"instances": [body, "a"]}))
            .await;
        assert_eq!(answer["predictions"][0]["text"], "tallow:a");
        assert_ne!(answer["predictions"][1]["text"], "tallow:a");
    }
    for name in ["tallo", ":tallow", "other:tallow", "tallow:"] {
        let mut body = chat("a");
        body["model"] = json!(name);
        let (status, body) = worker.refusal("/v1/chat/completions", body).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (404, &json!("model_not_found"))
        );
    }
    let body = json!({"instances": ["a", {"prompt": "a", "model": "other"}]});
    let (status, body) = worker.refusal("/predict", body).await;
    assert_eq!(
        (status, &body["error"]["param"]),
        (404, &json!("instances[1].model"))
    );
}

#[tokio::test]
async fn adapters_are_listed_with_the_model_they_belong_to() {
    let worker = adapted().await;
    let list: Value = worker.get("/v1/models").await.json().await.unwrap();
    let ids: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["chandler/mock", "tallow"]);
    assert_eq!(list["data"][1]["parent"], "chandler/mock");
    let one: Value = worker.get("/v1/models/tallow").await.json().await.unwrap();
    assert_eq!(one, list["data"][1]);
}

#[tokio::test]
async fn a_name_that_may_be_an_adapters_waits_for_the_model() {
    let mut setup = Setup::default();
    setup.mock.adapters = vec!["tallow".into()];
    let (loaded, loading) = std::sync::mpsc::channel();
    setup.loading = Some(loading);
    let worker = setup.start().await;
    let mut body = chat("a");
    body["model"] = json!("tallow");
    body["max_tokens"] = json!(1);
    let early = worker.answer("/v1/chat/completions", body);
    let load = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        drop(loaded);
    };
    let (answer, ()) = tokio::join!(early, load);
    assert_eq!(answer["choices"][0]["message"]["content"], "tallow:a");
}
