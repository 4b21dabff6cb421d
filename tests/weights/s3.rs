//! `s3://bucket/prefix` against s3s-fs, which verifies signatures, with faults in between.

use std::time::{Duration, Instant};

use chandler::storage::{Access, Addressing};
use chandler::weights::WeightsError;
use chandler::weights::remote::{Digest, Source};
use chandler::weights::s3::{S3Options, S3Source};
use s3_double::{Fault, Match, Options, Rule, S3Double};
use serde_json::json;

use super::stores::*;

fn source(double: &S3Double, prefix: &str) -> S3Source {
    S3Source::new(BUCKET, prefix, &options(double)).unwrap()
}

#[tokio::test]
async fn a_prefix_is_listed_and_its_files_are_read_by_ranges_without_a_signature_each() {
    let double = double().await;
    let model = noise(300_000);
    double.put(BUCKET, "llm/v1/config.json", "{}").await;
    double
        .put(BUCKET, "llm/v1/a b/ü+1.safetensors", model.clone())
        .await;
    double.put(BUCKET, "llm/v10/other.json", "{}").await;
    double.put(BUCKET, "other.json", "{}").await;
    let source = source(&double, "/llm/v1/");
    assert_eq!(source.name(), "s3://models/llm/v1");
    let listing = source.list().await.unwrap();
    assert_eq!(paths(&listing), ["a b/ü+1.safetensors", "config.json"]);
    let file = file(&listing, "a b/ü+1.safetensors");
    assert_eq!((file.size, file.digest), (300_000, None));
    assert!(file.blob.starts_with("etag-"), "{}", file.blob);
    assert_eq!(bytes(&source, file, None).await, (200, model.clone()));
    let (status, part) = bytes(&source, file, Some("bytes=1000-1999")).await;
    assert_eq!((status, &part[..]), (206, &model[1000..2000]));
    for request in double
        .requests()
        .iter()
        .filter(|request| request.range.is_some())
    {
        assert!(request.presigned && !request.signed, "{request:?}");
    }

    // Another version is another snapshot, and no range of it is mixed with the old one's.
    double
        .put(BUCKET, "llm/v1/a b/ü+1.safetensors", noise(300_001))
        .await;
    assert_eq!(bytes(&source, file, Some("bytes=0-9")).await.0, 412);
    assert_ne!(source.list().await.unwrap().commit, listing.commit);
}

#[tokio::test]
async fn more_than_a_page_is_listed_and_what_is_no_file_of_the_model_is_left_out() {
    let double = double().await;
    for number in 0..1003 {
        double.lay(BUCKET, &format!("many/{number:04}.txt"), b"x");
    }
    double.put(BUCKET, "many/dir/", "").await;
    let listing = source(&double, "many").list().await.unwrap();
    assert_eq!(listing.files.len(), 1003);
    let lists = double
        .requests()
        .iter()
        .filter(|request| request.query.contains("list-type=2"))
        .count();
    assert_eq!(lists, 2);
}

#[tokio::test]
async fn keys_that_lead_elsewhere_are_refused() {
    let double = double().await;
    double.lay(BUCKET, "bad/c:evil", b"x");
    let error = refused(source(&double, "bad").list().await).to_string();
    assert!(
        error.contains("c:evil") && error.contains("relative path"),
        "{error}"
    );
    for prefix in ["a/../b", "a//b", "..", "a\\b"] {
        let error = refused(S3Source::new(BUCKET, prefix, &options(&double)));
        assert!(matches!(error, WeightsError::BadName { .. }), "{error}");
    }
    for bucket in ["", "..", "a/b", "a b"] {
        refused(S3Source::new(bucket, "x", &options(&double)));
    }
}

#[tokio::test]
async fn a_manifest_gives_digests_and_one_that_does_not_fit_is_an_error() {
    let double = double().await;
    let model = noise(10_000);
    double
        .put(BUCKET, "m/model.safetensors", model.clone())
        .await;
    double.put(BUCKET, "m/extra.json", "{}").await;
    let manifest = |size: usize| {
        let files = json!([{"path": "model.safetensors", "size": size, "sha256": sha256(&model)}]);
        json!({"version": 1, "files": files}).to_string()
    };
    double
        .put(BUCKET, "m/chandler-manifest.json", manifest(model.len()))
        .await;
    let listing = source(&double, "m").list().await.unwrap();
    assert_eq!(paths(&listing), ["extra.json", "model.safetensors"]);
    let found = file(&listing, "model.safetensors");
    assert_eq!(found.digest, Digest::parse(&sha256(&model)));
    assert_eq!(found.blob, sha256(&model));
    double
        .put(BUCKET, "m/chandler-manifest.json", manifest(9_999))
        .await;
    let error = refused(source(&double, "m").list().await).to_string();
    assert!(
        error.contains("10000 bytes, and 9999 in the manifest"),
        "{error}"
    );
}

