//! The platform over its sockets: each rule of the contract that workers and clients rely on, and each fault. The official
//! `runpod` worker and client say the rest (tests/conformance).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // Why: a test stops at the first surprise.

mod peer;
mod speed;

use std::time::{Duration, Instant};

use runpod_platform::{Fault, Kind, Rates, Status, Violation};
use serde_json::{Value, json};

use peer::{CLIENT, POLL, POST, Peer, WORKER};

#[tokio::test]
async fn a_job_goes_from_the_client_to_the_worker_and_back() {
    let peer = Peer::new().await;
    let given = json!({"input": {"n": 1}, "webhook": "http://x/", "policy": {"ttl": 60_000}, "s3Config": {"bucketName": "b"}});
    let run = peer.client("POST", "/run", &given.to_string()).await;
    let id = run["id"].as_str().unwrap();
    assert_eq!(run["status"], "IN_QUEUE");
    let job = peer.take().await.unwrap().json();
    let expected = json!({"input": {"n": 1}, "webhook": "http://x/", "s3Config": {"bucketName": "b"}, "id": id});
    assert_eq!(job, expected);
    peer.done(id, json!({"status": "IN_PROGRESS", "output": "half"}))
        .await
        .unwrap();
    let status = format!("/status/{id}");
    let seen = peer.client("GET", &status, "").await;
    assert_eq!(
        (&seen["status"], &seen["output"]),
        (&json!("IN_PROGRESS"), &json!("half"))
    );
    peer.chunk(id, json!("one")).await;
    peer.chunk(id, json!({"two": 2})).await;
    let stream = format!("/stream/{id}");
    let chunks = peer.client("GET", &stream, "").await;
    assert_eq!(
        chunks["stream"],
        json!([{"output": "one"}, {"output": {"two": 2}}])
    );
    peer.done(id, json!({"output": ["all"]})).await.unwrap();
    let seen = peer.client("GET", &status, "").await;
    assert_eq!(
        (&seen["status"], &seen["output"]),
        (&json!("COMPLETED"), &json!(["all"]))
    );
    assert_eq!(seen["workerId"], "w1");
    let last = peer.client("GET", &stream, "").await;
    assert_eq!(
        (&last["status"], &last["stream"]),
        (&json!("COMPLETED"), &json!([]))
    );
    let account = peer.0.account();
    assert_eq!((account.submitted, account.completed), (1, 1));
    assert_eq!(account.violations, []);
    let wire = peer.0.wire();
    let post = wire
        .iter()
        .find(|entry| entry.path.contains("job-done"))
        .unwrap();
    assert_eq!((post.status, post.query.as_str()), (200, &POST[1..]));
    assert_eq!(post.headers["authorization"], WORKER);
}

#[tokio::test]
async fn what_a_worker_must_not_do_is_written_down() {
    let peer = Peer::new().await;
    peer.0.submit(json!({}));
    let id = peer.taken().await;
    peer.done(&id, json!({"output": 1})).await.unwrap();
    peer.done(&id, json!({"output": 1})).await.unwrap();
    assert_eq!(
        peer.0.account().violations,
        [],
        "the same bytes once more are allowed"
    );
    assert_eq!(peer.0.account().repeats, 1);
    peer.done(&id, json!({"output": 2})).await.unwrap();
    peer.done(&id, json!({"status": "IN_PROGRESS", "output": 3}))
        .await
        .unwrap();
    peer.chunk(&id, json!(4)).await;
    assert_eq!(
        peer.done("nobody's", json!({"output": 5}))
            .await
            .unwrap()
            .status,
        404
    );
    assert_eq!(peer.done(&id, json!([6])).await.unwrap().status, 400);
    peer.call("GET", "/job-take/w1?job_in_progress=0", WORKER, "")
        .await
        .unwrap();
    let job = id.clone();
    let two = Violation::TwoResults {
        job,
        first: r#"{"output":1}"#.into(),
        second: r#"{"output":2}"#.into(),
    };
    let expected = [
        two,
        Violation::ProgressAfterResult { job: id.clone() },
        Violation::ChunkAfterResult { job: id.clone() },
        Violation::NotItsJob {
            job: "nobody's".into(),
            worker: "w1".into(),
        },
        Violation::BadBody {
            job: id.clone(),
            body: "[6]".into(),
        },
        Violation::BadQuery {
            request: "job-take/w1?job_in_progress=0".into(),
        },
    ];
    assert_eq!(peer.0.account().violations, expected);
    assert_eq!(
        peer.0.job(&id).unwrap().view["output"],
        1,
        "the first result counts"
    );
}

