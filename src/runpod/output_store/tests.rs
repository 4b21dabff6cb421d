//! What becomes of a job's output, with a store in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use super::*;
use crate::reach::{AllowedHosts, Client, Limits};

const SECRET: &str = "hush-hush-hush";

type Objects = Arc<Mutex<HashMap<String, (String, Bytes)>>>;

/// A store that takes everything; its address, and what lies in it by path.
async fn store(status: StatusCode) -> (String, Objects) {
    type Shared = (Objects, StatusCode);
    async fn put(
        State((objects, status)): State<Shared>,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> StatusCode {
        let kind = headers["content-type"].to_str().unwrap().to_owned();
        objects
            .lock()
            .unwrap()
            .insert(uri.path().to_owned(), (kind, body));
        status
    }
    let objects = Objects::default();
    let app = Router::new()
        .fallback(put)
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state((objects.clone(), status));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, objects)
}

fn outputs(own: Option<&str>, inline: usize) -> OutputStore {
    let allowed = AllowedHosts {
        entries: vec!["127.0.0.0/8".parse().unwrap()],
        everything: false,
    };
    let uploader = Uploader::new(
        Client::new(allowed, Limits::default()),
        Duration::from_secs(600),
    );
    let operator = match own {
        None => Operator::default(),
        Some(url) => Operator {
            bucket_endpoint: Some(url.parse().unwrap()),
            bucket_name: Some("own".to_owned()),
            bucket_access_key: Some("AKIA1".into()),
            bucket_secret_key: Some(SECRET.into()),
            ..Operator::default()
        },
    };
    OutputStore::new(uploader, operator, Some(inline)).unwrap()
}

fn job(store: Option<&str>) -> Job {
    let mut rest = serde_json::Map::new();
    if let Some(url) = store {
        let config = json!({"accessId": "AKIA2", "accessSecret": SECRET, "bucketName": "jobs", "endpointUrl": url});
        rest.insert("s3Config".to_owned(), config);
    }
    Job {
        id: "a1b2-u1".to_owned(),
        input: json!({"prompt": "x"}),
        rest,
    }
}

/// The stored object that an artifact tells of.
fn object(objects: &Objects, artifact: &Value) -> (String, Bytes) {
    let path = format!(
        "/{}/{}",
        artifact["bucket_name"].as_str().unwrap(),
        artifact["key"].as_str().unwrap()
    );
    let url = artifact["url"].as_str().unwrap();
    assert!(
        url.contains(&path) && url.contains("X-Amz-Signature="),
        "{url}"
    );
    let found = objects.lock().unwrap().get(&path).cloned();
    found.unwrap_or_else(|| panic!("{path} is not in the store"))
}

