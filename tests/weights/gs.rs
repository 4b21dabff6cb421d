//! `gs://bucket/prefix` against a double of Google's JSON API, its metadata server and its login, which verifies the
//! signature of a service account's claim.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chandler::weights::WeightsError;
use chandler::weights::gs::{GsOptions, GsSource, Login};
use chandler::weights::remote::Source;
use reqwest::Url;
use serde_json::{Value, json};

use super::stores::{bytes, file, paths, refused, sha256};

const TOKEN: &str = "ya29.the-token";
const BUCKET: &str = "models";

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, (u64, Vec<u8>)>,
    public: bool,
    /// The next answers, whatever is asked.
    refusals: Vec<(u16, Option<u64>)>,
    asked: Vec<String>,
    public_key: Vec<u8>,
    page: usize,
    expires_in: u64,
}

#[derive(Clone, Default)]
struct Google(Arc<Mutex<Inner>>);

impl Google {
    async fn start() -> (Self, String) {
        let google = Self::default();
        {
            let mut inner = google.0.lock().unwrap();
            inner.page = 1000;
            inner.expires_in = 3600;
        }
        let app = Router::new().fallback(answer).with_state(google.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, app).await });
        (google, host)
    }

    fn put(&self, name: &str, body: impl Into<Vec<u8>>) {
        let mut inner = self.0.lock().unwrap();
        let generation = inner
            .objects
            .get(name)
            .map_or(1, |(generation, _)| generation + 1);
        inner
            .objects
            .insert(name.to_owned(), (generation, body.into()));
    }

    fn asked(&self, part: &str) -> usize {
        let inner = self.0.lock().unwrap();
        inner
            .asked
            .iter()
            .filter(|asked| asked.contains(part))
            .count()
    }
}

async fn answer(State(google): State<Google>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let mut inner = google.0.lock().unwrap();
    inner.asked.push(format!("{} {}", parts.method, parts.uri));
    if let Some((status, wait)) = inner.refusals.pop() {
        let mut response = error(status, "scripted");
        if let Some(wait) = wait {
            response.headers_mut().insert("retry-after", wait.into());
        }
        return response;
    }
    let path = parts.uri.path();
    let token =
        json!({"access_token": TOKEN, "expires_in": inner.expires_in, "token_type": "Bearer"});
    if path.starts_with("/computeMetadata/") {
        if parts
            .headers
            .get("metadata-flavor")
            .is_none_or(|flavor| flavor != "Google")
        {
            return error(403, "Missing Metadata-Flavor:Google header.");
        }
        return ([("metadata-flavor", "Google")], token.to_string()).into_response();
    }
    if path == "/token" {
        return match claim(&inner, &body) {
            Ok(()) => token.to_string().into_response(),
            Err(why) => (
                StatusCode::BAD_REQUEST,
                json!({"error": "invalid_grant", "error_description": why}).to_string(),
            )
                .into_response(),
        };
    }
    storage(
        &inner,
        path,
        parts.uri.query().unwrap_or_default(),
        &parts.headers,
    )
}

/// Whether a login's form is right; a service account's claim is verified as Google does.
fn claim(inner: &Inner, body: &Bytes) -> Result<(), String> {
    let form = Url::parse(&format!("http://x/?{}", String::from_utf8_lossy(body))).unwrap();
    let form: BTreeMap<_, _> = form.query_pairs().into_owned().collect();
    let get = |name: &str| form.get(name).map_or("", String::as_str);
    match get("grant_type") {
        "refresh_token" => {
            let given = (get("client_id"), get("client_secret"), get("refresh_token"));
            (given == ("id", "s&cret", "1//refresh"))
                .then_some(())
                .ok_or("Bad Request".into())
        }
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
            let (message, signature) = get("assertion").rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &inner.public_key);
            key.verify(message.as_bytes(), &signature)
                .map_err(|_| "Invalid JWT Signature.")?;
            let (header, claims) = message.split_once('.').unwrap();
            let read = |part: &str| -> Value {
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
            };
            let (header, claims) = (read(header), read(claims));
            assert_eq!(
                (&header["alg"], &header["kid"]),
                (&json!("RS256"), &json!("key-1"))
            );
            assert_eq!(claims["iss"], "worker@project.iam.gserviceaccount.com");
            assert!(claims["aud"].as_str().unwrap().ends_with("/token"));
            assert!(
                claims["scope"]
                    .as_str()
                    .unwrap()
                    .ends_with("devstorage.read_only")
            );
            assert_eq!(
                claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
                3600
            );
            Ok(())
        }
        other => Err(format!("unsupported_grant_type {other}")),
    }
}

