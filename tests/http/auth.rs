//! Keys, request ids and CORS: what every route has in common.

use serde_json::{Value, json};

use super::worker::{Setup, chat, worker};

fn keyed() -> Setup {
    let mut setup = Setup::default();
    setup.api.api_keys = vec!["first-key".into(), "second-key".into()].into();
    setup.api.health_route = Some("/vertex-health".into());
    setup
}

#[tokio::test]
async fn everything_but_health_needs_one_of_the_keys() {
    let worker = keyed().start().await;
    for path in ["/isalive", "/livez", "/health", "/vertex-health"] {
        assert_eq!(worker.get(path).await.status(), 200, "{path}");
    }
    for path in [
        "/metrics",
        "/docs",
        "/openapi.json",
        "/v1/models",
        "/vocab",
        "/nowhere",
    ] {
        assert_eq!(worker.get(path).await.status(), 401, "{path}");
    }
    let refused = worker.post("/v1/chat/completions", chat("a")).await;
    assert_eq!(refused.status(), 401);
    assert_eq!(
        refused.headers()["www-authenticate"],
        "Bearer realm=\"chandler\""
    );
    assert_eq!(refused.headers()["x-should-retry"], "false");
    assert_eq!(
        refused.json::<Value>().await.unwrap(),
        json!({"error": {
            "message": "an API key is needed: send it as `Authorization: Bearer KEY` or as `X-API-Key: KEY`",
            "type": "invalid_request_error", "param": null, "code": "invalid_api_key",
        }})
    );
    for (header, value, status) in [
        ("authorization", "Bearer first-key", 200),
        ("authorization", "bearer second-key", 200),
        ("x-api-key", "second-key", 200),
        ("authorization", "Bearer first-ke", 401),
        ("authorization", "Basic first-key", 401),
        ("x-api-key", "", 401),
    ] {
        let request = worker
            .client
            .post(worker.url("/v1/chat/completions"))
            .header(header, value);
        let response = request.json(&chat("a")).send().await.unwrap();
        assert_eq!(response.status(), status, "{header}: {value}");
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id_the_callers_own_if_it_is_sane() {
    let worker = worker().await;
    for path in ["/isalive", "/nowhere", "/v1/models", "/generate"] {
        let id = worker.get(path).await.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(id.len(), 36, "{path}");
    }
    for (given, kept) in [
        ("my-id.7", true),
        ("no spaces", false),
        (&"x".repeat(200), false),
    ] {
        let request = worker
            .client
            .get(worker.url("/livez"))
            .header("x-request-id", given);
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["x-request-id"] == *given, kept);
    }
}

#[tokio::test]
async fn browsers_may_call_from_the_origins_that_are_allowed() {
    let mut setup = keyed();
    setup.api.cors_origins = vec!["https://app.example".into()];
    let worker = setup.start().await;
    let ask = async |origin: &str| {
        worker
            .client
            .request(reqwest::Method::OPTIONS, worker.url("/v1/chat/completions"))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization,x-stainless-lang",
            )
            .send()
            .await
            .unwrap()
    };
    let allowed = ask("https://app.example").await;
    assert_eq!(allowed.status(), 200);
    assert_eq!(
        allowed.headers()["access-control-allow-origin"],
        "https://app.example"
    );
    assert_eq!(
        allowed.headers()["access-control-allow-headers"],
        "authorization,x-stainless-lang"
    );
    assert!(
        !ask("https://evil.example")
            .await
            .headers()
            .contains_key("access-control-allow-origin")
    );
    let plain = super::worker::worker().await;
    assert!(
        !plain
            .get("/livez")
            .await
            .headers()
            .contains_key("access-control-allow-origin")
    );
}
