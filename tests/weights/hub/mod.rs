//! The hub as a source, against the double: listings and links, every row of the hub's table of errors as a user reads it,
//! what is asked again, and where nothing of ours may go. What these tests share is here.

mod bounds;
mod found;
mod patience;
mod refusals;

use std::collections::BTreeMap;
use std::time::Duration;

use chandler::weights::WeightsError;
use chandler::weights::hub::{HubOptions, HubSource};
use chandler::weights::remote::{Link, RemoteFile, Source};
use hub_double::{Content, Double, Fault, Options, Repo};

const CONFIG: &str = "{\"model_type\":\"llama\"}";
const TOKEN: &str = "hf_alice";

fn double() -> (Double, Content) {
    let double = Double::start(Options::default()).unwrap();
    let weights = Content::synthetic(11, 3_000_000);
    double.put(
        Repo::new("org/m")
            .git("config.json", CONFIG)
            .git("sub dir/notes #1.txt", "hello\n")
            .commit("refs/pr/1")
            .git("tokenizer.json", "{}")
            .lfs("model.safetensors", weights.clone())
            .commit("main")
            .tag("v1.0"),
    );
    (double, weights)
}

/// Impatient, so that a test that fails does so soon.
fn options(double: &Double, token: Option<&str>) -> HubOptions {
    HubOptions {
        endpoint: double.url().to_owned(),
        token: token.map(Into::into),
        answer_timeout: Duration::from_secs(5),
        tries: 3,
        backoff: Duration::from_millis(5),
        longest_backoff: Duration::from_millis(20),
        ..HubOptions::default()
    }
}

fn source(double: &Double, token: Option<&str>, repo: &str, revision: &str) -> HubSource {
    HubSource::new(&options(double, token), repo, revision).unwrap()
}

async fn file(source: &HubSource, path: &str) -> RemoteFile {
    let listing = source.list().await.unwrap();
    let found = listing.files.into_iter().find(|file| file.path == path);
    found.unwrap()
}

/// The bytes that a link leads to, from an offset.
async fn bytes(source: &HubSource, link: Link, from: u64) -> Vec<u8> {
    let asked = source.client().get(link.url).headers(link.headers);
    let answer = asked.header("range", format!("bytes={from}-")).send();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 206);
    answer.bytes().await.unwrap().to_vec()
}

fn lists_error(error: &WeightsError) -> String {
    let text = format!("{error} {error:?}");
    assert!(!text.contains("hf_"), "it tells a token: {text}");
    assert!(!text.contains("Signature"), "it tells a signature: {text}");
    error.to_string()
}
fn kind(error: &WeightsError) -> char {
    match error {
        WeightsError::NotFound { .. } => 'n',
        WeightsError::Denied { .. } => 'd',
        WeightsError::RateLimited { .. } => 'r',
        WeightsError::Unreachable { .. } => 'u',
        WeightsError::Malformed { .. } => 'm',
        WeightsError::Changed { .. } => 'c',
        WeightsError::Offline(_) => 'o',
        _ => '?',
    }
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Fault {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Fault::Answer {
        status,
        headers: headers.collect::<BTreeMap<_, _>>(),
        body: body.to_owned(),
    }
}
