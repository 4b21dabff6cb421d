//! The engine's promises, held on the mock: one end for every request, failures that stay with who caused them,
//! readers that cannot hold it up, and an end that finishes what runs.

mod parking;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chandler_core::mock::{Fault, MockOptions, MockPipeline};
use chandler_core::{
    Admission, Collected, ErrorKind, Event, Events, Footprint, Input, Limits, Occupancy, Pipeline,
    Prepare, Prompt, RequestError, RequestId, Sampling, Step, StepError, TextInput, Ticket,
};

use super::{Engine, EngineOptions, Status};

fn engine(options: EngineOptions, mock: MockOptions) -> Engine {
    Engine::start(options, move |_| Ok(MockPipeline::new(mock)))
}

fn input(prompt: &str, words: u32) -> Input {
    Input::Text(TextInput {
        prompt: Prompt::Text(prompt.into()),
        limits: Limits {
            max_tokens: Some(words),
            ..Limits::default()
        },
        sampling: Sampling {
            seed: Some(u64::from(words)),
            ..Sampling::default()
        },
        ..TextInput::default()
    })
}

async fn ask(engine: &Engine, prompt: &str, words: u32) -> Result<Collected, RequestError> {
    engine.submit(input(prompt, words)).await?.collect().await
}

/// Waits until the engine holds nothing.
async fn emptied(engine: &Engine) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let c = engine.counters();
        if c.running + c.queued + c.rows == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "the engine is not empty: {c:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_request_is_answered() {
    let engine = engine(EngineOptions::default(), MockOptions::default());
    let answer = ask(&engine, "wax wick", 5).await.unwrap();
    assert_eq!(answer.rows[0].text.split(' ').count(), 5);
    assert_eq!(answer.usage.completion_tokens, 5);
    assert_eq!(engine.counters().completed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_poisoned_request_fails_and_the_others_answer_as_if_it_had_not_been() {
    for fault in [Fault::Batch, Fault::Panic] {
        let mock = MockOptions {
            poison: Some("arsenic".into()),
            fault,
            step: Duration::from_millis(1),
            ..MockOptions::default()
        };
        let calm = engine(EngineOptions::default(), MockOptions::default());
        let engine = engine(EngineOptions::default(), mock);
        let tasks: Vec<_> = (0..8)
            .map(|i| {
                let engine = engine.clone();
                tokio::spawn(async move {
                    let prompt = if i == 3 { "wax arsenic" } else { "wax wick" };
                    ask(&engine, prompt, 20 + i).await
                })
            })
            .collect();
        for (i, task) in tasks.into_iter().enumerate() {
            let answer = task.await.unwrap();
            if i == 3 {
                assert_eq!(answer.unwrap_err().kind, ErrorKind::Internal);
            } else {
                let undisturbed = ask(&calm, "wax wick", 20 + i as u32).await.unwrap();
                assert_eq!(answer.unwrap().rows, undisturbed.rows);
            }
        }
        assert_eq!(engine.counters().failed, 1);
        assert_eq!(engine.status(), Status::Ready);
        emptied(&engine).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_memory_does_not_hold_is_served_in_smaller_ones() {
    let mock = MockOptions {
        memory_rows: 3,
        step: Duration::from_micros(200),
        ..MockOptions::default()
    };
    let engine = engine(EngineOptions::default(), mock);
    let tasks: Vec<_> = (0..12)
        .map(|i| {
            let engine = engine.clone();
            tokio::spawn(async move { ask(&engine, "wax wick", 30 + i).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(engine.counters().retried > 0, "memory never ran out");
    assert_eq!(engine.counters().failed, 0);
}

#[tokio::test]
async fn a_lost_device_ends_the_engine_and_every_request_hears_of_it() {
    let mock = MockOptions {
        poison: Some("arsenic".into()),
        fault: Fault::Fatal,
        ..MockOptions::default()
    };
    let engine = engine(EngineOptions::default(), mock);
    let (bad, good) = tokio::join!(ask(&engine, "arsenic", 9), ask(&engine, "wax", 100_000));
    assert!(bad.is_err() && good.is_err());
    engine.stopped().await;
    assert!(matches!(engine.status(), Status::Failed(_)));
    assert_eq!(
        ask(&engine, "wax", 1).await.unwrap_err().kind,
        ErrorKind::NotReady
    );
}

/// A pipeline on a device that is lost: nothing can be given back to it, and the libraries in between panic at that.
struct Unplugged(MockPipeline);

impl Drop for Unplugged {
    fn drop(&mut self) {
        panic!("the device does not take back what the pipeline has");
    }
}

/// What such a library keeps for each thread.
struct Handle;

static HANDLES_CLOSED: AtomicUsize = AtomicUsize::new(0);
thread_local!(static HANDLE: Handle = const { Handle });

impl Drop for Handle {
    fn drop(&mut self) {
        HANDLES_CLOSED.fetch_add(1, Ordering::SeqCst);
    }
}

impl Pipeline for Unplugged {
    type Prepared = <MockPipeline as Pipeline>::Prepared;

    fn preparer(&self) -> Arc<dyn Prepare<Prepared = Self::Prepared>> {
        self.0.preparer()
    }
    fn admit(&mut self, ticket: Ticket, prepared: Self::Prepared) -> Admission<Self::Prepared> {
        self.0.admit(ticket, prepared)
    }
    fn step(&mut self, events: &mut Events) -> Result<Step, StepError> {
        HANDLE.with(|_| self.0.step(events))
    }
    fn cancel(&mut self, id: RequestId) {
        self.0.cancel(id);
    }
    fn suspend(&mut self, id: RequestId) -> Option<Self::Prepared> {
        self.0.suspend(id)
    }
    fn reset(&mut self) -> Result<(), StepError> {
        self.0.reset()
    }
    fn step_bound(&self) -> usize {
        self.0.step_bound()
    }
    fn occupancy(&self) -> Occupancy {
        self.0.occupancy()
    }
    fn footprint(&self) -> Footprint {
        self.0.footprint()
    }
}

#[tokio::test]
async fn nothing_is_given_back_to_a_device_that_is_lost() {
    let mock = MockOptions {
        poison: Some("arsenic".into()),
        fault: Fault::Fatal,
        ..MockOptions::default()
    };
    let engine = Engine::start(EngineOptions::default(), move |_| {
        Ok(Unplugged(MockPipeline::new(mock)))
    });
    ask(&engine, "arsenic", 9).await.unwrap_err();
    engine.stopped().await;
    let lost = "the device is lost: the mock's device was unplugged".to_owned();
    assert_eq!(engine.status(), Status::Failed(lost));
    // The thread would end at once.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(HANDLES_CLOSED.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_device_that_is_lost_during_a_drain_is_told_as_that() {
    let mock = MockOptions {
        poison: Some("arsenic".into()),
        fault: Fault::Fatal,
        rows: 1,
        step: Duration::from_millis(2),
        ..MockOptions::default()
    };
    let engine = engine(EngineOptions::default(), mock);
    let first = engine.submit(input("wax", 30)).await.unwrap();
    let lost = engine.submit(input("arsenic", 9)).await.unwrap();
    engine.drain();
    first.collect().await.unwrap();
    lost.collect().await.unwrap_err();
    engine.stopped().await;
    assert!(matches!(engine.status(), Status::Failed(_)));
}

#[tokio::test]
async fn a_full_queue_says_so_and_when_to_come_back() {
    let options = EngineOptions {
        queue: 2,
        ..EngineOptions::default()
    };
    let mock = MockOptions {
        rows: 1,
        step: Duration::from_millis(5),
        ..MockOptions::default()
    };
    let engine = engine(options, mock);
    let mut held = Vec::new();
    let busy = loop {
        match engine.submit(input("wax", 100_000)).await {
            Ok(subscription) => held.push(subscription),
            Err(error) => break error,
        }
        assert!(held.len() < 10, "the queue has no bound");
    };
    assert_eq!(busy.kind, ErrorKind::Busy);
    assert!(busy.retry_after.is_some());
    drop(held);
    emptied(&engine).await;
    ask(&engine, "wax", 3).await.unwrap();
}

#[tokio::test]
async fn hanging_up_cancels_within_a_step() {
    let mock = MockOptions {
        step: Duration::from_millis(1),
        ..MockOptions::default()
    };
    let engine = engine(EngineOptions::default(), mock);
    let mut subscription = engine.submit(input("wax", 100_000)).await.unwrap();
    subscription.next().await.unwrap();
    let steps = engine.counters().steps;
    drop(subscription);
    emptied(&engine).await;
    assert!(engine.counters().steps - steps < 20);
    assert_eq!(engine.counters().cancelled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_never_reads_is_stalled_and_cancelled_and_delays_nobody() {
    let options = EngineOptions {
        stall: Duration::from_millis(300),
        ..EngineOptions::default()
    };
    let engine = engine(options, MockOptions::default());
    let mut lazy = engine
        .submit(input("wax wick flame", 10_000_000))
        .await
        .unwrap();
    for _ in 0..20 {
        ask(&engine, "wax wick", 50).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    emptied(&engine).await;
    let mut last = None;
    while let Some(event) = lazy.next().await {
        last = Some(event);
    }
    let Some(Event::Failed(error)) = last else {
        panic!("the lazy reader's answer ended with {last:?}");
    };
    assert_eq!(error.kind, ErrorKind::Timeout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_everything() {
    let engine = engine(EngineOptions::default(), MockOptions::default());
    let mut slow = engine
        .submit(input("wax wick flame", 40_000))
        .await
        .unwrap();
    let mut collected = Collected::default();
    tokio::time::sleep(Duration::from_millis(200)).await;
    while let Some(event) = slow.next().await {
        collected.add(event).unwrap();
    }
    assert_eq!(collected.rows[0].tokens.len(), 40_000);
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_takes_nothing_new() {
    let mock = MockOptions {
        step: Duration::from_millis(1),
        ..MockOptions::default()
    };
    let engine = engine(EngineOptions::default(), mock);
    let running = engine.submit(input("wax", 60)).await.unwrap();
    engine.drain();
    assert_eq!(
        ask(&engine, "wax", 1).await.unwrap_err().kind,
        ErrorKind::NotReady
    );
    assert_eq!(running.collect().await.unwrap().usage.completion_tokens, 60);
    engine.stopped().await;
    assert_eq!(engine.status(), Status::Stopped);
}

#[tokio::test]
async fn after_the_grace_what_still_runs_is_told() {
    let options = EngineOptions {
        drain_grace: Duration::from_millis(50),
        ..EngineOptions::default()
    };
    let mock = MockOptions {
        step: Duration::from_millis(1),
        ..MockOptions::default()
    };
    let engine = engine(options, mock);
    let running = engine.submit(input("wax", 1_000_000)).await.unwrap();
    engine.drain();
    let error = running.collect().await.unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::NotReady, "the worker is stopping")
    );
    engine.stopped().await;
}

#[tokio::test]
async fn a_request_waits_for_a_loading_model_and_hears_of_one_that_fails() {
    let slow = Engine::start(EngineOptions::default(), |_| {
        std::thread::sleep(Duration::from_millis(100));
        Ok(MockPipeline::new(MockOptions::default()))
    });
    assert!(matches!(slow.status(), Status::Loading(_)));
    ask(&slow, "wax", 2).await.unwrap();

    let impatient = EngineOptions {
        load_wait: Duration::from_millis(10),
        ..EngineOptions::default()
    };
    let slow = Engine::start(impatient, |_| {
        std::thread::sleep(Duration::from_millis(200));
        Ok(MockPipeline::new(MockOptions::default()))
    });
    let error = ask(&slow, "wax", 2).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotReady);
    assert!(error.message.contains("loading") && error.retry_after.is_some());

    let broken = Engine::start(EngineOptions::default(), |_| -> Result<MockPipeline, _> {
        Err(chandler_core::LoadError("config.json is missing".into()))
    });
    let error = ask(&broken, "wax", 2).await.unwrap_err();
    assert!(error.message.contains("config.json is missing"), "{error}");
}

#[tokio::test]
async fn all_are_queued_or_none() {
    let engine = engine(EngineOptions::default(), MockOptions::default());
    let (index, error) = engine
        .submit_all(vec![input("wax", 2), input("", 2), input("wick", 2)])
        .await
        .unwrap_err();
    assert_eq!((index, error.kind), (1, ErrorKind::BadInput));
    emptied(&engine).await;
    assert_eq!(engine.counters().completed, 0);
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_hundred_thousand_requests_leave_nothing_behind() {
    let test = "engine::tests::in_a_process_of_its_own_memory_does_not_grow";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above, in a process whose memory no other test shares"]
async fn in_a_process_of_its_own_memory_does_not_grow() {
    let engine = engine(EngineOptions::default(), MockOptions::default());
    let mut baseline = 0;
    for round in 0..1000 {
        let inputs = (0..100).map(|i| input("wax wick", 1 + i % 3)).collect();
        let subscriptions = engine.submit_all(inputs).await.unwrap();
        for (i, subscription) in subscriptions.into_iter().enumerate() {
            if i % 4 == 0 {
                drop(subscription);
            } else {
                subscription.collect().await.unwrap();
            }
        }
        if round == 100 {
            baseline = resident();
        }
    }
    emptied(&engine).await;
    let counters = engine.counters();
    assert_eq!(counters.completed + counters.cancelled, 100_000);
    let grown = resident().saturating_sub(baseline);
    // 90,000 requests after the first reading: not two hundred bytes left by each.
    assert!(grown < 16 << 20, "memory grew by {grown} bytes");
}
