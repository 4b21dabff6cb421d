//! A transcript as an answer: OpenAI's five forms of it, and the prediction of Vertex's and RunPod's callers.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use chandler_core::{
    Collected, Heard, SpeechTask, SpokenSegment, SpokenWord, Times, Transcript, Usage,
};
use serde_json::{Map, Value, json};

use super::fields::{Form, Wish};
use crate::captions::{self, Cue};

/// The answer of OpenAI's routes.
pub(super) fn response(answer: Collected, wish: &Wish) -> Response {
    let (transcript, usage) = heard(answer);
    let form = wish.form.unwrap_or_default();
    if wish.input.only_language {
        return Json(Value::Object(language(&transcript.heard))).into_response();
    }
    let kind = match form {
        Form::Json => {
            let body = json!({"text": transcript.text(), "usage": seconds(usage)});
            return Json(body).into_response();
        }
        Form::Verbose => return Json(verbose(&transcript, usage, wish)).into_response(),
        Form::Text => "text/plain; charset=utf-8",
        Form::Srt => "application/x-subrip; charset=utf-8",
        Form::Vtt => "text/vtt; charset=utf-8",
    };
    let mut response = written(&transcript, form).into_response();
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// What `/predict` says of one instance.
pub(in crate::api) fn prediction(answer: Collected, wish: &Wish) -> Value {
    let (transcript, usage) = heard(answer);
    if wish.input.only_language {
        return Value::Object(language(&transcript.heard));
    }
    let mut map = Map::new();
    let form = wish.form.unwrap_or_default();
    let text = match form {
        Form::Json | Form::Verbose => transcript.text(),
        Form::Text | Form::Srt | Form::Vtt => written(&transcript, form),
    };
    map.insert("text".into(), text.into());
    let heard = &transcript.heard;
    if let Some(language) = &heard.language {
        map.insert("language".into(), language.code.clone().into());
        if let Some(probability) = language.probability {
            map.insert("language_probability".into(), shortest(probability));
        }
    }
    map.insert("duration".into(), heard.duration.into());
    if let Some(speech) = heard.speech {
        map.insert("duration_after_vad".into(), speech.into());
    }
    map.insert("task".into(), named(wish.input.task).into());
    if matches!(form, Form::Json | Form::Verbose) {
        let all = transcript.segments.iter().zip(0u64..);
        let all = all.map(|(one, id)| Value::Object(segment(one, id, wish)));
        map.insert("segments".into(), all.collect::<Vec<_>>().into());
    }
    map.insert("usage".into(), seconds(usage));
    Value::Object(map)
}

/// A segment of a prediction: with its words, as they are written.
pub(in crate::api) fn segment(one: &SpokenSegment, id: u64, wish: &Wish) -> Map<String, Value> {
    let mut map = whole(one, id.into(), wish);
    if let Some(words) = &one.words {
        let words: Vec<Value> = words.iter().map(|word| timed(word, &word.text)).collect();
        map.insert("words".into(), words.into());
    }
    map
}

fn heard(answer: Collected) -> (Transcript, Usage) {
    let transcript = answer
        .transcript
        .map_or_else(Transcript::default, |heard| *heard);
    (transcript, answer.usage)
}

fn named(task: SpeechTask) -> &'static str {
    match task {
        SpeechTask::Transcribe => "transcribe",
        SpeechTask::Translate => "translate",
    }
}

/// What is billed, as OpenAI counts it.
pub(super) fn seconds(usage: Usage) -> Value {
    json!({"type": "duration", "seconds": usage.audio_ms.div_ceil(1000)})
}

/// How far audio has been heard, as an event. OpenAI has none of this kind; its clients hand it on as it is.
pub(in crate::api) fn progress(seconds: f64, heard: &Heard) -> Value {
    let seconds = seconds.min(heard.duration);
    json!({"type": "transcript.progress", "seconds": seconds, "duration": heard.duration})
}

