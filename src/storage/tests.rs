//! Spellings, addresses and keys; and uploads to a store in this process that remembers what it was sent.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::destination::month;
use super::*;
use crate::reach::{AllowedHosts, Client, ReachError};

const SECRET: &str = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";

fn job(value: Value) -> Result<Option<Destination>, StorageError> {
    let rest = value.as_object().unwrap().clone();
    let input = rest.get("input").cloned().unwrap_or(Value::Null);
    from_job(&rest, &input)
}

#[test]
fn a_jobs_store_is_read_in_every_spelling() {
    let objects = [
        "s3Config",
        "outputS3Config",
        "s3_config",
        "output_s3_config",
    ];
    let fields = [
        [
            "accessId",
            "accessSecret",
            "bucketName",
            "endpointUrl",
            "keyPrefix",
        ],
        [
            "access_id",
            "access_secret",
            "bucket_name",
            "endpoint_url",
            "key_prefix",
        ],
        [
            "accessKeyId",
            "secretAccessKey",
            "bucket",
            "endpointUrl",
            "prefix",
        ],
        [
            "accessKey",
            "secretKey",
            "bucket",
            "endpoint_url",
            "objectPath",
        ],
        [
            "aws_access_key_id",
            "aws_secret_access_key",
            "bucket",
            "endpoint",
            "prefix",
        ],
    ];
    for object in objects {
        for [key, secret, bucket, endpoint, prefix] in fields {
            let config = json!({
                key: "AKIA1", secret: SECRET, bucket: "results", endpoint: "https://s3.eu-west-3.amazonaws.com",
                prefix: "/out/1/", "somethingElse": 7,
            });
            let beside = json!({"id": "a", "input": {"prompt": "x"}, object: config});
            let within = json!({"id": "a", "input": {"prompt": "x", object: config}});
            for value in [beside, within] {
                let to = job(value).unwrap().unwrap();
                assert_eq!(
                    (to.bucket(), to.prefix()),
                    ("results", "out/1"),
                    "{object} {key}"
                );
                assert_eq!(to.endpoint_url(), "https://s3.eu-west-3.amazonaws.com");
                assert_eq!(to.region, "eu-west-3");
                assert_eq!(to.credentials.access_key.expose_secret(), "AKIA1");
                assert_eq!(to.credentials.secret_key.expose_secret(), SECRET);
                assert!(to.from_job && !format!("{to:?}").contains(SECRET));
            }
        }
    }
}

#[test]
fn the_outer_store_wins_and_an_empty_one_is_none() {
    let config = |bucket: &str| json!({"accessId": "a", "accessSecret": "b", "bucketName": bucket});
    let both = json!({"s3Config": config("outer"), "input": {"s3Config": config("inner")}});
    assert_eq!(job(both).unwrap().unwrap().bucket(), "outer");
    let named =
        json!({"s3Config": config("any"), "outputS3Config": config("outputs"), "input": {}});
    assert_eq!(job(named).unwrap().unwrap().bucket(), "outputs");
    let empty = json!({"s3Config": null, "s3_config": {}, "input": {"s3Config": config("inner")}});
    assert_eq!(job(empty).unwrap().unwrap().bucket(), "inner");
    assert!(job(json!({"input": "just a text"})).unwrap().is_none());
}

#[test]
fn what_is_wrong_with_a_jobs_store_names_the_field_and_no_value() {
    let cases = [
        (json!("s3://x"), "s3Config: give an object"),
        (
            json!({"accessSecret": SECRET, "bucketName": "b"}),
            "s3Config.accessId: is missing",
        ),
        (
            json!({"accessId": SECRET, "bucketName": "b"}),
            "s3Config.accessSecret: is missing",
        ),
        (
            json!({"accessId": "a", "accessSecret": SECRET}),
            "s3Config.bucketName: is missing",
        ),
        (
            json!({"accessId": "a", "accessSecret": SECRET, "bucketName": 7}),
            "s3Config.bucketName: give a text",
        ),
        (
            json!({"accessId": "a", "accessSecret": SECRET, "bucketName": "b", "endpointUrl": "::"}),
            "s3Config.endpointUrl: give an address",
        ),
        (
            json!({"accessId": "a", "accessSecret": SECRET, "bucketName": "../b"}),
            "bucket: a bucket's name has",
        ),
    ];
    for (config, expected) in cases {
        let error = job(json!({"s3Config": config})).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains(SECRET), "{error}");
    }
}

