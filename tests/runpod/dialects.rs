//! What each shape of a job's input gives, on the mock: the outputs that existing clients parse.

use chandler::api;
use chandler::runpod::{Handler, Streaming, Work};
use chandler_core::mock::Fault;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::jobs::{Jobs, job};
use crate::http::worker::{Setup, Worker, chat, chat_with, events};

async fn jobs() -> Jobs<Worker> {
    with(Setup::default(), Streaming::default()).await
}

async fn with(setup: Setup, streaming: Streaming) -> Jobs<Worker> {
    let mut settings = setup.api.clone();
    settings.model_id = "mock".into();
    let worker = setup.start().await;
    let inner = api::inner_router(settings, worker.engine.clone());
    Jobs {
        handler: Handler::new(inner, streaming),
        worker,
    }
}

fn openai(route: &str, input: Value) -> Value {
    json!({"openai_route": route, "openai_input": input})
}

#[tokio::test]
async fn openais_routes_give_a_list_of_one() {
    let jobs = jobs().await;
    let output = jobs
        .output(openai(
            "/v1/chat/completions",
            chat_with("a", json!({"max_tokens": 2})),
        ))
        .await;
    assert_eq!(output.as_array().unwrap().len(), 1);
    assert_eq!(output[0]["id"], "chatcmpl-job-1");
    assert_eq!(output[0]["choices"][0]["message"]["content"], "a a");
    let output = jobs
        .output(openai(
            "completions",
            json!({"model": "mock", "prompt": "a", "max_tokens": 2}),
        ))
        .await;
    assert_eq!(output[0]["choices"][0]["text"], "a a");
    for (route, object) in [("/v1/models", "list"), ("models/mock", "model")] {
        for input in [json!(null), json!({})] {
            assert_eq!(jobs.output(openai(route, input)).await[0]["object"], object);
        }
    }
    let output = jobs
        .output(openai("/v1/responses", json!({"input": "a"})))
        .await;
    assert_eq!(output[0]["object"], "response");
    let messages = json!({"max_tokens": 4, "messages": [{"role": "user", "content": "a"}]});
    let output = jobs.output(openai("/v1/messages", messages)).await;
    assert_eq!(output[0]["type"], "message");
    let output = jobs.output(json!({"route": "/metrics"})).await;
    assert!(output[0].as_str().unwrap().contains("http_requests_total"));
}

#[tokio::test]
async fn a_streamed_openai_route_is_its_events_as_text() {
    let jobs = jobs().await;
    let mut body = chat("a b c d e f");
    body["stream"] = json!(true);
    let (chunks, outcome) = jobs.run(openai("/v1/chat/completions", body.clone())).await;
    assert!(outcome.is_stream && chunks.len() > 1);
    assert_eq!(outcome.body, json!({"output": chunks}));
    let text: String = chunks.iter().map(|chunk| chunk.as_str().unwrap()).collect();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let over_http = jobs.worker.events("/v1/chat/completions", body).await;
    // The mock over HTTP and in the process are two names of one model.
    let said = |events: &[Value]| -> String {
        let pieces = events
            .iter()
            .filter_map(|e| e["choices"][0]["delta"]["content"].as_str());
        pieces.collect()
    };
    assert_eq!(said(&events(&text)), said(&over_http));

    for (route, body, last) in [
        (
            "/v1/messages",
            json!({"max_tokens": 4, "messages": [{"role": "user", "content": "a"}], "stream": true}),
            "message_stop",
        ),
        (
            "/v1/responses",
            json!({"input": "a", "stream": true}),
            "response.completed",
        ),
    ] {
        let (chunks, outcome) = jobs.run(openai(route, body)).await;
        assert!(outcome.error().is_none(), "{outcome:?}");
        let text: String = chunks.iter().map(|chunk| chunk.as_str().unwrap()).collect();
        assert!(text.contains(&format!("event: {last}\n")), "{text}");
    }
}

