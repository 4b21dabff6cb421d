//! Answers as server-sent events: merging the events of several requests, keeping the connection alive, and ending it
//! so that a client can tell a whole answer from a broken one. What the frames hold is the dialect's business.

mod picture;

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use chandler_core::{Event, Heard, RequestError, SpokenSegment, TextDelta, Usage};
use futures_util::stream::{self, SelectAll, Stream, StreamExt};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::error::openai_body;
use super::limits::timed_out;
use super::observe::RequestId;
use crate::engine::Subscription;
use picture::encoded;
pub(super) use picture::{Encode, Seen};

/// Proxies close a connection on which nothing moves; the shortest of their patience is about half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How a dialect writes a streamed answer. Requests are numbered in the order in which they were submitted.
pub(super) trait Writer: Send + 'static {
    /// How silence is filled and where the stream ends.
    fn manners(&self) -> Manners {
        Manners::OPENAI
    }
    /// Before anything else. What the requests' prompts came to is known; what is written is not.
    fn open(&mut self, _read: Usage, _frames: &mut Frames) {}
    /// A request's prompt has been read.
    fn started(&mut self, _prompt_tokens: u32, _cached_tokens: u32) {}
    /// More text of one request's row.
    fn text(&mut self, request: usize, delta: TextDelta, frames: &mut Frames);
    /// What is known of the audio that one request hears.
    fn heard(&mut self, _request: usize, _heard: Heard, _frames: &mut Frames) {}
    /// The next segment of one request's transcript.
    fn segment(&mut self, _request: usize, _segment: SpokenSegment, _frames: &mut Frames) {}
    /// How far one request's work is, where that is told.
    fn progress(&mut self, _request: usize, _steps: (u32, u32), _frames: &mut Frames) {}
    /// A picture; what is given back makes its event on another thread, and [`Writer::pictured`] gets that.
    fn picture(&mut self, _seen: Seen) -> Option<Encode> {
        None
    }
    /// A picture's event is made.
    fn pictured(&mut self, _event: Value, _frames: &mut Frames) {}
    /// One request has ended well.
    fn ended(&mut self, _request: usize, _usage: Usage) {}
    /// Every request has; `usage` is their sum.
    fn close(&mut self, usage: Usage, frames: &mut Frames);
    /// The answer has failed after it had begun.
    fn fail(&mut self, error: &RequestError, frames: &mut Frames) {
        frames.push(&openai_body(error));
    }
}

/// What dialects do differently around the same events.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    /// What keeps the connection alive.
    pub(super) ping: &'static str,
    /// What follows the last event of a whole answer.
    pub(super) done: &'static str,
    /// Whether an answer that failed is cut off, so that nobody takes it for whole; not where its last event is the
    /// dialect's own way of ending.
    pub(super) cuts: bool,
}

impl Manners {
    pub(super) const OPENAI: Self = Self {
        ping: ": ping\n\n",
        done: "data: [DONE]\n\n",
        cuts: true,
    };
}

/// Events on their way out.
#[derive(Debug, Default)]
pub(super) struct Frames(String);

impl Frames {
    /// Adds one `data:` event.
    pub(super) fn push(&mut self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(json) => {
                self.0.push_str("data: ");
                self.0.push_str(&json);
                self.0.push_str("\n\n");
            }
            Err(error) => tracing::error!(%error, "an event could not be written"),
        }
    }

    /// Adds an event with a name, which its data has as `type` too.
    pub(super) fn push_named(&mut self, name: &str, value: &impl Serialize) {
        self.0.push_str("event: ");
        self.0.push_str(name);
        self.0.push('\n');
        self.push(value);
    }

    /// What has been added, for tests of what a dialect writes.
    #[cfg(test)]
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.0))
    }
}

type Numbered = (usize, Option<Event>);

/// The events of several requests as they come. Dropping it cancels all of them.
pub(super) struct Answers {
    events: SelectAll<Pin<Box<dyn Stream<Item = Numbered> + Send>>>,
    /// Taken from the stream before the headers were sent.
    held: VecDeque<(usize, Event)>,
    unfinished: usize,
    /// What the prompts came to, as far as they were read before the headers were sent.
    read: Usage,
    usage: Usage,
}