#[tokio::test]
async fn what_fits_is_sent_as_it_is() {
    let (url, objects) = store(StatusCode::OK).await;
    let bodies = [
        json!({"output": {"text": "data:image/png is no picture"}}),
        json!({"output": ["a", "b"], "stopPod": true}),
        json!({"output": null}),
        json!({"output": "data:text/plain;base64,aGk="}),
        json!({"error": "it broke"}),
        json!({}),
    ];
    for body in bodies {
        for outputs in [outputs(None, 1000), outputs(Some(&url), 1000)] {
            let sent = outputs.deliver(&job(None), body.clone()).await.unwrap();
            assert_eq!(sent, body);
        }
    }
    assert!(objects.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_too_large_is_uploaded_or_says_what_to_set_up() {
    let (url, objects) = store(StatusCode::OK).await;
    let output = json!({"text": "word ".repeat(1000)});
    let body = json!({"output": output, "stopPod": true});
    let sent = outputs(Some(&url), 1000)
        .deliver(&job(None), body.clone())
        .await
        .unwrap();
    assert_eq!(sent["stopPod"], true);
    assert_eq!(sent["output"].as_object().unwrap().len(), 1);
    let artifact = &sent["output"]["artifact"];
    assert_eq!(artifact["content_type"], "application/json");
    assert_eq!(artifact["bucket_name"], "own");
    assert!(artifact["key"].as_str().unwrap().starts_with("a1b2-u1/"));
    let (kind, stored) = object(&objects, artifact);
    assert_eq!(kind, "application/json");
    assert_eq!(artifact["bytes"], stored.len());
    assert_eq!(serde_json::from_slice::<Value>(&stored).unwrap(), output);

    // Without a store the platform's own limit is what counts.
    let alone = outputs(None, 1000);
    assert_eq!(alone.deliver(&job(None), body.clone()).await.unwrap(), body);
    // 13 bytes around it.
    let large = |bytes: usize| json!({"output": "x".repeat(bytes - 13)});
    let error = alone
        .deliver(&job(None), large(9_999_901))
        .await
        .unwrap_err();
    let error = error.to_string();
    assert!(error.len() < 500, "{} bytes", error.len());
    assert!(alone.deliver(&job(None), large(9_999_900)).await.is_ok());
    let mut waited_for = job(None);
    waited_for.id = "sync-1-e1".to_owned();
    assert!(alone.deliver(&waited_for, large(19_999_900)).await.is_ok());
    assert!(alone.deliver(&waited_for, large(19_999_901)).await.is_err());
    for word in [
        "9999901 bytes",
        "9999900",
        "BUCKET_ENDPOINT_URL",
        "BUCKET_SECRET_ACCESS_KEY",
        "CHANDLER_OUTPUT_S3",
        "s3Config",
    ] {
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[tokio::test]
async fn files_become_addresses_where_there_is_a_store() {
    let (url, objects) = store(StatusCode::OK).await;
    // 1x1 PNGs as far as anybody looks: the bytes are what counts.
    let (one, two) = ("data:image/png;base64,AAEC", "data:audio/wav;base64,AwQF");
    let body = json!({"output": {"images": [one, two], "image_url": one, "seed": 7}});
    let sent = outputs(Some(&url), 100_000)
        .deliver(&job(None), body.clone())
        .await
        .unwrap();
    let output = &sent["output"];
    assert_eq!(output["seed"], 7);
    assert_eq!(output["images"][0], output["image_url"]);
    assert_eq!(output["images"][0], output["artifact"]["url"]);
    assert_eq!(output["images"][1], output["artifacts"][1]["url"]);
    assert_eq!(objects.lock().unwrap().len(), 2);
    let (kind, stored) = object(&objects, &output["artifact"]);
    assert_eq!((kind.as_str(), &stored[..]), ("image/png", &[0, 1, 2][..]));
    let (kind, stored) = object(&objects, &output["artifacts"][1]);
    assert_eq!((kind.as_str(), &stored[..]), ("audio/wav", &[3, 4, 5][..]));
    assert!(
        output["artifacts"][1]["key"]
            .as_str()
            .unwrap()
            .ends_with(".wav")
    );
    // Without a store they stay inline.
    let alone = outputs(None, 1000).deliver(&job(None), body.clone()).await;
    assert_eq!(alone.unwrap(), body);
}

#[tokio::test]
async fn a_jobs_own_store_comes_first_and_gets_a_copy_of_what_stays_inline() {
    let (own, in_own) = store(StatusCode::OK).await;
    let (url, objects) = store(StatusCode::OK).await;
    let outputs = outputs(Some(&own), 1000);
    let body = json!({"output": {"text": "short"}});
    let sent = outputs.deliver(&job(Some(&url)), body).await.unwrap();
    assert_eq!(sent["output"]["text"], "short");
    let (_, stored) = object(&objects, &sent["output"]["artifact"]);
    assert_eq!(&stored[..], br#"{"text":"short"}"#);
    // As OpenAI's route has its one answer.
    let body = json!({"output": [{"object": "chat.completion"}]});
    let sent = outputs.deliver(&job(Some(&url)), body).await.unwrap();
    assert_eq!(sent["output"][0]["object"], "chat.completion");
    object(&objects, &sent["output"][0]["artifact"]);
    // Chunks of a stream have been delivered, and their list stays one.
    let body = json!({"output": ["data: {}\n\n", "data: [DONE]\n\n"]});
    let sent = outputs
        .deliver(&job(Some(&url)), body.clone())
        .await
        .unwrap();
    assert_eq!(sent, body);
    assert_eq!(objects.lock().unwrap().len(), 2);
    assert!(in_own.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_upload_that_fails_is_the_jobs_error_without_keys() {
    let (url, _) = store(StatusCode::FORBIDDEN).await;
    let body = json!({"output": {"text": "x"}});
    let outputs = outputs(None, 1000);
    let error = outputs.deliver(&job(Some(&url)), body.clone()).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("the output could not be uploaded") && error.contains("bucket jobs"),
        "{error}"
    );
    assert!(
        !error.contains(SECRET) && !error.contains("AKIA2"),
        "{error}"
    );
    let mut job = job(None);
    job.input = json!({"s3Config": {"accessId": "a", "accessSecret": SECRET}});
    let error = outputs.deliver(&job, body).await.unwrap_err().to_string();
    assert!(error.contains("s3Config.bucketName"), "{error}");
    assert!(!error.contains(SECRET), "{error}");
    // A job that failed by itself says so, whatever its store is like.
    let failed = json!({"error": "it broke"});
    assert_eq!(outputs.deliver(&job, failed.clone()).await.unwrap(), failed);
}

#[test]
fn what_is_set_up_by_half_is_said_at_the_start() {
    let uploader = Uploader::new(
        Client::new(AllowedHosts::default(), Limits::default()),
        Duration::from_secs(60),
    );
    let operator = Operator {
        place: Some(("b".to_owned(), String::new())),
        ..Operator::default()
    };
    let error = OutputStore::new(uploader, operator, None).unwrap_err();
    assert!(
        error.to_string().contains("BUCKET_ACCESS_KEY_ID"),
        "{error}"
    );
}
