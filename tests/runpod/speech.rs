//! Jobs of speech, on the mock that hears text: RunPod's own worker's schema and output, the seeds' tasks, and what is wrong
//! with a job in its own words.

use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chandler::api::{self, ApiSettings};
use chandler::engine::{Engine, EngineOptions};
use chandler::runpod::{Handler, Piece, Streaming, Work};
use chandler_core::mock::MockRecogniser;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::jobs::{Jobs, job};

/// A worker with that mock, which loads until the other end of `loading` is dropped and takes so long for a segment.
fn slow(loading: Option<Receiver<()>>, step: Duration) -> Jobs<Engine> {
    let settings = ApiSettings {
        model_id: "mock-asr".into(),
        ..ApiSettings::default()
    };
    let engine = Engine::start(EngineOptions::default(), move |_| {
        if let Some(loading) = loading {
            // The other end only ever goes away.
            loading.recv().unwrap_err();
        }
        Ok(MockRecogniser::new(2, step))
    });
    let inner = api::inner_router(settings, engine.clone());
    Jobs {
        handler: Handler::new(inner, Streaming::default()),
        worker: engine,
    }
}

fn loading(loading: Option<Receiver<()>>) -> Jobs<Engine> {
    slow(loading, Duration::ZERO)
}

fn jobs() -> Jobs<Engine> {
    loading(None)
}

/// What the mock takes for audio: a text, a line a segment.
fn said(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// With more fields.
fn with(mut input: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        input[key] = value.clone();
    }
    input
}

