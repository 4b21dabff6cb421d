//! Speech through Vertex's route: instances, grouped answers, bodies as they are, and audio that is fetched.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chandler::reach::{AllowedHosts, Client, Limits};
use serde_json::{Value, json};

use super::worker::{Setup, worker};

/// A server whose files are what they are called; at most so many are asked for at the same time.
async fn files() -> (SocketAddr, Arc<AtomicUsize>) {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    let file = async move |Path(name): Path<String>| {
        let together = now.fetch_add(1, Ordering::SeqCst) + 1;
        seen.fetch_max(together, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        now.fetch_sub(1, Ordering::SeqCst);
        match name.as_str() {
            "missing" => (StatusCode::NOT_FOUND, String::new()),
            "slow" => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                (StatusCode::OK, name)
            }
            _ => (StatusCode::OK, name),
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/{name}", get(file));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, most)
}

fn reaching() -> Setup {
    let allowed = AllowedHosts {
        everything: true,
        ..AllowedHosts::default()
    };
    let limits = Limits {
        bytes: 1000,
        ..Limits::default()
    };
    let mut setup = Setup::hearing(0);
    setup.api.downloads = Client::new(allowed, limits);
    setup
}

fn audio(text: &str) -> String {
    STANDARD.encode(text)
}

#[tokio::test]
async fn an_instance_of_audio_is_predicted_with_all_that_is_known() {
    let worker = Setup::hearing(0).start().await;
    let body = json!({
        "instances": [
            {"task": "asr", "audio": audio("so it\nends")},
            {"audio_base64": audio("un"), "language": "fr", "task": "translate", "response_format": "srt"},
            {"audio": audio("so"), "detect_language": true},
        ],
        "parameters": {"word_timestamps": true, "vad_filter": true, "beam_size": 5.0},
    });
    let segment = |id: u32, (start, end): (f64, f64), text: &str, tokens: Value, words: Value| {
        json!({
            "id": id, "seek": 0, "start": start, "end": end, "text": text, "tokens": tokens, "temperature": 0.0,
            "avg_logprob": -0.25, "compression_ratio": 1.0, "no_speech_prob": 0.125, "words": words,
        })
    };
    let word = |text: &str, start: f64| json!({"word": text, "start": start, "end": start + 0.5, "probability": 0.5});
    assert_eq!(
        worker.answer("/predict", body).await,
        json!({"predictions": [
            {
                "text": "so it ends", "language": "en", "language_probability": 0.75, "duration": 1.5,
                "duration_after_vad": 1.5, "task": "transcribe",
                "segments": [
                    segment(0, (0.0, 1.0), " so it", json!([0, 1]), json!([word(" so", 0.0), word(" it", 0.5)])),
                    segment(1, (1.0, 1.5), " ends", json!([100]), json!([word(" ends", 1.0)])),
                ],
                "usage": {"type": "duration", "seconds": 2},
            },
            {
                "text": "1\n00:00:00,000 --> 00:00:00,500\nUN\n\n", "language": "fr", "duration": 0.5,
                "duration_after_vad": 0.5, "task": "translate", "usage": {"type": "duration", "seconds": 1},
            },
            {"language": "en", "language_probability": 0.75, "languages": {"en": 0.75, "fr": 0.25}},
        ]})
    );
}

#[tokio::test]
async fn the_first_containers_callers_get_its_lists() {
    let worker = Setup::hearing(0).start().await;
    let body = json!({
        "instances": [{"task": "asr", "audio": audio("so it begins")}, {"task": "asr", "audio": audio("and ends")}],
        "grouped": true,
    });
    let expected = json!({
        "transcripts": ["so it begins", "and ends"], "to_english_translations": [], "from_english_translations": [],
        "base64_audio": [], "generated_texts": [],
    });
    assert_eq!(worker.answer("/predict", body.clone()).await, expected);
    assert_eq!(
        worker.answer("/predict", json!(body.to_string())).await,
        expected
    );
}

#[tokio::test]
async fn addresses_are_fetched_together_and_named_when_they_cannot_be() {
    let (files, most) = files().await;
    let worker = reaching().start().await;
    let at = |name: &str| format!("http://{files}/{name}");
    let names = ["a", "b", "c", "d", "e", "f"];
    let instances: Vec<Value> = names
        .iter()
        .map(|name| json!({"audio_url": at(name)}))
        .collect();
    let answer = worker
        .answer("/predict", json!({ "instances": instances }))
        .await;
    let texts = answer["predictions"].as_array().unwrap().iter();
    assert_eq!(
        texts
            .map(|one| one["text"].as_str().unwrap())
            .collect::<Vec<_>>(),
        names
    );
    assert_eq!(most.load(Ordering::SeqCst), 4);
    for (bad, status) in [
        (at("missing"), 400),
        (at(&"x".repeat(1001)), 413),
        ("http://".into(), 400),
    ] {
        let instances = json!([{"audio": at("a")}, {"audio": bad}]);
        let (got, body) = worker
            .refusal("/predict", json!({ "instances": instances }))
            .await;
        let error = &body["error"];
        assert_eq!(
            (got, &error["param"]),
            (status, &json!("instances[1].audio")),
            "{body}"
        );
        assert_eq!(error["code"], "download_failed");
    }
    let guarded = Setup::hearing(0).start().await;
    let (status, body) = guarded
        .refusal("/predict", json!({"instances": [{"audio": at("a")}]}))
        .await;
    assert_eq!(
        (status, &body["error"]["param"]),
        (400, &json!("instances[0].audio"))
    );
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("may not be reached"), "{message}");
}

#[tokio::test]
async fn a_download_ends_with_the_requests_time() {
    let (files, _) = files().await;
    let mut setup = reaching();
    setup.api.request_timeout = Duration::from_millis(300);
    let worker = setup.start().await;
    let body = json!({"instances": [{"audio_url": format!("http://{files}/slow")}]});
    let (status, body) = worker.refusal("/predict", body).await;
    assert_eq!((status, &body["error"]["code"]), (504, &json!("timeout")));
}

#[tokio::test]
async fn a_body_without_instances_is_one_of_them() {
    let worker = Setup::hearing(0).start().await;
    let answer = worker
        .answer(
            "/predict",
            json!({"audio": audio("so it"), "model": "mock"}),
        )
        .await;
    assert_eq!(
        (&answer["text"], &answer["language"]),
        (&json!("so it"), &json!("en"))
    );
    let events = worker
        .events("/predict", json!({"audio": audio("so it"), "stream": true}))
        .await;
    assert_eq!(
        events[0],
        json!({"type": "transcript.text.delta", "delta": "so it"})
    );
    assert_eq!(events[2], json!("[DONE]"));
    let text = super::worker::worker().await;
    let (status, body) = text
        .refusal("/predict", json!({"audio": audio("so")}))
        .await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (400, &json!("unsupported")),
        "{body}"
    );
}

