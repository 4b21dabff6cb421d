//! Results: one for each job, whatever happens on the way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chandler::runpod::{End, Job, OutputError, Outputs};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use runpod_platform::{Fault, Kind, Status};
use serde_json::{Value, json};

use super::worker::{Start, error_of, until};

#[tokio::test]
async fn a_result_is_sent_until_it_arrives_and_always_the_same() {
    let faults = [
        Fault::CutBefore,
        Fault::Status(503),
        Fault::CutAfter,
        Fault::Status(429),
        Fault::StatusAfter(500),
        Fault::CutMidway,
    ];
    let worker = Start::default()
        .after(|platform| platform.script(Kind::Done, faults))
        .await;
    let job = worker
        .does(json!({"output": {"b": 1, "a": [2, "ü"]}}))
        .await;
    assert_eq!(job.status, Status::Completed);
    until("the last try", || worker.platform.account().repeats >= 2).await;
    tokio::time::sleep(Duration::from_millis(1200)).await; // nothing more comes
    let job = worker.platform.job(&job.id).unwrap();
    // Whether the last cut hides the answer's status as well is a matter of luck.
    assert_eq!(job.results.len(), 1);
    assert!((3..=4).contains(&job.results[0].times), "{:?}", job.results);
    assert_eq!(worker.stop().await, End::Drained { lost: 0 });
}

#[tokio::test]
async fn a_result_on_its_way_does_not_hold_up_the_next_job() {
    let worker = Start::default()
        .after(|platform| platform.script(Kind::Done, [Fault::Delay(1500)]))
        .await;
    let slow = worker.platform.submit(json!({}));
    let next = worker.does(json!({})).await;
    assert_eq!(next.status, Status::Completed);
    assert_eq!(
        worker.platform.job(&slow).unwrap().status,
        Status::InProgress
    );
    assert_eq!(worker.ended(&slow).await.status, Status::Completed);
    worker.stop().await;
}

#[tokio::test]
async fn a_result_that_the_platform_refuses_becomes_a_small_error() {
    for status in [400, 413] {
        let mut start = Start::default();
        start.platform.result_limit = 1000;
        start.platform.too_large_status = status;
        let worker = start.start().await;
        let job = worker.does(json!({"size": 2000})).await;
        assert_eq!((job.status, job.results.len()), (Status::Failed, 1));
        let message = error_of(&job)["error_message"].clone();
        assert!(
            message
                .as_str()
                .unwrap()
                .contains(&format!("HTTP {status}")),
            "{message}"
        );
        assert_eq!(worker.platform.account().too_large, 1);
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_result_that_may_have_arrived_is_never_replaced_by_an_error() {
    let refused = Fault::Answer {
        status: 400,
        body: "{\"error\": \"done already\"}".into(),
    };
    for first in [Fault::CutAfter, Fault::StatusAfter(502)] {
        let worker = Start::default()
            .after(|platform| platform.script(Kind::Done, [first, refused.clone()]))
            .await;
        let job = worker.does(json!({"output": "the one"})).await;
        let posts = || {
            worker
                .platform
                .wire()
                .iter()
                .filter(|m| m.path.contains("/job-done/"))
                .count()
        };
        until("both tries", || posts() == 2).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(posts(), 2);
        let job = worker.platform.job(&job.id).unwrap();
        assert_eq!((job.status, job.results.len()), (Status::Completed, 1));
        worker.stop().await;
    }
}

#[tokio::test]
async fn an_output_over_the_limit_is_told_and_not_sent() {
    let mut start = Start::default();
    start.options.output_limit = Some(1000);
    let worker = start.start().await;
    let job = worker.does(json!({"size": 5000})).await;
    assert_eq!(job.status, Status::Failed);
    let error = error_of(&job);
    assert_eq!(error["error_type"], "OutputRefused");
    let message = error["error_message"].as_str().unwrap();
    assert!(
        message.contains("takes 1000") && message.contains("BUCKET_ENDPOINT_URL"),
        "{message}"
    );
    assert_eq!(
        (&error["worker_id"], &error["hostname"]),
        (&json!("w1"), &json!("w1-host"))
    );
    worker.stop().await;
}

/// Puts everything that is large under an address.
struct Links;

impl Outputs for Links {
    fn deliver<'a>(
        &'a self,
        job: &'a Job,
        mut body: Value,
    ) -> BoxFuture<'a, Result<Value, OutputError>> {
        async move {
            if body.to_string().len() > 1000 {
                let place = &job.rest["s3Config"]["bucketName"];
                body["output"] = json!({"artifact": {"url": format!("https://store/{}/{}", place.as_str().unwrap(), job.id)}});
            }
            Ok(body)
        }
        .boxed()
    }
}

#[tokio::test]
async fn an_output_over_the_limit_goes_where_outputs_go() {
    let mut start = Start::default();
    start.options.output_limit = Some(1000);
    start.outputs = Some(Arc::new(Links));
    let worker = start.start().await;
    let more = json!({"s3Config": {"bucketName": "b"}});
    let id = worker
        .platform
        .submit_with(json!({"size": 5000}), more.as_object().unwrap().clone());
    let job = worker.ended(&id).await;
    assert_eq!(
        job.view["output"]["artifact"]["url"],
        format!("https://store/b/{id}")
    );
    worker.stop().await;
}

#[tokio::test]
async fn work_that_panics_or_ends_without_a_result_is_an_error_of_its_job_alone() {
    let worker = Start::default().start().await;
    for (input, said) in [
        (json!({"panic": true}), "failed within the worker"),
        (json!({"silent": true}), "without a result"),
    ] {
        let job = worker.does(input).await;
        assert_eq!(job.status, Status::Failed);
        let message = error_of(&job)["error_message"].clone();
        assert!(message.as_str().unwrap().contains(said), "{message}");
    }
    assert_eq!(worker.does(json!({})).await.status, Status::Completed);
    worker.stop().await;
}

#[tokio::test]
async fn an_error_within_the_output_fails_the_job_as_with_the_sdk() {
    let worker = Start::default().start().await;
    let job = worker
        .does(json!({"output": {"error": {"code": 7}, "partial": 1}}))
        .await;
    assert_eq!(job.status, Status::Failed);
    let body: Value = serde_json::from_slice(&job.results[0].body).unwrap();
    assert_eq!(
        body,
        json!({"output": {"partial": 1}, "error": {"code": 7}})
    );
    let job = worker
        .does(json!({"output": {"error": "", "whole": 1}}))
        .await;
    assert_eq!(job.status, Status::Completed);
    worker.stop().await;
}

#[tokio::test]
async fn a_job_that_asks_for_a_new_worker_gets_one_once_the_others_are_answered() {
    let worker = Start::rows(2).start().await;
    let long = worker.platform.submit(json!({"sleep_ms": 400}));
    worker.taken(&long).await;
    let begun = Instant::now();
    let job = worker
        .does(json!({"refresh": true, "output": {"a": 1}}))
        .await;
    let body: Value = serde_json::from_slice(&job.results[0].body).unwrap();
    assert_eq!(body, json!({"output": {"a": 1}, "stopPod": true}));
    assert!(begun.elapsed() < Duration::from_millis(350));
    let (platform, end) = worker.end_with_platform().await;
    assert_eq!(end, End::Refresh);
    assert_eq!(platform.job(&long).unwrap().status, Status::Completed);
    assert_eq!(platform.account().violations, []);
}
