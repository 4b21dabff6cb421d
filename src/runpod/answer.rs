//! From an HTTP answer to a job's pieces: whole answers at once, event streams in chunks of growing size. What a chunk or
//! an output looks like is the dialect's business.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::header;
use axum::response::Response;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::dialect::Shape;
use super::growth::Growth;
use super::work::{Outcome, Piece};
use crate::sse::Splitter;

/// How long an event may wait for others to fill its chunk: long enough that a stream is a few requests a second and not
/// one a token, short enough that it reads as a stream.
const PATIENCE: Duration = Duration::from_millis(250);
/// The platform's clients get chunks of a megabyte at most (runpod.md 2.4); larger ones are cut up there.
const MOST_BYTES: usize = 512 << 10;

/// The pieces of a job from the answer to its request.
pub(super) async fn pieces(
    response: Response,
    shape: Box<dyn Shape>,
    growth: Growth,
) -> BoxStream<'static, Piece> {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let body = response.into_body();
    if is_stream && status.is_success() {
        let talk = Talk::new(body, shape, growth);
        return stream::unfold(talk, Talk::next).boxed();
    }
    let outcome = match whole(body).await {
        Ok(answer) if status.is_success() || shape.takes_any_status() => {
            Outcome::output(shape.whole(answer))
        }
        Ok(answer) => Outcome::failed(shape.error(Failure::of(answer))),
        Err(message) => Outcome::failed(shape.error(Failure::internal(&message))),
    };
    stream::once(std::future::ready(Piece::Done(outcome))).boxed()
}

/// JSON where it is JSON, else text.
async fn whole(body: Body) -> Result<Value, String> {
    let bytes = axum::body::to_bytes(body, usize::MAX)
        .await
        .map_err(|error| format!("the answer broke off: {error}"))?;
    let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
    Ok(serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
}

/// Why there is no output.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    /// For a person.
    pub(super) message: String,
    /// As the routes tell it: an object with message, type and code, where they have one.
    pub(super) told: Value,
}

impl Failure {
    /// The error of an answer's body, or of an event: every dialect's.
    fn of(body: Value) -> Self {
        let told = match body {
            Value::Object(mut map) => match map.remove("error").or_else(|| map.remove("detail")) {
                Some(error) => error,
                None => Value::Object(map),
            },
            other => other,
        };
        let message = match (&told, told.get("message")) {
            (Value::String(text), _) | (_, Some(Value::String(text))) => text.clone(),
            _ => told.to_string(),
        };
        Self { message, told }
    }

    fn internal(message: &str) -> Self {
        Self::of(json!({"error": {
            "message": message, "type": "server_error", "param": null, "code": "internal_error",
        }}))
    }

    /// The error as text that holds JSON: `{"message", "type", "code", …}`.
    pub(super) fn as_json(&self) -> String {
        match &self.told {
            Value::Object(_) => self.told.to_string(),
            _ => json!({"message": self.message}).to_string(),
        }
    }
}

/// A stream on its way from events to chunks. Dropping it drops the answer's body, which cancels the work.
struct Talk {
    body: Option<BodyDataStream>,
    splitter: Splitter,
    shape: Box<dyn Shape>,
    sizes: Box<dyn Iterator<Item = usize> + Send>,
    /// Events that the next chunk waits for.
    size: usize,
    gathered: usize,
    bytes: usize,
    /// When what has been gathered goes out, full or not.
    due: Option<Instant>,
    /// Every chunk so far: together they are the output.
    chunks: Vec<Value>,
    ready: VecDeque<Piece>,
    failure: Option<Failure>,
}

impl Talk {
    fn new(body: Body, shape: Box<dyn Shape>, growth: Growth) -> Self {
        let mut sizes: Box<dyn Iterator<Item = usize> + Send> = Box::new(growth.sizes());
        Self {
            body: Some(body.into_data_stream()),
            splitter: Splitter::default(),
            shape,
            size: sizes.next().unwrap_or(1),
            sizes,
            gathered: 0,
            bytes: 0,
            due: None,
            chunks: Vec::new(),
            ready: VecDeque::new(),
            failure: None,
        }
    }

