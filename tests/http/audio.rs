//! OpenAI's routes of speech: forms as clients send them, and the answers byte for byte. The mock's audio is text: a line is a
//! segment, a word half a second.

use serde_json::{Value, json};

use super::worker::{Setup, Worker};

const HEAR: &str = "/v1/audio/transcriptions";
const TRANSLATE: &str = "/v1/audio/translations";
const AUDIO: &str = "so it begins\nand ends";

async fn hearing() -> Worker {
    Setup::hearing(0).start().await
}

/// A good answer's content type and text.
async fn said(worker: &Worker, path: &str, fields: &[(&str, &str)]) -> (String, String) {
    let response = worker.form(path, fields).await;
    let status = response.status();
    let kind = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    let text = response.text().await.unwrap();
    assert_eq!(status, 200, "{text}");
    (kind, text)
}

async fn json_of(worker: &Worker, fields: &[(&str, &str)]) -> Value {
    let (kind, text) = said(worker, HEAR, fields).await;
    assert_eq!(kind, "application/json");
    serde_json::from_str(&text).unwrap()
}

async fn refused(worker: &Worker, path: &str, fields: &[(&str, &str)]) -> (u16, Value) {
    let response = worker.form(path, fields).await;
    let status = response.status().as_u16();
    (
        status,
        response.json::<Value>().await.unwrap()["error"].take(),
    )
}

fn segment(id: u32, (start, end): (f64, f64), text: &str, tokens: Value) -> Value {
    json!({
        "id": id, "seek": 0, "start": start, "end": end, "text": text, "tokens": tokens, "temperature": 0.0,
        "avg_logprob": -0.25, "compression_ratio": 1.0, "no_speech_prob": 0.125,
    })
}

fn segments() -> Value {
    json!([
        segment(0, (0.0, 1.5), " so it begins", json!([0, 1, 2])),
        segment(1, (1.5, 2.5), " and ends", json!([100, 101])),
    ])
}

#[tokio::test]
async fn every_form_of_an_answer_is_as_openai_writes_it() {
    let worker = hearing().await;
    let form = async |form: &str| {
        let fields = [
            ("model", "mock"),
            ("response_format", form),
            ("file", AUDIO),
        ];
        said(&worker, HEAR, &fields).await
    };
    let json_form = (
        "application/json".to_owned(),
        r#"{"text":"so it begins and ends","usage":{"type":"duration","seconds":3}}"#.to_owned(),
    );
    assert_eq!(form("json").await, json_form);
    assert_eq!(said(&worker, HEAR, &[("file", AUDIO)]).await, json_form);
    let of = |kind: &str, text: &str| (kind.to_owned(), text.to_owned());
    let text = of("text/plain; charset=utf-8", "so it begins and ends\n");
    assert_eq!(form("text").await, text);
    let srt = "1\n00:00:00,000 --> 00:00:01,500\nso it begins\n\n2\n00:00:01,500 --> 00:00:02,500\nand ends\n\n";
    assert_eq!(
        form("srt").await,
        of("application/x-subrip; charset=utf-8", srt)
    );
    let vtt = "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nso it begins\n\n00:00:01.500 --> 00:00:02.500\nand ends\n\n";
    assert_eq!(form("vtt").await, of("text/vtt; charset=utf-8", vtt));
    let (_, verbose) = form("verbose_json").await;
    assert_eq!(
        serde_json::from_str::<Value>(&verbose).unwrap(),
        json!({
            "task": "transcribe", "language": "english", "duration": 2.5, "text": "so it begins and ends",
            "segments": segments(), "usage": {"type": "duration", "seconds": 3},
        })
    );
}

