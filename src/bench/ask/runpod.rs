//! Jobs of a RunPod queue: their states, the times that the platform reports, and their end when nobody waits any more, so that no
//! job is billed for a measurement that was given up.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

use super::predict::counted;
use super::{Asker, http, json};
use crate::bench::address::below;
use crate::bench::outcome::{Failure, FailureKind, Success};

/// Between two looks at a job: short at first, as short jobs are, and then so that many jobs stay below the platform's bound of
/// 2000 requests in 10 s (its documentation of `/status`).
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(2);
/// For the request that ends a job.
const CANCEL: Duration = Duration::from_secs(5);

/// The job that is under way, once it has a name.
#[derive(Debug, Default)]
pub(super) struct Job(Mutex<Option<String>>);

impl Job {
    fn set(&self, id: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Asker {
    /// Waits for the job that an answer of `/run` or `/runsync` tells of.
    pub(super) async fn job_of(&self, response: Response, job: &Job) -> Result<Success, Failure> {
        let mut told = json(response).await?;
        let mut pause = FIRST_LOOK;
        loop {
            let id = told["id"].as_str().map(str::to_owned);
            let state = told["status"].as_str().unwrap_or_default();
            match (state, id) {
                ("COMPLETED" | "FAILED" | "CANCELLED" | "TIMED_OUT", _) => {
                    job.set(None);
                    return self.over(&told);
                }
                ("IN_QUEUE" | "IN_PROGRESS" | "RUNNING", Some(id)) => {
                    job.set(Some(id.clone()));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 3 / 2).min(LAST_LOOK);
                    match self.looked(&id).await {
                        Ok(now) => told = now,
                        // The job goes on whatever becomes of a look at it, and must not be handed in again.
                        Err(failure) if is_passing(&failure.kind) => {
                            let wait = failure.retry_after.unwrap_or_default();
                            tokio::time::sleep(wait).await;
                        }
                        Err(failure) => return Err(failure),
                    }
                }
                _ => {
                    return Err(http::error_in(&told)
                        .unwrap_or_else(|| Failure::malformed(format!("this is no job: {told}"))));
                }
            }
        }
    }

    async fn looked(&self, id: &str) -> Result<Value, Failure> {
        let url = below(&self.endpoint.base, &format!("/status/{id}"));
        let request = self.client.get(url.clone()).headers(self.headers.clone());
        json(http::sent(request, &url).await?).await
    }

    fn over(&self, told: &Value) -> Result<Success, Failure> {
        let state = told["status"].as_str().unwrap_or_default();
        if state != "COMPLETED" {
            let kind = FailureKind::Job(state.to_owned());
            return Err(Failure::new(kind, http::said(told)));
        }
        if let Some(failure) = http::error_in(told) {
            return Err(failure);
        }
        // Workers that stream give a list of what they have said, of which the last has the counts.
        let output = match &told["output"] {
            Value::Array(list) => list.last().unwrap_or(&Value::Null),
            output => output,
        };
        let millis = |key: &str| told[key].as_u64().map(Duration::from_millis);
        Ok(Success {
            delay: millis("delayTime"),
            execution: millis("executionTime"),
            ..counted(output, self.does)?
        })
    }

    /// Ends a job that nobody waits for any more.
    pub(super) async fn abandon(&self, job: &Job) {
        let Some(id) = job.take() else {
            return;
        };
        let url = below(&self.endpoint.base, &format!("/cancel/{id}"));
        let request = self.client.post(url.clone()).headers(self.headers.clone());
        let done = http::sent(request.timeout(CANCEL), &url).await;
        if let Err(failure) = done {
            tracing::warn!(
                job = id,
                reason = failure.message,
                "a job that was given up could not be cancelled"
            );
        }
    }
}

/// Whether the next look may find what this one did not.
fn is_passing(kind: &FailureKind) -> bool {
    match kind {
        FailureKind::Connection | FailureKind::Timeout => true,
        FailureKind::Status(status) => *status == 429 || *status >= 500,
        _ => false,
    }
}
