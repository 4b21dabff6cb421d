//! Uploads to a store in this process that remembers what it was sent.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use reqwest::Url;
use serde_json::json;

use super::{SECRET, job, keys};
use crate::reach::{AllowedHosts, Client, Limits, ReachError};
use crate::storage::*;

/// What the store was sent.
#[derive(Clone, Debug)]
struct Sent {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

type Answers = Box<dyn Fn(usize, &Sent) -> Response + Send + Sync>;

struct Store {
    url: String,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Store {
    /// A store that gives these answers, by the number of the request.
    async fn start(answers: Answers) -> Self {
        type Shared = (Arc<Mutex<Vec<Sent>>>, Arc<Answers>);
        async fn handle(State((sent, answers)): State<Shared>, request: Request) -> Response {
            let (parts, body) = request.into_parts();
            let one = Sent {
                method: parts.method,
                target: parts.uri.to_string(),
                headers: parts.headers,
                body: to_bytes(body, usize::MAX).await.unwrap(),
            };
            let number = {
                let mut sent = sent.lock().unwrap();
                sent.push(one.clone());
                sent.len()
            };
            answers(number, &one)
        }
        let sent = Arc::new(Mutex::new(Vec::new()));
        let app = Router::new()
            .fallback(handle)
            .with_state((sent.clone(), Arc::new(answers)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, sent }
    }

    fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    fn destination(&self) -> Destination {
        let operator = Operator {
            place: Some(("results".to_owned(), "out".to_owned())),
            bucket_endpoint: Some(self.url.parse().unwrap()),
            ..keys()
        };
        operator.destination(SystemTime::now()).unwrap().unwrap()
    }
}

fn uploader() -> Uploader {
    Uploader::new(
        Client::new(AllowedHosts::default(), Limits::default()),
        Duration::from_secs(604_800),
    )
}

fn object(body: impl Into<bytes::Bytes>) -> Object {
    Object {
        key: "out/job-1/name.png".to_owned(),
        body: body.into(),
        content_type: "image/png".to_owned(),
    }
}

fn ok() -> Response {
    ([("etag", "\"5d41402abc4b2a76b9719d911017c592\"")], "").into_response()
}

fn refusal(status: u16, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    (
        StatusCode::from_u16(status).unwrap(),
        [("content-type", "application/xml")],
        body,
    )
        .into_response()
}

#[tokio::test]
async fn an_object_is_put_as_r2_and_minio_take_it_and_its_address_is_signed_for_a_week() {
    let store = Store::start(Box::new(|_, _| ok())).await;
    let artifact = uploader()
        .upload(&store.destination(), object("hello"))
        .await
        .unwrap();
    let sent = store.sent();
    assert_eq!(sent.len(), 1);
    let put = &sent[0];
    assert_eq!(
        (put.method.as_str(), put.target.split('?').next().unwrap()),
        ("PUT", "/results/out/job-1/name.png")
    );
    assert_eq!(&put.body[..], b"hello");
    assert_eq!(put.headers["content-type"], "image/png");
    assert_eq!(put.headers["content-length"], "5");
    let signature = put.headers["authorization"].to_str().unwrap();
    assert!(
        signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIA1/")
            && signature.contains("/us-east-1/s3/aws4_request"),
        "{signature}"
    );
    for name in put.headers.keys() {
        let name = name.as_str();
        assert!(
            !name.starts_with("x-amz-checksum")
                && name != "x-amz-trailer"
                && name != "x-amz-sdk-checksum-algorithm",
            "{name}"
        );
    }

    assert_eq!(artifact.bucket_name, "results");
    assert_eq!(artifact.endpoint_url, store.url);
    assert_eq!(
        (artifact.key.as_str(), artifact.bytes),
        ("out/job-1/name.png", 5)
    );
    assert_eq!(artifact.content_type, "image/png");
    let url: Url = artifact.url.parse().unwrap();
    assert_eq!(url.path(), "/results/out/job-1/name.png");
    let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(query["X-Amz-Algorithm"], "AWS4-HMAC-SHA256");
    assert_eq!(query["X-Amz-Expires"], "604800");
    assert_eq!(query["X-Amz-SignedHeaders"], "host");
    assert_eq!(query["X-Amz-Signature"].len(), 64);
    assert!(!artifact.url.contains(SECRET) && !format!("{artifact:?}").contains("Signature"));
    let value = serde_json::to_value(&artifact).unwrap();
    let names: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "bucket_name",
            "endpoint_url",
            "key",
            "url",
            "content_type",
            "bytes"
        ]
    );
}

#[tokio::test]
async fn a_store_that_is_busy_is_asked_again() {
    let store = Store::start(Box::new(|number, _| match number {
        1 => refusal(503, "SlowDown", "reduce your request rate"),
        2 => StatusCode::TOO_MANY_REQUESTS.into_response(),
        3 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        _ => ok(),
    }))
    .await;
    uploader()
        .upload(&store.destination(), object("again"))
        .await
        .unwrap();
    let sent = store.sent();
    assert_eq!(sent.len(), 4);
    assert!(sent.iter().all(|one| &one.body[..] == b"again"));
}

#[tokio::test]
async fn a_refusal_is_final_says_what_to_do_and_never_a_key() {
    let echo = format!("your key AKIA1 with {SECRET} is wrong");
    let store = Store::start(Box::new(move |_, _| {
        refusal(403, "SignatureDoesNotMatch", &echo)
    }))
    .await;
    let error = uploader()
        .upload(&store.destination(), object("x"))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(store.sent().len(), 1);
    assert!(
        error.contains("SignatureDoesNotMatch") && error.contains("bucket results"),
        "{error}"
    );
    assert!(
        error.contains("check the access key") && error.contains("********"),
        "{error}"
    );
    assert!(
        !error.contains(SECRET) && !error.contains("AKIA1"),
        "{error}"
    );

    let store = Store::start(Box::new(|_, _| refusal(404, "NoSuchBucket", ""))).await;
    let error = uploader()
        .upload(&store.destination(), object("x"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("BUCKET_NAME") && error.contains("NoSuchBucket;"),
        "{error}"
    );
    let store = Store::start(Box::new(|_, _| {
        (StatusCode::BAD_REQUEST, "<html>").into_response()
    }))
    .await;
    let error = uploader()
        .upload(&store.destination(), object("x"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("400") || error.contains("bad"), "{error}");
}

#[tokio::test]
async fn a_job_cannot_send_the_worker_into_a_private_network() {
    let store = Store::start(Box::new(|_, _| ok())).await;
    let config = json!({"accessId": "a", "accessSecret": SECRET, "bucketName": "b", "endpointUrl": store.url});
    let to = job(json!({"s3Config": config})).unwrap().unwrap();
    let error = uploader().upload(&to, object("x")).await.unwrap_err();
    assert!(
        matches!(error, StorageError::Reach(ReachError::Private { .. })),
        "{error}"
    );
    let metadata = json!({"accessId": "a", "accessSecret": SECRET, "bucketName": "b", "endpointUrl": "http://169.254.169.254"});
    let elsewhere = job(json!({"s3Config": metadata})).unwrap().unwrap();
    assert!(uploader().upload(&elsewhere, object("x")).await.is_err());
    assert!(store.sent().is_empty());

    let allowed = AllowedHosts {
        entries: vec![store.url.trim_start_matches("http://").parse().unwrap()],
        everything: false,
    };
    let allowing = Uploader::new(
        Client::new(allowed, Limits::default()),
        Duration::from_secs(60),
    );
    let artifact = allowing.upload(&to, object("x")).await.unwrap();
    assert!(
        artifact.url.contains("X-Amz-Expires=60&"),
        "{}",
        artifact.url
    );
    assert_eq!(store.sent().len(), 1);
}

#[tokio::test]
async fn a_large_object_goes_in_equal_parts() {
    let answer = |_, sent: &Sent| {
        match (&sent.method, sent.target.contains("uploads"), sent.target.contains("uploadId")) {
        (&Method::POST, true, _) => {
            "<InitiateMultipartUploadResult><UploadId>up1</UploadId></InitiateMultipartUploadResult>".into_response()
        }
        (&Method::POST, _, true) => {
            "<CompleteMultipartUploadResult><Key>k</Key><ETag>\"e-3\"</ETag></CompleteMultipartUploadResult>".into_response()
        }
        _ => ok(),
    }
    };
    let store = Store::start(Box::new(answer)).await;
    let body: Vec<u8> = (0..40_u32 << 20).map(|index| (index >> 16) as u8).collect();
    uploader()
        .upload(&store.destination(), object(body.clone()))
        .await
        .unwrap();
    let sent = store.sent();
    let mut parts: Vec<&Sent> = sent
        .iter()
        .filter(|one| one.method == Method::PUT)
        .collect();
    parts.sort_by_key(|one| one.target.clone());
    let sizes: Vec<usize> = parts.iter().map(|one| one.body.len()).collect();
    assert_eq!(sizes, [16 << 20, 16 << 20, 8 << 20]);
    assert!(parts.iter().all(|one| one.target.contains("uploadId=up1")));
    let whole: Vec<u8> = parts.iter().flat_map(|one| one.body.to_vec()).collect();
    assert!(whole == body, "the parts are not the object");
    let last = String::from_utf8(sent.last().unwrap().body.to_vec()).unwrap();
    let order: Vec<usize> = (1..=3)
        .map(|n| last.find(&format!("<PartNumber>{n}</PartNumber>")).unwrap())
        .collect();
    assert!(order.is_sorted(), "{last}");
    let begin = &sent[0];
    assert_eq!(begin.headers["content-type"], "image/png");
}

#[tokio::test]
async fn the_parts_of_an_upload_that_fails_are_taken_back() {
    let answer = |_, sent: &Sent| {
        match (&sent.method, sent.target.contains("partNumber=2")) {
        (&Method::POST, _) => {
            "<InitiateMultipartUploadResult><UploadId>up1</UploadId></InitiateMultipartUploadResult>".into_response()
        }
        (&Method::PUT, true) => refusal(403, "AccessDenied", "no"),
        _ => ok(),
    }
    };
    let store = Store::start(Box::new(answer)).await;
    let error = uploader()
        .upload(&store.destination(), object(vec![1; 33 << 20]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
    let sent = store.sent();
    let last = sent.last().unwrap();
    assert_eq!(last.method, Method::DELETE);
    assert!(last.target.contains("uploadId=up1"), "{}", last.target);
}
