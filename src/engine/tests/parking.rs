//! The model leaves its device when nobody asks for it, and is back for whoever does.

use chandler_core::mock::MockRecogniser;

use super::*;

const BYTES: u64 = 1 << 30;

fn mock() -> MockOptions {
    MockOptions {
        device_bytes: BYTES,
        ..MockOptions::default()
    }
}

fn parking(after: u64) -> EngineOptions {
    EngineOptions {
        park_after: Some(Duration::from_millis(after)),
        ..EngineOptions::default()
    }
}

async fn parked(engine: &Engine) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !engine.counters().parked {
        assert!(Instant::now() < deadline, "the model does not leave");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn device_bytes(engine: &Engine) -> u64 {
    engine.counters().device_bytes
}

#[tokio::test]
async fn a_model_that_nobody_asks_leaves_and_is_back_with_the_next_request() {
    let calm = engine(EngineOptions::default(), mock());
    let engine = engine(parking(20), mock());
    let undisturbed = ask(&calm, "wax wick", 20).await.unwrap();
    for _ in 0..3 {
        parked(&engine).await;
        assert_eq!((device_bytes(&engine), engine.status()), (0, Status::Ready));
        assert_eq!(engine.counters().host_bytes, BYTES);
        let answer = ask(&engine, "wax wick", 20).await.unwrap();
        assert_eq!(answer.rows, undisturbed.rows);
    }
    assert!(!calm.counters().parked);
    assert_eq!(engine.counters().failed, 0);
}

#[tokio::test]
async fn it_stays_while_anybody_is_served_or_waits() {
    let slow = MockOptions {
        step: Duration::from_millis(1),
        rows: 1,
        ..mock()
    };
    let engine = engine(parking(5), slow);
    let running = engine.submit(input("wax", 200)).await.unwrap();
    let waiting = engine.submit(input("wick", 50)).await.unwrap();
    tokio::join!(running.collect(), async {
        while engine.counters().completed == 0 {
            assert!(!engine.counters().parked || engine.counters().running == 0);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .0
    .unwrap();
    waiting.collect().await.unwrap();
    assert_eq!(engine.counters().failed, 0);
    parked(&engine).await;
}

#[tokio::test]
async fn a_device_without_room_fails_the_request_and_the_next_tries_again() {
    let crowded = MockOptions {
        wakes_refused: 2,
        ..mock()
    };
    let engine = engine(parking(5), crowded);
    for _ in 0..2 {
        parked(&engine).await;
        let both = tokio::join!(ask(&engine, "wax", 3), ask(&engine, "wick", 3));
        for refused in [both.0, both.1] {
            // The second of them may be the one that is let in.
            let Err(error) = refused else { continue };
            assert_eq!(error.kind, ErrorKind::OutOfMemory);
            assert_eq!(engine.status(), Status::Ready);
        }
    }
    assert!(engine.counters().failed >= 2);
    ask(&engine, "wax", 3).await.unwrap();
    emptied(&engine).await;
}

#[tokio::test]
async fn a_device_that_is_gone_when_the_model_is_called_back_ends_the_engine() {
    let unplugged = MockOptions {
        wakes_refused: 1,
        fault: Fault::Fatal,
        ..mock()
    };
    let engine = engine(parking(5), unplugged);
    parked(&engine).await;
    engine.park(false).await.unwrap_err();
    engine.stopped().await;
    assert!(matches!(engine.status(), Status::Failed(_)));
}

#[tokio::test]
async fn whoever_asks_is_told_when_it_has_left_and_when_it_is_back() {
    let slow = MockOptions {
        step: Duration::from_millis(1),
        ..mock()
    };
    let engine = engine(EngineOptions::default(), slow);
    let running = engine.submit(input("wax", 60)).await.unwrap();
    let (left, answer) = tokio::join!(engine.park(true), running.collect());
    left.unwrap();
    assert_eq!(answer.unwrap().usage.completion_tokens, 60);
    assert!(engine.counters().parked && device_bytes(&engine) == 0);
    engine.park(true).await.unwrap();
    engine.park(false).await.unwrap();
    assert!(!engine.counters().parked && device_bytes(&engine) == BYTES);
    engine.park(false).await.unwrap();
    // Nobody has set a time after which it would leave by itself.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!engine.counters().parked);
}

#[tokio::test]
async fn a_model_without_a_device_says_so_and_stays() {
    let engine = Engine::start(parking(1), |_| Ok(MockRecogniser::new(2, Duration::ZERO)));
    let error = engine.park(true).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    engine.park(false).await.unwrap();
    assert!(!engine.counters().parked);
}

#[tokio::test]
async fn a_host_without_room_keeps_the_model_where_it_is() {
    let options = EngineOptions {
        free_memory: || Some(BYTES - 1),
        ..parking(5)
    };
    let engine = engine(options, mock());
    let error = engine.park(true).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::OutOfMemory);
    assert!(error.message.contains(&BYTES.to_string()), "{error}");
    ask(&engine, "wax", 3).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!engine.counters().parked);
    assert_eq!(engine.status(), Status::Ready);
}

#[tokio::test]
async fn a_drain_ends_a_parked_engine() {
    let engine = engine(parking(5), mock());
    parked(&engine).await;
    engine.drain();
    engine.stopped().await;
    assert_eq!(engine.status(), Status::Stopped);
}
