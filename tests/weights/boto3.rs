//! moto and boto3 (`tests/conformance/s3_weights.py`): what boto3 put there is read here, and what a mirror was filled with is
//! read by boto3; on moto, and on the server of these tests, which is proved by it, too.
//! `CHANDLER_PYTHON=…/bin/python cargo test boto3_and_we -- --ignored` runs it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use chandler::storage::{Access, Addressing, Credentials};
use chandler::weights::mirror::{Fill, Filled, Mirror, Scope};
use chandler::weights::progress::Progress;
use chandler::weights::remote::{Digest, Listing, RemoteFile, Source};
use chandler::weights::s3::{S3Options, S3Source};
use serde_json::{Value, json};

use super::stores::*;

const COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";

struct Script {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Script {
    fn start() -> (Self, Value) {
        let python = std::env::var("CHANDLER_PYTHON").unwrap_or_else(|_| "python3".into());
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/conformance/s3_weights.py"
        );
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut script = Self {
            child,
            input,
            output,
        };
        let moto = script.line();
        (script, moto)
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the script said {line:?}"))
    }

    /// Off this thread: the test's own server has to answer the script meanwhile.
    fn ask(&mut self, store: &Value, what: Value) -> Value {
        let mut told = store.clone();
        told.as_object_mut()
            .unwrap()
            .extend(what.as_object().unwrap().clone());
        let answer = tokio::task::block_in_place(|| {
            writeln!(self.input.as_mut().unwrap(), "{told}").unwrap();
            self.line()
        });
        assert_eq!(answer.get("error"), None, "{told}");
        answer
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.input.take()); // the end of its input ends the script, and the script moto
        let _ = self.child.wait();
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap().to_owned()
}

fn options_of(store: &Value) -> S3Options {
    S3Options {
        access: Access {
            endpoint: Some(text(store, "endpoint").parse().unwrap()),
            region: None,
            addressing: Addressing::Auto,
            credentials: Some(Credentials {
                access_key: text(store, "access").into(),
                secret_key: text(store, "secret").into(),
                session_token: None,
            }),
        },
        ..S3Options::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with boto3 and moto"]
async fn boto3_and_we_read_what_the_other_wrote() {
    let (mut script, moto) = Script::start();
    let double = double().await;
    let ours = json!({
        "endpoint": double.endpoint(), "access": double.options().access_key, "secret": double.options().secret_key,
        // s3s-fs lists uploads that were completed, too.
        "uploads": false,
    });
    for (name, store) in [("moto", moto), ("s3-double", ours)] {
        let put = script.ask(&store, json!({"do": "put", "prefix": "in/model"}));
        let put = put["files"].as_object().unwrap();
        let source = S3Source::new(BUCKET, "in/model", &options_of(&store)).unwrap();
        let listing = source.list().await.unwrap();
        assert_eq!(listing.files.len(), put.len(), "{name}");
        let dir = tempfile::tempdir().unwrap();
        let mut on_disk = Vec::new();
        for file in listing
            .files
            .iter()
            .filter(|file| !file.path.starts_with("many/0"))
        {
            let expected = &put[&file.path];
            let (status, body) = bytes(&source, file, None).await;
            assert_eq!(status, 200, "{name}: {}", file.path);
            assert_eq!(
                json!([file.size, sha256(&body)]),
                *expected,
                "{name}: {}",
                file.path
            );
            let at = dir.path().join(&file.path);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(at, &body).unwrap();
            on_disk.push(RemoteFile {
                digest: Digest::parse(&sha256(&body)),
                ..file.clone()
            });
        }
        let large = file(&listing, "unet/model-00001-of-00002.safetensors");
        let (status, part) = bytes(&source, large, Some("bytes=16777216-16777999")).await;
        assert_eq!((status, part.len()), (206, 784), "{name}");
        // A small one: s3s-fs goes on giving the old ETag of an object that was put there in parts.
        let small = file(&listing, "config.json");
        let replace = json!({"do": "replace", "key": "in/model/config.json"});
        script.ask(&store, replace);
        let (status, _) = bytes(&source, small, Some("bytes=0-9")).await;
        assert_eq!(status, 412, "{name}: a new version");
        assert_ne!(
            source.list().await.unwrap().commit,
            listing.commit,
            "{name}"
        );

        let mirror = Mirror::new(BUCKET, "mirror", &options_of(&store), Scope::Private).unwrap();
        let fill = Fill {
            repository: "org/name".to_owned(),
            revision: Some("main".to_owned()),
            listing: Listing {
                commit: COMMIT.to_owned(),
                files: on_disk,
            },
            snapshot: dir.path().to_owned(),
            progress: Arc::new(Progress::default()),
            at_once: 4,
        };
        let filled = mirror.fill(&fill, &|| false).await.unwrap();
        assert!(matches!(filled, Filled::Wrote { .. }), "{name}: {filled:?}");
        let check = json!({"do": "check", "prefix": "mirror", "folder": "models--org--name", "commit": COMMIT});
        let seen = script.ask(&store, check);
        let seen = seen["files"].as_object().unwrap();
        assert_eq!(seen.len(), fill.listing.files.len(), "{name}");
        for (path, found) in seen {
            assert_eq!(*found, put[path], "{name}: {path}");
        }
        assert!(
            mirror.find("org/name", "main").await.unwrap().is_some(),
            "{name}"
        );
        script.ask(&store, json!({"do": "conditions", "prefix": "in"}));
        println!(
            "{name}: {} files read, {} mirrored, conditions kept",
            put.len(),
            seen.len()
        );
    }
}
