//! A worker and a gateway in this process, which fails, hangs, is started anew or knows no `DELETE`.

use std::net::SocketAddr;

use axum::http::{Method, Uri};
use tokio::task::JoinHandle;

use super::*;
use crate::engine::Status;
use crate::webhook::Limits;

/// One request: method and path, headers, body.
type Call = (String, HeaderMap, Value);
type Calls = Arc<Mutex<Vec<Call>>>;
/// A status for a request of this method and number, from 1; 0 is no answer.
type Answer = fn(&Method, usize) -> u16;

struct Gateway {
    address: SocketAddr,
    calls: Calls,
    task: JoinHandle<()>,
}

impl Gateway {
    async fn start(address: &str, answer: Answer) -> Self {
        let calls = Calls::default();
        let log = calls.clone();
        let take = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| async move {
            let body = serde_json::from_slice(&body).unwrap();
            let number = {
                let mut log = log.lock().unwrap();
                log.push((format!("{method} {uri}"), headers, body));
                log.len()
            };
            match answer(&method, number) {
                0 => std::future::pending().await,
                status => StatusCode::from_u16(status).unwrap(),
            }
        };
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(take);
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            address,
            calls,
            task,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/workers/?token=hush", self.address)
    }

    /// Waits until a state was told, and gives the number of calls until then.
    async fn was_told(&self, status: &str) -> usize {
        let began = Instant::now();
        loop {
            let place = self
                .calls
                .lock()
                .unwrap()
                .iter()
                .position(|(_, _, body)| body["status"] == status);
            if let Some(place) = place {
                return place + 1;
            }
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "{status} in {:?}",
                self.calls
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn told(&self) -> Vec<(String, String)> {
        let calls = self.calls.lock().unwrap();
        let text = |body: &Value| body["status"].as_str().unwrap().to_owned();
        calls
            .iter()
            .map(|(line, _, body)| (line.clone(), text(body)))
            .collect()
    }
}

fn offer() -> Offer {
    Offer {
        worker_id: "pod/1-0a0a0a0a".into(),
        url: "http://10.0.0.1:8080".into(),
        endpoint_kind: "http",
        worker: Place::default(),
        version: "1".into(),
        limits: Limits {
            concurrency: 32,
            queue: 256,
            body_bytes: 1,
            upload_bytes: 2,
            request_timeout_s: 600,
        },
        routes: Routes {
            health: "/isalive".into(),
            live: "/livez".into(),
            predict: "/predict".into(),
            openai: "/v1".into(),
        },
        model: "mock".into(),
        aliases: vec!["chandler/mock".into()],
    }
}

const SELDOM: Duration = Duration::from_secs(600);
const OFF: &str = "DELETE /workers/pod%2F1-0a0a0a0a?token=hush";

fn engine(load: Duration) -> Engine {
    Engine::start(EngineOptions::default(), move |_| {
        std::thread::sleep(load);
        Ok(MockPipeline::new(MockOptions::default()))
    })
}

async fn ready() -> Engine {
    let engine = engine(Duration::ZERO);
    engine
        .watch()
        .wait_for(|s| *s == Status::Ready)
        .await
        .unwrap();
    engine
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_told_of_every_state_and_that_the_worker_is_gone() {
    let gateway = Gateway::start("127.0.0.1:0", |_, _| 204).await;
    let engine = engine(Duration::from_millis(200));
    let worker = Registration::start(&engine, courier(&gateway.url(), QUICK), offer(), SELDOM);
    gateway.was_told("ready").await;
    worker.draining();
    gateway.was_told("draining").await;
    assert!(worker.finish(Duration::from_secs(5)).await);
    let post = "POST /workers/?token=hush";
    let told = gateway.told();
    let told: Vec<(&str, &str)> = told.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(
        told,
        [
            (post, "loading"),
            (post, "ready"),
            (post, "draining"),
            (OFF, "gone")
        ]
    );
    let calls = gateway.calls.lock().unwrap();
    for (number, (_, headers, body)) in calls.iter().enumerate() {
        assert_eq!(body["sequence"], number as u64 + 1);
        assert_eq!(body["worker_id"], "pod/1-0a0a0a0a");
        assert_eq!(headers["x-chandler-event-id"], body["id"].as_str().unwrap());
        assert_eq!(headers["x-chandler-attempt"], "1");
        let signature = headers["x-chandler-signature"].to_str().unwrap();
        let seconds = signature.split([',', '=']).nth(1).unwrap().parse().unwrap();
        let text = Bytes::from(body.to_string());
        assert_eq!(signature, sign(&"whsec".into(), seconds, &text).unwrap());
    }
    assert_eq!(calls[0].2["tasks"], json!([]));
    let offered = &calls[1].2;
    assert_eq!(offered["tasks"], json!(["text-generation"]));
    let model = &offered["models"][0];
    assert_eq!(
        (&model["id"], &model["aliases"]),
        (&json!("mock"), &json!(["chandler/mock"]))
    );
    assert!(model["context_length"].as_u64().unwrap() > 0);
    assert_eq!(
        (&offered["every_s"], &offered["limits"]["queue"]),
        (&json!(600.0), &json!(256))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_started_anew_learns_of_the_worker() {
    let first = Gateway::start("127.0.0.1:0", |_, _| 200).await;
    let engine = ready().await;
    let every = Duration::from_millis(100);
    let worker = Registration::start(&engine, courier(&first.url(), QUICK), offer(), every);
    while first.calls.lock().unwrap().len() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(first.told().iter().all(|(_, status)| status == "ready"));
    first.task.abort();
    let _ = first.task.await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let again = Gateway::start(&first.address.to_string(), |_, _| 200).await;
    again.was_told("ready").await;
    assert!(worker.finish(Duration::from_secs(5)).await);
    assert_eq!(
        again.told().last().unwrap(),
        &(OFF.to_owned(), "gone".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn old_news_give_way_to_new_ones() {
    let patience = Patience {
        pause: Duration::from_secs(60),
        ..QUICK
    };
    let gateway = Gateway::start(
        "127.0.0.1:0",
        |_, number| if number == 1 { 503 } else { 200 },
    )
    .await;
    let engine = ready().await;
    let worker = Registration::start(&engine, courier(&gateway.url(), patience), offer(), SELDOM);
    gateway.was_told("ready").await;
    let began = Instant::now();
    worker.draining();
    assert_eq!(gateway.was_told("draining").await, 2);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(worker.finish(Duration::from_secs(5)).await);

    // Without anything new, the same is sent again.
    let gateway = Gateway::start(
        "127.0.0.1:0",
        |_, number| if number < 3 { 503 } else { 200 },
    )
    .await;
    let worker = Registration::start(&engine, courier(&gateway.url(), QUICK), offer(), SELDOM);
    while gateway.calls.lock().unwrap().len() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(worker.finish(Duration::from_secs(5)).await);
    let calls = gateway.calls.lock().unwrap();
    let attempts: Vec<&str> = calls
        .iter()
        .map(|(_, headers, _)| headers["x-chandler-attempt"].to_str().unwrap())
        .collect();
    assert_eq!(attempts, ["1", "2", "3", "1"]);
    assert_eq!(calls[0].2, calls[2].2);
}

// On one thread, so that the task that tells sees nothing between the two calls.
#[tokio::test]
async fn who_has_nothing_to_finish_says_all_the_same_that_it_drains() {
    let gateway = Gateway::start("127.0.0.1:0", |_, _| 200).await;
    let engine = ready().await;
    let worker = Registration::start(&engine, courier(&gateway.url(), QUICK), offer(), SELDOM);
    gateway.was_told("ready").await;
    worker.draining();
    assert!(worker.finish(Duration::from_secs(5)).await);
    let told: Vec<String> = gateway
        .told()
        .into_iter()
        .map(|(_, status)| status)
        .collect();
    assert_eq!(told, ["ready", "draining", "gone"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_delete_is_posted_the_end() {
    for status in [|_: &Method, _| 405, |_: &Method, _| 404] as [Answer; 2] {
        let answer: Answer = match status(&Method::DELETE, 0) {
            405 => |method, _| if *method == Method::DELETE { 405 } else { 200 },
            _ => |method, _| if *method == Method::DELETE { 404 } else { 200 },
        };
        let gateway = Gateway::start("127.0.0.1:0", answer).await;
        let engine = ready().await;
        let worker = Registration::start(&engine, courier(&gateway.url(), QUICK), offer(), SELDOM);
        gateway.was_told("ready").await;
        assert!(worker.finish(Duration::from_secs(5)).await);
        let calls = gateway.calls.lock().unwrap();
        let (off, gone) = (&calls[calls.len() - 2], &calls[calls.len() - 1]);
        assert_eq!(
            (off.0.as_str(), gone.0.as_str()),
            (OFF, "POST /workers/?token=hush")
        );
        assert_eq!((&gone.2["status"], &gone.2), (&json!("gone"), &off.2));
        assert_eq!(off.1["x-chandler-event-id"], gone.1["x-chandler-event-id"]);
        assert_eq!(gone.1["x-chandler-attempt"], "2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_hangs_or_is_not_there_holds_nobody_up() {
    let patience = Patience {
        time: Duration::from_secs(60),
        ..QUICK
    };
    let gateway = Gateway::start("127.0.0.1:0", |_, _| 0).await;
    let engine = ready().await;
    let worker = Registration::start(&engine, courier(&gateway.url(), patience), offer(), SELDOM);
    gateway.was_told("ready").await;
    let began = Instant::now();
    worker.draining();
    assert!(!worker.finish(Duration::from_millis(200)).await);
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(gateway.told().len(), 1);

    gateway.task.abort();
    let _ = gateway.task.await;
    let nobody = format!("http://{}/workers", gateway.address);
    let worker = Registration::start(&engine, courier(&nobody, QUICK), offer(), SELDOM);
    let began = Instant::now();
    worker.finish(Duration::from_secs(1)).await;
    assert!(began.elapsed() < Duration::from_secs(3));
}
