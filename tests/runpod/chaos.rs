//! Ten thousand jobs while the platform breaks in every way that it can, and SIGTERM in the middle of them: each job that a
//! worker has taken gets exactly one outcome.

use std::collections::HashMap;
use std::time::Duration;

use runpod_platform::{Account, Options, Platform, Rates, Snapshot, Status};
use serde_json::{Value, json};

use super::serving::Process;

const JOBS: u64 = 10_000;
/// What is enough to meet each fault a hundred times and more, and still end soon.
const CHAOS: Rates = Rates {
    status: 0.02,
    status_after: 0.02,
    // Not by rate: a worker stays away for five seconds after each.
    too_many: 0.0,
    no_job_400: 0.02,
    cut_before: 0.02,
    cut_after: 0.02,
    cut_midway: 0.02,
    delay: 0.02,
    delay_ms: 20,
    // Takes are few: one brings many jobs.
    malformed: 0.1,
    stop: 0.03,
    stop_ms: 30,
};
/// Faults that must have happened so often, or the run has shown nothing.
const ENOUGH: [(&str, u64); 7] = [
    ("status", 20),
    ("status_after", 20),
    ("cut_before", 20),
    ("cut_after", 20),
    ("cut_midway", 20),
    ("delay", 20),
    ("malformed", 5),
];
/// Longer than any worker lives.
const ENDLESS: u64 = 1_000_000_000;

/// How a job ends if nobody stops it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Good,
    Streamed,
    Bad,
}

/// One of the kinds of jobs that clients send, good ones and bad.
fn input(number: u64) -> (Value, Expected) {
    let chat = |stream: bool, tokens: u64| {
        let messages = json!([{"role": "user", "content": format!("job {number}")}]);
        json!({"openai_route": "/v1/chat/completions",
               "openai_input": {"messages": messages, "max_tokens": tokens, "stream": stream}})
    };
    match number % 10 {
        0 => (json!({"prompt": 5}), Expected::Bad),
        1 => (chat(false, 4), Expected::Good),
        2 => (chat(true, 3), Expected::Streamed),
        3 => (
            json!({"openai_route": "/v1/nowhere", "openai_input": {}}),
            Expected::Bad,
        ),
        // Long enough to be stopped on its way.
        4 => (
            json!({"prompt": format!("job {number}"), "max_tokens": 2000}),
            Expected::Good,
        ),
        _ => (
            json!({"prompt": format!("job {number}"), "max_tokens": 1 + number % 7}),
            Expected::Good,
        ),
    }
}

async fn platform() -> Platform {
    let hold = Duration::from_secs(1);
    let ping_interval = Duration::from_secs(1);
    Platform::start(Options {
        hold,
        ping_interval,
        ..Options::default()
    })
    .await
    .unwrap()
}

fn submit(platform: &Platform, jobs: u64) -> HashMap<String, Expected> {
    let given = (0..jobs).map(|number| {
        let (input, expected) = input(number);
        (platform.submit(input), expected)
    });
    given.collect()
}

/// No worker posted two outcomes, or one for a job that was not its own, or anything after an outcome.
fn check_account(account: &Account, worker: &Process) {
    assert_eq!(account.violations, [], "{}", worker.said());
    for (fault, enough) in ENOUGH {
        let count = account.faults.get(fault).copied().unwrap_or_default();
        assert!(count >= enough, "{fault}: {:?}", account.faults);
    }
    assert!(
        account.repeats > 0,
        "no answer to a result was lost: {:?}",
        account.faults
    );
    assert!(
        account.undelivered > 0,
        "no answer to a take was lost: {:?}",
        account.faults
    );
}

/// One outcome, and the right one.
fn check_outcome(job: &Snapshot, expected: Expected) {
    let results: Vec<_> = job.results.iter().map(|posted| &posted.body).collect();
    if job.status == Status::Cancelled {
        // Its outcome is the platform's; a result may have been on its way.
        assert!(results.len() <= 1, "{}: {results:?}", job.id);
        return;
    }
    assert_eq!(results.len(), 1, "{}: {results:?}", job.id);
    let wanted = if expected == Expected::Bad {
        Status::Failed
    } else {
        Status::Completed
    };
    assert_eq!(job.status, wanted, "{}: {results:?}", job.id);
    let text: Value = serde_json::from_slice(results[0]).unwrap();
    assert_eq!(
        text.get("error").is_some(),
        expected == Expected::Bad,
        "{}: {text}",
        job.id
    );
    if expected == Expected::Streamed {
        let last = job
            .chunks
            .last()
            .and_then(Value::as_str)
            .unwrap_or_default();
        assert!(
            last.ends_with("data: [DONE]\n\n"),
            "{}: {:?}",
            job.id,
            job.chunks
        );
        assert!(job.results[0].is_stream, "{}", job.id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_thousand_jobs_have_one_outcome_each_whatever_breaks() {
    let platform = platform().await;
    platform.break_at(CHAOS);
    let mut worker = Process::start(&platform, &[]);
    let expected = submit(&platform, JOBS);
    let ended = platform.wait_ended(JOBS, Duration::from_secs(300)).await;
    let account = platform.account();
    assert!(ended, "{account:?}\n{}", worker.said());
    check_account(&account, &worker);
    assert!(account.cancelled >= 20, "{account:?}");
    assert_eq!(account.completed + account.failed + account.cancelled, JOBS);
    for job in platform.jobs() {
        check_outcome(&job, expected[&job.id]);
    }
    println!(
        "{:.0} jobs/s among {} faults",
        JOBS as f64 / account.busy_seconds,
        account.faults.values().sum::<u64>()
    );
    worker.terminate();
    let status = worker.end(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}\n{}", worker.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sigterm_in_the_middle_loses_no_job_that_was_taken() {
    let platform = platform().await;
    platform.break_at(Rates { stop: 0.0, ..CHAOS });
    let endless: Vec<String> = (0..4)
        .map(|i| platform.submit(json!({"prompt": format!("endless {i}"), "max_tokens": ENDLESS})))
        .collect();
    let expected = submit(&platform, JOBS);
    let mut worker = Process::start(&platform, &["--drain-grace", "4s"]);
    assert!(
        platform
            .wait_ended(JOBS / 4, Duration::from_secs(120))
            .await,
        "{}",
        worker.said()
    );
    worker.terminate();
    let status = worker.end(Duration::from_secs(30)).await;
    let account = platform.account();
    check_account(&account, &worker);
    let (mut done, mut waiting) = (0, 0);
    for job in platform.jobs() {
        if endless.contains(&job.id) {
            assert_eq!(
                job.status,
                Status::Failed,
                "{}: {:?}\n{}",
                job.id,
                job.results,
                worker.said()
            );
            let text = String::from_utf8_lossy(&job.results[0].body);
            assert!(text.contains("stopping"), "{text}");
        } else if job.status == Status::InQueue {
            assert!(job.results.is_empty());
            waiting += 1;
        } else {
            assert_ne!(
                job.status,
                Status::InProgress,
                "{} was taken and never answered\n{}",
                job.id,
                worker.said()
            );
            let stopped = job
                .results
                .first()
                .is_some_and(|posted| String::from_utf8_lossy(&posted.body).contains("stopping"));
            if !stopped {
                check_outcome(&job, expected[&job.id]);
            }
            assert_eq!(job.results.len(), 1, "{:?}", job.results);
            done += 1;
        }
    }
    assert!(
        waiting > 0 && done >= JOBS / 4,
        "{done} done, {waiting} waiting"
    );
    assert!(status.success(), "{status}\n{}", worker.said());
}