#[test]
fn an_address_tells_bucket_region_and_prefix() {
    let account = "0123456789abcdef0123456789abcdef";
    let cases = [
        ("https://s3.amazonaws.com", None, None, "us-east-1", ""),
        (
            "https://s3.eu-central-1.amazonaws.com/",
            None,
            None,
            "eu-central-1",
            "",
        ),
        (
            "https://s3-us-west-2.amazonaws.com/pictures/new",
            None,
            Some("pictures"),
            "us-west-2",
            "new",
        ),
        (
            "https://pictures.s3.eu-west-1.amazonaws.com",
            None,
            Some("pictures"),
            "eu-west-1",
            "",
        ),
        (
            "https://my.pictures.s3.amazonaws.com",
            None,
            Some("my.pictures"),
            "us-east-1",
            "",
        ),
        (
            "https://s3.dualstack.eu-west-1.amazonaws.com",
            Some("b"),
            Some("b"),
            "eu-west-1",
            "",
        ),
        (
            &format!("https://{account}.r2.cloudflarestorage.com"),
            Some("b"),
            Some("b"),
            "auto",
            "",
        ),
        (
            &format!("https://{account}.eu.r2.cloudflarestorage.com/b/p/q/"),
            Some("b"),
            Some("b"),
            "auto",
            "p/q",
        ),
        (
            &format!("https://b.{account}.r2.cloudflarestorage.com"),
            None,
            Some("b"),
            "auto",
            "",
        ),
        (
            &format!("https://{account}.r2.cloudflarestorage.com/b"),
            None,
            Some("b"),
            "auto",
            "",
        ),
        (
            "https://s3api-eu-ro-1.runpod.io/",
            Some("vol1"),
            Some("vol1"),
            "EU-RO-1",
            "",
        ),
        (
            "https://b.fra1.digitaloceanspaces.com",
            None,
            Some("b"),
            "fra1",
            "",
        ),
        (
            "https://s3.us-west-004.backblazeb2.com",
            Some("b"),
            Some("b"),
            "us-west-004",
            "",
        ),
        (
            "https://storage.googleapis.com",
            Some("b"),
            Some("b"),
            "auto",
            "",
        ),
        (
            "http://127.0.0.1:9000/",
            Some("b"),
            Some("b"),
            "us-east-1",
            "",
        ),
        (
            "http://b.minio.internal:9000/",
            Some("b"),
            Some("b"),
            "us-east-1",
            "",
        ),
    ];
    for (url, given, bucket, region, prefix) in cases {
        let read = super::endpoint::Endpoint::read(url.parse().unwrap(), given);
        assert_eq!(read.bucket.as_deref(), bucket, "{url}");
        assert_eq!(read.region(), region, "{url}");
        assert_eq!(read.prefix, prefix, "{url}");
        assert_eq!(read.url.path(), "/", "{url}");
        let host = read.url.host_str().unwrap();
        assert!(
            !host.starts_with("b.") && !host.starts_with("pictures.") && !host.starts_with("my."),
            "{url}: {host}"
        );
    }
}

fn keys() -> Operator {
    Operator {
        bucket_access_key: Some("AKIA1".into()),
        bucket_secret_key: Some(SECRET.into()),
        ..Operator::default()
    }
}