fn storage(inner: &Inner, path: &str, query: &str, headers: &HeaderMap) -> Response {
    let login = headers
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned());
    match login {
        None if inner.public => {}
        None => {
            return error(
                401,
                "Anonymous caller does not have storage.objects.list access",
            );
        }
        Some(login) if login == format!("Bearer {TOKEN}") => {}
        Some(login) if login == "Bearer weak" => {
            return error(403, "does not have storage.objects.get access");
        }
        Some(_) => return error(401, "Invalid Credentials"),
    }
    let Some(rest) = path.strip_prefix("/storage/v1/b/models/o") else {
        return error(404, "The specified bucket does not exist.");
    };
    let query = Url::parse(&format!("http://x/?{query}")).unwrap();
    let query: BTreeMap<_, _> = query.query_pairs().into_owned().collect();
    if rest.is_empty() {
        return list(inner, &query);
    }
    assert!(
        !rest[1..].contains('/'),
        "an object's name is one part of the path: {rest}"
    );
    let name = percent_encoding::percent_decode_str(&rest[1..])
        .decode_utf8()
        .unwrap();
    assert_eq!(query["alt"], "media");
    match inner.objects.get(name.as_ref()) {
        Some((generation, body)) if query["generation"] == generation.to_string() => {
            let range = headers.get("range").and_then(|range| range.to_str().ok());
            match range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) {
                None => body.clone().into_response(),
                Some((from, to)) => {
                    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
                    let range = format!("bytes {from}-{to}/{}", body.len());
                    let part = body[from..=to].to_vec();
                    (
                        StatusCode::PARTIAL_CONTENT,
                        [("content-range", range)],
                        part,
                    )
                        .into_response()
                }
            }
        }
        _ => error(404, "No such object"),
    }
}

fn list(inner: &Inner, query: &BTreeMap<String, String>) -> Response {
    let after = query.get("pageToken").cloned().unwrap_or_default();
    let prefix = &query["prefix"];
    let all = inner.objects.iter();
    let mut found = all.filter(|(name, _)| name.starts_with(prefix.as_str()) && **name > after);
    let page: Vec<_> = found.by_ref().take(inner.page).collect();
    let next = found
        .next()
        .and_then(|_| page.last().map(|(name, _)| (*name).clone()));
    let items = page.iter().map(|(name, (generation, body))| {
        json!({
            "name": name, "size": body.len().to_string(), "generation": generation.to_string(),
            "crc32c": STANDARD.encode(&sha256(body)[..4]),
        })
    });
    let mut answer = json!({"items": items.collect::<Vec<_>>()});
    if let Some(next) = next {
        answer["nextPageToken"] = next.into();
    }
    answer.to_string().into_response()
}