/// The language's English name; of a translation's text it is English.
pub(super) fn spoken(heard: &Heard, wish: &Wish) -> Option<String> {
    match wish.input.task {
        SpeechTask::Translate => Some("english".into()),
        SpeechTask::Transcribe => heard
            .language
            .as_ref()
            .map(|language| language.name.clone()),
    }
}

fn verbose(transcript: &Transcript, usage: Usage, wish: &Wish) -> Value {
    let mut map = Map::new();
    map.insert("task".into(), named(wish.input.task).into());
    map.insert("language".into(), spoken(&transcript.heard, wish).into());
    map.insert("duration".into(), transcript.heard.duration.into());
    map.insert("text".into(), transcript.text().into());
    if wish.granularities.segment || !wish.granularities.given() {
        let all = transcript.segments.iter().zip(0u64..);
        let all = all.map(|(segment, id)| Value::Object(whole(segment, id.into(), wish)));
        map.insert("segments".into(), all.collect::<Vec<_>>().into());
    }
    if wish.input.times == Times::Words {
        map.insert("words".into(), words(transcript.words()));
    }
    map.insert("usage".into(), seconds(usage));
    Value::Object(map)
}

/// Words as OpenAI writes them: without the spaces between them.
pub(super) fn words<'a>(words: impl Iterator<Item = &'a SpokenWord>) -> Value {
    words
        .map(|word| timed(word, word.text.trim()))
        .collect::<Vec<_>>()
        .into()
}

fn timed(word: &SpokenWord, text: &str) -> Value {
    json!({"word": text, "start": word.start, "end": word.end, "probability": word.probability})
}

/// A segment with all that is known of it but its words.
pub(super) fn whole(segment: &SpokenSegment, id: Value, wish: &Wish) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("id".into(), id);
    map.insert("seek".into(), segment.seek.into());
    map.insert("start".into(), segment.start.into());
    map.insert("end".into(), segment.end.into());
    map.insert("text".into(), segment.text.clone().into());
    map.insert("tokens".into(), segment.tokens.clone().into());
    map.insert("temperature".into(), shortest(segment.temperature));
    map.insert("avg_logprob".into(), segment.mean_log_probability.into());
    map.insert("compression_ratio".into(), segment.compression_ratio.into());
    map.insert("no_speech_prob".into(), shortest(segment.no_speech));
    if wish.input.channels_apart {
        map.insert("channel".into(), segment.channel.into());
    }
    map
}

/// An `f32` in as few digits as stand for it: 0.2, not 0.20000000298.
fn shortest(number: f32) -> Value {
    let text = number.to_string();
    text.parse::<f64>().map_or(Value::Null, Value::from)
}

/// Only the language, and how likely each is.
fn language(heard: &Heard) -> Map<String, Value> {
    let mut map = Map::new();
    let language = heard.language.clone().unwrap_or_default();
    map.insert("language".into(), language.code.into());
    let probability = language.probability.map_or(Value::Null, shortest);
    map.insert("language_probability".into(), probability);
    let all = language.probabilities.into_iter();
    let all: Map<String, Value> = all.map(|(code, likely)| (code, shortest(likely))).collect();
    map.insert("languages".into(), all.into());
    map
}

/// The forms that are no JSON.
fn written(transcript: &Transcript, form: Form) -> String {
    // Channels come one after the other, subtitles by time.
    let mut by_time: Vec<&SpokenSegment> = transcript.segments.iter().collect();
    by_time.sort_by(|a, b| a.start.total_cmp(&b.start));
    let cues = by_time.into_iter().map(|segment| Cue {
        start: segment.start,
        end: segment.end,
        text: Cow::Borrowed(segment.text.as_str()),
    });
    match form {
        Form::Srt => captions::srt(cues),
        Form::Vtt => captions::vtt(cues),
        _ => transcript.text() + "\n",
    }
}