#[tokio::test]
async fn times_come_as_they_are_asked_for() {
    let worker = hearing().await;
    let word = ("timestamp_granularities[]", "word");
    let segment = ("timestamp_granularities[]", "segment");
    let verbose = ("response_format", "verbose_json");
    let words = json!([
        {"word": "so", "start": 0.0, "end": 0.5, "probability": 0.5},
        {"word": "it", "start": 0.5, "end": 1.0, "probability": 0.5},
    ]);
    let only_words = json_of(&worker, &[verbose, word, ("file", "so it")]).await;
    assert_eq!(
        (&only_words["words"], only_words.get("segments")),
        (&words, None)
    );
    let both = json_of(&worker, &[word, ("file", "so it"), segment, verbose]).await;
    assert_eq!(both["words"], words);
    assert_eq!(both["segments"].as_array().unwrap().len(), 1);
    let only_segments = json_of(&worker, &[segment, verbose, ("file", "so it")]).await;
    assert_eq!(only_segments.get("words"), None);
    assert_eq!(only_segments["segments"].as_array().unwrap().len(), 1);
    let ours = json_of(
        &worker,
        &[("word_timestamps", "1"), verbose, ("file", "so it")],
    )
    .await;
    assert_eq!(
        (&ours["words"], ours["segments"].is_array()),
        (&words, true)
    );
}

#[tokio::test]
async fn parts_may_come_in_any_order_and_a_file_need_not_be_named() {
    let worker = hearing().await;
    let parts = [
        ("file", AUDIO),
        ("response_format", "verbose_json"),
        ("language", "fr"),
        ("temperature", "0.2"),
        ("model", "mock"),
    ];
    for shift in 0..parts.len() {
        let mut parts = parts;
        parts.rotate_left(shift);
        let answer = json_of(&worker, &parts).await;
        assert_eq!(
            (&answer["language"], &answer["segments"]),
            (&json!("french"), &segments())
        );
    }
    let body = "--b\r\ncontent-disposition: form-data; name=file\r\n\r\nso\r\n--b--";
    let request = worker.client.post(worker.url(HEAR)).body(body);
    let request = request.header("content-type", "multipart/form-data; boundary=\"b\"");
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["text"], "so");
}

#[tokio::test]
async fn every_field_of_openais_is_taken_and_so_are_ours() {
    let worker = hearing().await;
    let fields = [
        ("chunking_strategy[type]", "server_vad"),
        ("chunking_strategy[threshold]", "0.5"),
        ("chunking_strategy[silence_duration_ms]", "200"),
        ("chunking_strategy[prefix_padding_ms]", "300"),
        ("keywords[]", "tallow"),
        ("keywords[]", "wick"),
        ("languages[]", "en"),
        ("prompt", "p"),
        ("temperature", "0"),
        ("beam_size", "5"),
        ("vad_parameters[speech_pad_ms]", "30"),
        ("vad_filter", "true"),
        ("hotwords", "a, b"),
        ("suppress_tokens", "-1"),
        ("user", "ignored"),
        ("file", AUDIO),
    ];
    assert_eq!(
        json_of(&worker, &fields).await["text"],
        "so it begins and ends"
    );
    let auto = [
        ("chunking_strategy", "auto"),
        ("stream", "false"),
        ("file", AUDIO),
    ];
    assert_eq!(
        json_of(&worker, &auto).await["text"],
        "so it begins and ends"
    );
    let language = [("detect_language", "true"), ("file", AUDIO)];
    assert_eq!(
        json_of(&worker, &language).await,
        json!({"language": "en", "language_probability": 0.75, "languages": {"en": 0.75, "fr": 0.25}})
    );
}

#[tokio::test]
async fn a_translation_is_english() {
    let worker = hearing().await;
    let fields = [
        ("language", "fr"),
        ("response_format", "verbose_json"),
        ("file", "un"),
    ];
    let (_, text) = said(&worker, TRANSLATE, &fields).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&answer["task"], &answer["language"], &answer["text"]),
        (&json!("translate"), &json!("english"), &json!("UN"))
    );
    let ours = json_of(&worker, &[("translate", "true"), ("file", "un")]).await;
    assert_eq!(ours["text"], "UN");
}

