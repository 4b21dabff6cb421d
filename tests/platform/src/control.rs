//! What scripts in other languages steer the platform by: `/control/…`, JSON in and out. Production has nothing like it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::environment;
use crate::faults::{Fault, Rates};
use crate::job::Job;
use crate::platform::State;
use crate::route::{Kind, parameter};
use crate::wire_log::WireLog;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Submit {
    input: Value,
    #[serde(default)]
    more: Map<String, Value>,
    #[serde(default = "one")]
    count: usize,
}

fn one() -> usize {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    kind: Kind,
    faults: Vec<Fault>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    ms: u64,
}

pub async fn answer(state: &Arc<State>, what: &str, query: &str, body: Bytes) -> Answer {
    let changed = match what {
        "submit" => return submit(state, &body),
        "wait" => return wait(state, query).await,
        "faults" => read(&body).map(|rates: Rates| state.faults().set(rates)),
        "script" => {
            read(&body).map(|script: Script| state.faults().script(script.kind, script.faults))
        }
        "hold" => read(&body).map(|hold: Hold| state.hold_ms.store(hold.ms, Ordering::Relaxed)),
        "reset" => {
            state.book().reset();
            state.log.as_ref().map(WireLog::forget);
            Ok(())
        }
        _ => return show(state, what, query),
    };
    match changed {
        Ok(()) => Answer::ok(),
        Err(why) => Answer::error(400, &why),
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn submit(state: &Arc<State>, body: &Bytes) -> Answer {
    let given: Submit = match read(body) {
        Ok(given) => given,
        Err(why) => return Answer::error(400, &why),
    };
    let ids: Vec<Value> = (0..given.count)
        .map(|_| {
            let mut job = given.more.clone();
            job.insert("input".into(), given.input.clone());
            json!(*state.submit(job, false))
        })
        .collect();
    Answer::json(&json!({"ids": ids}))
}

/// Waits until `ended` jobs have ended since the start.
async fn wait(state: &Arc<State>, query: &str) -> Answer {
    let number = |name| parameter(query, name).and_then(|value| value.parse::<u64>().ok());
    let (Some(ended), Some(limit)) = (number("ended"), number("ms")) else {
        return Answer::error(400, "ended and ms must be numbers");
    };
    let done = state.wait_ended(ended, Duration::from_millis(limit)).await;
    Answer::json(&json!({"done": done, "ended": state.ended()}))
}

fn show(state: &State, what: &str, query: &str) -> Answer {
    let found = match what {
        "account" => json!(state.account()),
        "workers" => workers(state),
        "wire" => json!(state.log.as_ref().map(WireLog::kept).unwrap_or_default()),
        "environment" => {
            let worker = parameter(query, "worker").unwrap_or("worker-1");
            let all = environment::of_worker(&state.options, &state.base, worker);
            Value::Object(
                all.into_iter()
                    .map(|(name, value)| (name, value.into()))
                    .collect(),
            )
        }
        _ => match what
            .strip_prefix("jobs/")
            .and_then(|id| state.book().jobs.get(id).map(job))
        {
            Some(job) => job,
            None => return Answer::error(404, "there is no such thing to see"),
        },
    };
    Answer::json(&found)
}

fn workers(state: &State) -> Value {
    let seen = state.workers().into_iter().map(|(id, worker)| {
        let since = worker
            .first_take
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let seen = json!({
            "first_take": since.map(|since| since.as_secs_f64()),
            "pings": worker.pings,
            "last_ping": worker.last_ping,
            "running": worker.running,
        });
        (id, seen)
    });
    Value::Object(seen.collect())
}

fn job(job: &Job) -> Value {
    let results = job.results.iter().map(|posted| {
        json!({
            "body": String::from_utf8_lossy(&posted.body),
            "is_stream": posted.is_stream,
            "times": posted.times,
        })
    });
    json!({
        "view": job.view(),
        "results": results.collect::<Vec<_>>(),
        "chunks": job.chunks,
        "progress_posts": job.progress_posts,
        "stop_told": job.stop_told,
    })
}
