//! Spellings, addresses and keys of stores.

mod uploads;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::destination::month;
use super::*;

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
                let keys = to.credentials.as_ref().unwrap();
                assert_eq!(keys.access_key.expose_secret(), "AKIA1");
                assert_eq!(keys.secret_key.expose_secret(), SECRET);
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
        let read = endpoint::Endpoint::read(url.parse().unwrap(), given);
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
    let name_alone = Operator {
        bucket_name: Some("somebody-elses".into()),
        ..Operator::default()
    };
    assert!(name_alone.destination(november).unwrap().is_none());

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
    assert!(to.credentials.unwrap().session_token.is_some());
    let mixed = Operator {
        bucket_endpoint: url("https://minio.example"),
        ..aws.clone()
    };
    let mixed = at(&Operator {
        bucket_access_key: Some("AKIA1".into()),
        bucket_secret_key: Some(SECRET.into()),
        ..mixed
    });
    assert_eq!(mixed.region, "us-east-1");
    let mixed = mixed.credentials.unwrap();
    assert_eq!(mixed.access_key.expose_secret(), "AKIA1");
    assert!(mixed.session_token.is_none());

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

#[test]
fn nothing_that_is_printed_holds_a_key() {
    let operator = Operator {
        access_key: Some(SecretString::from(SECRET)),
        ..keys()
    };
    assert!(!format!("{operator:?}").contains(SECRET));
}
