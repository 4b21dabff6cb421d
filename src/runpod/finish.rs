//! A job's result on its way to the platform: its size, its one and only content, and what is sent instead when the platform
//! will not have it.

use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::deliver::{Delivery, Letter, Refusal, deliver};
use super::hand::Hold;
use super::report::{self, Failure};
use super::shared::Shared;
use super::{Job, Outcome};

/// What the platform takes as a result (contract, section 4), for jobs of `/run` and for those of `/runsync`, whose ids
/// say so.
const RUN_LIMIT: u64 = 10_000_000;
const RUNSYNC_LIMIT: u64 = 20_000_000;
const SYNCHRONOUS: &str = "sync-";

/// Tells a job's result.
pub(super) async fn finish(shared: &Shared, job: &Job, outcome: Outcome, hold: &mut Hold) {
    let outcome = report::sorted(outcome);
    let (outcome, body) = fitting(shared, job, outcome).await;
    let failed = outcome.body.get("error").is_some_and(report::is_truthy);
    let arrived = match send(shared, job, (body, outcome.is_stream), hold).await {
        Delivery::Arrived => Some(failed),
        Delivery::OutOfTime => None,
        Delivery::Refused(refusal) => instead(shared, job, &refusal, hold).await.then_some(true),
    };
    let word = match arrived {
        Some(false) => "done",
        Some(true) => "failed",
        None => "lost",
    };
    metrics::counter!("chandler_jobs_total", "outcome" => word).increment(1);
    match arrived {
        Some(_) => tracing::info!(outcome = word, "job answered"),
        None => tracing::error!("the job's result did not reach the platform"),
    }
    if outcome.stop_pod {
        shared.refresh.notify_one();
    }
}

async fn send(
    shared: &Shared,
    job: &Job,
    (body, is_stream): (Bytes, bool),
    hold: &mut Hold,
) -> Delivery {
    hold.sending(body.len());
    let is_stream = if is_stream { "true" } else { "false" };
    let letter = Letter {
        url: shared
            .environment
            .output
            .url(&job.id, &[("isStream", is_stream)]),
        id: job.id.clone(),
        body,
    };
    deliver(&shared.client, letter, shared.watched.clone()).await
}

/// After a refusal: a small error where the first result certainly never arrived. Whether it was told.
async fn instead(shared: &Shared, job: &Job, refusal: &Refusal, hold: &mut Hold) -> bool {
    let Refusal { status, said, .. } = refusal;
    tracing::error!(%status, said, "the platform refused a result");
    let about_it = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE].contains(status);
    if !about_it || !refusal.is_certain() {
        return false;
    }
    let why = format!("the platform refused the job's result with HTTP {status}: {said}");
    let outcome = shared.failure(Failure::OutputRefused, &why);
    let body = encoded(&outcome);
    send(shared, job, (body, false), hold).await == Delivery::Arrived
}

/// The result as it is sent, or what can be told in its place when it is too large.
async fn fitting(shared: &Shared, job: &Job, mut outcome: Outcome) -> (Outcome, Bytes) {
    let refused = |why: &str, is_stream| {
        let outcome = Outcome {
            is_stream,
            ..shared.failure(Failure::OutputRefused, why)
        };
        let body = encoded(&outcome);
        (outcome, body)
    };
    if let Some(outputs) = &shared.outputs {
        match outputs
            .deliver(job, std::mem::take(&mut outcome.body))
            .await
        {
            Ok(body) => outcome.body = body,
            Err(error) => return refused(&error.to_string(), outcome.is_stream),
        }
    }
    let usual = if job.id.starts_with(SYNCHRONOUS) {
        RUNSYNC_LIMIT
    } else {
        RUN_LIMIT
    };
    let limit = shared.options.output_limit.unwrap_or(usual);
    let body = encoded(&outcome);
    if body.len() as u64 <= limit {
        return (outcome, body);
    }
    let why = format!(
        "the output has {} bytes, and the platform takes {limit} at most; set up object storage (BUCKET_ENDPOINT_URL with its \
         keys on the endpoint, or s3Config with the job), or ask for less at once",
        body.len()
    );
    refused(&why, outcome.is_stream)
}

fn encoded(outcome: &Outcome) -> Bytes {
    if !outcome.stop_pod {
        return outcome.body.to_string().into();
    }
    let mut body = outcome.body.clone();
    match &mut body {
        Value::Object(fields) => {
            fields.insert("stopPod".into(), true.into());
        }
        other => *other = json!({"output": other.take(), "stopPod": true}),
    }
    body.to_string().into()
}
