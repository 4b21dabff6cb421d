//! What the settings would have the worker reach, and whether it can: certificates, the hub, buckets, the webhook's host.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use reqwest::header::AUTHORIZATION;
use reqwest::{StatusCode, Url};
use secrecy::ExposeSecret;

use super::super::places::addressing;
use super::finding::Finding;
use crate::config::{Settings, Switch};
use crate::reach;
use crate::storage::{Operator, StorageError, Uploader};

const GROUP: &str = "network";
const PATIENCE: Duration = Duration::from_secs(5);
/// Where distributions keep the certificates of those that sign others'.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// `needed`: whether the model comes from the hub.
pub async fn check(settings: &Settings, needed: bool) -> Vec<Finding> {
    let mut findings = vec![certificates(
        std::env::var_os("SSL_CERT_FILE").map(PathBuf::from),
    )];
    let offline = *settings.hub_offline == Switch::On;
    let hub = async {
        match offline {
            true => Finding::ok(GROUP, "hub", "not asked: --hub-offline is on"),
            false => {
                let found = hub(settings, &reach::Client::unguarded()).await;
                match needed {
                    true => found,
                    false => found.at_worst_a_warning("this model does not come from there"),
                }
            }
        }
    };
    let buckets = buckets(settings);
    let looks = buckets.into_iter().map(|bucket| async move {
        match offline && bucket.reads {
            true => Finding::ok(GROUP, bucket.check, "not asked: --hub-offline is on"),
            false => bucket.look(settings).await,
        }
    });
    let (hub, looks) = tokio::join!(hub, futures_util::future::join_all(looks));
    findings.push(hub);
    findings.extend(looks);
    findings
}

/// Without them no https works at all, and the error of each request says so in its own words.
fn certificates(named: Option<PathBuf>) -> Finding {
    let filled = |path: &Path| std::fs::metadata(path).is_ok_and(|file| file.len() > 0);
    if let Some(path) = named {
        let shown = path.display().to_string();
        return match filled(&path) {
            true => Finding::ok(GROUP, "certificates", format!("{shown} (SSL_CERT_FILE)")),
            false => Finding::problem(
                GROUP,
                "certificates",
                format!("SSL_CERT_FILE is {shown}, which cannot be read"),
            )
            .mended_by("name a bundle of certificates, or take the variable away"),
        };
    }
    match BUNDLES.iter().find(|path| filled(Path::new(path))) {
        Some(path) => Finding::ok(GROUP, "certificates", *path),
        None => Finding::problem(
            GROUP,
            "certificates",
            "this machine trusts nobody: no bundle of certificates was found",
        )
        .mended_by("install ca-certificates, or name a bundle with SSL_CERT_FILE"),
    }
}

/// Asks the hub who the token is, or without one whether it is there.
async fn hub(settings: &Settings, client: &reach::Client) -> Finding {
    let endpoint = &settings.hub_endpoint.0;
    let shown = reach::place(endpoint);
    let token = settings.hf_token.as_ref();
    let path = match token {
        Some(_) => "api/whoami-v2",
        None => "api/models?limit=1",
    };
    let problem = |found: String| Finding::problem(GROUP, "hub", found).with("endpoint", &shown);
    let Ok(url) = Url::parse(&format!(
        "{}/{path}",
        endpoint.as_str().trim_end_matches('/')
    )) else {
        return problem(format!("{shown} is no address"))
            .mended_by("give --hub-endpoint an http address");
    };
    let request = match client.connection(&url) {
        Ok(client) => client.get(url.clone()).timeout(PATIENCE),
        Err(error) => return problem(error.to_string()),
    };
    let request = match token {
        Some(token) => request.header(AUTHORIZATION, format!("Bearer {}", token.expose_secret())),
        None => request,
    };
    match request.send().await {
        Ok(response) => answered(&shown, response.status(), token.is_some()),
        Err(error) if error.is_timeout() => {
            problem(format!("{shown} did not answer within {PATIENCE:?}")).mended_by(UNREACHED)
        }
        Err(error) => problem(reach::explain(&url, &error).to_string()).mended_by(UNREACHED),
    }
}

const UNREACHED: &str = "let the container reach it (DNS, firewall, HTTPS_PROXY), name a mirror with --hub-endpoint or --mirror, or \
                         stay away from it with --hub-offline on";