#[tokio::test]
async fn a_cut_before_leaves_no_trace_and_a_cut_after_leaves_the_result() {
    let peer = Peer::new().await;
    peer.0.submit(json!({}));
    peer.0.script(
        Kind::Take,
        [
            Fault::CutBefore,
            Fault::CutAfter,
            Fault::CutMidway,
            Fault::StatusAfter(502),
        ],
    );
    assert!(peer.take().await.is_none());
    assert!(peer.take().await.is_none());
    let half = peer.take().await;
    assert!(half.is_none_or(|said| serde_json::from_str::<Value>(&said.body).is_err()));
    assert_eq!(peer.take().await.unwrap().status, 502);
    assert_eq!(peer.0.account().undelivered, 3);
    let id = peer.taken().await;
    peer.0.script(
        Kind::Done,
        [Fault::Status(500), Fault::CutBefore, Fault::CutAfter],
    );
    assert_eq!(
        peer.done(&id, json!({"output": 1})).await.unwrap().status,
        500
    );
    assert!(peer.done(&id, json!({"output": 1})).await.is_none());
    assert_eq!(peer.status(&id), Status::InProgress);
    assert!(peer.done(&id, json!({"output": 1})).await.is_none());
    assert_eq!(peer.status(&id), Status::Completed);
    peer.done(&id, json!({"output": 1})).await.unwrap();
    let account = peer.0.account();
    assert_eq!((account.repeats, account.violations.len()), (1, 0));
    assert_eq!(account.faults["cut_after"], 2);
}