fn error(status: u16, message: &str) -> Response {
    let body = json!({"error": {"code": status, "message": message}}).to_string();
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

fn options(host: &str, login: Login) -> GsOptions {
    GsOptions {
        endpoint: Some(format!("http://{host}").parse().unwrap()),
        login,
        metadata_host: Some(host.to_owned()),
        ..GsOptions::default()
    }
}

fn source(host: &str, login: Login) -> GsSource {
    GsSource::new(BUCKET, "/vertex/model/", &options(host, login)).unwrap()
}

#[tokio::test]
async fn a_prefix_is_listed_over_pages_and_read_by_generation_with_the_machines_login() {
    let (google, host) = Google::start().await;
    for (name, body) in [
        ("vertex/model/", ""),
        ("vertex/model/config.json", "{}"),
        ("vertex/model/a b/ü#1.safetensors", "0123456789"),
        ("vertex/model/tokenizer.json", "[]"),
        ("vertex/model2/other", "x"),
    ] {
        google.put(name, body);
    }
    google.0.lock().unwrap().page = 2;
    let source = source(&host, Login::Auto);
    assert_eq!(source.name(), "gs://models/vertex/model");
    let listing = source.list().await.unwrap();
    assert_eq!(
        paths(&listing),
        ["a b/ü#1.safetensors", "config.json", "tokenizer.json"]
    );
    assert_eq!(google.asked("pageToken"), 1);
    let model = file(&listing, "a b/ü#1.safetensors");
    assert_eq!(
        bytes(&source, model, None).await,
        (200, b"0123456789".to_vec())
    );
    assert_eq!(
        bytes(&source, model, Some("bytes=2-4")).await,
        (206, b"234".to_vec())
    );
    // Asked whether it is there, and for a token; no more.
    assert_eq!(google.asked("computeMetadata"), 2);

    google.put("vertex/model/a b/ü#1.safetensors", "9876543210");
    assert_eq!(
        bytes(&source, model, None).await.0,
        404,
        "not another version's bytes"
    );
    assert_ne!(source.list().await.unwrap().commit, listing.commit);
    google.0.lock().unwrap().objects.clear();
    assert!(matches!(
        refused(source.list().await),
        WeightsError::NotFound { .. }
    ));
}

#[tokio::test]
async fn a_token_is_asked_for_again_a_minute_before_it_ends() {
    let (google, host) = Google::start().await;
    google.put("vertex/model/config.json", "{}");
    google.0.lock().unwrap().expires_in = 60;
    let source = source(&host, Login::Auto);
    for _ in 0..3 {
        source.list().await.unwrap();
    }
    assert_eq!(google.asked("computeMetadata"), 1 + 3);
}

fn credentials(dir: &Path, value: &Value) -> Login {
    let path: PathBuf = dir.join("credentials.json");
    std::fs::write(&path, value.to_string()).unwrap();
    Login::File(path)
}

#[tokio::test]
async fn service_accounts_and_users_log_in() {
    let (google, host) = Google::start().await;
    google.put("vertex/model/config.json", "{}");
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let pem = |der: &[u8]| {
        let text = STANDARD.encode(der);
        let lines: Vec<&str> = (0..text.len().div_ceil(64))
            .map(|n| &text[n * 64..text.len().min(n * 64 + 64)])
            .collect();
        format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            lines.join("\n")
        )
    };
    let account = json!({
        "type": "service_account", "client_email": "worker@project.iam.gserviceaccount.com", "private_key_id": "key-1",
        "private_key": pem(der.as_ref()), "token_uri": format!("http://{host}/token"),
    });
    google.0.lock().unwrap().public_key = key.public_key().as_ref().to_vec();
    let source_of = |value: &Value| source(&host, credentials(dir.path(), value));
    let login = source_of(&account);
    for _ in 0..2 {
        assert_eq!(login.list().await.unwrap().files.len(), 1);
    }
    assert_eq!(google.asked("POST /token"), 1);
    assert_eq!(google.asked("computeMetadata"), 0);

    let other = KeyPair::generate(KeySize::Rsa2048).unwrap();
    google.0.lock().unwrap().public_key = other.public_key().as_ref().to_vec();
    let error = refused(source_of(&account).list().await).to_string();
    assert!(error.contains("Invalid JWT Signature"), "{error}");

    let user = json!({
        "type": "authorized_user", "client_id": "id", "client_secret": "s&cret", "refresh_token": "1//refresh",
        "token_uri": format!("http://{host}/token"),
    });
    assert_eq!(source_of(&user).list().await.unwrap().files.len(), 1);

    let mut no_key = account.clone();
    no_key["private_key"] = "hunter2".into();
    for bad in [
        json!({}),
        json!({"type": "external_account"}),
        no_key,
        json!("x"),
    ] {
        let login = credentials(dir.path(), &bad);
        let error = refused(GsSource::new(BUCKET, "x", &options(&host, login))).to_string();
        assert!(
            error.contains("credentials.json") && error.contains("gcloud"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
    let missing = Login::File(dir.path().join("nowhere.json"));
    let error = refused(GsSource::new(BUCKET, "x", &options(&host, missing))).to_string();
    assert!(error.contains("cannot be read"), "{error}");
}

#[tokio::test]
async fn public_buckets_need_no_login_and_refusals_are_told_apart() {
    let (google, host) = Google::start().await;
    google.put("vertex/model/config.json", "{}");
    let list = async |login: Login| source(&host, login).list().await;
    // A port that nobody listens at: no metadata server.
    let nowhere = GsOptions {
        metadata_host: Some("127.0.0.1:9".to_owned()),
        ..options(&host, Login::Auto)
    };
    let error = refused(
        GsSource::new(BUCKET, "vertex/model", &nowhere)
            .unwrap()
            .list()
            .await,
    );
    assert!(matches!(error, WeightsError::Denied { .. }));
    assert!(error.to_string().contains("nobody is logged in"), "{error}");
    let error = refused(list(Login::Token("weak".into())).await).to_string();
    assert!(error.contains("Storage Object Viewer"), "{error}");
    let error = refused(list(Login::Token("old-token".into())).await).to_string();
    assert!(
        error.contains("not valid") && !error.contains("old-token"),
        "{error}"
    );
    let other = GsSource::new("other", "x", &options(&host, Login::Token(TOKEN.into()))).unwrap();
    let error = refused(other.list().await);
    assert!(matches!(error, WeightsError::NotFound { .. }), "{error}");

    google.0.lock().unwrap().public = true;
    assert_eq!(list(Login::Anonymous).await.unwrap().files.len(), 1);
    let anonymous = GsSource::new(BUCKET, "vertex/model", &nowhere).unwrap();
    let listing = anonymous.list().await.unwrap();
    assert_eq!(bytes(&anonymous, &listing.files[0], None).await.1, b"{}");
    for (bucket, prefix) in [("../x", "a"), ("", "a"), ("models", "a/../b"), ("a/b", "c")] {
        refused(GsSource::new(bucket, prefix, &nowhere));
    }
}

#[tokio::test]
async fn patience_and_the_manifest() {
    let (google, host) = Google::start().await;
    google.put("vertex/model/config.json", "{}");
    let files = json!([{"path": "config.json", "size": 2, "sha256": sha256(b"{}")}]);
    let manifest = json!({"version": 1, "files": files}).to_string();
    google.put("vertex/model/chandler-manifest.json", manifest);
    google.0.lock().unwrap().refusals = vec![(503, None), (500, None), (429, Some(1))];
    let listing = source(&host, Login::Token(TOKEN.into()))
        .list()
        .await
        .unwrap();
    assert_eq!(paths(&listing), ["config.json"]);
    assert_eq!(listing.files[0].blob, sha256(b"{}"));
    google.0.lock().unwrap().refusals = vec![(429, None); 9];
    let few = GsOptions {
        tries: 2,
        ..options(&host, Login::Token(TOKEN.into()))
    };
    let error = refused(
        GsSource::new(BUCKET, "vertex/model", &few)
            .unwrap()
            .list()
            .await,
    );
    assert!(matches!(error, WeightsError::RateLimited { .. }), "{error}");
}