/// What came next.
enum Next {
    Text(usize, TextDelta),
    Heard(usize, Box<Heard>),
    Segment(usize, Box<SpokenSegment>),
    Picture(Seen),
    /// Done, and in all.
    Progress(usize, (u32, u32)),
    /// A request has ended.
    Ended(usize, Usage),
    /// A request has joined the batch: its prompt's tokens, and those of them that were found in the cache.
    Started(u32, u32),
    /// Nothing that a reader sees.
    Quiet,
    /// All requests have ended.
    End,
}

impl Answers {
    pub(super) fn new(subscriptions: Vec<Subscription>) -> Self {
        let unfinished = subscriptions.len();
        let streams = subscriptions
            .into_iter()
            .enumerate()
            .map(|(number, subscription)| {
                let events = stream::unfold(Some(subscription), move |subscription| async move {
                    let mut subscription = subscription?;
                    let event = subscription.next().await;
                    let rest = event.is_some().then_some(subscription);
                    Some(((number, event), rest))
                });
                Box::pin(events) as Pin<Box<dyn Stream<Item = Numbered> + Send>>
            });
        Self {
            events: stream::select_all(streams),
            held: VecDeque::new(),
            unfinished,
            read: Usage::default(),
            usage: Usage::default(),
        }
    }

    /// Waits for the first text, so that a failure before it is an HTTP error and not a broken stream; of audio only until it was
    /// heard, since from there to its first words may be longer than proxies wait.
    ///
    /// # Errors
    /// The failure, and the number of the request that failed.
    pub(super) async fn first(&mut self) -> Result<(), (usize, RequestError)> {
        while self.unfinished > 0 {
            let Some((number, event)) = self.pull().await? else {
                break;
            };
            if let Event::Started {
                prompt_tokens,
                cached_tokens,
            } = event
            {
                let more = Usage {
                    prompt_tokens,
                    cached_tokens,
                    ..Usage::default()
                };
                self.read = sum(self.read, more);
            }
            let enough = match event {
                Event::Text(_) | Event::Heard(_) | Event::Done(_) => true,
                // Of a picture: its first step. One that ends at once tells of no step.
                Event::Preview(_) | Event::Drawn(_) => true,
                Event::Progress { total, .. } => total > 0,
                _ => false,
            };
            self.held.push_back((number, event));
            if enough {
                break;
            }
        }
        Ok(())
    }

    async fn pull(&mut self) -> Result<Option<(usize, Event)>, (usize, RequestError)> {
        match self.events.next().await {
            Some((number, Some(Event::Failed(error)))) => Err((number, error)),
            Some((number, Some(event))) => Ok(Some((number, event))),
            // A subscription's end after its terminal event; before it, the check in `next` tells.
            Some((_, None)) => Ok(Some((0, Event::Progress { done: 0, total: 0 }))),
            None => Ok(None),
        }
    }

    async fn next(&mut self) -> Result<Next, RequestError> {
        if self.unfinished == 0 {
            return Ok(Next::End);
        }
        let event = match self.held.pop_front() {
            Some(held) => Some(held),
            None => self.pull().await.map_err(|(_, error)| error)?,
        };
        match event {
            Some((number, Event::Text(delta))) => Ok(Next::Text(number, delta)),
            Some((number, Event::Heard(heard))) => Ok(Next::Heard(number, heard)),
            Some((number, Event::Segment(segment))) => Ok(Next::Segment(number, segment)),
            Some((_, Event::Preview(preview))) => Ok(Next::Picture(Seen::Preview(preview))),
            Some((_, Event::Drawn(drawn))) => Ok(Next::Picture(Seen::Drawn(drawn))),
            Some((number, Event::Progress { done, total })) if total > 0 => {
                Ok(Next::Progress(number, (done, total)))
            }
            Some((
                _,
                Event::Started {
                    prompt_tokens,
                    cached_tokens,
                },
            )) => Ok(Next::Started(prompt_tokens, cached_tokens)),
            Some((number, Event::Done(usage))) => {
                self.unfinished -= 1;
                self.usage = sum(self.usage, usage);
                Ok(Next::Ended(number, usage))
            }
            Some(_) => Ok(Next::Quiet),
            None => Err(RequestError::internal(
                "the answer ended without its last event",
            )),
        }
    }
}