#[tokio::test]
async fn a_poll_is_held_and_woken_by_a_job() {
    let peer = Peer::new().await;
    let begun = Instant::now();
    assert_eq!(peer.take().await.unwrap().status, 204);
    assert!(begun.elapsed() >= Duration::from_millis(150));
    peer.0.hold_for(Duration::from_secs(20));
    let (job, ()) = tokio::join!(peer.take(), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        peer.0.submit(json!({"late": true}));
    });
    assert_eq!(job.unwrap().json()["input"]["late"], true);
    for _ in 0..5 {
        peer.0.submit(json!({}));
    }
    let batch = format!("/job-take-batch/w1{POLL}&batch_size=");
    let jobs = peer
        .call("GET", &format!("{batch}3"), WORKER, "")
        .await
        .unwrap()
        .json();
    assert_eq!(jobs.as_array().unwrap().len(), 3);
    let jobs = peer
        .call("GET", &format!("{batch}3"), WORKER, "")
        .await
        .unwrap()
        .json();
    assert_eq!(jobs.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_cancelled_job_is_told_to_its_worker_and_a_failed_one_can_be_tried_again() {
    let peer = Peer::new().await;
    peer.0.submit(json!({}));
    let id = peer.taken().await;
    let stop = "/job-stop/w1?gpu=x";
    assert_eq!(
        peer.call("GET", stop, WORKER, "").await.unwrap().status,
        204
    );
    let cancelled = peer.client("POST", &format!("/cancel/{id}"), "").await;
    assert_eq!(cancelled["status"], "CANCELLED");
    let told = peer.call("GET", stop, WORKER, "").await.unwrap().json();
    assert_eq!(told, json!({"jobsToStop": [id]}));
    peer.done(&id, json!({"output": "too late"})).await.unwrap();
    assert_eq!(peer.status(&id), Status::Cancelled);
    assert_eq!(peer.0.account().late_results, 1);

    let id = peer.0.submit(json!({}));
    peer.take().await.unwrap();
    peer.done(&id, json!({"error": "no"})).await.unwrap();
    assert_eq!(peer.status(&id), Status::Failed);
    peer.client("POST", &format!("/retry/{id}"), "").await;
    assert_eq!(peer.taken().await, id);
    peer.done(&id, json!({"output": "yes"})).await.unwrap();
    assert_eq!(peer.status(&id), Status::Completed);
    let again = peer
        .call("POST", &format!("/retry/{id}"), CLIENT, "")
        .await
        .unwrap();
    assert_eq!(again.status, 400);

    peer.0.submit(json!({}));
    peer.0.submit(json!({}));
    assert_eq!(peer.client("POST", "/purge-queue", "").await["removed"], 2);
    let health = peer.client("GET", "/health", "").await;
    let jobs = json!({"completed": 1, "failed": 0, "inProgress": 0, "inQueue": 0, "retried": 1});
    assert_eq!(health["jobs"], jobs);
    assert_eq!(health["workers"]["ready"], 1);
}

#[tokio::test]
async fn policies_limits_and_keys_are_kept() {
    let peer = Peer::new().await;
    let slow = json!({"input": {}, "policy": {"executionTimeout": 30}}).to_string();
    let run = peer.client("POST", "/run", &slow).await;
    let id = run["id"].as_str().unwrap();
    assert_eq!(peer.taken().await, id);
    let ended = peer.0.ended(id, Duration::from_secs(5)).await.unwrap();
    assert_eq!(ended.status, Status::TimedOut);
    peer.0.submit(json!({}));
    let id = peer.taken().await;
    let large = "x".repeat(1000);
    assert_eq!(
        peer.done(&id, json!({"output": large}))
            .await
            .unwrap()
            .status,
        400
    );
    assert_eq!(
        (peer.status(&id), peer.0.account().too_large),
        (Status::InProgress, 1)
    );
    for (path, key) in [
        (format!("/job-take/w1{POLL}"), CLIENT),
        ("/health".into(), WORKER),
    ] {
        assert_eq!(peer.call("GET", &path, key, "").await.unwrap().status, 401);
    }
    assert_eq!(
        peer.call("GET", "/health", "client-key", "")
            .await
            .unwrap()
            .status,
        200
    );
    let missing = peer.call("POST", "/run", CLIENT, "{}").await.unwrap();
    assert_eq!(missing.status, 400);
    assert_eq!(
        peer.call("GET", "/status/nobody", CLIENT, "")
            .await
            .unwrap()
            .status,
        404
    );
}

#[tokio::test]
async fn openai_paths_become_jobs_and_their_output_an_answer() {
    let peer = Peer::new().await;
    let path = "/openai/v1/chat/completions";
    let worker = async |output: Value| {
        let job = peer.take().await.unwrap().json();
        peer.done(job["id"].as_str().unwrap(), output)
            .await
            .unwrap();
        job["input"].clone()
    };
    let body = r#"{"model":"m","messages":[]}"#;
    let (said, input) = tokio::join!(
        peer.client("POST", path, body),
        worker(json!({"output": [{"object": "chat.completion"}]}))
    );
    assert_eq!(said, json!({"object": "chat.completion"}));
    let wrapped = json!({"openai_route": "/v1/chat/completions", "openai_input": {"model": "m", "messages": []}});
    assert_eq!(input, wrapped);
    let (_, input) = tokio::join!(
        peer.client("GET", "/openai/v1/models", ""),
        worker(json!({"output": {"object": "list"}}))
    );
    assert_eq!(input, json!({"openai_route": "/v1/models"}));
    let error = worker(json!({"error": "it broke"}));
    let (said, _) = tokio::join!(peer.call("POST", path, CLIENT, body), error);
    assert_eq!(said.unwrap().status, 500);

    let streaming = r#"{"stream":true}"#;
    let (said, ()) = tokio::join!(peer.call("POST", path, CLIENT, streaming), async {
        let id = peer.taken().await;
        peer.chunk(&id, json!("data: {\"a\":1}\n\n")).await;
        peer.chunk(&id, json!("data: {\"b\":2}\n\ndata: [DONE]\n\n"))
            .await;
        let path = format!("/job-done/w1/{id}?gpu=x&isStream=true");
        peer.call("POST", &path, WORKER, r#"{"output":[]}"#)
            .await
            .unwrap();
    });
    let events = said.unwrap().body;
    assert_eq!(
        events,
        "data: {\"a\":1}\n\ndata: {\"b\":2}\n\ndata: [DONE]\n\n"
    );
    assert_eq!(peer.0.account().violations, []);
}

#[tokio::test]
async fn malformed_answers_are_never_mistaken_for_jobs() {
    let peer = Peer::new().await;
    peer.0.script(Kind::Take, (0..11).map(Fault::Malformed));
    for _ in 0..11 {
        let _ = peer.take().await; // one of them is not even UTF-8
    }
    assert_eq!(peer.0.account().malformed, 11);
    assert!(peer.0.jobs().is_empty());
    // The good jobs behind a bad one in a batch are jobs.
    let id = peer.0.submit(json!({}));
    peer.0
        .script(Kind::Take, [Fault::Malformed(10), Fault::Malformed(10)]);
    assert!(peer.take().await.unwrap().json()["no"] == "id");
    assert_eq!(
        peer.status(&id),
        Status::InQueue,
        "nothing good is lost with a bad one"
    );
    let batch = format!("/job-take-batch/w1{POLL}&batch_size=2");
    let jobs = peer.call("GET", &batch, WORKER, "").await.unwrap().json();
    assert_eq!((&jobs[0]["no"], &jobs[1]["id"]), (&json!("id"), &json!(id)));
    assert_eq!(peer.status(&id), Status::InProgress);
}

#[tokio::test]
async fn faults_come_at_their_rates() {
    let peer = Peer::new().await;
    peer.0.break_at(Rates {
        status: 1.0,
        ..Rates::default()
    });
    assert!(peer.take().await.unwrap().status >= 500);
    peer.0.break_at(Rates {
        stop: 1.0,
        stop_ms: 1,
        ..Rates::default()
    });
    let id = peer.0.submit(json!({}));
    assert_eq!(peer.taken().await, id);
    let ended = peer.0.ended(&id, Duration::from_secs(5)).await.unwrap();
    assert_eq!(ended.status, Status::Cancelled);
}