fn answered(shown: &str, status: StatusCode, token: bool) -> Finding {
    let finding = match status.as_u16() {
        401 | 403 if token => Finding::problem(GROUP, "hub", format!("{shown} does not take the token (HTTP status {status})"))
            .mended_by("set HF_TOKEN to one from https://huggingface.co/settings/tokens, or take it away for public models"),
        429 => Finding::warning(GROUP, "hub", format!("{shown} answers that too much was asked of it (HTTP status 429)"))
            .mended_by("wait, or set HF_TOKEN: those who are known may ask more"),
        500.. => Finding::warning(GROUP, "hub", format!("{shown} is in trouble (HTTP status {status})"))
            .mended_by("try again later; models in the cache or the mirror are served without it"),
        200..300 if token => Finding::ok(GROUP, "hub", format!("{shown} answers and takes the token")),
        // A mirror or a double need not have this route; that it answers is enough.
        _ => Finding::ok(GROUP, "hub", format!("{shown} answers")),
    };
    finding
        .with("endpoint", shown)
        .with("status", status.as_u16())
}

/// A bucket that the settings name.
struct Bucket {
    check: &'static str,
    flag: &'static str,
    /// Whether weights are read from it; else outputs are written.
    reads: bool,
    bucket: String,
    prefix: String,
}

fn buckets(settings: &Settings) -> Vec<Bucket> {
    let mut buckets = Vec::new();
    let mut add = |check, flag, reads, bucket: &str, prefix: &str| {
        buckets.push(Bucket {
            check,
            flag,
            reads,
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        });
    };
    if let Some(rest) = settings.model.strip_prefix("s3://") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        add("model's bucket", "--model", true, bucket, prefix);
    }
    if let Some(place) = settings.mirror.as_ref() {
        add("mirror", "--mirror", true, &place.bucket, &place.prefix);
    }
    if let Some(place) = settings.output_s3.as_ref() {
        add(
            "output bucket",
            "--output-s3",
            false,
            &place.bucket,
            &place.prefix,
        );
    }
    buckets
}

impl Bucket {
    async fn look(&self, settings: &Settings) -> Finding {
        let name = format!("s3://{}", self.bucket);
        let destination = match self.operator(settings).destination(SystemTime::now()) {
            Ok(Some(destination)) => destination,
            Ok(None) => return Finding::problem(GROUP, self.check, format!("{name} is no bucket")),
            // A bucket that anybody may read needs no keys; one that is written does.
            Err(_) if self.reads => {
                return Finding::warning(GROUP, self.check, format!("{name} was not asked: no keys are set"))
                    .mended_by("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, unless anybody may read the bucket");
            }
            Err(error) => return Finding::problem(GROUP, self.check, error.to_string()),
        };
        let host = destination.endpoint_url();
        let uploader = Uploader::new(reach::Client::unguarded(), PATIENCE);
        let finding = match tokio::time::timeout(PATIENCE, uploader.probe(&destination)).await {
            Ok(Ok(())) => Finding::ok(
                GROUP,
                self.check,
                format!("{name} at {host} answers and takes the keys"),
            ),
            Ok(Err(error)) => self.refused(&error),
            Err(_) => Finding::problem(
                GROUP,
                self.check,
                format!("{name} at {host} did not answer within {PATIENCE:?}"),
            )
            .mended_by("let the container reach it (DNS, firewall), and look at --s3-endpoint"),
        };
        finding.with("bucket", &self.bucket).with("endpoint", host)
    }

    fn refused(&self, error: &StorageError) -> Finding {
        let text = error.to_string();
        // Keys that may put and not list are as they should be for outputs.
        if !self.reads && text.contains("AccessDenied") {
            return Finding::warning(GROUP, self.check, format!("the keys may not list s3://{}", self.bucket))
                .mended_by("nothing, if they are meant for putting only; else give them ListBucket and PutObject");
        }
        Finding::problem(GROUP, self.check, text).mended_by(format!(
            "look at {}, --s3-endpoint, --s3-region and the keys",
            self.flag
        ))
    }

