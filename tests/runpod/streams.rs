//! Chunks and progress: in order, never lost, and nothing after the end.

use runpod_platform::{Fault, Kind, Snapshot, Status};
use serde_json::json;

use super::worker::{Start, error_of};

/// The numbers of the events in all chunks.
fn events(job: &Snapshot) -> Vec<u64> {
    let text: String = job
        .chunks
        .iter()
        .map(|chunk| chunk.as_str().unwrap())
        .collect();
    let events = text.split_terminator("\n\n");
    events
        .map(|event| event.strip_prefix("data: ").unwrap().parse().unwrap())
        .collect()
}

#[tokio::test]
async fn chunks_arrive_in_order_and_before_the_result() {
    let worker = Start::default().start().await;
    let job = worker.does(json!({"chunks": 20, "every_ms": 5})).await;
    assert_eq!(job.status, Status::Completed);
    assert_eq!(events(&job), (0..20).collect::<Vec<_>>());
    assert!(job.results[0].is_stream);
    let wire = worker.platform.wire();
    let chunks = wire.iter().filter(|m| m.path.contains("/job-stream/"));
    for chunk in chunks {
        assert_eq!(chunk.query, "gpu=NVIDIA+RTX+A5000&isStream=false");
    }
    worker.stop().await;
}

#[tokio::test]
async fn events_wait_together_for_a_platform_that_is_slower_than_the_model() {
    let worker = Start::default()
        .after(|platform| platform.script(Kind::Stream, (0..100).map(|_| Fault::Delay(50))))
        .await;
    let job = worker.does(json!({"chunks": 200})).await;
    assert_eq!(events(&job), (0..200).collect::<Vec<_>>());
    assert!(job.chunks.len() <= 3, "{} posts", job.chunks.len());
    worker.stop().await;
}

#[tokio::test]
async fn a_chunk_is_sent_until_it_arrives_and_the_result_waits_for_it() {
    let faults = [
        Fault::CutBefore,
        Fault::Status(500),
        Fault::Status(429),
        Fault::CutBefore,
    ];
    let worker = Start::default()
        .after(|platform| platform.script(Kind::Stream, faults))
        .await;
    let job = worker.does(json!({"chunks": 3, "every_ms": 1})).await;
    assert_eq!(job.status, Status::Completed);
    assert_eq!(events(&job), [0, 1, 2]);
    worker.stop().await;
}

#[tokio::test]
async fn a_chunk_that_is_refused_for_good_is_not_lost_in_silence() {
    let refused = Fault::Answer {
        status: 413,
        body: "too large".into(),
    };
    let worker = Start::default()
        .after(|platform| platform.script(Kind::Stream, [refused]))
        .await;
    let job = worker.does(json!({"chunks": 3, "every_ms": 20})).await;
    assert_eq!(
        (job.status, job.results[0].is_stream),
        (Status::Failed, true)
    );
    let message = error_of(&job)["error_message"].clone();
    assert!(message.as_str().unwrap().contains("413"), "{message}");
    worker.stop().await;
}

#[tokio::test]
async fn no_progress_comes_after_the_result() {
    // The SDK posts progress from threads of its own: a slow one arrives after the result.
    let worker = Start::default()
        .after(|platform| platform.script(Kind::Done, [Fault::Delay(200)]))
        .await;
    let job = worker.does(json!({"progress": 50})).await;
    assert_eq!(job.status, Status::Completed);
    assert_eq!(job.progress_posts, 1); // the others were out of date before they could be sent
    let job = worker.does(json!({"progress": 5, "every_ms": 20})).await;
    assert!(job.progress_posts >= 3, "{}", job.progress_posts);
    assert_eq!(job.progress, Some(json!({"at": 4})));
    worker.stop().await; // sees that no rule was broken
}

#[tokio::test]
async fn a_progress_post_that_fails_costs_nothing() {
    let worker = Start::default()
        .after(|platform| platform.script(Kind::Done, [Fault::CutBefore]))
        .await;
    let job = worker.does(json!({"progress": 1, "every_ms": 20})).await;
    assert_eq!((job.status, job.progress_posts), (Status::Completed, 0));
    worker.stop().await;
}