#[tokio::test]
async fn what_is_wrong_is_told_by_name() {
    let worker = hearing().await;
    for (fields, param, code) in [
        (vec![("model", "mock")], json!("file"), Value::Null),
        (vec![("file", "")], json!("file"), Value::Null),
        (vec![("file", " ")], json!("file"), Value::Null),
        (
            vec![("file", "a"), ("file", "b")],
            json!("file"),
            Value::Null,
        ),
        (
            vec![("language", "xx"), ("file", "a")],
            json!("language"),
            Value::Null,
        ),
        (
            vec![("max_duration", "1"), ("file", "a b c")],
            json!("file"),
            json!("audio_too_long"),
        ),
        (
            vec![("response_format", "diarized_json"), ("file", "a")],
            json!("response_format"),
            json!("unsupported"),
        ),
        (
            vec![("known_speaker_names[]", "a"), ("file", "a")],
            json!("known_speaker_names"),
            json!("unsupported"),
        ),
        (
            vec![("include[]", "logprobs"), ("file", "a")],
            json!("include"),
            json!("unsupported"),
        ),
        (
            vec![("timestamp_granularities[]", "word"), ("file", "a")],
            json!("timestamp_granularities"),
            Value::Null,
        ),
        (
            vec![("temperature", "hot"), ("file", "a")],
            json!("temperature"),
            Value::Null,
        ),
        (
            vec![("model", "mock"), ("model", "mock"), ("file", "a")],
            json!("model"),
            Value::Null,
        ),
    ] {
        let (status, error) = refused(&worker, HEAR, &fields).await;
        assert_eq!(
            (status, &error["param"], &error["code"]),
            (400, &param, &code),
            "{error}"
        );
        assert_eq!(error["type"], "invalid_request_error");
    }
    let (status, error) = refused(&worker, HEAR, &[("model", "other"), ("file", "a")]).await;
    assert_eq!((status, &error["code"]), (404, &json!("model_not_found")));
    worker.is_empty().await;
}

#[tokio::test]
async fn another_content_type_is_told_what_would_do() {
    let worker = hearing().await;
    let post = async |kind: Option<&str>, body: &str| {
        let mut request = worker.client.post(worker.url(HEAR)).body(body.to_owned());
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let response = request.send().await.unwrap();
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    for kind in [None, Some("audio/wav"), Some("multipart/mixed; boundary=b")] {
        let (status, body) = post(kind, "x").await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (415, &json!("unsupported_media_type"))
        );
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("multipart/form-data"), "{message}");
    }
    let (status, body) = post(Some("multipart/form-data"), "x").await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (400, &json!("invalid_multipart"))
    );
    let (status, body) = post(Some("multipart/form-data; boundary=b"), "--b\r\n").await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (400, &json!("invalid_multipart"))
    );
    let (status, body) = post(
        Some("application/json"),
        "{\"file\": \"c28=\", \"language\": \"fr\"}",
    )
    .await;
    assert_eq!((status, &body["text"]), (200, &json!("so")), "{body}");
}

#[tokio::test]
async fn a_worker_that_hears_says_so() {
    let worker = hearing().await;
    json_of(&worker, &[("file", AUDIO)]).await;
    worker.is_empty().await;
    let health: Value = worker.get("/health").await.json().await.unwrap();
    assert_eq!(health["task"], "automatic-speech-recognition");
    assert_eq!(health["engine"]["audio_seconds"], 2.5);
    let models: Value = worker.get("/v1/models").await.json().await.unwrap();
    let model = &models["data"][0];
    assert_eq!(
        (&model["task"], &model["languages"], &model["max_model_len"]),
        (
            &json!("automatic-speech-recognition"),
            &json!(["en", "fr"]),
            &Value::Null
        )
    );
    let metrics = worker.get("/metrics").await.text().await.unwrap();
    assert!(
        metrics.contains("chandler_audio_seconds_total "),
        "{metrics}"
    );
}