#[test]
fn an_operators_store_follows_runpods_own_workers() {
    let november = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000); // 2026-11-18
    let url = |text: &str| Some(text.parse::<Url>().unwrap());
    let at = |operator: &Operator| operator.destination(november).unwrap().unwrap();
    assert!(
        keys().destination(november).unwrap().is_none(),
        "keys alone ask for nothing"
    );

    let host_only = at(&Operator {
        bucket_endpoint: url("https://minio.example"),
        ..keys()
    });
    assert_eq!((host_only.bucket(), host_only.prefix()), ("11-26", ""));
    // Where the address holds the bucket, RunPod's helper makes the month a directory in it.
    let with_bucket = url("https://results.s3.eu-west-1.amazonaws.com");
    let in_host = at(&Operator {
        bucket_endpoint: with_bucket.clone(),
        ..keys()
    });
    assert_eq!((in_host.bucket(), in_host.prefix()), ("results", "11-26"));
    assert_eq!(in_host.endpoint_url(), "https://s3.eu-west-1.amazonaws.com");
    assert!(!in_host.from_job);
    let named = at(&Operator {
        bucket_endpoint: url("https://minio.example"),
        bucket_name: Some("named".into()),
        ..keys()
    });
    assert_eq!((named.bucket(), named.prefix()), ("named", ""));
    let place = Some(("placed".to_owned(), "out".to_owned()));
    let placed = at(&Operator {
        place: place.clone(),
        bucket_name: Some("named".into()),
        ..keys()
    });
    assert_eq!((placed.bucket(), placed.prefix()), ("placed", "out"));

    // The keys of AWS serve where there are no others, and do not mix with them.
    let aws = Operator {
        place: place.clone(),
        access_key: Some("AKIA2".into()),
        secret_key: Some("other".into()),
        session_token: Some("token".into()),
        region: Some("eu-north-1".into()),
        ..Operator::default()
    };
    let to = at(&aws);
    assert_eq!(
        (to.region.as_str(), to.endpoint_url().as_str()),
        ("eu-north-1", "https://s3.eu-north-1.amazonaws.com")
    );
    assert!(to.credentials.session_token.is_some());
    let mixed = Operator {
        bucket_endpoint: url("https://minio.example"),
        ..aws.clone()
    };
    let mixed = at(&Operator {
        bucket_access_key: Some("AKIA1".into()),
        bucket_secret_key: Some(SECRET.into()),
        ..mixed
    });
    assert_eq!(mixed.credentials.access_key.expose_secret(), "AKIA1");
    assert!(mixed.credentials.session_token.is_none());
    assert_eq!(mixed.region, "us-east-1");

    let error = |operator: Operator| operator.destination(november).unwrap_err().to_string();
    let none = error(Operator {
        place: place.clone(),
        ..Operator::default()
    });
    assert!(
        none.contains("BUCKET_ACCESS_KEY_ID") && none.contains("AWS_ACCESS_KEY_ID"),
        "{none}"
    );
    let half = error(Operator {
        place,
        bucket_access_key: Some(SECRET.into()),
        ..Operator::default()
    });
    assert!(
        half.contains("set BUCKET_SECRET_ACCESS_KEY") && !half.contains(SECRET),
        "{half}"
    );
}

#[test]
fn months_are_those_of_the_calendar() {
    // From date -u -d @…
    for (seconds, expected) in [
        (0, "01-70"),
        (951_782_399, "02-00"),
        (951_868_800, "03-00"),
        (1_709_164_800, "02-24"),
        (1_709_251_200, "03-24"),
        (1_767_225_599, "12-25"),
        (1_767_225_600, "01-26"),
        (4_102_444_800, "01-00"),
    ] {
        assert_eq!(
            month(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
            expected,
            "{seconds}"
        );
    }
}

#[test]
fn keys_hold_the_job_cannot_collide_and_lead_nowhere() {
    let one = object_key("out/2026", "sync-1-e1", "png");
    let rest = one.strip_prefix("out/2026/sync-1-e1/").unwrap();
    let name = rest.strip_suffix(".png").unwrap();
    assert!(uuid::Uuid::parse_str(name).is_ok(), "{name}");
    let many: BTreeSet<String> = (0..1000).map(|_| object_key("p", "j", "png")).collect();
    assert_eq!(many.len(), 1000);
    let hostile = object_key("../../a//b", "../x y/\u{e9}?#", "json");
    assert!(hostile.starts_with("--/--/a/b/..-x-y----/"), "{hostile}");
    assert!(object_key("", "", "bin").len() == 40);
    assert_eq!(sanitised(&"x".repeat(500)).len(), 128);
}

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
        Client::new(AllowedHosts::default()),
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
    let allowing = Uploader::new(Client::new(allowed), Duration::from_secs(60));
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

#[test]
fn nothing_that_is_printed_holds_a_key() {
    let operator = Operator {
        access_key: Some(SecretString::from(SECRET)),
        ..keys()
    };
    assert!(!format!("{operator:?}").contains(SECRET));
}