/// Two requests' usage together.
pub(super) fn sum(a: Usage, b: Usage) -> Usage {
    Usage {
        prompt_tokens: a.prompt_tokens.saturating_add(b.prompt_tokens),
        cached_tokens: a.cached_tokens.saturating_add(b.cached_tokens),
        completion_tokens: a.completion_tokens.saturating_add(b.completion_tokens),
        reasoning_tokens: a.reasoning_tokens.saturating_add(b.reasoning_tokens),
        audio_ms: a.audio_ms.saturating_add(b.audio_ms),
        images: a.images.saturating_add(b.images),
    }
}

/// When and as whom a stream may run.
pub(super) struct Terms {
    pub(super) id: RequestId,
    pub(super) deadline: Instant,
    pub(super) allowed: Duration,
}

struct Talk<W> {
    answers: Answers,
    writer: W,
    terms: Terms,
    phase: Phase,
}

enum Phase {
    Opening,
    Talking,
    /// The error event is out; what follows is a cut, so that no client takes the answer for whole.
    Cutting,
    Ended,
}

/// The answer to a streamed request.
///
/// # Errors
/// What failed before the first text, and the number of its request.
pub(super) async fn respond(
    subscriptions: Vec<Subscription>,
    writer: impl Writer,
    terms: Terms,
) -> Result<Response, (usize, RequestError)> {
    let mut answers = Answers::new(subscriptions);
    answers.first().await?;
    let talk = Talk {
        answers,
        writer,
        terms,
        phase: Phase::Opening,
    };
    let mut response = Response::new(Body::from_stream(stream::unfold(talk, talk_on)));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        // Why: nginx, and proxies that follow it, hold events back without this.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// The next bytes of the body; an `Err` cuts the connection.
async fn talk_on<W: Writer>(mut talk: Talk<W>) -> Option<(Result<Bytes, Cut>, Talk<W>)> {
    let mut frames = Frames::default();
    match talk.phase {
        Phase::Opening => {
            talk.writer.open(talk.answers.read, &mut frames);
            talk.phase = Phase::Talking;
            // The text that was waited for goes out with the opening.
            let error = read_on(&mut talk, &mut frames).await.err();
            Some((Ok(finish(&mut talk, frames, error)), talk))
        }
        Phase::Talking => {
            let error = read_on(&mut talk, &mut frames).await.err();
            Some((Ok(finish(&mut talk, frames, error)), talk))
        }
        Phase::Cutting => {
            talk.phase = Phase::Ended;
            // Why a pause: it gives the connection the turn in which it writes the error event out.
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Err(Cut), talk))
        }
        Phase::Ended => None,
    }
}

/// Adds an error's event, if there is an error, and lets go of the engine's work.
fn finish<W: Writer>(talk: &mut Talk<W>, mut frames: Frames, error: Option<RequestError>) -> Bytes {
    if let Some(error) = error {
        tracing::error!(request_id = %talk.terms.id.0, kind = ?error.kind, error = %error, "stream failed");
        talk.writer.fail(&error, &mut frames);
        talk.answers = Answers::new(Vec::new());
        talk.phase = match talk.writer.manners().cuts {
            true => Phase::Cutting,
            false => Phase::Ended,
        };
    }
    frames.take()
}