#[tokio::test]
async fn a_copy_of_pythons_cache_is_read_at_its_main_branch() {
    let double = double().await;
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let repository = "hub/models--org--name";
    double
        .put(BUCKET, &format!("{repository}/refs/main"), commit)
        .await;
    double
        .put(
            BUCKET,
            &format!("{repository}/snapshots/{commit}/config.json"),
            "{}",
        )
        .await;
    double
        .put(BUCKET, &format!("{repository}/blobs/abc"), "{}")
        .await;
    let source = source(&double, repository);
    let listing = source.list().await.unwrap();
    assert_eq!(paths(&listing), ["config.json"]);
    let (_, body) = bytes(&source, &listing.files[0], None).await;
    assert_eq!(body, b"{}");
}

#[tokio::test]
async fn a_public_bucket_needs_no_keys_and_a_private_one_says_so() {
    let open = Options {
        public: true,
        ..Options::default()
    };
    for (options, public) in [(open, true), (Options::default(), false)] {
        let double = S3Double::start(options).await;
        double.bucket(BUCKET);
        double.put(BUCKET, "m/a b.json", "{}").await;
        let options = S3Options {
            access: Access {
                endpoint: Some(double.endpoint().parse().unwrap()),
                ..Access::default()
            },
            ..S3Options::default()
        };
        let source = S3Source::new(BUCKET, "m", &options).unwrap();
        if public {
            let listing = source.list().await.unwrap();
            let link = source.link(&listing.files[0]).await.unwrap();
            assert_eq!(link.url.query(), None);
            assert_eq!(bytes(&source, &listing.files[0], None).await.1, b"{}");
            assert!(
                double
                    .requests()
                    .iter()
                    .all(|asked| !asked.signed && !asked.presigned)
            );
        } else {
            let error = refused(source.list().await);
            assert!(matches!(error, WeightsError::Denied { .. }));
            let error = error.to_string();
            assert!(
                error.contains("without keys") && error.contains("CHANDLER_S3_ACCESS_KEY"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn refusals_are_told_apart_in_words_to_act_on_and_without_a_key() {
    let double = double().await;
    double.put(BUCKET, "m/config.json", "{}").await;
    let mut wrong_secret = options(&double);
    let mut keys = credentials(&double);
    keys.secret_key = "wrong-secret-key".into();
    wrong_secret.access.credentials = Some(keys);
    let mut unknown_key = options(&double);
    let mut keys = credentials(&double);
    keys.access_key = "AKIAUNKNOWN".into();
    unknown_key.access.credentials = Some(keys);
    let right = options(&double);
    let cases = [
        (
            &right,
            "nothing-here",
            "",
            "no such bucket",
            "check its name",
        ),
        (
            &right,
            BUCKET,
            "empty",
            "no files under this prefix",
            "config.json",
        ),
        (
            &wrong_secret,
            BUCKET,
            "m",
            "does not accept the keys (SignatureDoesNotMatch",
            "CHANDLER_S3_SECRET_KEY",
        ),
        (&unknown_key, BUCKET, "m", "refuse", "s3:"),
    ];
    for (options, bucket, prefix, what, wanted) in cases {
        let error =
            refused(S3Source::new(bucket, prefix, options).unwrap().list().await).to_string();
        println!("{error}");
        let told = error.contains(what) && error.contains(wanted);
        // s3s-fs has a code of its own for a key that nobody signed up for.
        assert!(told || error.contains("NotSignedUp"), "{error}");
        assert!(!error.contains("wrong-secret-key"), "{error}");
    }
    let scripted = [
        (403, "AccessDenied", "s3:ListBucket"),
        (403, "RequestTimeTooSkewed", "clock"),
        (403, "InvalidAccessKeyId", "does not accept the keys"),
        (400, "ExpiredToken", "have run out"),
        (301, "PermanentRedirect", "--s3-region"),
        (401, "Unauthorized", "does not accept the keys"),
        (400, "InvalidRequest", "InvalidRequest"),
    ];
    for (status, code, expected) in scripted {
        double.faults().clear();
        double.faults().add(Rule::always(
            Match::default(),
            Fault::Refuse(status, code, None),
        ));
        double.forget();
        let error = refused(source(&double, "m").list().await).to_string();
        println!("{error}");
        assert!(error.contains(expected), "{error}");
        assert_eq!(double.requests().len(), 1, "{code} is not asked again");
    }
}

#[tokio::test]
async fn a_bucket_of_another_region_is_asked_there() {
    let options_of = Options {
        region: Some("eu-north-1".to_owned()),
        ..Options::default()
    };
    let double = S3Double::start(options_of).await;
    double.bucket(BUCKET);
    double.put(BUCKET, "m/config.json", "{}").await;
    let source = source(&double, "m");
    let listing = source.list().await.unwrap();
    assert_eq!(bytes(&source, &listing.files[0], None).await.1, b"{}");
    let statuses: Vec<u16> = double.requests().iter().map(|asked| asked.status).collect();
    // The listing twice, a look at the file (s3s-fs lists no ETags), and its bytes.
    assert_eq!(statuses, [400, 200, 200, 200], "it remembers where");
}

#[tokio::test]
async fn a_store_that_wants_patience_gets_it() {
    let double = double().await;
    double.put(BUCKET, "m/config.json", "{}").await;
    for refusal in [
        Fault::Refuse(503, "SlowDown", None),
        Fault::Refuse(429, "TooManyRequests", None),
        Fault::Refuse(502, "BadGateway", None),
        Fault::Refuse(500, "InternalError", None),
    ] {
        double
            .faults()
            .add(Rule::next(1, Match::default(), refusal));
    }
    assert_eq!(source(&double, "m").list().await.unwrap().files.len(), 1);
    assert_eq!(double.requests().len(), 6); // four refusals, the listing, a look at the file
    double.faults().add(Rule::always(
        Match::default(),
        Fault::Refuse(429, "TooManyRequests", None),
    ));
    let few = S3Options {
        tries: 2,
        ..options(&double)
    };
    let error = refused(S3Source::new(BUCKET, "m", &few).unwrap().list().await);
    assert!(matches!(error, WeightsError::RateLimited { .. }), "{error}");
}

#[tokio::test]
async fn a_manifest_that_breaks_off_is_fetched_again() {
    let double = double().await;
    double.put(BUCKET, "m/a", "x").await;
    let files = json!([{"path": "a", "size": 1, "sha256": sha256(b"x")}]);
    double
        .put(
            BUCKET,
            "m/chandler-manifest.json",
            json!({"version": 1, "files": files}).to_string(),
        )
        .await;
    let on = Match {
        contains: Some("chandler-manifest".to_owned()),
        ..Match::default()
    };
    double.faults().add(Rule::next(2, on, Fault::Cut(10)));
    let listing = source(&double, "m").list().await.unwrap();
    assert!(listing.files[0].digest.is_some());
}

#[tokio::test]
async fn a_link_expires_and_the_next_one_holds() {
    let double = double().await;
    double.put(BUCKET, "m/config.json", "{}").await;
    let short = S3Options {
        link_lasts: Duration::from_secs(1),
        ..options(&double)
    };
    let source = S3Source::new(BUCKET, "m", &short).unwrap();
    let listing = source.list().await.unwrap();
    let old = source.link(&listing.files[0]).await.unwrap();
    let get = |url: &reqwest::Url| source.client().get(url.clone()).send();
    assert_eq!(get(&old.url).await.unwrap().status(), 200);
    let began = Instant::now();
    while get(&old.url).await.unwrap().status() == 200 {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(get(&old.url).await.unwrap().status(), 403);
    assert_eq!(
        bytes(&source, &listing.files[0], None).await,
        (200, b"{}".to_vec())
    );
}

#[tokio::test]
async fn where_a_bucket_stands_in_the_address() {
    let link = async |endpoint: Option<&str>, region: Option<&str>, addressing| {
        let options = S3Options {
            access: Access {
                endpoint: endpoint.map(|endpoint| endpoint.parse().unwrap()),
                region: region.map(str::to_owned),
                addressing,
                credentials: None,
            },
            ..S3Options::default()
        };
        let source = S3Source::new("b", "p", &options).unwrap();
        let file = chandler::weights::remote::RemoteFile {
            path: "x y.json".to_owned(),
            size: 1,
            digest: None,
            blob: "x".to_owned(),
            etag: None,
        };
        source.link(&file).await.unwrap().url.to_string()
    };
    let auto = Addressing::Auto;
    assert_eq!(
        link(None, Some("eu-west-3"), auto).await,
        "https://b.s3.eu-west-3.amazonaws.com/p/x%20y.json"
    );
    assert_eq!(
        link(Some("https://minio.example:9000"), None, auto).await,
        "https://minio.example:9000/b/p/x%20y.json"
    );
    assert_eq!(
        link(
            Some("https://minio.example:9000"),
            None,
            Addressing::Virtual
        )
        .await,
        "https://b.minio.example:9000/p/x%20y.json"
    );
    assert_eq!(
        link(None, None, Addressing::Path).await,
        "https://s3.us-east-1.amazonaws.com/b/p/x%20y.json"
    );
}
