//! The end: what can be finished is, what cannot is told, and nothing that was taken is lost.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chandler::runpod::End;
use runpod_platform::{Fault, Kind, Status};
use serde_json::json;

use super::worker::{Start, error_of, until};

fn grace(rows: usize, grace: Duration) -> Start {
    let mut start = Start::rows(rows);
    start.options.drain_grace = grace;
    start
}

#[tokio::test]
async fn an_idle_worker_ends_at_once_though_its_poll_hangs() {
    let mut start = Start::default();
    start.platform.hold = Duration::from_secs(60);
    let worker = start.start().await;
    until("it polls", || worker.platform.account().takes > 0).await;
    let begun = Instant::now();
    assert_eq!(worker.stop().await, End::Drained { lost: 0 });
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    ); // the SDK: up to 90 s
}

#[tokio::test]
async fn what_can_be_finished_is_and_what_cannot_is_told() {
    let worker = grace(4, Duration::from_secs(2)).start().await;
    let short = worker
        .platform
        .submit(json!({"sleep_ms": 600, "output": "whole"}));
    let long = worker.platform.submit(json!({"sleep_ms": 60_000}));
    until("both run", || {
        worker.seen.running.load(Ordering::SeqCst) == 2
    })
    .await;
    let begun = Instant::now();
    let mut worker = worker;
    worker.tell_to_stop();
    let late = worker.platform.submit(json!({})); // after the handover nobody takes it
    let (platform, end) = worker.end_with_platform().await;
    assert!(
        begun.elapsed() < Duration::from_millis(2500),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(end, End::Drained { lost: 0 });
    assert_eq!(platform.job(&short).unwrap().view["output"], "whole");
    let error = error_of(&platform.job(&long).unwrap());
    assert_eq!(error["error_type"], "WorkerStopping");
    assert!(
        error["error_message"]
            .as_str()
            .unwrap()
            .contains("the worker is stopping")
    );
    let late = platform.job(&late).unwrap();
    assert!(
        matches!(late.status, Status::InQueue | Status::Completed),
        "{late:?}"
    );
    assert_eq!(platform.account().violations, []);
}

#[tokio::test]
async fn a_job_that_is_being_handed_over_when_the_end_comes_is_done() {
    let worker = Start::default()
        .after(|platform| {
            platform.submit(json!({}));
            platform.script(Kind::Take, [Fault::Delay(150)]);
        })
        .await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    let (platform, end) = {
        let mut worker = worker;
        worker.tell_to_stop();
        worker.end_with_platform().await
    };
    assert_eq!(end, End::Drained { lost: 0 });
    let job = &platform.jobs()[0];
    assert_eq!((job.status, job.results.len()), (Status::Completed, 1));
}

#[tokio::test]
async fn a_result_still_gets_through_to_a_platform_that_fails_while_the_worker_ends() {
    let worker = grace(1, Duration::from_secs(4))
        .after(|platform| platform.script(Kind::Done, (0..8).map(|_| Fault::Status(503))))
        .await;
    let id = worker.platform.submit(json!({}));
    until("it is worked on", || {
        worker.seen.begun.load(Ordering::SeqCst) == 1
    })
    .await;
    let mut worker = worker;
    worker.tell_to_stop();
    let (platform, end) = worker.end_with_platform().await;
    assert_eq!(end, End::Drained { lost: 0 });
    assert_eq!(platform.job(&id).unwrap().status, Status::Completed);
}

#[tokio::test]
async fn a_platform_that_takes_nothing_does_not_keep_the_worker_for_ever() {
    let worker = grace(1, Duration::from_secs(1))
        .after(|platform| platform.script(Kind::Done, (0..1000).map(|_| Fault::Status(503))))
        .await;
    worker.platform.submit(json!({}));
    until("it is worked on", || {
        worker.seen.begun.load(Ordering::SeqCst) == 1
    })
    .await;
    let begun = Instant::now();
    let mut worker = worker;
    worker.tell_to_stop();
    let (_, end) = worker.end_with_platform().await;
    assert_eq!(end, End::Drained { lost: 1 });
    assert!(
        begun.elapsed() < Duration::from_millis(1500),
        "{:?}",
        begun.elapsed()
    );
}