/// Waits until there is something to send.
async fn read_on<W: Writer>(talk: &mut Talk<W>, frames: &mut Frames) -> Result<(), RequestError> {
    let manners = talk.writer.manners();
    loop {
        let ping = Instant::now() + KEEP_ALIVE;
        let until = ping.min(talk.terms.deadline);
        match tokio::time::timeout_at(until, talk.answers.next()).await {
            Err(_) if until == ping => frames.0.push_str(manners.ping),
            Err(_) => return Err(timed_out(talk.terms.allowed)),
            Ok(Ok(Next::Text(number, delta))) => talk.writer.text(number, delta, frames),
            Ok(Ok(Next::Heard(number, heard))) => talk.writer.heard(number, *heard, frames),
            Ok(Ok(Next::Segment(number, segment))) => {
                talk.writer.segment(number, *segment, frames);
            }
            Ok(Ok(Next::Progress(number, steps))) => talk.writer.progress(number, steps, frames),
            Ok(Ok(Next::Picture(seen))) => {
                if let Some(encode) = talk.writer.picture(seen) {
                    let event = encoded(encode).await?;
                    talk.writer.pictured(event, frames);
                }
            }
            Ok(Ok(Next::Started(prompt, cached))) => talk.writer.started(prompt, cached),
            Ok(Ok(Next::Ended(number, usage))) => talk.writer.ended(number, usage),
            Ok(Ok(Next::Quiet)) => {}
            Ok(Ok(Next::End)) => {
                talk.writer.close(talk.answers.usage, frames);
                frames.0.push_str(manners.done);
                talk.phase = Phase::Ended;
            }
            Ok(Err(error)) => return Err(error),
        }
        if !frames.0.is_empty() {
            return Ok(());
        }
    }
}

/// Why a body was cut: its error event has told.
#[derive(Debug, thiserror::Error)]
#[error("the answer failed after it had begun")]
struct Cut;

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;

    impl Writer for Plain {
        fn text(&mut self, _: usize, delta: TextDelta, frames: &mut Frames) {
            frames.push(&delta.text);
        }

        fn close(&mut self, usage: Usage, frames: &mut Frames) {
            frames.push(&usage.completion_tokens);
        }
    }

    fn talk(events: Vec<Event>, seconds: u64) -> Talk<Plain> {
        let coming = stream::iter(events.into_iter().map(|event| (0, Some(event))));
        let coming: Pin<Box<dyn Stream<Item = Numbered> + Send>> =
            Box::pin(coming.chain(stream::pending()));
        let allowed = Duration::from_secs(seconds);
        Talk {
            answers: Answers {
                events: stream::select_all([coming]),
                held: VecDeque::new(),
                unfinished: 1,
                read: Usage::default(),
                usage: Usage::default(),
            },
            writer: Plain,
            terms: Terms {
                id: RequestId("test".into()),
                deadline: Instant::now() + allowed,
                allowed,
            },
            phase: Phase::Opening,
        }
    }

    fn text(text: &str) -> Event {
        Event::Text(TextDelta {
            text: text.into(),
            ..TextDelta::default()
        })
    }

    /// All that is sent, and whether the connection was cut after it.
    async fn sent(mut talk: Talk<Plain>) -> (String, bool) {
        let mut sent = String::new();
        while let Some((bytes, next)) = talk_on(talk).await {
            match bytes {
                Ok(bytes) => sent.push_str(std::str::from_utf8(&bytes).unwrap()),
                Err(Cut) => return (sent, true),
            }
            talk = next;
        }
        (sent, false)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_comments_until_the_time_is_over() {
        let (sent, cut) = sent(talk(vec![text("a")], 40)).await;
        let (pings, error) = sent.split_at("data: \"a\"\n\n: ping\n\n: ping\n\n".len());
        assert_eq!(pings, "data: \"a\"\n\n: ping\n\n: ping\n\n");
        assert!(
            error.starts_with(
                "data: {\"error\":{\"message\":\"the request took longer than the 40 s"
            )
        );
        assert!(cut);
    }

    #[tokio::test]
    async fn a_whole_answer_ends_with_done_and_a_broken_one_does_not() {
        let usage = Usage {
            completion_tokens: 2,
            ..Usage::default()
        };
        let whole = sent(talk(vec![text("a"), text("b"), Event::Done(usage)], 40)).await;
        assert_eq!(
            whole,
            (
                "data: \"a\"\n\ndata: \"b\"\n\ndata: 2\n\ndata: [DONE]\n\n".into(),
                false
            )
        );
        let (sent, cut) = sent(talk(
            vec![text("a"), Event::Failed(RequestError::internal("x"))],
            40,
        ))
        .await;
        assert!(
            cut && sent.contains("\"message\":\"x\"") && !sent.contains("DONE"),
            "{sent}"
        );
    }
}