    fn operator(&self, settings: &Settings) -> Operator {
        let url = |url: &crate::config::HttpUrl| url.0.clone();
        let own = |value: &Option<secrecy::SecretString>| value.clone().filter(|_| !self.reads);
        Operator {
            place: Some((self.bucket.clone(), self.prefix.clone())),
            bucket_endpoint: settings
                .bucket_endpoint_url
                .as_ref()
                .map(url)
                .filter(|_| !self.reads),
            bucket_name: None,
            bucket_access_key: own(&settings.bucket_access_key_id.value),
            bucket_secret_key: own(&settings.bucket_secret_access_key.value),
            endpoint: settings.s3_endpoint.as_ref().map(url),
            region: settings.s3_region.value.clone(),
            access_key: settings.s3_access_key.value.clone(),
            secret_key: settings.s3_secret_key.value.clone(),
            session_token: settings.s3_session_token.value.clone(),
            addressing: addressing(settings),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::Request;
    use axum::http::StatusCode as Code;

    use super::super::finding::Level;
    use super::*;
    use crate::config::{Given, resolve};

    fn settings(environment: &[(&str, &str)]) -> Settings {
        let given = Given::in_environment(environment);
        resolve(&given).unwrap().settings
    }

    /// A server that answers everything with one status and remembers nothing.
    async fn serves(status: u16, body: &'static str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answer = move |_: Request| async move { (Code::from_u16(status).unwrap(), body) };
        let router = Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve::serve(listener, router).await });
        address
    }

    #[tokio::test]
    async fn the_hub_answers_or_does_not_take_the_token() {
        let client = reach::Client::unguarded();
        let url = serves(200, "{}").await;
        let of = settings(&[("HF_ENDPOINT", &url)]);
        assert_eq!(hub(&of, &client).await.level, Level::Ok);
        let url = serves(401, "{}").await;
        let finding = hub(
            &settings(&[("HF_ENDPOINT", &url), ("HF_TOKEN", "hf_secretsecret")]),
            &client,
        )
        .await;
        assert_eq!(finding.level, Level::Problem);
        let text = serde_json::to_string(&finding).unwrap();
        assert!(
            text.contains("token") && !text.contains("secretsecret"),
            "{text}"
        );
        // Without a token a mirror may say whatever it likes: it is there.
        let finding = hub(&settings(&[("HF_ENDPOINT", &url)]), &client).await;
        assert_eq!(finding.level, Level::Ok);
        let finding = hub(&settings(&[("HF_ENDPOINT", "http://127.0.0.1:1")]), &client).await;
        assert_eq!(finding.level, Level::Problem);
        assert!(finding.remedy.unwrap().contains("--hub-offline"));
    }

    #[tokio::test]
    async fn offline_nobody_is_asked_for_weights() {
        let of = settings(&[
            ("HF_HUB_OFFLINE", "1"),
            ("CHANDLER_MIRROR", "s3://models/hub"),
            ("HF_ENDPOINT", "http://127.0.0.1:1"),
        ]);
        let findings = check(&of, true).await;
        for finding in findings
            .iter()
            .filter(|finding| finding.check != "certificates")
        {
            assert_eq!(finding.level, Level::Ok, "{}", finding.found);
            assert!(finding.found.contains("not asked"));
        }
        assert_eq!(findings.len(), 3);
    }

    #[tokio::test]
    async fn a_buckets_refusal_is_told_without_its_keys() {
        let denied = "<Error><Code>SignatureDoesNotMatch</Code><Message>for AKIAKEY and secretkey</Message></Error>";
        let url = serves(403, denied).await;
        let keys = [
            ("AWS_ENDPOINT_URL", url.as_str()),
            ("AWS_ACCESS_KEY_ID", "AKIAKEY"),
            ("AWS_SECRET_ACCESS_KEY", "secretkey"),
            ("CHANDLER_OUTPUT_S3", "s3://outputs/jobs"),
        ];
        let of = settings(&keys);
        let finding = buckets(&of)[0].look(&of).await;
        assert_eq!(finding.level, Level::Problem);
        let text = serde_json::to_string(&finding).unwrap();
        assert!(text.contains("SignatureDoesNotMatch"), "{text}");
        assert!(
            !text.contains("secretkey") && !text.contains("AKIAKEY"),
            "{text}"
        );
        let url = serves(200, "<ListBucketResult></ListBucketResult>").await;
        let of = settings(&[("AWS_ENDPOINT_URL", &url), keys[1], keys[2], keys[3]]);
        assert_eq!(buckets(&of)[0].look(&of).await.level, Level::Ok);
        let of = settings(&[
            ("AWS_ENDPOINT_URL", &url),
            ("CHANDLER_MIRROR", "s3://models/hub"),
        ]);
        assert_eq!(buckets(&of)[0].look(&of).await.level, Level::Warning);
    }

    #[test]
    fn https_needs_certificates() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(
            certificates(Some(file.path().to_owned())).level,
            Level::Problem
        );
        std::fs::write(file.path(), "-----BEGIN CERTIFICATE-----").unwrap();
        assert_eq!(certificates(Some(file.path().to_owned())).level, Level::Ok);
    }
}