    async fn next(mut self) -> Option<(Piece, Self)> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some((piece, self));
            }
            let body = self.body.as_mut()?;
            let more = match self.due {
                None => body.next().await,
                Some(due) => match timeout_at(due, body.next()).await {
                    Ok(more) => more,
                    Err(_) => {
                        self.flush();
                        continue;
                    }
                },
            };
            match more {
                Some(Ok(bytes)) => self.take(&bytes),
                Some(Err(_)) => self.end(true),
                None => self.end(false),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for event in self.splitter.push(bytes) {
            self.failure = event
                .error()
                .map(|error| Failure::of(json!({"error": error})))
                .or(self.failure.take());
            self.bytes += event.text().len();
            self.shape.event(&event);
            self.gathered += 1;
            if let Some(progress) = self.shape.progress() {
                self.ready.push_back(Piece::Progress(progress));
            }
            if self.bytes >= MOST_BYTES {
                self.flush();
            }
        }
        // Why after all events of a piece: what has come together goes out together.
        if self.gathered >= self.size {
            self.flush();
        } else if self.gathered > 0 && self.due.is_none() {
            self.due = Some(Instant::now() + PATIENCE);
        }
    }

    fn flush(&mut self) {
        let chunks = self.shape.chunks();
        if !chunks.is_empty() {
            self.size = self.sizes.next().unwrap_or(self.size);
        }
        for chunk in chunks {
            if self.shape.output_is_its_chunks() {
                self.chunks.push(chunk.clone());
            }
            self.ready.push_back(Piece::Chunk(chunk));
        }
        (self.gathered, self.bytes, self.due) = (0, 0, None);
    }

    fn end(&mut self, broke_off: bool) {
        self.body = None;
        self.flush();
        if broke_off && self.failure.is_none() {
            self.failure = Some(Failure::internal("the answer broke off"));
        }
        let outcome = match self.failure.take() {
            Some(failure) => Outcome::failed(self.shape.error(failure)),
            None => Outcome::output(self.shape.output(std::mem::take(&mut self.chunks))),
        };
        let outcome = outcome.after_chunks(self.shape.is_stream());
        self.ready.push_back(Piece::Done(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::Event;
    use axum::http::StatusCode;
    use bytes::Bytes;

    /// Each event's length.
    #[derive(Default)]
    struct Lengths(Vec<usize>);

    impl Shape for Lengths {
        fn whole(&self, answer: Value) -> Value {
            answer
        }

        fn event(&mut self, event: &Event) {
            self.0.push(event.text().len());
        }

        fn chunks(&mut self) -> Vec<Value> {
            let lengths = std::mem::take(&mut self.0);
            (!lengths.is_empty())
                .then(|| json!(lengths))
                .into_iter()
                .collect()
        }

        fn error(&self, failure: Failure) -> String {
            failure.message
        }
    }

    fn answer(frames: Vec<(u64, Result<&'static str, &'static str>)>) -> Response {
        let body = stream::iter(frames).then(|(wait, frame)| async move {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            frame.map(Bytes::from)
        });
        let mut response = Response::new(Body::from_stream(body));
        let kind = "text/event-stream; charset=utf-8".parse().unwrap();
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    async fn seen(response: Response) -> Vec<Piece> {
        let shape = Box::new(Lengths::default());
        pieces(response, shape, Growth::default())
            .await
            .collect()
            .await
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_go_out_when_they_are_full_or_have_waited() {
        let a = || (0, Ok("data: a\n\n"));
        // The first alone, three together, and two that nothing follows for a while.
        let frames = vec![a(), a(), a(), a(), a(), a(), (1000, Ok("data: abc\n\n"))];
        let expected = [json!([9]), json!([9, 9, 9]), json!([9, 9]), json!([11])];
        let mut pieces: Vec<Piece> = expected.iter().cloned().map(Piece::Chunk).collect();
        pieces.push(Piece::Done(Outcome::streamed(json!(expected))));
        assert_eq!(seen(answer(frames)).await, pieces);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_fails_has_its_chunks_and_then_an_error() {
        let frames = vec![
            (0, Ok("data: a\n\n")),
            (0, Ok("data: {\"error\":{\"message\":\"x\"}}\n\n")),
            (0, Err("cut")),
        ];
        let pieces = seen(answer(frames)).await;
        let error = Outcome::failed("x").after_chunks(true);
        assert_eq!(pieces.last(), Some(&Piece::Done(error)));
        let cut = seen(answer(vec![(0, Err("cut"))])).await;
        let error = Outcome::failed("the answer broke off").after_chunks(true);
        assert_eq!(cut, [Piece::Done(error)]);
    }

    #[tokio::test]
    async fn an_error_is_told_in_every_dialect() {
        for (body, message) in [
            (json!({"error": {"message": "x", "type": "t"}}), "x"),
            (json!({"error": "x"}), "x"),
            (json!({"detail": "x"}), "x"),
            (json!({"type": "error", "error": {"message": "x"}}), "x"),
            (json!({"detail": [{"msg": "x"}]}), "[{\"msg\":\"x\"}]"),
            (json!("x"), "x"),
        ] {
            let mut response = Response::new(Body::from(body.to_string()));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            let outcome = Outcome::failed(message);
            assert_eq!(seen(response).await, [Piece::Done(outcome)], "{body}");
        }
        let text = Response::new(Body::from("a b"));
        assert_eq!(
            seen(text).await,
            [Piece::Done(Outcome::output(json!("a b")))]
        );
    }
}
