//! Answers of OpenAI's routes: a chat as a stream, a transcript, pictures.

use std::time::Instant;

use futures_util::StreamExt;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use super::http::{MOST, error_in, json, lost};
use crate::bench::outcome::{Failure, FailureKind, Success};
use crate::sse::{Event, Splitter};

/// What a piece of an answer may be of.
const PIECES: [&str; 4] = ["content", "reasoning_content", "reasoning", "refusal"];

/// A chat's stream. A server that answers in one piece anyway is believed, without a time to its first token.
pub(super) async fn streamed(response: Response, due: Instant) -> Result<Success, Failure> {
    let kind = response.headers().get(CONTENT_TYPE);
    let is_stream = kind
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/event-stream"));
    if !is_stream {
        return whole(&json(response).await?);
    }
    let url = response.url().clone();
    let (mut bytes, mut splitter, mut seen) = (response.bytes_stream(), Splitter::default(), 0);
    let mut answer = Answer::default();
    while let Some(chunk) = bytes.next().await {
        let chunk = chunk.map_err(|error| match lost(&url, &error) {
            // What has begun and does not go on is no answer, and no lack of one either.
            failure if failure.kind == FailureKind::Connection => {
                Failure::new(FailureKind::BrokenOff, failure.message)
            }
            failure => failure,
        })?;
        seen += chunk.len();
        if seen > MOST || splitter.held() > MOST {
            return Err(Failure::malformed(format!(
                "the stream is over {MOST} bytes"
            )));
        }
        let now = Instant::now();
        for event in splitter.push(&chunk) {
            answer.take(&event, due, now)?;
        }
    }
    match answer.is_over {
        true => Ok(answer.success),
        false => Err(Failure::new(
            FailureKind::BrokenOff,
            "the stream ended without [DONE]",
        )),
    }
}

/// A stream's answer so far.
#[derive(Default)]
struct Answer {
    success: Success,
    last: Option<Instant>,
    is_over: bool,
}

impl Answer {
    fn take(&mut self, event: &Event, due: Instant, now: Instant) -> Result<(), Failure> {
        let Some(data) = event.data() else {
            let text = event.text().trim();
            self.is_over |= text == "data: [DONE]" || text == "data:[DONE]";
            return match self.is_over {
                true => Ok(()),
                false => Err(Failure::malformed(format!("an event is not JSON: {text}"))),
            };
        };
        if let Some(failure) = error_in(&data) {
            return Err(failure);
        }
        let delta = &data["choices"][0]["delta"];
        let is_text = |key: &str| delta[key].as_str().is_some_and(|text| !text.is_empty());
        if PIECES.iter().any(|key| is_text(key)) || delta["tool_calls"].is_array() {
            match self.last {
                None => self.success.first = Some(now.saturating_duration_since(due)),
                Some(last) => self.success.gaps.push(now.saturating_duration_since(last)),
            }
            self.last = Some(now);
        }
        count(&data["usage"], &mut self.success);
        Ok(())
    }
}

fn whole(answer: &Value) -> Result<Success, Failure> {
    good(answer, "/choices/0/message")?;
    let mut success = Success::default();
    count(&answer["usage"], &mut success);
    Ok(success)
}

/// A transcript in its longest form.
pub(super) fn heard(answer: &Value) -> Result<Success, Failure> {
    good(answer, "/text")?;
    Ok(Success {
        audio_s: seconds(answer),
        ..Success::default()
    })
}

/// Pictures.
pub(super) fn drawn(answer: &Value) -> Result<Success, Failure> {
    let is_there = |key: &str| {
        answer["data"][0][key]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    };
    if let Some(failure) = error_in(answer) {
        return Err(failure);
    }
    match is_there("b64_json") || is_there("url") {
        true => Ok(Success::default()),
        false => Err(Failure::malformed(
            "the answer has no data[0].b64_json and no data[0].url",
        )),
    }
}

/// An answer that is no error and has what such an answer has.
pub(super) fn good(answer: &Value, place: &str) -> Result<(), Failure> {
    if let Some(failure) = error_in(answer) {
        return Err(failure);
    }
    let is_there = answer.pointer(place).is_some_and(|value| !value.is_null());
    is_there.then_some(()).ok_or_else(|| {
        let place = place.trim_start_matches('/').replace('/', ".");
        Failure::malformed(format!("the answer has no {place}"))
    })
}

/// Tokens, as OpenAI and worker-vllm count them.
pub(super) fn count(usage: &Value, success: &mut Success) {
    let number = |names: [&str; 2]| names.iter().find_map(|name| usage[*name].as_u64());
    success.prompt_tokens = number(["prompt_tokens", "input"]).or(success.prompt_tokens);
    success.completion_tokens =
        number(["completion_tokens", "output"]).or(success.completion_tokens);
}

/// How much sound was heard: to the sample where that is told, else in the seconds that are billed.
pub(super) fn seconds(answer: &Value) -> Option<f64> {
    let exact = answer["duration"].as_f64();
    exact.or_else(|| answer["usage"]["seconds"].as_f64())
}
