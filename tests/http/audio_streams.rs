//! A transcript as events, and who leaves while it is made.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::worker::{Setup, Worker, events, form};

const HEAR: &str = "/v1/audio/transcriptions";
const AUDIO: &str = "so it begins\nand ends";

async fn streamed(worker: &Worker, fields: &[(&str, &str)]) -> Vec<Value> {
    let fields = [fields, &[("stream", "true"), ("file", AUDIO)]].concat();
    let response = worker.form(HEAR, &fields).await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["content-type"],
        "text/event-stream; charset=utf-8"
    );
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    events(&response.text().await.unwrap())
}

fn wire(fields: &[(&str, &str)]) -> Vec<u8> {
    let body = form(fields);
    let head = format!(
        "POST {HEAR} HTTP/1.1\r\nhost: test\r\ncontent-type: multipart/form-data; boundary=wick\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

#[tokio::test]
async fn text_comes_segment_by_segment_and_then_whole() {
    let worker = Setup::hearing(1).start().await;
    let delta = |text: &str| json!({"type": "transcript.text.delta", "delta": text});
    let usage = json!({"type": "duration", "seconds": 3});
    let done =
        json!({"type": "transcript.text.done", "text": "so it begins and ends", "usage": usage});
    let expected = [
        delta("so it begins"),
        delta(" and ends"),
        done,
        json!("[DONE]"),
    ];
    for form in ["json", "text"] {
        assert_eq!(
            streamed(&worker, &[("response_format", form)]).await,
            expected
        );
    }
}

#[tokio::test]
async fn a_verbose_stream_has_segments_with_their_times() {
    let worker = Setup::hearing(1).start().await;
    let fields = [
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "word"),
    ];
    let events = streamed(&worker, &fields).await;
    let kinds: Vec<&str> = events
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect();
    let (delta, segment) = ("transcript.text.delta", "transcript.text.segment");
    assert_eq!(
        kinds,
        [delta, segment, delta, segment, "transcript.text.done"]
    );
    // `normal` puts ID for every id.
    assert_eq!(
        events[3],
        json!({
            "id": "ID", "seek": 0, "start": 1.5, "end": 2.5, "text": " and ends", "tokens": [100, 101], "temperature": 0.0,
            "avg_logprob": -0.25, "compression_ratio": 1.0, "no_speech_prob": 0.125,
            "type": segment, "speaker": "",
            "words": [
                {"word": "and", "start": 1.5, "end": 2.0, "probability": 0.5},
                {"word": "ends", "start": 2.0, "end": 2.5, "probability": 0.5},
            ],
        })
    );
    assert_eq!(
        (&events[4]["language"], &events[4]["duration"]),
        (&json!("english"), &json!(2.5))
    );
}

#[tokio::test]
async fn a_stream_tells_how_far_the_audio_is_heard_where_that_is_asked() {
    let worker = Setup::hearing(1).start().await;
    let progress =
        |seconds: f64| json!({"type": "transcript.progress", "seconds": seconds, "duration": 2.5});
    let events = streamed(&worker, &[("progress", "true")]).await;
    let (told, rest): (Vec<Value>, Vec<Value>) = events
        .into_iter()
        .partition(|event| event["type"] == "transcript.progress");
    // A later one may have replaced one that nobody had read yet.
    assert_eq!(
        (&told[0], told.last()),
        (&progress(0.0), Some(&progress(2.5)))
    );
    assert_eq!(rest, streamed(&worker, &[]).await);
}

#[tokio::test]
async fn what_is_wrong_before_the_first_event_is_an_http_error() {
    let worker = Setup::hearing(1).start().await;
    for (fields, status) in [
        (
            vec![("stream", "true"), ("language", "xx"), ("file", "a")],
            400,
        ),
        (
            vec![
                ("stream", "true"),
                ("response_format", "srt"),
                ("file", "a"),
            ],
            400,
        ),
        (vec![("stream", "true"), ("file", "")], 400),
        (vec![("stream", "sometimes"), ("file", "a")], 400),
        (vec![("progress", "true"), ("file", "a")], 400),
    ] {
        let response = worker.form(HEAR, &fields).await;
        assert_eq!(response.status(), status);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn who_hangs_up_is_not_heard_any_further() {
    let worker = Setup::hearing(30).start().await;
    let many = "a line\n".repeat(1000);
    let whole = worker.raw(&wire(&[("file", &many)])).await;
    worker.counts(|c| c.running == 1).await;
    drop(whole);
    worker.counts(|c| c.cancelled == 1 && c.running == 0).await;
    let mut streamed = worker
        .raw(&wire(&[("stream", "true"), ("file", &many)]))
        .await;
    let mut some = [0; 600];
    streamed.read_exact(&mut some).await.unwrap();
    drop(streamed);
    worker.counts(|c| c.cancelled == 2 && c.running == 0).await;
    // Of two thousand segments a handful were heard.
    let counters = worker.engine.counters();
    assert_eq!(counters.completed, 0);
    assert!(counters.steps < 200, "{counters:?}");
}

#[tokio::test]
async fn a_stream_that_takes_too_long_ends_with_an_error_and_without_done() {
    let mut setup = Setup::hearing(30);
    setup.api.request_timeout = Duration::from_millis(200);
    let worker = setup.start().await;
    let many = "a line\n".repeat(1000);
    let mut response = worker
        .form(HEAR, &[("stream", "true"), ("file", &many)])
        .await;
    assert_eq!(response.status(), 200);
    let (mut text, mut cut) = (String::new(), false);
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Ok(None) => break,
            Err(_) => {
                cut = true;
                break;
            }
        }
    }
    let events = events(&text);
    assert_eq!(events[0]["type"], "transcript.text.delta");
    assert_eq!(events.last().unwrap()["error"]["code"], "timeout", "{text}");
    assert!(cut, "the body must not end as if it were whole");
    worker.counts(|c| c.cancelled == 1 && c.running == 0).await;
}
