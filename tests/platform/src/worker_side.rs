//! The worker's side: takes, the stop channel, results, chunks and pings, as section 2 of the contract has them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::json;

use crate::account::Violation;
use crate::answer::{Answer, Content, Handed};
use crate::book::{Book, Verdict};
use crate::job::Status;
use crate::platform::State;
use crate::route::parameter;

/// More than a worker can want at once.
const MOST_JOBS: usize = 1000;

/// Holds the poll until there is a job, or the time is over.
pub async fn take(state: &Arc<State>, worker: &str, batch: bool, query: &str) -> Answer {
    let count = match wanted(batch, query) {
        Ok(count) => count,
        Err(why) => {
            let request = format!(
                "job-take{}/{worker}?{query}",
                if batch { "-batch" } else { "" }
            );
            state.book().violate(Violation::BadQuery { request });
            return Answer::error(400, why);
        }
    };
    let worker = {
        let mut book = state.book();
        book.account.takes += 1;
        let (id, seen) = book.worker(worker);
        seen.first_take.get_or_insert_with(SystemTime::now);
        id
    };
    let deadline = tokio::time::Instant::now() + state.hold();
    loop {
        let notified = state.queued.notified();
        if let Some((answer, timeouts)) = hand_out(&mut state.book(), &worker, (count, batch)) {
            if let Handed::Jobs(ids) = &answer.handed {
                watch(state, ids, &timeouts);
            }
            // Whoever waits beside this one may have been passed over: one notice is not one job.
            state.queued.notify_one();
            return answer;
        }
        if tokio::time::timeout_at(deadline, notified).await.is_err() {
            return Answer::none();
        }
    }
}

fn wanted(batch: bool, query: &str) -> Result<usize, &'static str> {
    if !matches!(parameter(query, "job_in_progress"), Some("0" | "1")) {
        return Err("job_in_progress must be 0 or 1");
    }
    if parameter(query, "gpu").is_none() {
        return Err("the template's gpu parameter is gone");
    }
    match (batch, parameter(query, "batch_size")) {
        (false, _) => Ok(1),
        (true, Some(size)) => match size.parse() {
            Ok(size) if (1..=MOST_JOBS).contains(&size) => Ok(size),
            _ => Err("batch_size must be from 1 to 1000"),
        },
        (true, None) => Err("batch_size is missing"),
    }
}

/// Jobs in one answer: an object for a take, an array for a batch; and how long each may run.
fn hand_out(
    book: &mut Book,
    worker: &Arc<str>,
    (count, batch): (usize, bool),
) -> Option<(Answer, Vec<Option<u64>>)> {
    let ids = book.take(worker, count);
    if ids.is_empty() {
        return None;
    }
    let jobs = || ids.iter().filter_map(|id| book.jobs.get(id));
    let body = if batch {
        let mut body = BytesMut::new();
        for job in jobs() {
            body.put_u8(if body.is_empty() { b'[' } else { b',' });
            body.extend_from_slice(&job.wire);
        }
        body.put_u8(b']');
        body.freeze()
    } else {
        jobs().map(|job| job.wire.clone()).next()?
    };
    let timeouts = jobs().map(|job| job.execution_timeout).collect();
    let mut answer = Answer::new(200, body);
    answer.handed = Handed::Jobs(ids);
    Some((answer, timeouts))
}

/// Ends what runs too long, and stops what the faults choose.
fn watch(state: &Arc<State>, ids: &[Arc<str>], timeouts: &[Option<u64>]) {
    let end_after = |id: &Arc<str>, after: Duration, status: Status| {
        let (state, id) = (Arc::clone(state), Arc::clone(id));
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            state.stop(&id, status);
        });
    };
    for (id, timeout) in ids.iter().zip(timeouts) {
        if let Some(ms) = timeout {
            end_after(id, Duration::from_millis(*ms), Status::TimedOut);
        }
        let stop = state.faults().stop_after();
        if let Some(after) = stop {
            end_after(id, after, Status::Cancelled);
        }
    }
}

/// Holds the poll until a job is to be stopped, or the time is over.
pub async fn stop(state: &Arc<State>, worker: &str) -> Answer {
    let (worker, changed) = {
        let mut book = state.book();
        let (id, seen) = book.worker(worker);
        (id, Arc::clone(&seen.stops_changed))
    };
    let deadline = tokio::time::Instant::now() + state.hold();
    loop {
        let notified = changed.notified();
        let ids = state.book().stops(&worker);
        if !ids.is_empty() {
            let names: Vec<&str> = ids.iter().map(|id| &**id).collect();
            let mut answer = Answer::json(&json!({"jobsToStop": names}));
            answer.handed = Handed::Stops(worker, ids);
            return answer;
        }
        if tokio::time::timeout_at(deadline, notified).await.is_err() {
            return Answer::none();
        }
    }
}

