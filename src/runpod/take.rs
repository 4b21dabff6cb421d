//! Asking for jobs: the long poll, what its answers mean, and how soon to ask again. What becomes of a job is not decided here.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::client::Client;
use super::deliver::{chain, retry_after};
use super::environment::Environment;
use super::handed::Handed;
use super::phase::{Phase, Watched};

/// The longest that a poll may hang, as in the SDK.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// When the worker is told to end, a job may be on its way already: the poll is given up, but not within this. A round trip
/// across an ocean fits into it.
const HANDOVER: Duration = Duration::from_millis(250);
/// For the rest of an answer that has begun to come, once the worker is on its way out.
const BODY: Duration = Duration::from_secs(5);
/// An empty answer that took longer was a long poll and may be asked again at once.
const LONG: Duration = Duration::from_millis(500);
/// Between polls that find nothing without hanging; a FlashBoot worker's 400s are among them.
const NOTHING: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// Between polls that fail.
const TROUBLE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));
/// After a 429 that says no time. The SDK always sleeps 5 s, which after a single 429 is 4 too many.
const TOO_MANY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Asks for jobs.
pub(super) struct Taker<'a> {
    client: &'a Client,
    environment: &'a Environment,
    watched: Watched,
    nothing: Backoff,
    trouble: Backoff,
    too_many: Backoff,
    failures: u32,
}

/// What a poll brought.
enum Poll {
    Jobs(Vec<Handed>),
    Nothing,
    TooMany(Option<Duration>),
    Trouble(String),
    /// The worker ends, and nothing was on its way.
    Ended,
}

impl<'a> Taker<'a> {
    pub(super) fn new(client: &'a Client, environment: &'a Environment, watched: Watched) -> Self {
        Self {
            client,
            environment,
            watched,
            nothing: Backoff::new(NOTHING.0, NOTHING.1),
            trouble: Backoff::new(TROUBLE.0, TROUBLE.1),
            too_many: Backoff::new(TOO_MANY.0, TOO_MANY.1),
            failures: 0,
        }
    }

    /// Waits for jobs, up to `wanted`. Empty when the time is better used to look around again; `None` at the end.
    pub(super) async fn take(&mut self, wanted: usize, busy: bool) -> Option<Vec<Handed>> {
        let asked = Instant::now();
        let wait = match self.poll(self.url(wanted, busy)).await {
            Poll::Jobs(jobs) => {
                self.well();
                if jobs.iter().any(|job| !matches!(job, Handed::Nameless(_))) {
                    self.nothing.reset();
                    return Some(jobs);
                }
                for job in jobs {
                    if let Handed::Nameless(why) = job {
                        tracing::warn!(why, "the platform handed out something that is no job");
                    }
                }
                self.trouble.wait()
            }
            Poll::Nothing => {
                self.well();
                if asked.elapsed() >= LONG {
                    self.nothing.reset();
                    return Some(Vec::new());
                }
                self.nothing.wait()
            }
            Poll::TooMany(after) => after.unwrap_or_default().max(self.too_many.wait()),
            Poll::Trouble(why) => {
                self.failures += 1;
                metrics::counter!("chandler_job_takes_failed_total").increment(1);
                if self.failures.is_power_of_two() {
                    tracing::warn!(
                        failures = self.failures,
                        why,
                        "no job could be taken; trying on"
                    );
                }
                self.trouble.wait()
            }
            Poll::Ended => return None,
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => Some(Vec::new()),
            () = self.watched.reached(Phase::Draining) => None,
        }
    }

