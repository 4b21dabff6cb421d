//! Clients as they are: they hang up, never read, come in hundreds, and speak HTTP/2.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::worker::{Setup, chat, chat_with, read_to_end, wire, worker};

#[tokio::test]
async fn hanging_up_cancels_within_a_step() {
    let worker = Setup::slow(20).start().await;
    let whole = worker
        .raw(&wire("/v1/chat/completions", &chat("a b")))
        .await;
    worker.counts(|c| c.running == 1).await;
    drop(whole);
    worker.counts(|c| c.cancelled == 1 && c.running == 0).await;
    let mut streamed = worker
        .raw(&wire(
            "/v1/chat/completions",
            &chat_with("a b", json!({"stream": true})),
        ))
        .await;
    let mut some = [0; 64];
    streamed.read_exact(&mut some).await.unwrap();
    drop(streamed);
    worker.counts(|c| c.cancelled == 2 && c.running == 0).await;
    assert_eq!(worker.engine.counters().completed, 0);
}

#[tokio::test]
async fn two_hundred_clients_of_whom_half_hang_up() {
    let mut setup = Setup::slow(2);
    setup.engine.queue = 400;
    let worker = setup.start().await;
    let mut clients = Vec::new();
    for i in 0..200u64 {
        let body = chat_with("tallow wick flame", json!({"stream": i % 4 < 2, "seed": i}));
        let address = worker.address;
        clients.push(tokio::spawn(async move {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let mut request = wire("/v1/chat/completions", &body);
            // The connection ends with the answer, so that it can be read to its end.
            let head = b"POST /v1/chat/completions HTTP/1.1\r\n".len();
            request.splice(head..head, *b"connection: close\r\n");
            tokio::io::AsyncWriteExt::write_all(&mut stream, &request)
                .await
                .unwrap();
            if i % 2 == 0 {
                tokio::time::sleep(Duration::from_millis(i % 37)).await;
                return None;
            }
            Some(read_to_end(stream).await)
        }));
    }
    let mut answers = 0;
    for client in clients {
        if let Some(answer) = client.await.unwrap() {
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.contains("\"finish_reason\":\"stop\""), "{answer}");
            answers += 1;
        }
    }
    assert_eq!(answers, 100);
    worker.is_empty().await;
    let counters = worker.engine.counters();
    assert_eq!((counters.rows, counters.blocks_used), (0, 0));
    assert_eq!(counters.failed, 0);
    worker.answer("/v1/chat/completions", chat("a")).await;
}

#[tokio::test]
async fn a_reader_that_never_reads_holds_nobody_up() {
    let mut setup = Setup::default();
    setup.engine.stall = Duration::from_millis(300);
    setup.mock.context_length = 1 << 20;
    let worker = setup.start().await;
    // Answers far larger than all buffers between the engine and the socket.
    let word = "w".repeat(4000);
    let body = chat_with(&word, json!({"stream": true, "max_tokens": 50_000}));
    let silent = worker.raw(&wire("/v1/chat/completions", &body)).await;
    worker.counts(|c| c.steps > 100).await;
    worker.answer("/v1/chat/completions", chat("a")).await;
    worker
        .counts(|c| c.running == 0 && c.queued == 0 && c.failed + c.cancelled == 1)
        .await;
    drop(silent);
}

#[tokio::test]
async fn http2_without_tls_is_spoken_on_the_same_port() {
    let worker = worker().await;
    // The preface and an empty SETTINGS frame; the answer to them is a SETTINGS frame (type 4).
    let mut stream = worker
        .raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    let mut header = [0; 9];
    stream.read_exact(&mut header).await.unwrap();
    assert_eq!(header[3], 4);
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let worker = worker().await;
    let one = wire("/v1/chat/completions", &chat("a"));
    let mut stream = worker.raw(&[one.clone(), one].concat()).await;
    let mut text = String::new();
    let mut some = [0; 4096];
    while text.matches("HTTP/1.1 200").count() < 2 {
        let read = stream.read(&mut some).await.unwrap();
        assert_ne!(read, 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&some[..read]));
    }
}

#[tokio::test]
async fn work_in_company_is_the_work_done_alone() {
    let worker = Setup::slow(1).start().await;
    let ask = |seed: u64| {
        worker.answer(
            "/v1/chat/completions",
            chat_with("tallow wick flame", json!({"seed": seed})),
        )
    };
    let mut alone: Vec<Value> = Vec::new();
    for seed in 0..8 {
        alone.push(ask(seed).await["choices"].take());
    }
    let together = futures_util::future::join_all((0..8).map(ask)).await;
    let together: Vec<Value> = together
        .into_iter()
        .map(|mut a| a["choices"].take())
        .collect();
    assert_eq!(alone, together);
}
