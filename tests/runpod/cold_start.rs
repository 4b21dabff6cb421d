//! Before the first job: the model, and the machine's fitness.

use std::time::Duration;

use chandler::runpod::End;
use runpod_platform::Status;
use serde_json::json;

use super::worker::Start;

#[tokio::test]
async fn no_job_is_taken_before_the_model_can_serve_it() {
    let (hold, loading) = std::sync::mpsc::channel();
    let start = Start {
        loading: Some(loading),
        ..Start::default()
    };
    let worker = start.start().await;
    let id = worker.platform.submit(json!({}));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(worker.platform.account().takes, 0);
    assert_eq!(worker.platform.workers().len(), 0);
    drop(hold);
    assert_eq!(worker.ended(&id).await.status, Status::Completed);
    worker.stop().await;
}

#[tokio::test]
async fn a_model_that_does_not_load_is_told_to_the_platform() {
    let (hold, loading) = std::sync::mpsc::channel();
    hold.send("no such weights".to_owned()).unwrap();
    let start = Start {
        loading: Some(loading),
        ..Start::default()
    };
    let worker = start.start().await;
    let (platform, end) = worker.end_with_platform().await;
    assert!(matches!(end, End::Failed(reason) if reason.contains("no such weights")));
    let wire = platform.wire();
    assert_eq!(wire.len(), 1);
    assert_eq!(wire[0].path, "/v2/fake-endpoint/ping/w1");
    assert_eq!(
        wire[0].query,
        "gpu=NVIDIA+RTX+A5000&status=unhealthy&check=model&reason=no%20such%20weights&runpod_version=1.12.0"
    );
}

#[tokio::test]
async fn a_machine_that_will_not_do_takes_no_job_and_says_why() {
    let start = Start {
        variables: vec![
            ("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "false"),
            ("RUNPOD_MIN_MEMORY_GB", "1000000"),
        ],
        ..Start::default()
    };
    let worker = start.start().await;
    let (platform, end) = worker.end_with_platform().await;
    assert!(matches!(end, End::Unfit(unfit) if unfit.check == "memory"));
    assert_eq!(platform.account().takes, 0);
    assert!(
        platform.wire()[0]
            .query
            .contains("status=unhealthy&check=memory&reason=")
    );
}

#[tokio::test]
async fn the_end_may_come_while_the_model_loads() {
    let (_hold, loading) = std::sync::mpsc::channel();
    let start = Start {
        loading: Some(loading),
        ..Start::default()
    };
    let worker = start.start().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(worker.stop().await, End::Drained { lost: 0 });
}