/// A result or progress.
pub fn done(state: &Arc<State>, (worker, job): (&str, &str), query: &str, body: Bytes) -> Answer {
    let Some(is_stream) = is_stream(query) else {
        return bad_query(state, &format!("job-done/{worker}/{job}?{query}"));
    };
    let limit = state.options.result_limit;
    if body.len() > limit {
        state.book().account.too_large += 1;
        let message = format!("the result has {} bytes; {limit} are allowed", body.len());
        return Answer::error(state.options.too_large_status, &message);
    }
    let verdict = state.book().post(worker, job, body, is_stream);
    if verdict == Verdict::Ended {
        state.one_ended();
    }
    said(verdict)
}

/// A chunk.
pub fn stream(state: &Arc<State>, (worker, job): (&str, &str), query: &str, body: Bytes) -> Answer {
    // The SDK says `isStream=false` on chunks, and `true` on the last job-done only.
    if is_stream(query) != Some(false) {
        return bad_query(state, &format!("job-stream/{worker}/{job}?{query}"));
    }
    said(state.book().chunk(worker, job, &body))
}

fn is_stream(query: &str) -> Option<bool> {
    parameter(query, "gpu")?;
    match parameter(query, "isStream")? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn bad_query(state: &State, request: &str) -> Answer {
    let request = request.to_owned();
    state.book().violate(Violation::BadQuery { request });
    Answer::error(400, "the query must have the template's gpu, and isStream")
}

fn said(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Accepted | Verdict::Ended => Answer::ok(),
        Verdict::BadBody => Answer::error(verdict.status(), "the body is not what this path takes"),
        Verdict::UnknownJob => Answer::error(verdict.status(), "this worker has no such job"),
    }
}

pub fn ping(state: &Arc<State>, worker: &str, query: &str) -> Answer {
    let mut book = state.book();
    let (_, seen) = book.worker(worker);
    seen.pings += 1;
    seen.last_ping = query.to_owned();
    Answer::ok()
}

/// An answer to a take that holds no proper job, or one beside proper jobs.
pub fn malformed(state: &Arc<State>, worker: &str, batch: bool, which: u64) -> Answer {
    let mut book = state.book();
    book.account.malformed += 1;
    let (worker, _) = book.worker(worker);
    let id = format!("malformed-{}", book.account.malformed);
    let html = "<html><body>502 Bad Gateway</body></html>";
    match which % 11 {
        0 => {
            book.invent(&id, &worker);
            Answer::json(&json!({"id": id}))
        }
        1 => Answer::json(&json!({"input": {"prompt": "who am I"}})),
        2 => Answer::new(200, r#"{"id": "cut off", "input": {"pro"#),
        3 => Answer::json(&json!([])),
        4 => Answer::json(&json!("a job")),
        5 => Answer {
            content_type: "text/html",
            ..Answer::new(200, html)
        },
        6 => Answer::new(200, Bytes::new()),
        7 => {
            // A worker may refuse it by the number's text, or say nothing.
            let number = book.account.malformed;
            book.invent(&number.to_string(), &worker);
            Answer::json(&json!([{"id": number, "input": {"prompt": "a number"}}]))
        }
        8 => Answer::json(&json!(null)),
        9 => Answer::new(
            200,
            Bytes::from_static(b"{\"id\": \"\xff\xfe\", \"input\": {}}"),
        ),
        _ => spoiled(&mut book, &worker, batch),
    }
}

/// Proper jobs, if there are any, behind one that is none: they must not be lost with it.
fn spoiled(book: &mut Book, worker: &Arc<str>, batch: bool) -> Answer {
    let bad = r#"{"no": "id"}"#;
    let handed = if batch {
        hand_out(book, worker, (2, true))
    } else {
        None
    };
    let Some((mut answer, _)) = handed else {
        return Answer::new(200, bad);
    };
    if let Content::Whole(good) = &answer.body {
        let rest = String::from_utf8_lossy(good).into_owned();
        answer.body = Content::Whole(format!("[{bad},{}", rest.trim_start_matches('[')).into());
    }
    answer
}
