//! Outputs of jobs in real S3 servers, checked by boto3 (`tests/conformance/s3_outputs.py`).
//! `CHANDLER_PYTHON=…/bin/python cargo test s3_servers -- --ignored` runs it; S3S_FS names the s3s-fs binary.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use chandler::reach::{AllowedHosts, Client, Limits};
use chandler::runpod::{Job, OutputStore, Outputs};
use chandler::storage::{Object, Operator, Uploader, from_job, object_key};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The script, the stores that it runs, and its answers.
struct Stores {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Stores {
    fn start() -> (Self, Vec<Value>) {
        let python = std::env::var("CHANDLER_PYTHON").unwrap_or_else(|_| "python3".into());
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/conformance/s3_outputs.py"
        );
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut stores = Self {
            child,
            input,
            output,
        };
        let told = stores.line();
        (stores, told.as_array().unwrap().clone())
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the script said {line:?}"))
    }

    /// boto3's opinion of an artifact.
    fn check(&mut self, store: &Value, artifact: &Value, body: &[u8]) {
        let hex: String = Sha256::digest(body)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let told = json!({"store": store["name"], "artifact": artifact, "bytes": body.len(), "sha256": hex});
        writeln!(self.input.as_mut().unwrap(), "{told}").unwrap();
        let answer = self.line();
        assert_eq!(answer["ok"], true, "{}: {}", store["name"], answer["why"]);
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        drop(self.input.take()); // the end of its input ends the script, and the script its stores
        let _ = self.child.wait();
    }
}

fn text<'a>(store: &'a Value, field: &str) -> &'a str {
    store[field].as_str().unwrap()
}

fn operator(store: &Value) -> Operator {
    Operator {
        bucket_endpoint: Some(text(store, "endpoint").parse().unwrap()),
        bucket_name: Some(text(store, "bucket").to_owned()),
        bucket_access_key: Some(text(store, "access").into()),
        bucket_secret_key: Some(text(store, "secret").into()),
        ..Operator::default()
    }
}

fn uploader() -> Uploader {
    let allowed = AllowedHosts {
        entries: vec!["127.0.0.0/8".parse().unwrap()],
        everything: false,
    };
    Uploader::new(
        Client::new(allowed, Limits::default()),
        Duration::from_secs(604_800),
    )
}

fn job(store: Option<(&Value, &str)>) -> Job {
    let mut input = json!({"prompt": "a lighthouse"});
    if let Some((store, secret)) = store {
        input["s3_config"] = json!({
            "access_id": store["access"], "access_secret": secret, "bucket": store["bucket"],
            "endpoint_url": store["endpoint"], "prefix": "jobs/Größe 1",
        });
    }
    Job {
        id: "sync-1f/../2-e1".to_owned(),
        input,
        rest: serde_json::Map::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with boto3 and moto, and s3s-fs"]
async fn s3_servers_take_outputs_and_their_signed_addresses_work() {
    let (mut stores, told) = Stores::start();
    for store in &told {
        // The operator's store: an output that is too large.
        let outputs = OutputStore::new(uploader(), operator(store), Some(1000)).unwrap();
        let output = json!({"text": "word ".repeat(1000)});
        let body = json!({ "output": output });
        let sent = outputs.deliver(&job(None), body).await.unwrap();
        let written = serde_json::to_vec(&output).unwrap();
        stores.check(store, &sent["output"]["artifact"], &written);

        // A job's store: a file in the output.
        let body = json!({"output": {"images": ["data:image/png;base64,iVBORw0KGgo="]}});
        let theirs = job(Some((store, text(store, "secret"))));
        let outputs = OutputStore::new(uploader(), Operator::default(), None).unwrap();
        let sent = outputs.deliver(&theirs, body.clone()).await.unwrap();
        stores.check(store, &sent["output"]["artifact"], b"\x89PNG\r\n\x1a\n");

        // In parts.
        let large: Vec<u8> = (0..40_u32 << 20).map(|n| (n ^ (n >> 11)) as u8).collect();
        let to = from_job(&theirs.rest, &theirs.input).unwrap().unwrap();
        let object = Object {
            key: object_key(to.prefix(), &theirs.id, "mp4"),
            body: Bytes::from(large.clone()),
            content_type: "video/mp4".to_owned(),
        };
        let artifact = uploader().upload(&to, object).await.unwrap();
        stores.check(store, &serde_json::to_value(artifact).unwrap(), &large);

        // Wrong keys, where the store looks at them.
        let wrong = outputs
            .deliver(&job(Some((store, "wrong-secret-key"))), body)
            .await;
        if store["signatures"] == true {
            let error = wrong.unwrap_err().to_string();
            assert!(error.contains("SignatureDoesNotMatch"), "{error}");
            assert!(!error.contains("wrong-secret-key"), "{error}");
        }
        println!("{}: three uploads, all as boto3 wants them", store["name"]);
    }
    let looked = told.iter().any(|store| store["signatures"] == true);
    assert!(looked, "no store that looks at signatures: set S3S_FS");
}