    fn well(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!("jobs are taken again");
        }
        self.trouble.reset();
        self.too_many.reset();
    }

    fn url(&self, wanted: usize, busy: bool) -> String {
        let busy = ("job_in_progress", if busy { "1" } else { "0" });
        match &self.environment.take_batch {
            Some(batch) if wanted > 1 => {
                batch.url("", &[("batch_size", &wanted.to_string()), busy])
            }
            _ => self.environment.take.url("", &[busy]),
        }
    }

    async fn poll(&mut self, url: String) -> Poll {
        let response = {
            let asking = self.client.get(url, PATIENCE);
            tokio::pin!(asking);
            tokio::select! {
                response = &mut asking => response,
                () = self.watched.reached(Phase::Draining) => {
                    match tokio::time::timeout(HANDOVER, &mut asking).await {
                        Ok(response) => response,
                        Err(_) => return Poll::Ended,
                    }
                }
            }
        };
        let response = match response {
            Ok(response) => response,
            Err(error) if error.is_timeout() => return Poll::Nothing,
            Err(error) => return Poll::Trouble(chain(&error.without_url())),
        };
        self.read(response).await
    }

    async fn read(&mut self, response: reqwest::Response) -> Poll {
        let status = response.status();
        let after = retry_after(&response);
        // Jobs are in it: what has begun to come is waited for, also at the end.
        let reading = response.bytes();
        tokio::pin!(reading);
        let body = tokio::select! {
            body = &mut reading => body,
            () = self.watched.reached(Phase::Draining) => match tokio::time::timeout(BODY, &mut reading).await {
                Ok(body) => body,
                Err(_) => return Poll::Trouble("an answer did not come to its end".to_owned()),
            },
        };
        match (status, body) {
            (StatusCode::NO_CONTENT | StatusCode::BAD_REQUEST, _) => Poll::Nothing,
            (StatusCode::TOO_MANY_REQUESTS, _) => Poll::TooMany(after),
            // A job of which not all came is not ours: whoever handed it out knows that it did not arrive.
            (_, Err(error)) => Poll::Trouble(chain(&error.without_url())),
            (status, Ok(body)) if status.is_success() => answer(&body),
            (status, Ok(body)) => {
                let said = String::from_utf8_lossy(body.get(..200).unwrap_or(&body)).into_owned();
                Poll::Trouble(format!("HTTP {status}: {said}"))
            }
        }
    }
}

/// What a whole answer holds.
fn answer(body: &[u8]) -> Poll {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Poll::Nothing;
    }
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Null) => Poll::Nothing,
        Ok(Value::Array(jobs)) if jobs.is_empty() => Poll::Nothing,
        Ok(Value::Array(jobs)) => Poll::Jobs(jobs.into_iter().map(Handed::read).collect()),
        Ok(job) => Poll::Jobs(vec![Handed::read(job)]),
        Err(error) => match legible_id(body) {
            Some(id) => Poll::Jobs(vec![Handed::Broken {
                id,
                why: format!("the job is not valid JSON: {error}"),
            }]),
            None => Poll::Trouble(format!("the answer is not JSON: {error}")),
        },
    }
}

/// The id of a job that is no JSON, if it begins with one: its client should hear of it rather than wait for ever.
fn legible_id(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim_start();
    // Only as the first field: further in, it may be the id of something in the input.
    let rest = text.strip_prefix('{')?.trim_start();
    let rest = rest.strip_prefix("\"id\"")?.trim_start();
    let rest = rest.strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let (id, _) = rest.split_once('"')?;
    let plain = !id.is_empty()
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    plain.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(body: &str) -> Vec<String> {
        let Poll::Jobs(jobs) = answer(body.as_bytes()) else {
            return vec![];
        };
        let name = |job| match job {
            Handed::Job(job) => job.id,
            Handed::Broken { id, .. } => format!("broken {id}"),
            Handed::Nameless(_) => "nameless".to_owned(),
        };
        jobs.into_iter().map(name).collect()
    }

    #[test]
    fn an_answer_is_a_job_or_a_list_or_nothing() {
        assert_eq!(names(r#"{"id": "a", "input": 1}"#), ["a"]);
        assert_eq!(
            names(r#"[{"id": "a", "input": 1}, {"id": "b"}, 3]"#),
            ["a", "broken b", "nameless"]
        );
        for empty in ["", " \n", "null", "[]"] {
            assert!(matches!(answer(empty.as_bytes()), Poll::Nothing), "{empty}");
        }
        for noise in ["<html>", "{\"input\": {\"id\": \"x\"", "{\"id\": \"a"] {
            assert!(
                matches!(answer(noise.as_bytes()), Poll::Trouble(_)),
                "{noise}"
            );
        }
    }

    #[test]
    fn a_job_that_is_no_json_can_still_be_named() {
        assert_eq!(
            names(r#"{"id": "a-u1", "input": {"x": }}"#),
            ["broken a-u1"]
        );
    }
}
