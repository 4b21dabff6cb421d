//! Getting a post to the platform for certain: the same bytes again until it says that it has them, or that it never will.
//! Apart from who posts what, because here it is decided what a failed try means.

use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;

use super::backoff::Backoff;
use super::client::Client;
use super::phase::{Phase, Watched};

/// Between two tries.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const MOST_WAIT: Duration = Duration::from_secs(15);
/// The same while the worker is on its way out and each second counts.
const MOST_WAIT_DRAINING: Duration = Duration::from_millis(500);
/// How much of a refusal is kept for the log.
const SAID: usize = 300;

/// Something to be posted.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub(super) url: String,
    /// The job that it is about.
    pub(super) id: String,
    pub(super) body: Bytes,
}

/// How a delivery ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The platform has it.
    Arrived,
    /// The platform will not have it, whatever is tried.
    Refused(Refusal),
    /// The worker's time was over before.
    OutOfTime,
}

/// The platform's no.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// The beginning of what it said.
    pub(super) said: String,
    /// Whether an earlier try, of which no answer came, may have arrived all the same.
    pub(super) may_have_arrived: bool,
}

impl Refusal {
    /// Whether something else may be sent in its place: only when it is certain that the first never arrived, since a job
    /// has one result. That the bytes are too many holds for every try, so that one such answer speaks for all.
    pub(super) fn is_certain(&self) -> bool {
        self.status == StatusCode::PAYLOAD_TOO_LARGE || !self.may_have_arrived
    }
}

/// What a single try came to.
enum Try {
    Arrived,
    Refused(StatusCode, String),
    Again {
        may_have_arrived: bool,
        after: Option<Duration>,
        why: String,
    },
}

/// Delivers a letter, for as long as the worker lives.
pub(super) async fn deliver(client: &Client, letter: Letter, mut watched: Watched) -> Delivery {
    let mut backoff = Backoff::new(FIRST_WAIT, MOST_WAIT);
    let (mut may_have_arrived, mut tries) = (false, 0u32);
    loop {
        tries += 1;
        let attempt = tokio::select! {
            attempt = attempt(client, &letter) => attempt,
            () = watched.reached(Phase::Over) => return Delivery::OutOfTime,
        };
        match attempt {
            Try::Arrived => {
                if tries > 1 {
                    tracing::info!(tries, "the platform has it at last");
                }
                return Delivery::Arrived;
            }
            Try::Refused(status, said) => {
                return Delivery::Refused(Refusal {
                    status,
                    said,
                    may_have_arrived,
                });
            }
            Try::Again {
                may_have_arrived: maybe,
                after,
                why,
            } => {
                may_have_arrived |= maybe;
                metrics::counter!("chandler_job_posts_retried_total").increment(1);
                // The first failure is an everyday one; a platform that stays away is worth a warning, but not each time.
                if tries.is_power_of_two() && tries > 2 {
                    tracing::warn!(tries, why, "the platform does not take a post; trying on");
                } else {
                    tracing::debug!(tries, why, "a post is tried again");
                }
                rest(backoff.wait().max(after.unwrap_or_default()), &mut watched).await;
            }
        }
    }
}

/// Waits, and less so when the worker is on its way out.
async fn rest(wait: Duration, watched: &mut Watched) {
    if !watched.is(Phase::Draining) {
        tokio::select! {
            () = tokio::time::sleep(wait) => return,
            () = watched.reached(Phase::Draining) => {}
        }
    }
    tokio::select! {
        () = tokio::time::sleep(wait.min(MOST_WAIT_DRAINING)) => {}
        () = watched.reached(Phase::Over) => {}
    }
}

async fn attempt(client: &Client, letter: &Letter) -> Try {
    // Reference-counted bytes: every try sends the same ones.
    let sent = client.post(letter.url.clone(), &letter.id, letter.body.clone());
    let response = match sent.await {
        Ok(response) => response,
        Err(error) => {
            return Try::Again {
                // Without a connection nothing was sent; with one, who knows.
                may_have_arrived: !error.is_connect(),
                after: None,
                why: chain(&error.without_url()),
            };
        }
    };
    let status = response.status();
    let after = retry_after(&response);
    let said = async {
        // Read in any case, so that the connection is free for the next.
        let said = response.bytes().await.unwrap_or_default();
        String::from_utf8_lossy(said.get(..SAID).unwrap_or(&said)).into_owned()
    };
    let said = said.await;
    match status.as_u16() {
        200..=299 => Try::Arrived,
        408 | 425 | 429 | 300..=399 => Try::Again {
            may_have_arrived: false,
            after,
            why: format!("HTTP {status}: {said}"),
        },
        // Why not certain: a gateway's time-out says nothing of the server behind it, and a server may fail after it stored.
        500..=599 => Try::Again {
            may_have_arrived: true,
            after,
            why: format!("HTTP {status}: {said}"),
        },
        _ => Try::Refused(status, said),
    }
}

/// What the platform asks for, as far as it is reasonable.
pub(super) fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    let seconds: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds.clamp(0.0, 30.0)).ok()
}

/// An error with its causes, which is where reqwest says what happened.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