#[tokio::test]
async fn instances_stream_their_segments_and_then_the_predictions() {
    let worker = Setup::hearing(1).start().await;
    let mut body = json!({
        "instances": [
            {"audio": audio("so it\nends"), "word_timestamps": true},
            {"audio": audio("un"), "language": "fr", "response_format": "srt"},
        ],
    });
    let whole = worker.answer("/predict", body.clone()).await;
    body["stream"] = true.into();
    let events = worker.events("/predict", body.clone()).await;
    let (last, done) = (&events[events.len() - 2], &events[events.len() - 1]);
    assert_eq!(done, &json!("[DONE]"));
    assert_eq!(
        last,
        &json!({"type": "predictions", "predictions": whole["predictions"]})
    );
    let of = |events: &[Value], kind: &str, instance: u64| -> Vec<Value> {
        let own = |event: &&Value| event["type"] == kind && event["instance"] == instance;
        events.iter().filter(own).cloned().collect()
    };
    let segments = |instance: u64| -> Value {
        let events = of(&events, "transcript.segment", instance);
        events
            .iter()
            .map(|event| event["segment"].clone())
            .collect()
    };
    assert_eq!(segments(0), whole["predictions"][0]["segments"]);
    assert_eq!(segments(1)[0]["text"], " un");
    assert!(of(&events, "transcript.progress", 0).is_empty());
    body["progress"] = true.into();
    let events = worker.events("/predict", body.clone()).await;
    for (instance, duration) in [(0, 1.5), (1, 0.5)] {
        let told = of(&events, "transcript.progress", instance);
        assert_eq!(
            (&told[0]["seconds"], &told.last().unwrap()["seconds"]),
            (&json!(0.0), &json!(duration))
        );
    }
    body["instances"][1]["language"] = "xx".into();
    let (status, refused) = worker.refusal("/predict", body).await;
    let param = &refused["error"]["param"];
    assert_eq!((status, param), (400, &json!("instances[1].language")));
}

#[tokio::test]
async fn what_does_not_go_with_a_stream_of_instances_is_refused() {
    let worker = Setup::hearing(0).start().await;
    for (more, param) in [
        (json!({"progress": true}), "progress"),
        (json!({"stream": true, "grouped": true}), "stream"),
        (json!({"stream": "yes"}), "stream"),
    ] {
        let mut body = json!({"instances": [{"audio": audio("a")}]});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        let (status, refused) = worker.refusal("/predict", body).await;
        let got = &refused["error"]["param"];
        assert_eq!((status, got), (400, &json!(param)), "{more}");
    }
}

#[tokio::test]
async fn one_bad_instance_stops_all_before_any_is_heard() {
    let hearing = Setup::hearing(0).start().await;
    for (bad, param) in [
        (json!("a prompt"), "instances[1]"),
        (json!({"prompt": "a"}), "instances[1]"),
        (
            json!({"messages": [{"role": "user", "content": "a"}]}),
            "instances[1]",
        ),
        (json!({"audio": "?"}), "instances[1].audio"),
        (
            json!({"audio": audio("a"), "audio_url": "http://a/"}),
            "instances[1].audio_url",
        ),
        (
            json!({"audio": audio("a"), "task": "text-generation"}),
            "instances[1].task",
        ),
        (
            json!({"audio": audio("a"), "stream": true}),
            "instances[1].stream",
        ),
        (
            json!({"audio": audio("a"), "beam_size": 0.5}),
            "instances[1].beam_size",
        ),
        (
            json!({"audio": audio("a"), "language": "xx"}),
            "instances[1].language",
        ),
        (
            json!({"audio": STANDARD.encode([0xff, 0xfe])}),
            "instances[1].audio",
        ),
    ] {
        let body = json!({"instances": [{"audio": audio("a")}, bad]});
        let (status, body) = hearing.refusal("/predict", body).await;
        assert_eq!(
            (status, &body["error"]["param"]),
            (400, &json!(param)),
            "{body}"
        );
    }
    assert_eq!(hearing.engine.counters().completed, 0);
    let text = worker().await;
    for (bad, param) in [
        (json!({"audio_url": "http://a/"}), "instances[0].audio_url"),
        (
            json!({"task": "stt", "audio": audio("a")}),
            "instances[0].task",
        ),
        (
            json!({"audioUrl": "http://a/", "prompt": "b"}),
            "instances[0].audioUrl",
        ),
    ] {
        let (status, body) = text.refusal("/predict", json!({"instances": [bad]})).await;
        let error = &body["error"];
        assert_eq!(
            (status, &error["param"], &error["code"]),
            (400, &json!(param), &json!("unsupported"))
        );
    }
}
