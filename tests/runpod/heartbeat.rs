//! The heartbeat: from the start, with the jobs in hand, and whatever the rest of the process does.

use std::time::Duration;

use chandler::runpod::End;
use runpod_platform::Platform;
use serde_json::json;

use super::worker::{Start, until};

#[tokio::test]
async fn the_first_beat_is_at_once_and_each_names_the_jobs_in_hand() {
    let mut start = Start::rows(2);
    start.platform.ping_interval = Duration::from_millis(150);
    let worker = start.start().await;
    let pings = || worker.platform.workers().get("w1").map_or(0, |w| w.pings);
    until("the first beat", || pings() == 1).await;
    let wire = worker.platform.wire();
    let first = wire.iter().find(|m| m.path.contains("/ping/")).unwrap();
    assert_eq!(first.query, "gpu=NVIDIA+RTX+A5000&runpod_version=1.12.0");
    assert_eq!(first.headers["authorization"], "worker-key");
    let id = worker.platform.submit(json!({"sleep_ms": 600}));
    let last = || worker.platform.workers()["w1"].last_ping.clone();
    until("a beat with the job", || {
        last().contains(&format!("job_id={id}&"))
    })
    .await;
    worker.ended(&id).await;
    until("a beat without", || !last().contains("job_id")).await;
    worker.stop().await;
}

#[test]
fn a_process_that_is_busy_all_the_time_still_beats() {
    // The platform on a runtime of its own, since this one is to be blocked.
    let outside = tokio::runtime::Runtime::new().unwrap();
    let mut start = Start::default();
    start.platform.ping_interval = Duration::from_millis(100);
    let platform = outside
        .block_on(Platform::start(start.platform.clone()))
        .unwrap();
    let inside = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    inside.block_on(async {
        let worker = start.on(platform, |_| {});
        let pings = || worker.platform.workers().get("w1").map_or(0, |w| w.pings);
        until("the first beat", || pings() > 0).await;
        let before = pings();
        std::thread::sleep(Duration::from_secs(1)); // on purpose: nothing else of the worker runs meanwhile
        let beats = pings() - before;
        assert!((5..=11).contains(&beats), "{beats} beats");
        assert_eq!(worker.stop().await, End::Drained { lost: 0 });
    });
}
