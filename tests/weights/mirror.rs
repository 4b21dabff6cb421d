//! A mirror of hub models, filled and read, against s3s-fs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chandler::weights::WeightsError;
use chandler::weights::mirror::{Fill, Filled, Mirror, Plain, Scope, push_plain};
use chandler::weights::progress::Progress;
use chandler::weights::remote::{Digest, Listing, RemoteFile, Source};
use chandler::weights::s3::S3Source;
use s3_double::{Fault, Match, Rule, S3Double};
use serde_json::json;

use super::stores::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const REPOSITORY: &str = "org/name";
const FOLDER: &str = "mirror/models--org--name";

fn mirror(double: &S3Double, scope: Scope) -> Mirror {
    Mirror::new(BUCKET, "mirror", &options(double), scope).unwrap()
}

fn git_sha1(body: &[u8]) -> String {
    use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    context.update(format!("blob {}\0", body.len()).as_bytes());
    context.update(body);
    let digest = context.finish();
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Lays files on the disk as a snapshot; small ones have git's digest, as on the hub.
fn snapshot(dir: &Path, files: &[(&str, Vec<u8>)]) -> Fill {
    let listed = files.iter().map(|(path, body)| {
        let at = dir.join(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, body).unwrap();
        let digest = match path.ends_with(".safetensors") {
            true => sha256(body),
            false => git_sha1(body),
        };
        RemoteFile {
            path: (*path).to_owned(),
            size: body.len() as u64,
            digest: Digest::parse(&digest),
            blob: digest,
            etag: None,
        }
    });
    Fill {
        repository: REPOSITORY.to_owned(),
        revision: Some("main".to_owned()),
        listing: Listing {
            commit: COMMIT.to_owned(),
            files: listed.collect(),
        },
        snapshot: dir.to_owned(),
        progress: Arc::new(Progress::default()),
        at_once: 2,
    }
}

async fn filled(mirror: &Mirror, fill: &Fill) -> Filled {
    mirror.fill(fill, &|| false).await.unwrap()
}

fn put_paths(double: &S3Double) -> Vec<String> {
    let requests = double.requests().into_iter();
    let puts = requests.filter(|asked| asked.method == "PUT" && asked.status == 200);
    puts.map(|asked| asked.path).collect()
}

#[tokio::test]
async fn what_was_filled_is_found_with_digests_and_the_manifest_comes_last() {
    let (double, dir) = (double().await, tempfile::tempdir().unwrap());
    let model = noise((40 << 20) + 5);
    let files = [
        ("config.json", b"{}".to_vec()),
        ("unet/model.safetensors", model.clone()),
    ];
    let fill = snapshot(dir.path(), &files);
    let mirror = mirror(&double, Scope::Private);
    assert!(mirror.find(REPOSITORY, "main").await.unwrap().is_none());
    let bytes_sent = model.len() as u64 + 2;
    let wrote = Filled::Wrote {
        files: 2,
        bytes: bytes_sent,
    };
    assert_eq!(filled(&mirror, &fill).await, wrote);
    assert_eq!(fill.progress.totals().received, bytes_sent);
    let puts = put_paths(&double);
    let last: Vec<&str> = puts.iter().rev().take(2).map(String::as_str).collect();
    assert_eq!(
        last,
        [
            format!("/models/{FOLDER}/refs/main"),
            format!("/models/{FOLDER}/manifests/{COMMIT}.json")
        ]
    );

    for revision in ["main", COMMIT] {
        let found = mirror.find(REPOSITORY, revision).await.unwrap().unwrap();
        assert_eq!(found.commit(), COMMIT);
        let listing = found.list().await.unwrap();
        assert_eq!(listing, fill.listing);
        for (path, body) in &files {
            assert_eq!(
                &bytes(&found, file(&listing, path), None).await.1,
                body,
                "{path}"
            );
        }
    }
    assert!(mirror.find(REPOSITORY, "v2").await.unwrap().is_none());
    assert!(mirror.find("org/other", "main").await.unwrap().is_none());

    // Nothing is sent twice, by nobody.
    double.forget();
    assert_eq!(filled(&mirror, &fill).await, Filled::Already);
    assert_eq!(put_paths(&double), [""; 0]);

    // As a plain place, it is the same model.
    for prefix in [FOLDER.to_owned(), format!("{FOLDER}/snapshots/{COMMIT}")] {
        let source = S3Source::new(BUCKET, &prefix, &options(&double)).unwrap();
        let listing = source.list().await.unwrap();
        assert_eq!(listing.commit, COMMIT, "{prefix}");
        assert_eq!(
            file(&listing, "config.json").blob,
            fill.listing.files[0].blob
        );
        assert_eq!(
            bytes(&source, file(&listing, "config.json"), None).await.1,
            b"{}"
        );
    }

    // Without its manifest, a mirror has nothing.
    double.remove(BUCKET, &format!("{FOLDER}/manifests/{COMMIT}.json"));
    assert!(mirror.find(REPOSITORY, "main").await.unwrap().is_none());
    // Its files are still there, and are not sent again.
    let again = Filled::Wrote { files: 0, bytes: 0 };
    assert_eq!(filled(&mirror, &fill).await, again);
}

#[tokio::test]
async fn a_shared_mirror_is_never_written_and_one_that_is_off_never_asked() {
    let (double, dir) = (double().await, tempfile::tempdir().unwrap());
    let fill = snapshot(dir.path(), &[("config.json", b"{}".to_vec())]);
    let off = mirror(&double, Scope::Off);
    assert!(off.find(REPOSITORY, "main").await.unwrap().is_none());
    assert_eq!(filled(&off, &fill).await, Filled::Off);
    assert_eq!(double.requests(), []);
    let shared = mirror(&double, Scope::Shared);
    assert_eq!(filled(&shared, &fill).await, Filled::Off);
    assert_eq!(double.requests(), []);
    filled(&mirror(&double, Scope::Private), &fill).await;
    double.forget();
    assert!(shared.find(REPOSITORY, "main").await.unwrap().is_some());
    assert!(double.requests().iter().all(|asked| asked.method == "GET"));
    for (text, scope) in [
        ("off", Scope::Off),
        ("shared", Scope::Shared),
        ("private", Scope::Private),
    ] {
        assert_eq!(
            (text.parse(), scope.to_string()),
            (Ok(scope), text.to_owned())
        );
    }
    assert!("public".parse::<Scope>().is_err());
}

#[tokio::test]
async fn two_that_fill_at_once_end_with_one_good_mirror() {
    let double = double().await;
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shared = ("model.safetensors", noise(50_000));
    let first = snapshot(
        one.path(),
        &[shared.clone(), ("config.json", b"{}".to_vec())],
    );
    let second = snapshot(two.path(), &[shared, ("tokenizer.json", b"[]".to_vec())]);
    let (a, b) = (
        mirror(&double, Scope::Private),
        mirror(&double, Scope::Private),
    );
    // So late that both have read that there is no manifest.
    let on = Match {
        method: Some("PUT"),
        contains: Some("/snapshots/".to_owned()),
        ..Match::default()
    };
    double
        .faults()
        .add(Rule::always(on, Fault::Late(Duration::from_millis(300))));
    let wrote = tokio::join!(filled(&a, &first), filled(&b, &second));
    assert!(
        matches!(wrote, (Filled::Wrote { .. }, Filled::Wrote { .. })),
        "{wrote:?}"
    );
    assert!(
        double.requests().iter().any(|asked| asked.status == 412),
        "they met"
    );
    let found = a.find(REPOSITORY, "main").await.unwrap().unwrap();
    let listing = found.list().await.unwrap();
    assert_eq!(
        paths(&listing),
        ["config.json", "model.safetensors", "tokenizer.json"]
    );
    for file in &listing.files {
        let (status, body) = bytes(&found, file, None).await;
        assert_eq!(
            (status, body.len() as u64),
            (200, file.size),
            "{}",
            file.path
        );
    }
}

#[tokio::test]
async fn what_is_damaged_on_the_disk_goes_nowhere() {
    let (double, dir) = (double().await, tempfile::tempdir().unwrap());
    let fill = snapshot(dir.path(), &[("model.safetensors", noise(1000))]);
    let mut damaged = noise(1000);
    damaged[500] ^= 1;
    std::fs::write(dir.path().join("model.safetensors"), damaged).unwrap();
    let mirror = mirror(&double, Scope::Private);
    let error = refused(mirror.fill(&fill, &|| false).await);
    assert!(matches!(error, WeightsError::Corrupt { .. }), "{error}");
    assert_eq!(double.keys(BUCKET), [""; 0]);
}

#[tokio::test]
async fn filling_is_given_up_at_once_and_goes_on_next_time() {
    let (double, dir) = (double().await, tempfile::tempdir().unwrap());
    let files = [
        ("config.json", b"{}".to_vec()),
        ("model.safetensors", noise(33 << 20)),
    ];
    let fill = snapshot(dir.path(), &files);
    let mirror = mirror(&double, Scope::Private);
    let on = Match {
        method: Some("PUT"),
        contains: Some("partNumber=2".to_owned()),
        ..Match::default()
    };
    double
        .faults()
        .add(Rule::next(1, on, Fault::Late(Duration::from_secs(60))));
    let cancelled = AtomicBool::new(false);
    let since = std::sync::Mutex::new(None);
    let giving_up = async {
        while !double
            .requests()
            .iter()
            .any(|asked| asked.query.contains("partNumber=1"))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancelled.store(true, Ordering::Relaxed);
        *since.lock().unwrap() = Some(Instant::now());
    };
    let is_cancelled = || cancelled.load(Ordering::Relaxed);
    let (done, ()) = tokio::join!(mirror.fill(&fill, &is_cancelled), giving_up);
    assert_eq!(done.unwrap(), Filled::Cancelled);
    let took = since.lock().unwrap().unwrap().elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let taken_back = double
        .requests()
        .iter()
        .any(|asked| asked.method == "DELETE" && asked.status == 204);
    assert!(taken_back, "no parts are left: {:?}", double.requests());
    assert!(mirror.find(REPOSITORY, "main").await.unwrap().is_none());
    double.faults().clear();
    let rest = Filled::Wrote {
        files: 1,
        bytes: 33 << 20,
    };
    assert_eq!(filled(&mirror, &fill).await, rest);
    assert!(mirror.find(REPOSITORY, "main").await.unwrap().is_some());
}

#[tokio::test]
async fn a_mirror_that_lies_is_refused() {
    let double = double().await;
    let mirror = mirror(&double, Scope::Shared);
    let key = format!("{FOLDER}/manifests/{COMMIT}.json");
    let manifest = |repository: &str, commit: &str, path: &str| {
        let files = json!([{"path": path, "size": 1, "sha256": sha256(b"x")}]);
        json!({"version": 1, "repository": repository, "commit": commit, "files": files})
            .to_string()
    };
    let other = COMMIT.replace('0', "f");
    for (body, expected) in [
        (
            manifest(REPOSITORY, COMMIT, "../../etc/passwd"),
            "relative path",
        ),
        (manifest("org/other", COMMIT, "a"), "another repository"),
        (
            manifest(REPOSITORY, &other, "a"),
            "another repository or commit",
        ),
        ("{".to_owned(), "no manifest"),
    ] {
        double.put(BUCKET, &key, body).await;
        let error = refused(mirror.find(REPOSITORY, COMMIT).await).to_string();
        assert!(error.contains(expected), "{error}");
    }
    double
        .put(BUCKET, &format!("{FOLDER}/refs/main"), "../../other")
        .await;
    let error = refused(mirror.find(REPOSITORY, "main").await).to_string();
    assert!(error.contains("holds no commit"), "{error}");
    for (repository, revision) in [
        ("../x", "main"),
        ("org/name", "../main"),
        ("a--b/c", "main"),
    ] {
        let error = refused(mirror.find(repository, revision).await);
        assert!(matches!(error, WeightsError::BadName { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_directory_is_pushed_with_its_manifest_and_pushed_again_when_it_changed() {
    let (double, dir) = (double().await, tempfile::tempdir().unwrap());
    let write = |name: &str, body: &[u8]| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    };
    write("config.json", b"{}");
    write("sub/model.safetensors", &noise(20_000));
    write(".git/config", b"x");
    let plain = Plain {
        directory: PathBuf::from(dir.path()),
        bucket: BUCKET.to_owned(),
        prefix: "own/model".to_owned(),
        progress: Arc::new(Progress::default()),
        at_once: 2,
    };
    let push = async || {
        push_plain(&plain, &options(&double), &|| false)
            .await
            .unwrap()
    };
    let bytes_sent = 20_002;
    assert_eq!(
        push().await,
        Filled::Wrote {
            files: 2,
            bytes: bytes_sent
        }
    );
    assert_eq!(push().await, Filled::Already);
    let source = S3Source::new(BUCKET, "own/model", &options(&double)).unwrap();
    let listing = source.list().await.unwrap();
    assert_eq!(paths(&listing), ["config.json", "sub/model.safetensors"]);
    assert!(listing.files.iter().all(|file| file.digest.is_some()));
    // Of the same size, so that only the digest tells.
    let mut other = noise(20_000);
    other[7] ^= 1;
    write("sub/model.safetensors", &other);
    assert_eq!(
        push().await,
        Filled::Wrote {
            files: 1,
            bytes: 20_000
        }
    );
    let again = source.list().await.unwrap();
    assert_ne!(again.commit, listing.commit);
    let changed = file(&again, "sub/model.safetensors");
    assert_eq!(changed.digest, Digest::parse(&sha256(&other)));
    assert_eq!(bytes(&source, changed, None).await.1, other);
}
