//! What the tests of buckets share: a store, the options for it, and bytes by a link.

use chandler::storage::{Access, Addressing, Credentials};
use chandler::weights::WeightsError;
use chandler::weights::remote::{Listing, RemoteFile, Source};
use chandler::weights::s3::S3Options;
use reqwest::header::{HeaderMap, IF_MATCH, RANGE};
use s3_double::{Options, S3Double};
use sha2::{Digest, Sha256};

pub const BUCKET: &str = "models";

pub async fn double() -> S3Double {
    let double = S3Double::start(Options::default()).await;
    double.bucket(BUCKET);
    double
}

pub fn credentials(double: &S3Double) -> Credentials {
    Credentials {
        access_key: double.options().access_key.as_str().into(),
        secret_key: double.options().secret_key.as_str().into(),
        session_token: None,
    }
}

pub fn options(double: &S3Double) -> S3Options {
    S3Options {
        access: Access {
            endpoint: Some(double.endpoint().parse().unwrap()),
            region: None,
            addressing: Addressing::Auto,
            credentials: Some(credentials(double)),
        },
        ..S3Options::default()
    }
}

/// A file's bytes, or a range of them: status and body.
pub async fn bytes(source: &dyn Source, file: &RemoteFile, range: Option<&str>) -> (u16, Vec<u8>) {
    let link = source.link(file).await.unwrap();
    let mut headers: HeaderMap = link.headers;
    if let Some(range) = range {
        headers.insert(RANGE, range.parse().unwrap());
    }
    if let Some(etag) = &file.etag {
        headers.insert(IF_MATCH, etag.parse().unwrap());
    }
    let request = source.client().get(link.url).headers(headers);
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.bytes().await.unwrap().to_vec())
}

pub fn file<'a>(listing: &'a Listing, path: &str) -> &'a RemoteFile {
    let found = listing.files.iter().find(|file| file.path == path);
    found.unwrap_or_else(|| panic!("{path} is not in {listing:?}"))
}

pub fn paths(listing: &Listing) -> Vec<&str> {
    listing
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn refused<T>(result: Result<T, WeightsError>) -> WeightsError {
    match result {
        Ok(_) => panic!("this should have been refused"),
        Err(error) => error,
    }
}

/// Bytes that are all different enough.
pub fn noise(length: usize) -> Vec<u8> {
    (0..length as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}
