//! `chandler cache push`, as it is typed.

use std::path::Path;
use std::process::{Command, Output};

use chandler::weights::mirror::{Mirror, Scope};
use chandler::weights::remote::{Digest, Source};
use chandler::weights::s3::S3Source;
use s3_double::S3Double;
use serde_json::Value;

use super::stores::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

async fn push(double: &S3Double, cache: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chandler"));
    command
        .args(["cache", "push", "--json"])
        .args(arguments)
        .env_clear();
    command.env("CHANDLER_S3_ENDPOINT", double.endpoint());
    command.env("CHANDLER_S3_ACCESS_KEY", &double.options().access_key);
    command.env("CHANDLER_S3_SECRET_KEY", &double.options().secret_key);
    // What RunPod puts there is not what counts.
    command
        .env("AWS_ACCESS_KEY_ID", "other")
        .env("AWS_SECRET_ACCESS_KEY", "other");
    command
        .env("HF_HUB_CACHE", cache)
        .env("HF_HUB_OFFLINE", "1");
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn report(output: &Output) -> Value {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}{err}");
    serde_json::from_str(&out).unwrap()
}

/// A snapshot as Python's client lays it: links to blobs that are named after their digests.
fn lay(cache: &Path, name: &str, body: &[u8]) {
    let folder = cache.join("models--org--name");
    let (blobs, snapshot) = (folder.join("blobs"), folder.join("snapshots").join(COMMIT));
    for directory in [&blobs, &snapshot, &folder.join("refs")] {
        std::fs::create_dir_all(directory).unwrap();
    }
    std::fs::write(folder.join("refs/main"), COMMIT).unwrap();
    std::fs::write(blobs.join(sha256(body)), body).unwrap();
    let target = Path::new("../../blobs").join(sha256(body));
    std::os::unix::fs::symlink(target, snapshot.join(name)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_model_and_a_directory_are_pushed_and_found() {
    let (double, dir) = (double().await, tempfile::tempdir().unwrap());
    let cache = dir.path().join("hub");
    let model = noise(70_000);
    // A header that says that there are no tensors: enough to be a model's file.
    for (name, body) in [
        ("config.json", br#"{"model_type":"llama"}"#.to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
        ("model.safetensors", model.clone()),
    ] {
        lay(&cache, name, &body);
    }
    let to = format!("s3://{BUCKET}/mirror");
    let first = push(&double, &cache, &["org/name", &to]).await;
    assert_eq!(report(&first)["files"], 3);
    let again = push(&double, &cache, &["org/name", &to]).await;
    assert_eq!(report(&again)["files"], 0);
    let mirror = Mirror::new(BUCKET, "mirror", &options(&double), Scope::Shared).unwrap();
    let found = mirror.find("org/name", "main").await.unwrap().unwrap();
    let listing = found.list().await.unwrap();
    assert_eq!(listing.commit, COMMIT);
    let stored = file(&listing, "model.safetensors");
    assert_eq!(stored.digest, Digest::parse(&sha256(&model)));
    assert_eq!(bytes(&found, stored, None).await.1, model);

    let own = dir.path().join("own");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("config.json"), "{}").unwrap();
    let to = format!("s3://{BUCKET}/own");
    let pushed = push(&double, &cache, &[own.to_str().unwrap(), &to]).await;
    assert_eq!(report(&pushed)["files"], 1);
    let source = S3Source::new(BUCKET, "own", &options(&double)).unwrap();
    assert_eq!(paths(&source.list().await.unwrap()), ["config.json"]);

    // A damaged blob goes nowhere.
    let blob = cache.join("models--org--name/blobs").join(sha256(&model));
    std::fs::write(blob, noise(70_001).split_off(1)).unwrap();
    let other = format!("s3://{BUCKET}/other");
    let refused = push(&double, &cache, &["org/name", &other]).await;
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && error.contains("chandler cache verify"),
        "{error}"
    );
    assert!(
        !double
            .keys(BUCKET)
            .iter()
            .any(|key| key.contains("other/models--org--name/manifests"))
    );

    let wrong = push(&double, &cache, &["org/name", "gs://x/y"]).await;
    assert_eq!(wrong.status.code(), Some(2));
}
