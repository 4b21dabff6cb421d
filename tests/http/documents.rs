//! Documents about the worker: metrics, the OpenAPI document and its page.

use serde_json::{Value, json};

use super::worker::{chat, worker};

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let worker = worker().await;
    worker.answer("/v1/chat/completions", chat("a")).await;
    worker.post("/v1/nowhere", json!({})).await;
    worker.is_empty().await;
    let response = worker.get("/metrics").await;
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = response.text().await.unwrap();
    for line in [
        "http_requests_total{route=\"/v1/chat/completions\",method=\"POST\",status=\"200\"}",
        "http_requests_total{route=\"unmatched\",method=\"POST\",status=\"404\"}",
        "http_request_duration_seconds_bucket{route=\"/v1/chat/completions\",method=\"POST\",le=\"0.001\"}",
        "chandler_time_to_first_token_seconds_bucket{le=\"2560\"}",
        "chandler_inter_token_seconds_count",
        "chandler_batch_rows_bucket{le=\"16\"}",
        "chandler_requests_total{outcome=\"completed\"}",
        "chandler_prompt_tokens_total",
        "chandler_completion_tokens_total",
        "chandler_queue_depth",
        "chandler_running",
        "chandler_cache_blocks{state=\"free\"}",
        "chandler_cache_blocks{state=\"kept\"}",
        "chandler_cache_bytes",
        "chandler_cache_tokens",
        "chandler_prefix_lookup_tokens_total",
        "chandler_prefix_hit_tokens_total",
        "chandler_prefix_evicted_blocks_total",
        "chandler_preemptions_total",
        "chandler_speculation_proposed_tokens_total",
        "chandler_speculation_accepted_tokens_total",
        "chandler_info{model=\"chandler/mock\"",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[tokio::test]
async fn the_document_knows_every_route_and_the_router_every_path_in_it() {
    let worker = worker().await;
    let document: Value = worker.get("/openapi.json").await.json().await.unwrap();
    let paths = document["paths"].as_object().unwrap();
    for (path, verbs) in paths {
        for (verb, route) in verbs.as_object().unwrap() {
            assert!(
                route["summary"].is_string() && route["responses"].is_object(),
                "{path}"
            );
            let url = worker.url(&path.replace("{id}", "default"));
            let method = verb.to_uppercase().parse().unwrap();
            let status = worker
                .client
                .request(method, url)
                .send()
                .await
                .unwrap()
                .status();
            // The router's own 404 says that it knows no such path; a handler's says what it did not find.
            let unknown = status == 404 && !path.starts_with("/v1/responses/{");
            assert!(!unknown && status != 405, "{verb} {path} is {status}");
        }
    }
    // As many as src/api/routes.rs has.
    let source = include_str!("../../src/api/routes.rs");
    let routes = source.matches(".route(").count();
    assert_eq!(paths.len(), routes);
}

#[tokio::test]
async fn every_reference_in_the_document_leads_somewhere_and_its_examples_work() {
    let worker = worker().await;
    let document: Value = worker.get("/openapi.json").await.json().await.unwrap();
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    for (path, verbs) in document["paths"].as_object().unwrap() {
        let example = verbs.pointer("/post/requestBody/content/application~1json/example");
        if let Some(example) = example {
            worker.answer(path, example.clone()).await;
        }
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let worker = worker().await;
    let response = worker.get("/docs").await;
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    let page = response.text().await.unwrap();
    assert!(!page.contains("https://") && !page.contains("http://"));
}
