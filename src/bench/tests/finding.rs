//! What an endpoint is, and what serves there.

use super::*;

/// What is found at an endpoint with these models and this health.
async fn found(
    models: Value,
    health: Value,
    wish: Wish,
    path: &'static str,
) -> Result<Endpoint, String> {
    let (url, _) = server(move |path, _| {
        let (models, health) = (models.clone(), health.clone());
        Box::pin(async move {
            match path.as_str() {
                "/v1/models" => body(if models.is_null() { 404 } else { 200 }, models),
                "/health" => body(503, health),
                _ => body(404, Value::Null),
            }
        })
    })
    .await;
    let address = Address::read(&format!("{url}{path}")).unwrap();
    find(&address, wish, None)
        .await
        .map_err(|error| error.to_string())
}

fn list(models: Value) -> Value {
    json!({"object": "list", "data": models})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_endpoint_is_comes_from_itself() {
    let own = list(
        json!([{"id": "demo", "task": "text-generation"}, {"id": "sql", "parent": "demo", "task": "text-generation"}]),
    );
    let endpoint = found(own.clone(), json!({}), Wish::default(), "")
        .await
        .unwrap();
    assert_eq!(
        (endpoint.kind, endpoint.task),
        (Kind::OpenAi, Task::TextGeneration)
    );
    assert_eq!(endpoint.model.as_deref(), Some("demo"));
    assert_eq!(
        (endpoint.base.path(), endpoint.kind_name()),
        ("/v1", "openai-chat")
    );

    let health = json!({"status": "healthy", "model": "asr", "task": "automatic-speech-recognition", "jobs": {}, "workers": {}});
    let endpoint = found(Value::Null, health.clone(), Wish::default(), "")
        .await
        .unwrap();
    assert_eq!(
        (endpoint.kind, endpoint.kind_name()),
        (Kind::RunPod, "runpod")
    );
    let endpoint = found(Value::Null, health, Wish::default(), "/predict")
        .await
        .unwrap();
    assert_eq!(
        (endpoint.kind, endpoint.task),
        (Kind::Predict, Task::AutomaticSpeechRecognition)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_endpoint_does_not_say_is_asked_for_by_name() {
    let said = |result: Result<Endpoint, String>| result.unwrap_err();
    let several = list(json!([{"id": "a"}, {"id": "b"}]));
    let error = said(found(several.clone(), json!({}), Wish::default(), "").await);
    assert!(
        error.contains("serves 2 models (a, b") && error.contains("--model"),
        "{error}"
    );
    let named = Wish {
        model: Some("b".into()),
        ..Wish::default()
    };
    let error = said(found(several, json!({}), named, "").await);
    assert!(error.contains("--task text-generation"), "{error}");
    let loading = json!({"status": "loading", "stage": "reading weights"});
    let quiet = list(json!([{"id": "a", "task": null}]));
    let error = said(found(quiet, loading, Wish::default(), "").await);
    assert!(error.contains("still loading (reading weights)"), "{error}");
    let error = said(found(Value::Null, json!({}), Wish::default(), "").await);
    assert!(error.contains("--kind openai"), "{error}");
    let embeds = list(json!([{"id": "e", "task": "feature-extraction"}]));
    let error = said(found(embeds, json!({}), Wish::default(), "").await);
    assert!(
        error.contains("feature-extraction; bench measures"),
        "{error}"
    );
}