#[tokio::test]
async fn a_job_of_runpods_own_worker_has_its_output() {
    let jobs = jobs();
    let input = json!({
        "audio_base64": said("bonjour le monde\nsalut"), "model": "turbo", "language": "fr", "transcription": "srt",
        "translate": true, "translation": "formatted_text", "temperature": 0, "best_of": 5, "beam_size": 5, "patience": 1,
        "length_penalty": 0, "suppress_tokens": "-1", "initial_prompt": "hm", "condition_on_previous_text": false,
        "temperature_increment_on_fallback": 0.2, "compression_ratio_threshold": 2.4, "logprob_threshold": -1,
        "no_speech_threshold": 0.6, "enable_vad": true, "word_timestamps": true,
    });
    let segment = |id: u64, times: [f64; 2], text: &str, tokens: &[u32]| {
        json!({"id": id, "seek": 0, "start": times[0], "end": times[1], "text": text, "tokens": tokens,
            "temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.0, "no_speech_prob": 0.125})
    };
    assert_eq!(
        jobs.output(input).await,
        json!({
            "segments": [
                segment(1, [0.0, 1.5], " bonjour le monde", &[0, 1, 2]),
                segment(2, [1.5, 2.0], " salut", &[100]),
            ],
            "detected_language": "fr",
            "transcription":
                "1\n00:00:00,000 --> 00:00:01,500\nbonjour le monde\n\n2\n00:00:01,500 --> 00:00:02,000\nsalut\n\n",
            "translation": "BONJOUR LE MONDE\nSALUT",
            "device": "cpu",
            "model": "mock-asr",
            "word_timestamps": [
                {"word": " bonjour", "start": 0.0, "end": 0.5},
                {"word": " le", "start": 0.5, "end": 1.0},
                {"word": " monde", "start": 1.0, "end": 1.5},
                {"word": " salut", "start": 1.5, "end": 2.0},
            ],
        })
    );
}

#[tokio::test]
async fn what_is_not_asked_for_is_null_or_not_there() {
    let jobs = jobs();
    for audio in [
        json!({"audio_base64": said("one two\nthree")}),
        json!({"audio": format!("data:audio/wav;base64,{}", said("one two\nthree"))}),
    ] {
        let output = jobs.output(audio).await;
        let keys: Vec<&str> = output
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            keys,
            [
                "segments",
                "detected_language",
                "transcription",
                "translation",
                "device",
                "model"
            ]
        );
        assert_eq!(output["transcription"], "one two three");
        assert_eq!(
            (&output["detected_language"], &output["translation"]),
            (&json!("en"), &json!(null))
        );
    }
}

#[tokio::test]
async fn a_job_that_came_while_the_model_loaded_names_it_as_any_other() {
    let (loaded, waits) = mpsc::channel();
    let jobs = loading(Some(waits));
    let ((), output) = tokio::join!(
        async {
            // Long enough for the job to have found a model that is not there yet.
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(loaded);
        },
        jobs.output(json!({"audio_base64": said("one")})),
    );
    let (model, device) = (&output["model"], &output["device"]);
    assert_eq!((model, device), (&json!("mock-asr"), &json!("cpu")));
}

#[tokio::test]
async fn a_task_gives_a_prediction() {
    let jobs = jobs();
    let audio = json!({"audio_base64": said("bonjour\nsalut")});
    for (more, text) in [
        (
            json!({"task": "transcribe", "target_lang": "fr", "adapter": "fr"}),
            "bonjour salut",
        ),
        (
            json!({"task": "asr", "recognise_speakers": false}),
            "bonjour salut",
        ),
        (
            json!({"task": "automatic-speech-recognition"}),
            "bonjour salut",
        ),
        (json!({"task": "translate"}), "BONJOUR SALUT"),
    ] {
        let output = jobs.output(with(audio.clone(), more.clone())).await;
        assert_eq!(output["text"], text, "{more}");
        assert_eq!(output["segments"].as_array().unwrap().len(), 2, "{more}");
        assert_eq!(
            output["usage"],
            json!({"type": "duration", "seconds": 1}),
            "{more}"
        );
    }
    let srt = with(audio, json!({"task": "stt", "response_format": "srt"}));
    let output = jobs.output(srt).await;
    assert!(
        output["text"]
            .as_str()
            .unwrap()
            .starts_with("1\n00:00:00,000 --> "),
        "{output}"
    );
}

#[tokio::test]
async fn a_job_that_streams_has_its_segments_as_chunks_and_the_same_output() {
    let jobs = jobs();
    let audio =
        json!({"audio_base64": said("bonjour le monde\nsalut\nau revoir"), "language": "fr"});
    for more in [
        json!({"word_timestamps": true, "transcription": "srt"}),
        json!({"translate": true}),
        json!({"task": "transcribe"}),
        json!({"task": "translate", "response_format": "verbose_json"}),
    ] {
        let input = with(audio.clone(), more.clone());
        let whole = jobs.output(input.clone()).await;
        let (chunks, outcome) = jobs.run(with(input, json!({"stream": true}))).await;
        assert!(outcome.is_stream, "{more}");
        assert_eq!(outcome.body["output"], whole, "{more}");
        let all = |key: &str| -> Value {
            let of = |chunk: &Value| chunk.get(key).and_then(Value::as_array).cloned();
            chunks.iter().filter_map(of).flatten().collect()
        };
        assert_eq!(all("segments"), whole["segments"], "{more}");
        let words = whole.get("word_timestamps").cloned();
        assert_eq!(all("word_timestamps"), words.unwrap_or(json!([])), "{more}");
        let english = all("translation_segments");
        let english = english.as_array().unwrap().iter();
        let english: String = english.filter_map(|one| one["text"].as_str()).collect();
        let translation = whole.get("translation").and_then(Value::as_str);
        assert_eq!(english.trim(), translation.unwrap_or(""), "{more}");
    }
    let several = json!({"instances": [{"audio": said("one\ntwo")}, {"audio": said("three")}]});
    let whole = jobs.output(several.clone()).await;
    let (chunks, outcome) = jobs.run(with(several, json!({"stream": true}))).await;
    assert_eq!(outcome.body["output"], whole);
    let numbers: Vec<Option<u64>> = chunks.iter().map(|c| c["instance"].as_u64()).collect();
    assert!(
        numbers.contains(&Some(0)) && numbers.contains(&Some(1)),
        "{chunks:?}"
    );
}

#[tokio::test]
async fn a_job_that_takes_longer_tells_how_far_it_is() {
    let jobs = slow(None, Duration::from_millis(300));
    for more in [json!({}), json!({"task": "asr", "stream": true})] {
        let input = with(json!({"audio_base64": said(&"a b\n".repeat(6))}), more);
        let pieces: Vec<Piece> = jobs.handler.start(job(input)).collect().await;
        let told: Vec<&Value> = pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Progress(told) => Some(told),
                _ => None,
            })
            .collect();
        assert!(!told.is_empty(), "{pieces:?}");
        for one in told {
            let seconds = one["seconds"].as_f64().unwrap();
            assert_eq!(one["duration"], 6.0, "{one}");
            assert_eq!(one["progress"], (seconds / 6.0 * 100.0) as u64, "{one}");
            assert!((1.0..=6.0).contains(&seconds), "{one}");
        }
        let Some(Piece::Done(outcome)) = pieces.last() else {
            panic!("{pieces:?}");
        };
        assert!(outcome.error().is_none(), "{outcome:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_inputs_words() {
    let jobs = jobs();
    let audio = json!({"audio_base64": said("one")});
    for (more, words) in [
        (json!({"language": "tlh"}), "language is \"tlh\""),
        (
            json!({"language": "tlh", "translate": true}),
            "language is \"tlh\"",
        ),
        (json!({"beam_size": 0}), "beam_size is 0"),
        (json!({"translate": true, "beam_size": 0}), "beam_size is 0"),
        (
            json!({"max_duration": 0.1}),
            "the audio is longer than the limit of 0.1 s",
        ),
        (
            json!({"audio": "http://127.0.0.1:1/a.wav"}),
            "Must provide either audio or audio_base64, not both",
        ),
        (json!({"audio_r2": "a"}), "audio_r2 is not served"),
    ] {
        let error = jobs.error(with(audio.clone(), more)).await;
        assert!(error.starts_with(words), "{error}");
        assert!(
            !error.contains("instances") && !error.contains("parameters."),
            "{error}"
        );
    }
    for (input, words) in [
        (json!({"audio": "http://127.0.0.1:1/a.wav"}), "127.0.0.1"),
        (json!({"audio_base64": "?"}), "audio_base64"),
        (
            json!({"audio_base64": BASE64_STANDARD.encode([0xff])}),
            "this is not audio",
        ),
        (
            json!({"model": "base"}),
            "Must provide either audio or audio_base64",
        ),
        (json!({"prompt": "a"}), "automatic-speech-recognition"),
        (with(audio.clone(), json!({"model": "other"})), "other"),
    ] {
        let error = jobs.error(input.clone()).await;
        assert!(error.contains(words), "{input}: {error}");
    }
    let output = jobs.output(with(audio, json!({"model": "mock-asr"}))).await;
    assert_eq!(output["model"], "mock-asr");
}
