//! Everything that goes wrong at the same time: each job still has one outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use chandler::runpod::End;
use runpod_platform::{Rates, Status};
use serde_json::json;

use super::worker::Start;

/// Every fault of the platform's, a few in a hundred each.
fn rates() -> Rates {
    Rates {
        status: 0.04,
        status_after: 0.03,
        too_many: 0.01,
        no_job_400: 0.02,
        cut_before: 0.04,
        cut_after: 0.03,
        cut_midway: 0.03,
        delay: 0.05,
        delay_ms: 20,
        malformed: 0.05,
        stop: 0.03,
        stop_ms: 20,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_jobs_have_one_outcome_each_and_the_last_are_told_of_the_end() {
    let mut start = Start::rows(16);
    start.platform.keep_wire = false;
    start.platform.hold = Duration::from_millis(200);
    start.options.drain_grace = Duration::from_secs(6);
    let mut worker = start.after(|platform| platform.break_at(rates())).await;
    let input = |n: usize| match n % 5 {
        0 => json!({"chunks": 6, "every_ms": 1}),
        1 => json!({"progress": 3, "every_ms": 2}),
        2 => json!({"output": {"error": "of its own"}}),
        _ => json!({"sleep_ms": 3, "output": n}),
    };
    for n in 0..1000 {
        worker.platform.submit(input(n));
    }
    let all = worker
        .platform
        .wait_ended(1000, Duration::from_secs(120))
        .await;
    assert!(all, "{:?}", worker.platform.account());

    // In the middle of more of them, the end.
    let long: Vec<String> = (0..40)
        .map(|_| worker.platform.submit(json!({"sleep_ms": 60_000})))
        .collect();
    worker.taken(&long[8]).await;
    worker.tell_to_stop();
    let (platform, end) = worker.end_with_platform().await;
    assert_eq!(end, End::Drained { lost: 0 });
    let account = platform.account();
    assert_eq!(account.violations, []);
    assert_eq!(account.in_progress, 0, "{account:?}");
    let mut ends = BTreeMap::new();
    for job in platform.jobs() {
        *ends.entry(format!("{:?}", job.status)).or_insert(0) += 1;
        match job.status {
            Status::Completed | Status::Failed => assert_eq!(job.results.len(), 1, "{job:?}"),
            Status::Cancelled | Status::InQueue => assert!(job.results.len() <= 1, "{job:?}"),
            _ => panic!("{job:?}"),
        }
    }
    let stopping = platform
        .jobs()
        .iter()
        .filter(|job| {
            job.view["error"]
                .as_str()
                .is_some_and(|e| e.contains("worker is stopping"))
        })
        .count();
    assert!(stopping >= 8, "{stopping}: {ends:?}");
    assert!(
        ends["Cancelled"] > 5 && account.faults.len() >= 8,
        "{ends:?} {:?}",
        account.faults
    );
}
