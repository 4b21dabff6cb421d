//! Messages to a receiver in this process, which refuses, hangs and remembers.

mod registration;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use chandler_core::LoadError;
use chandler_core::mock::{MockOptions, MockPipeline};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;
use crate::engine::{Engine, EngineOptions, Stage};
use crate::reach::{AllowedHosts, Client, Limits, ReachError};

type Got = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A receiver that answers by the number of the request.
async fn receiver(answer: fn(usize) -> u16) -> (String, Got) {
    type Shared = (Got, fn(usize) -> u16);
    async fn take(
        State((got, answer)): State<Shared>,
        headers: HeaderMap,
        body: Bytes,
    ) -> axum::response::Response {
        let number = {
            let mut got = got.lock().unwrap();
            got.push((headers, body));
            got.len()
        };
        match answer(number) {
            0 => std::future::pending().await,
            status => {
                let location = [("location", "http://127.0.0.1:1/")];
                (StatusCode::from_u16(status).unwrap(), location).into_response()
            }
        }
    }
    let got = Got::default();
    let app = Router::new()
        .fallback(take)
        .with_state((got.clone(), answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?token=hush", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, got)
}

const QUICK: Patience = Patience {
    tries: 5,
    pause: Duration::from_millis(20),
    time: Duration::from_millis(500),
};

fn courier(url: &str, patience: Patience) -> Courier {
    let target = Target {
        name: "webhook",
        url: url.parse().unwrap(),
        secret: Some("whsec".into()),
    };
    assert!(!format!("{target:?}").contains("hush"));
    Courier::start(target, patience)
}

fn subject() -> Subject {
    Subject {
        model: "mock".to_owned(),
        worker: Place::default(),
        version: "1".to_owned(),
    }
}

fn notice(id: &str) -> Notice {
    Notice {
        id: id.to_owned(),
        status: Event::Loading,
        created: 1,
        subject: subject(),
        device: None,
        dtype: None,
        cold_start: ColdStart::default(),
        error: None,
    }
}

fn read(got: &Got) -> Vec<Value> {
    let got = got.lock().unwrap();
    got.iter()
        .map(|(_, body)| serde_json::from_slice(body).unwrap())
        .collect()
}

#[test]
fn a_signature_is_what_openssl_makes_of_time_and_body() {
    // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac whsec
    let signature = sign(&SecretString::from("whsec"), 1_700_000_000, br#"{"a":1}"#).unwrap();
    assert_eq!(signature, OPENSSL);
    assert!(sign(&SecretString::from(""), 1, b"x").is_none());
    assert_ne!(
        sign(&SecretString::from("other"), 1_700_000_000, br#"{"a":1}"#).unwrap(),
        signature
    );
}

const OPENSSL: &str =
    "t=1700000000,v1=8ad37ba156048ae0e0a5533c75cdf26fee88b07f93cb57ee4c80adb053012032";

#[tokio::test]
async fn a_message_is_signed_named_and_sent_again_until_it_is_taken() {
    let (url, got) = receiver(|number| match number {
        1 => 500,
        2 => 429,
        3 => 503,
        _ => 204,
    })
    .await;
    let courier = courier(&url, QUICK);
    courier.send(&notice("evt_1"));
    assert!(courier.finish(Duration::from_secs(5)).await);
    let got = got.lock().unwrap();
    assert_eq!(got.len(), 4);
    for (index, (headers, body)) in got.iter().enumerate() {
        assert_eq!(headers["x-chandler-event-id"], "evt_1");
        assert_eq!(
            headers["x-chandler-attempt"],
            (index + 1).to_string().as_str()
        );
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(body, &got[0].1);
        let signature = headers["x-chandler-signature"].to_str().unwrap();
        let seconds = signature.split([',', '=']).nth(1).unwrap().parse().unwrap();
        assert_eq!(signature, sign(&"whsec".into(), seconds, body).unwrap());
    }
}

#[tokio::test]
async fn messages_come_in_order_and_five_refusals_or_a_final_one_end_it() {
    let (url, got) = receiver(|number| if number <= 5 { 502 } else { 200 }).await;
    let sender = courier(&url, QUICK);
    for id in ["evt_1", "evt_2", "evt_3"] {
        sender.send(&notice(id));
    }
    assert!(sender.finish(Duration::from_secs(5)).await);
    let ids: Vec<Value> = read(&got).iter().map(|body| body["id"].clone()).collect();
    let first = ["evt_1"; 5].to_vec();
    assert_eq!(ids, [first, vec!["evt_2", "evt_3"]].concat());

    for status in [|_| 400, |_| 410, |_| 302] {
        let (url, got) = receiver(status).await;
        let sender = courier(&url, QUICK);
        sender.send(&notice("evt_1"));
        assert!(sender.finish(Duration::from_secs(5)).await);
        assert_eq!(got.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn the_end_waits_for_its_grace_and_no_longer() {
    let patience = Patience {
        pause: Duration::from_secs(60),
        time: Duration::from_secs(60),
        ..QUICK
    };
    let (url, got) = receiver(|_| 0).await;
    let sender = courier(&url, patience);
    sender.send(&notice("evt_1"));
    let began = Instant::now();
    assert!(!sender.finish(Duration::from_millis(200)).await);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(got.lock().unwrap().len(), 1);
    // A long pause is cut short: what is queued has its chance.
    let (url, got) = receiver(|number| if number == 1 { 503 } else { 200 }).await;
    let sender = courier(&url, patience);
    sender.send(&notice("evt_1"));
    sender.send(&notice("evt_2"));
    assert!(sender.finish(Duration::from_secs(2)).await);
    assert_eq!(got.lock().unwrap().len(), 3);
}

#[test]
fn nothing_of_the_environment_but_the_platforms_names_for_the_worker_is_sent() {
    // Every variable there is holds a secret named after itself.
    let everything = |name: &str| Some(format!("secret-of-{name}"));
    let place = Place::read(everything);
    let text = serde_json::to_string(&Notice {
        subject: Subject {
            worker: place,
            ..subject()
        },
        ..notice("e")
    })
    .unwrap();
    let found: Vec<&str> = text
        .split("secret-of-")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert_eq!(
        found,
        ["RUNPOD_POD_ID", "RUNPOD_ENDPOINT_ID", "RUNPOD_DC_ID"]
    );

    let only = |there: &'static [&'static str]| {
        Place::read(move |name| there.contains(&name).then(|| format!("of-{name}")))
    };
    let run = only(&[
        "K_SERVICE",
        "K_REVISION",
        "HOSTNAME",
        "AWS_SECRET_ACCESS_KEY",
        "RUNPOD_API_KEY",
    ]);
    assert_eq!(
        serde_json::to_value(run).unwrap(),
        json!({"platform": "cloud-run", "id": "of-HOSTNAME", "endpoint": "of-K_SERVICE", "revision": "of-K_REVISION"})
    );
    assert_eq!(only(&["AIP_MODE", "AIP_ENDPOINT_ID"]).platform, "vertex");
    assert_eq!(only(&["RUNPOD_ENDPOINT_ID"]).platform, "runpod");
    assert_eq!(
        only(&["KUBERNETES_SERVICE_HOST", "HOSTNAME"]).id.as_deref(),
        Some("of-HOSTNAME")
    );
    assert_eq!(
        serde_json::to_value(only(&[])).unwrap(),
        json!({"platform": "other"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_tells_that_it_loads_is_ready_and_stops_with_the_times_of_its_start() {
    let (url, got) = receiver(|_| 200).await;
    let started = Instant::now();
    let engine = Engine::start(EngineOptions::default(), |progress| {
        std::thread::sleep(Duration::from_millis(40));
        progress.stage(Stage::ReadingWeights);
        progress.bytes(50, 100);
        std::thread::sleep(Duration::from_millis(120));
        progress.bytes(100, 100);
        progress.stage(Stage::BuildingModel);
        std::thread::sleep(Duration::from_millis(60));
        Ok(MockPipeline::new(MockOptions::default()))
    });
    let readiness = Readiness::announce(&engine, courier(&url, QUICK), subject());
    while got.lock().unwrap().len() < 2 {
        assert!(started.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    engine.drain();
    engine.stopped().await;
    assert!(readiness.finish(Duration::from_secs(5)).await);
    let got = read(&got);
    let statuses: Vec<&str> = got
        .iter()
        .map(|body| body["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses, ["loading", "ready", "stopping"]);
    let last = got.last().unwrap();
    assert_eq!(last["model"], "mock");
    assert!(last["id"].as_str().unwrap().starts_with("evt_"));
    assert!(last["device"].is_string() && last.get("error").is_none());
    let start = &last["cold_start"];
    assert!(start["total_ms"].as_u64().unwrap() >= 220, "{start}");
    assert_eq!(start["weights_bytes"], 100);
    let of = |stage: &str| {
        let stages = start["stages"].as_array().unwrap();
        let found = stages.iter().find(|one| one["stage"] == stage);
        found.unwrap_or_else(|| panic!("{stage} in {start}"))["ms"]
            .as_u64()
            .unwrap()
    };
    assert!(
        of("starting") >= 30 && of("reading_weights") >= 100 && of("building_model") >= 50,
        "{start}"
    );
}

#[tokio::test]
async fn a_worker_that_does_not_load_says_why() {
    let (url, got) = receiver(|_| 200).await;
    let engine = Engine::start(EngineOptions::default(), |_| {
        Err::<MockPipeline, _>(LoadError(format!("no such file{}", "!".repeat(5000))))
    });
    let readiness = Readiness::announce(&engine, courier(&url, QUICK), subject());
    engine.stopped().await;
    assert!(readiness.finish(Duration::from_secs(5)).await);
    let got = read(&got);
    assert_eq!(got.len(), 2);
    assert_eq!(got[1]["status"], "failed");
    let error = got[1]["error"].as_str().unwrap();
    assert!(
        error.contains("no such file") && error.len() == 1000,
        "{error}"
    );
}

#[tokio::test]
async fn a_jobs_result_goes_where_the_job_said_if_that_may_be_reached() {
    let (url, got) = receiver(|number| if number == 1 { 500 } else { 200 }).await;
    let result = json!({"output": {"text": "x"}});
    let guarded = Client::new(AllowedHosts::default(), Limits::default());
    let refused = deliver_result(&guarded, &url, &result, QUICK).await;
    assert!(matches!(refused, Err(ReachError::Private { .. })));
    assert!(got.lock().unwrap().is_empty());
    let allowed = AllowedHosts {
        entries: vec!["127.0.0.1".parse().unwrap()],
        everything: false,
    };
    deliver_result(
        &Client::new(allowed, Limits::default()),
        &url,
        &result,
        QUICK,
    )
    .await
    .unwrap();
    assert_eq!(read(&got), [result.clone(), result]);
}