#[tokio::test]
async fn events_come_as_objects_where_raw_output_is_off() {
    let streaming = Streaming {
        raw_openai: false,
        ..Streaming::default()
    };
    let jobs = with(Setup::default(), streaming).await;
    let body = json!({"prompt": "a", "max_tokens": 3, "stream": true});
    let (chunks, _) = jobs.run(openai("/v1/completions", body)).await;
    let objects = chunks.iter().flat_map(|chunk| chunk.as_array().unwrap());
    let text: String = objects
        .map(|object| object["choices"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, "a a a");
}

#[tokio::test]
async fn worker_vllms_shape_gives_its_texts_and_counts() {
    let jobs = jobs().await;
    let input = json!({"prompt": "a a", "sampling_params": {"max_tokens": 3, "n": 2}});
    assert_eq!(
        jobs.output(input).await,
        json!([{"choices": [{"tokens": ["a a a"]}, {"tokens": ["a a a"]}], "usage": {"input": 2, "output": 6}}])
    );
    let bare = jobs.output(json!({"prompt": "Hello"})).await;
    assert_eq!(bare[0]["usage"], json!({"input": 1, "output": 100}));
    let text = bare[0]["choices"][0]["tokens"][0].as_str().unwrap();
    assert!(text.starts_with("Hello Hello"), "{text}");
    let thoughts = json!({"messages": [{"role": "user", "content": "!think a"}]});
    let output = jobs.output(thoughts).await;
    let text = output[0]["choices"][0]["tokens"][0].as_str().unwrap();
    assert!(text.contains("<think>"), "{text}");
}

#[tokio::test]
async fn worker_vllms_partial_outputs_add_up_to_the_whole() {
    let jobs = with(Setup::slow(2), Streaming::default()).await;
    for n in [1, 2] {
        let whole = json!({"prompt": "a b c", "sampling_params": {"max_tokens": 20, "n": n}});
        let mut streamed = whole.clone();
        streamed["stream"] = json!(true);
        let whole = jobs.output(whole).await;
        let (chunks, outcome) = jobs.run(streamed).await;
        assert!(outcome.is_stream && chunks.len() > 1, "{chunks:?}");
        assert_eq!(outcome.body["output"], json!(chunks));
        for row in 0..n {
            let pieces = chunks
                .iter()
                .flat_map(|chunk| chunk["choices"][row]["tokens"].as_array().unwrap());
            let text: String = pieces.map(|piece| piece.as_str().unwrap()).collect();
            assert_eq!(whole[0]["choices"][row]["tokens"], json!([text]));
        }
        let counts: Vec<u64> = chunks
            .iter()
            .map(|chunk| chunk["usage"]["output"].as_u64().unwrap())
            .collect();
        assert!(counts.is_sorted(), "{counts:?}");
        assert_eq!(chunks.last().unwrap()["usage"], whole[0]["usage"]);
        assert_eq!(chunks[0]["usage"]["input"], whole[0]["usage"]["input"]);
    }
}

#[tokio::test]
async fn our_own_input_gives_its_prediction() {
    let jobs = jobs().await;
    let input =
        json!({"inputs": "a a", "task": "text-generation", "parameters": {"max_new_tokens": 3.0}});
    let prediction = jobs.output(input.clone()).await;
    assert_eq!(prediction["text"], "a a a");
    let both = jobs
        .output(json!({"instances": [input, "c"], "parameters": {"max_tokens": 2}}))
        .await;
    assert_eq!(both["predictions"].as_array().unwrap().len(), 2);
    assert_eq!(jobs.output(json!("x")).await["finish_reason"], "length");
}

#[tokio::test]
async fn a_streamed_prediction_is_at_its_end_what_it_would_have_been_whole() {
    let jobs = jobs().await;
    for input in [
        json!({"text": "a b", "parameters": {"max_new_tokens": 9}}),
        json!({"prompt": "a b", "max_tokens": 9, "candidateCount": 3}),
        json!({"messages": [{"role": "user", "content": "a b c"}], "max_tokens": 9}),
        json!({"messages": [{"role": "user", "content": "!think a b"}], "temperature": 0}),
        json!({"messages": [{"role": "user", "content": "a"}], "logprobs": true, "max_tokens": 3}),
    ] {
        let mut streamed = input.clone();
        streamed["stream"] = json!(true);
        let mut whole = input.clone();
        whole["task"] = json!("text-generation");
        let whole = jobs.output(whole).await;
        let (chunks, outcome) = jobs.run(streamed).await;
        assert!(outcome.is_stream && !chunks.is_empty());
        assert_eq!(outcome.body["output"], whole, "{input}");
        let pieces = chunks
            .iter()
            .filter(|chunk| chunk["index"] == 0)
            .filter_map(|chunk| {
                chunk
                    .get("text")
                    .or_else(|| chunk["delta"].get("content"))?
                    .as_str()
            });
        let text: String = pieces.collect();
        let said = whole.get("text").unwrap_or(&whole["message"]["content"]);
        assert_eq!(said, &json!(text));
    }
}

#[tokio::test]
async fn a_task_that_the_model_does_not_do_is_an_error_naming_it() {
    let jobs = jobs().await;
    for (input, task, why) in [
        (
            json!({"task": "summarise", "text": "a"}),
            "summarization",
            "the input's task \"summarise\"",
        ),
        (
            json!({"task": "tts", "text": "a", "speaker_id": 248}),
            "text-to-speech",
            "the input's task \"tts\"",
        ),
        (
            json!({"task": "transcribe", "audio_file": "a.wav"}),
            "automatic-speech-recognition",
            "the input's task",
        ),
        (
            json!({"prompt": "a", "num_inference_steps": 28, "seed": 1}),
            "text-to-image",
            "num_inference_steps",
        ),
        (
            json!({"audio": "https://example.com/a.wav"}),
            "automatic-speech-recognition",
            "it has audio",
        ),
        (
            json!({"model": "m", "input": "a"}),
            "feature-extraction",
            "it has input",
        ),
        (
            json!({"task": "depth-estimation", "text": "a"}),
            "depth-estimation",
            "task is",
        ),
        (
            json!({"task": "text-to-image", "prompt": "a", "stream": true}),
            "text-to-image",
            "task is",
        ),
    ] {
        let error = jobs.error(input).await;
        assert!(error.starts_with("task is "), "{error}");
        assert!(
            error.contains(task) && error.contains(why) && error.contains("text-generation"),
            "{error}"
        );
        assert!(!error.contains("instances"), "{error}");
    }
}

#[tokio::test]
async fn an_error_is_a_text_in_the_dialects_words() {
    let jobs = jobs().await;
    let error = jobs
        .error(openai("/v1/chat/completions", json!({"messages": []})))
        .await;
    let error: Value = serde_json::from_str(&error).unwrap();
    assert_eq!(error["type"], "invalid_request_error");
    assert!(
        error["message"].as_str().unwrap().contains("messages"),
        "{error}"
    );
    assert!(error.get("code").is_some());
    let error = jobs.error(openai("/v1/nothing", json!({}))).await;
    assert!(
        error.contains("unknown_url") && error.contains("/v1/nothing"),
        "{error}"
    );
    let error = jobs
        .error(json!({"route": "/predict", "body": {"instances": []}}))
        .await;
    assert!(error.contains("instances is empty"), "{error}");
    let error = jobs
        .error(json!({"prompt": "a", "sampling_params": {"temperature": -1}}))
        .await;
    assert!(error.contains("temperature is -1"), "{error}");
    let error = jobs.error(json!({"prompt": "a", "max_tokens": 0})).await;
    assert_eq!(
        error,
        "max_tokens is 0; it must be a whole number from 1 to 2147483647"
    );
    let error = jobs.error(json!({"colour": "red"})).await;
    assert!(
        error.contains("colour") && error.contains("openai_route"),
        "{error}"
    );
}

#[tokio::test]
async fn a_stream_that_fails_half_way_ends_with_an_error_after_its_chunks() {
    let mut setup = Setup::default();
    setup.mock.poison = Some("bad".into());
    setup.mock.fault = Fault::Batch;
    let jobs = with(setup, Streaming::default()).await;
    for (input, visible) in [
        (
            openai(
                "/v1/completions",
                json!({"prompt": "bad a b c", "stream": true}),
            ),
            true,
        ),
        (json!({"prompt": "bad a b c", "stream": true}), false),
        (
            json!({"prompt": "bad a b c", "stream": true, "max_tokens": 9}),
            false,
        ),
    ] {
        let (chunks, outcome) = jobs.run(input.clone()).await;
        assert!(
            outcome.is_stream && outcome.error().is_some(),
            "{input}: {outcome:?}"
        );
        assert!(!chunks.is_empty() && outcome.body.get("output").is_none());
        // Whoever reads the raw events sees the error there; in the other dialects a chunk is never an error.
        assert_eq!(
            json!(chunks).to_string().contains("error"),
            visible,
            "{chunks:?}"
        );
    }
}

#[tokio::test]
async fn a_dropped_job_is_cancelled_in_the_engine() {
    let jobs = with(Setup::slow(20), Streaming::default()).await;
    for stream in [true, false] {
        let mut pieces = jobs
            .handler
            .start(job(json!({"prompt": "a b c d e f g h", "stream": stream})));
        tokio::select! {
            _ = async { while pieces.next().await.is_some() {} } => panic!("it was over too soon"),
            () = jobs.worker.counts(|counters| counters.running > 0) => {}
        }
        drop(pieces);
        jobs.worker.is_empty().await;
    }
    assert_eq!(jobs.worker.engine.counters().cancelled, 2);
    assert_eq!(jobs.worker.engine.counters().completed, 0);
}

#[tokio::test]
async fn neither_keys_nor_rate_limits_stand_before_a_job() {
    let mut setup = Setup::default();
    setup.api.api_keys = vec!["secret".into()].into();
    setup.api.rate_limit = Some(1);
    let jobs = with(setup, Streaming::default()).await;
    for _ in 0..3 {
        jobs.output(json!({"prompt": "a"})).await;
    }
    assert_eq!(jobs.worker.get("/v1/models").await.status(), 401);
}

#[tokio::test]
async fn a_body_over_the_limit_is_an_error() {
    let mut setup = Setup::default();
    setup.api.body_limit = 1000;
    let jobs = with(setup, Streaming::default()).await;
    let error = jobs.error(json!({"prompt": "a ".repeat(1000)})).await;
    assert!(error.contains("over the limit of 1000 bytes"), "{error}");
}

#[tokio::test]
async fn a_debug_job_tells_how_the_worker_is_while_it_loads_and_after() {
    let (loaded, loading) = std::sync::mpsc::channel();
    let setup = Setup {
        loading: Some(loading),
        ..Setup::default()
    };
    let jobs = with(setup, Streaming::default()).await;
    let health = jobs.output(json!({"debug": true})).await;
    assert_eq!(
        (&health["status"], &health["state"]),
        (&json!("ok"), &json!("loading"))
    );
    assert_eq!(health["pipeline_loaded"], false);
    drop(loaded);
    jobs.output(json!({"prompt": "a"})).await;
    let health = jobs.output(json!({"debug": true})).await;
    assert_eq!(
        (&health["pipeline_loaded"], &health["task"]),
        (&json!(true), &json!("text-generation"))
    );
    assert!(health["jobs"]["completed"].is_u64());
}

#[tokio::test]
async fn a_stream_tells_its_usage_all_along_when_asked() {
    let worker = Setup::default().start().await;
    for (path, mut body) in [
        ("/v1/chat/completions", chat("a b")),
        (
            "/v1/completions",
            json!({"prompt": ["a b", "c"], "max_tokens": 2}),
        ),
    ] {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true, "continuous_usage_stats": true});
        let events = worker.events(path, body).await;
        let totals: Vec<u64> = events
            .iter()
            .filter_map(|event| event.get("usage"))
            .map(|usage| usage["total_tokens"].as_u64().unwrap())
            .collect();
        assert_eq!(totals.len(), events.len() - 1, "{events:?}");
        assert!(totals.is_sorted());
        assert_eq!(
            totals[totals.len() - 2],
            totals[totals.len() - 1],
            "{events:?}"
        );
    }
    // Without the other it asks for nothing, as in vLLM.
    let mut body = chat("a");
    body["stream"] = json!(true);
    body["stream_options"] = json!({"continuous_usage_stats": true});
    let events = worker.events("/v1/chat/completions", body).await;
    assert!(events.iter().all(|event| event.get("usage").is_none()));
}
