//! One job from its first piece to its last: the work runs, and what comes out of it is posted, in order, without either
//! waiting for the other more than it must.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use serde_json::Value;

use super::deliver::{Delivery, Letter, deliver};
use super::finish::finish;
use super::hand::Hold;
use super::outbox::{Due, Outbox};
use super::phase::Phase;
use super::report::Failure;
use super::shared::Shared;
use super::{Job, Outcome, Piece};

/// For a progress post; it is not worth more, and the result waits for it.
const PROGRESS: Duration = Duration::from_secs(10);

/// Characters of a field that is still small.
const SMALL: usize = 4096;

/// Does a job and tells its result.
pub(super) async fn drive(shared: Arc<Shared>, job: Job, mut hold: Hold) {
    let facts = facts(&job);
    let working = AssertUnwindSafe(work(&shared, job, &mut hold)).catch_unwind();
    let outcome = working.await.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
        let said = said.unwrap_or_else(|| "it said nothing".to_owned());
        tracing::error!(said, "a job's work panicked");
        shared.failure(Failure::Internal, "the job's work failed within the worker")
    });
    hold.done();
    finish(&shared, &facts, outcome, &mut hold).await;
}

/// What the result may need of the job: the small fields of its input, where some clients write where outputs go. The large
/// ones, pictures and audio, are the work's alone.
fn facts(job: &Job) -> Job {
    let small = |value: &&Value| match value {
        Value::String(text) => text.len() <= SMALL,
        Value::Array(_) => false,
        _ => true,
    };
    let input = match &job.input {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| small(value));
            fields
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        }
        _ => Value::Null,
    };
    Job {
        id: job.id.clone(),
        input,
        rest: job.rest.clone(),
    }
}

/// Tells the client of a job that cannot be done, so that it does not wait for ever.
pub(super) async fn turn_away(shared: Arc<Shared>, id: String, why: String, mut hold: Hold) {
    tracing::warn!(why, "a job that cannot be read is answered with an error");
    hold.done();
    let facts = Job {
        id,
        input: Value::Null,
        rest: serde_json::Map::new(),
    };
    let outcome = shared.failure(Failure::InvalidJob, &why);
    finish(&shared, &facts, outcome, &mut hold).await;
}

/// The work, until its end and until all chunks have arrived.
async fn work(shared: &Shared, job: Job, hold: &mut Hold) -> Outcome {
    let id = job.id.clone();
    let mut pieces: Option<BoxStream<'static, Piece>> = Some(shared.work.start(job));
    let (mut outbox, mut chunks) = (Outbox::default(), false);
    let mut posting: Option<BoxFuture<'_, Delivery>> = None;
    let mut outcome = None;
    let mut watched = shared.watched.clone();
    loop {
        if posting.is_none() {
            match (outbox.next(), outcome.take()) {
                (Some(due), ended) => {
                    posting = Some(post(shared, &id, due));
                    outcome = ended;
                }
                (None, Some(outcome)) => return outcome,
                (None, None) => {}
            }
        }
        tokio::select! {
            piece = next(&mut pieces), if pieces.is_some() && outbox.has_room() => match piece {
                Some(Piece::Progress(value)) => outbox.progress(value),
                Some(Piece::Chunk(value)) => {
                    chunks = true;
                    outbox.chunk(value);
                }
                end => {
                    // Dropped at once: what the work holds is free for the next job, while chunks may still be on their way.
                    pieces = None;
                    hold.done();
                    outbox.end();
                    outcome = Some(match end {
                        Some(Piece::Done(outcome)) => outcome,
                        _ => shared.failure(Failure::Internal, "the job's work ended without a result"),
                    });
                }
            },
            delivery = due(&mut posting), if posting.is_some() => {
                posting = None;
                if let Delivery::Refused(refusal) = delivery {
                    let why = format!(
                        "the platform refused a part of the streamed answer with HTTP {}: {}", refusal.status, refusal.said
                    );
                    return streamed(shared.failure(Failure::OutputRefused, &why), chunks);
                }
            },
            () = watched.reached(Phase::GivingUp) => {
                let why = "the worker is stopping and has no time to finish this job; send it again, and another worker will do it";
                return streamed(shared.failure(Failure::WorkerStopping, why), chunks);
            }
        }
    }
}

fn streamed(outcome: Outcome, is_stream: bool) -> Outcome {
    Outcome {
        is_stream,
        ..outcome
    }
}

async fn next(pieces: &mut Option<BoxStream<'static, Piece>>) -> Option<Piece> {
    pieces.as_mut()?.next().await
}

async fn due(posting: &mut Option<BoxFuture<'_, Delivery>>) -> Delivery {
    match posting {
        Some(posting) => posting.await,
        None => std::future::pending().await,
    }
}

/// One post: a chunk until it has arrived, progress once.
fn post<'a>(shared: &'a Shared, id: &str, due: Due) -> BoxFuture<'a, Delivery> {
    let (template, body, matters) = match due {
        Due::Chunk(body) => match &shared.environment.stream {
            Some(stream) => (stream, body, true),
            None => {
                // Said once at the start; the result holds what was streamed where its dialect has it so.
                return std::future::ready(Delivery::Arrived).boxed();
            }
        },
        Due::Progress(body) => (&shared.environment.output, body, false),
    };
    let letter = Letter {
        // `false` on chunks too: that is how the platform knows them (contract, section 2.4).
        url: template.url(id, &[("isStream", "false")]),
        id: id.to_owned(),
        body,
    };
    if matters {
        return deliver(&shared.client, letter, shared.watched.clone()).boxed();
    }
    let once = async move {
        let posting = shared.client.post(letter.url, &letter.id, letter.body);
        match tokio::time::timeout(PROGRESS, posting).await {
            Ok(Ok(response)) => drop(response.bytes().await),
            Ok(Err(error)) => {
                tracing::debug!(error = %error.without_url(), "a progress post was lost")
            }
            Err(_) => tracing::debug!("a progress post took too long"),
        }
        Delivery::Arrived
    };
    once.boxed()
}
