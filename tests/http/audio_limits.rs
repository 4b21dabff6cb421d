//! Who may send how much audio to which model, and that a refusal is read although the audio is still on its way.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::worker::{Setup, chat, chat_with, form, read_to_end, worker};

const HEAR: &str = "/v1/audio/transcriptions";

#[tokio::test]
async fn an_upload_has_a_limit_of_its_own_and_json_has_room_for_audio() {
    let mut setup = Setup::hearing(0);
    setup.api.body_limit = 100;
    setup.api.upload_limit = 3000;
    let worker = setup.start().await;
    let audio = "word ".repeat(600);
    let heard = worker
        .form(HEAR, &[("model", "mock"), ("file", &audio)])
        .await;
    assert_eq!(heard.status(), 200);
    let large = audio.clone() + "!";
    let refused = worker
        .form(HEAR, &[("model", "mock"), ("file", &large)])
        .await;
    assert_eq!(refused.status(), 413);
    let body: Value = refused.json().await.unwrap();
    assert_eq!(
        (&body["error"]["param"], &body["error"]["code"]),
        (&json!("file"), &json!("request_too_large"))
    );
    let message = body["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("3000") && message.contains("--max-upload"),
        "{message}"
    );
    let base64 = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let ask = |text: &str| json!({"instances": [{"audio": base64(text)}]});
    assert_eq!(
        worker.answer("/predict", ask(&audio)).await["predictions"][0]["duration"],
        300.0
    );
    let (status, body) = worker.refusal("/predict", ask(&large)).await;
    assert_eq!(
        (status, &body["error"]["param"]),
        (413, &json!("instances[0].audio")),
        "{body}"
    );
    // What is no audio has the limit that it always had.
    let (status, _) = worker.refusal("/v1/chat/completions", chat(&audio)).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn a_forms_parts_are_bounded() {
    let worker = Setup::hearing(0).start().await;
    let long = "p".repeat((64 << 10) + 1);
    let refused = worker.form(HEAR, &[("prompt", &long), ("file", "a")]).await;
    assert_eq!(refused.status(), 413);
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["error"]["param"], "prompt");
    let refused = worker.form(HEAR, &vec![("keywords[]", "a"); 257]).await;
    assert_eq!(refused.status(), 413);
    let just = "p".repeat(64 << 10);
    let heard = worker.form(HEAR, &[("prompt", &just), ("file", "a")]).await;
    assert_eq!(heard.status(), 200);
}

#[tokio::test]
async fn an_upload_that_is_refused_is_not_read_to_its_end() {
    let hearing = Setup::hearing(0).start().await;
    let text = worker().await;
    for (worker, fields, status) in [
        (&hearing, vec![("model", "other"), ("file", "x")], "404"),
        (&hearing, vec![("temperature", "9"), ("file", "x")], "400"),
        (&text, vec![("file", "x")], "400"),
    ] {
        // The head announces more than ever comes: an answer can only come before the end.
        let body = form(&fields);
        let begun = &body[..body.len() - 12];
        let head = format!(
            "POST {HEAR} HTTP/1.1\r\nhost: test\r\ncontent-type: multipart/form-data; boundary=wick\r\n\
             content-length: 100000000\r\nconnection: close\r\n\r\n"
        );
        let stream = worker.raw(&[head.as_bytes(), begun].concat()).await;
        let answer = tokio::time::timeout(Duration::from_secs(10), read_to_end(stream));
        let answer = answer.await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn who_asks_before_sending_is_refused_before_sending() {
    let mut setup = Setup::hearing(0);
    setup.api.upload_limit = 1000;
    let hearing = setup.start().await;
    let text = worker().await;
    for (worker, status) in [(&hearing, "413"), (&text, "400")] {
        let head = format!(
            "POST {HEAR} HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 50000000\r\n\
             content-type: multipart/form-data; boundary=wick\r\n\r\n"
        );
        let mut stream = worker.raw(head.as_bytes()).await;
        let mut some = [0; 64];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut some));
        let read = read.await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&some[..read]).into_owned();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_model_of_another_kind_is_told_in_every_dialect() {
    let hearing = Setup::hearing(0).start().await;
    let turns = json!([{"role": "user", "content": "a"}]);
    for (path, body) in [
        ("/v1/chat/completions", chat("a")),
        (
            "/v1/chat/completions",
            chat_with("a", json!({"stream": true})),
        ),
        ("/v1/completions", json!({"prompt": "a"})),
        ("/v1/responses", json!({"input": "a"})),
        ("/predict", chat("a")),
    ] {
        let (status, body) = hearing.refusal(path, body).await;
        let error = &body["error"];
        assert_eq!(
            (status, &error["code"]),
            (400, &json!("unsupported")),
            "{path} {body}"
        );
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("automatic-speech-recognition"),
            "{message}"
        );
    }
    let (status, body) = hearing
        .refusal(
            "/v1/messages",
            json!({"messages": turns, "max_tokens": 4, "model": "mock"}),
        )
        .await;
    assert_eq!(
        (status, &body["error"]["type"]),
        (400, &json!("invalid_request_error"))
    );
    let (status, _) = hearing.refusal("/generate", json!({"prompt": "a"})).await;
    assert_eq!(status, 400);
    let text = worker().await;
    for path in [HEAR, "/v1/audio/translations"] {
        let response = text.form(path, &[("file", "a")]).await;
        assert_eq!(response.status(), 400);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "unsupported");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("text-generation"), "{message}");
    }
}

#[tokio::test]
async fn a_full_queue_is_told_before_the_audio_is_read() {
    let mut setup = Setup::hearing(300);
    setup.mock.rows = 1;
    setup.engine.queue = 1;
    let worker = setup.start().await;
    let ask = |text: &str| {
        let request = worker
            .client
            .post(worker.url(HEAR))
            .body(form(&[("file", text)]));
        let request = request.header("content-type", "multipart/form-data; boundary=wick");
        tokio::spawn(async move { request.send().await.unwrap().status() })
    };
    let running = ask("a\nb\nc");
    worker.counts(|c| c.running == 1).await;
    let waiting = ask("a");
    worker.counts(|c| c.queued == 1).await;
    let refused = worker
        .form(HEAR, &[("model", "other"), ("file", "a")])
        .await;
    // The model's name, which is wrong too, stands in the form.
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(running.await.unwrap(), 200);
    assert_eq!(waiting.await.unwrap(), 200);
}
