//! Taking jobs: how many, how soon, what is no job, and what is stopped.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chandler_core::{Input, Limits, Prompt, TextInput};
use runpod_platform::{Fault, Kind, Status};
use serde_json::json;

use super::worker::{Start, error_of, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_gap_between_jobs() {
    let worker = Start::default().start().await;
    worker.does(json!({})).await;
    let begun = Instant::now();
    for _ in 0..300 {
        worker.platform.submit(json!({}));
    }
    assert!(
        worker
            .platform
            .wait_ended(301, Duration::from_secs(20))
            .await
    );
    let each = begun.elapsed() / 300;
    assert!(each < Duration::from_millis(20), "{each:?} a job"); // the SDK: 1 s
    worker.stop().await;
}

#[tokio::test]
async fn the_next_job_is_taken_while_a_short_one_runs_and_not_while_a_long_one_does() {
    let mut start = Start::default();
    start.options.prefetch = Some(1);
    let worker = start.start().await;
    let ids: Vec<String> = (0..3)
        .map(|_| worker.platform.submit(json!({"sleep_ms": 400})))
        .collect();
    worker.taken(&ids[1]).await;
    assert_eq!(
        worker.platform.job(&ids[0]).unwrap().status,
        Status::InProgress
    );
    assert_eq!(
        worker.platform.job(&ids[2]).unwrap().status,
        Status::InQueue
    );
    worker.ended(&ids[2]).await;
    worker.stop().await;

    let worker = Start::default().start().await;
    worker.does(json!({"sleep_ms": 2100})).await;
    let long = worker.platform.submit(json!({"sleep_ms": 300}));
    let next = worker.platform.submit(json!({}));
    worker.taken(&long).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(worker.platform.job(&next).unwrap().status, Status::InQueue);
    worker.ended(&next).await;
    worker.stop().await;
}

#[tokio::test]
async fn as_many_run_at_once_as_the_engine_has_rows() {
    let worker = Start::rows(4).start().await;
    worker.does(json!({"sleep_ms": 2100})).await; // long ones: none is taken ahead
    for _ in 0..12 {
        worker.platform.submit(json!({"sleep_ms": 100}));
    }
    until("four at once", || {
        worker.seen.running.load(Ordering::SeqCst) == 4
    })
    .await;
    assert!(
        worker
            .platform
            .wait_ended(13, Duration::from_secs(20))
            .await
    );
    assert!(worker.seen.most.load(Ordering::SeqCst) <= 5);
    let batches = worker.platform.wire();
    assert!(
        batches
            .iter()
            .any(|m| m.path.contains("/job-take-batch/") && m.query.contains("batch_size=4"))
    );
    worker.stop().await;
}

#[tokio::test]
async fn room_that_others_take_is_not_filled_with_jobs_and_is_used_as_soon_as_it_is_free() {
    let mut start = Start::rows(1);
    start.platform.hold = Duration::from_millis(50);
    start.step = Duration::from_millis(20);
    let worker = start.start().await;
    until("it polls", || worker.platform.account().takes > 1).await;
    let words = Limits {
        max_tokens: Some(60),
        ..Limits::default()
    };
    let input = Input::Text(TextInput {
        prompt: Prompt::Text("over HTTP".into()),
        limits: words,
        ..TextInput::default()
    });
    let other = worker.engine.submit(input).await.unwrap();
    until("the engine is full", || worker.engine.counters().rows == 1).await;
    tokio::time::sleep(Duration::from_millis(150)).await; // the poll that is under way comes back empty
    let id = worker.platform.submit(json!({}));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(worker.platform.job(&id).unwrap().status, Status::InQueue);
    other.collect().await.unwrap();
    let begun = Instant::now();
    worker.ended(&id).await;
    assert!(
        begun.elapsed() < Duration::from_millis(500),
        "{:?}",
        begun.elapsed()
    );
    worker.stop().await;
}

#[tokio::test]
async fn errors_of_job_take_are_met_with_patience_and_no_busy_loop() {
    let faults = (0..6).map(|n| Fault::Status([500, 502, 401, 503][n % 4]));
    let faults: Vec<Fault> = faults.chain([Fault::CutBefore, Fault::CutMidway]).collect();
    let count = faults.len() as u64;
    let begun = Instant::now();
    let worker = Start::default()
        .after(|platform| platform.script(Kind::Take, faults))
        .await;
    let job = worker.does(json!({})).await;
    assert_eq!(job.status, Status::Completed);
    // Doubling from 50 ms, less jitter: eight of them take seconds, where a busy loop takes none.
    assert!(
        begun.elapsed() > Duration::from_millis(1500),
        "{:?}",
        begun.elapsed()
    );
    let takes = worker
        .platform
        .wire()
        .iter()
        .filter(|m| m.path.contains("/job-take"))
        .count() as u64;
    assert!(takes <= count + 4, "{takes}");
    worker.stop().await;
}

#[tokio::test]
async fn empty_answers_that_do_not_hang_are_not_asked_for_all_the_time() {
    let mut start = Start::default();
    start.platform.hold = Duration::ZERO;
    let worker = start.start().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let takes = worker.platform.account().takes;
    assert!(takes < 20, "{takes}");
    let begun = Instant::now();
    worker.does(json!({})).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    worker.stop().await;
}

#[tokio::test]
async fn what_is_no_job_does_no_harm_and_what_has_a_name_is_answered() {
    for rows in [1, 4] {
        let worker = Start::rows(rows)
            .after(|platform| platform.script(Kind::Take, (0..11).map(Fault::Malformed)))
            .await;
        let jobs: Vec<String> = (0..5).map(|_| worker.platform.submit(json!({}))).collect();
        for id in &jobs {
            assert_eq!(worker.ended(id).await.status, Status::Completed);
        }
        until("all were handed out", || {
            worker.platform.account().malformed == 11
        })
        .await;
        // The first was an id without an input.
        let named = || worker.platform.job("malformed-1");
        until("the named one is answered", || {
            named().is_some_and(|job| !job.results.is_empty())
        })
        .await;
        let error = error_of(&named().unwrap());
        assert_eq!(error["error_type"], "InvalidJob");
        assert!(
            error["error_message"]
                .as_str()
                .unwrap()
                .contains("no `input`"),
            "{error}"
        );
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_stopped_job_is_dropped_and_nothing_is_told_of_it() {
    let worker = Start::default().start().await;
    let id = worker
        .platform
        .submit(json!({"sleep_ms": 10_000, "chunks": 1}));
    until("it runs", || {
        worker.seen.running.load(Ordering::SeqCst) == 1
    })
    .await;
    assert!(worker.platform.cancel(&id));
    until("it is dropped", || {
        worker.seen.dropped.load(Ordering::SeqCst) == 1
    })
    .await;
    // Its place is free at once.
    assert_eq!(worker.does(json!({})).await.status, Status::Completed);
    let job = worker.platform.job(&id).unwrap();
    assert_eq!(
        (job.status, job.results.len(), job.chunks.len()),
        (Status::Cancelled, 0, 0)
    );
    worker.stop().await;
}

#[tokio::test]
async fn messages_look_as_the_platform_wants_them() {
    let mut start = Start::default();
    start.platform.hold = Duration::from_millis(100);
    let worker = start.start().await;
    let job = worker.does(json!({"output": "ü"})).await;
    let stops = || {
        worker
            .platform
            .wire()
            .iter()
            .any(|m| m.path.contains("/job-stop/"))
    };
    until("the stop channel's first answer", stops).await;
    let wire = worker.platform.wire();
    let take = wire.iter().find(|m| m.path.contains("/job-take/")).unwrap();
    assert_eq!(take.path, "/v2/fake-endpoint/job-take/w1");
    assert_eq!(take.query, "gpu=NVIDIA+RTX+A5000&job_in_progress=0");
    assert_eq!(take.headers["authorization"], "worker-key");
    assert_eq!(take.headers["content-type"], "application/json");
    let done = wire.iter().find(|m| m.path.contains("/job-done/")).unwrap();
    assert_eq!(
        done.path,
        format!("/v2/fake-endpoint/job-done/w1/{}", job.id)
    );
    assert_eq!(done.query, "gpu=NVIDIA+RTX+A5000&isStream=false");
    assert_eq!(done.body, "{\"output\":\"ü\"}");
    assert_eq!(
        done.headers["content-type"],
        "application/x-www-form-urlencoded"
    );
    assert_eq!(
        (&done.headers["charset"][..], &done.headers["x-request-id"]),
        ("utf-8", &job.id)
    );
    let stop = wire.iter().find(|m| m.path.contains("/job-stop/")).unwrap();
    assert_eq!(stop.query, "gpu=NVIDIA+RTX+A5000");
    worker.stop().await;
}
