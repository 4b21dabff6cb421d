//! The stop channel: which jobs the platform has given up. A job that is stopped is dropped, and nothing is told of it.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::client::Client;
use super::deliver::{chain, retry_after};
use super::hand::Hand;
use super::phase::{Phase, Watched};
use super::take::PATIENCE;
use super::template::Template;

/// Between asks that bring nothing and did not hang, and between those that fail.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// An answer that took longer was a long poll.
const LONG: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Stops {
    #[serde(rename = "jobsToStop", default)]
    jobs: Vec<Value>,
}

/// Asks until the last job is answered.
pub(super) async fn listen(client: Client, address: Template, hand: &Hand, mut watched: Watched) {
    let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
    loop {
        let asked = Instant::now();
        let stops = tokio::select! {
            stops = ask(&client, &address) => stops,
            () = watched.reached(Phase::Over) => return,
        };
        let wait = match stops {
            Ok(ids) if ids.is_empty() && asked.elapsed() < LONG => backoff.wait(),
            Ok(ids) => {
                ids.iter().for_each(|id| stop(hand, id));
                backoff.reset();
                continue;
            }
            Err(Failure { why, after }) => {
                tracing::debug!(why, "the stop channel failed");
                backoff.wait().max(after.unwrap_or_default())
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = watched.reached(Phase::Over) => return,
        }
    }
}

fn stop(hand: &Hand, id: &str) {
    if hand.stop(id) {
        metrics::counter!("chandler_jobs_total", "outcome" => "stopped").increment(1);
        tracing::info!(request_id = id, "job stopped");
    } else {
        tracing::debug!(
            request_id = id,
            "a job that is not in hand is to be stopped"
        );
    }
}

struct Failure {
    why: String,
    after: Option<Duration>,
}

async fn ask(client: &Client, address: &Template) -> Result<Vec<String>, Failure> {
    let failed = |error: reqwest::Error| Failure {
        why: chain(&error.without_url()),
        after: None,
    };
    let response = match client.get(address.url("", &[]), PATIENCE).await {
        Err(error) if error.is_timeout() => return Ok(Vec::new()),
        response => response.map_err(failed)?,
    };
    let (status, after) = (response.status(), retry_after(&response));
    let body = response.bytes().await.map_err(failed)?;
    match status {
        StatusCode::OK => Ok(read(&body)),
        StatusCode::NO_CONTENT => Ok(Vec::new()),
        _ => Err(Failure {
            why: format!("HTTP {status}"),
            after,
        }),
    }
}

/// The ids; whatever else is there is none of ours to judge.
fn read(body: &[u8]) -> Vec<String> {
    let stops: Stops = serde_json::from_slice(body).unwrap_or_else(|error| {
        tracing::debug!(%error, "an answer of the stop channel cannot be read");
        Stops { jobs: Vec::new() }
    });
    let text = |id| match id {
        Value::String(id) => Some(id),
        _ => None,
    };
    stops.jobs.into_iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_texts_and_the_rest_is_dropped() {
        assert_eq!(read(br#"{"jobsToStop": ["a", 3, null, "b"]}"#), ["a", "b"]);
        for other in ["{}", "[]", "", r#"{"jobsToStop": "a"}"#] {
            assert!(read(other.as_bytes()).is_empty(), "{other}");
        }
    }
}
