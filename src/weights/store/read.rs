//! A small file straight into memory, because the choice of the others depends on it, checked like every other; or a piece of a
//! large one, because a plan needs its header.

use std::ops::Range;

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Response, StatusCode};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::super::WeightsError;
use super::super::remote::{Digest, RemoteFile, Source};

/// Such a file is an index; the largest there are have some 5 MB.
const MOST_BYTES: u64 = 64 << 20;
/// The answer may be cut off, or the address expire.
const TRIES: u32 = 4;

/// The whole file.
pub(super) async fn whole(source: &dyn Source, file: &RemoteFile) -> Result<Vec<u8>, WeightsError> {
    if file.size > MOST_BYTES {
        return Err(WeightsError::Malformed {
            place: source.name(),
            reason: format!(
                "{} has {} bytes, which is too much for a list",
                file.path, file.size
            ),
        });
    }
    again(file, || attempt(source, file)).await
}

/// Some bytes of a file, which the source is asked for as a range. They cannot be checked against the file's digest.
pub(super) async fn piece(
    source: &dyn Source,
    file: &RemoteFile,
    range: Range<u64>,
) -> Result<Vec<u8>, WeightsError> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    again(file, || attempt_piece(source, file, range.clone())).await
}

/// Asks again while it is the network's fault.
async fn again<F>(file: &RemoteFile, mut ask: impl FnMut() -> F) -> Result<Vec<u8>, WeightsError>
where
    F: Future<Output = Result<Vec<u8>, WeightsError>>,
{
    let mut tries = 1;
    loop {
        match ask().await {
            Ok(bytes) => return Ok(bytes),
            Err(error) if tries < TRIES && error.is_of_the_network() => {
                tracing::debug!(%error, file = file.path, "asked for again");
                tokio::time::sleep(std::time::Duration::from_millis(250) * 2_u32.pow(tries)).await;
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn failed(source: &dyn Source, file: &RemoteFile, reason: String) -> WeightsError {
    WeightsError::Unreachable {
        place: source.name(),
        reason: format!("{}: {reason}", file.path),
    }
}

/// A body of at most so many bytes; what is longer ends one chunk behind them.
async fn body(mut answer: Response, most: u64) -> Result<Vec<u8>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        let chunk: Bytes = chunk;
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > most {
            break;
        }
    }
    Ok(bytes)
}

async fn attempt(source: &dyn Source, file: &RemoteFile) -> Result<Vec<u8>, WeightsError> {
    // Why without the address: it may be signed.
    let told = |error: reqwest::Error| failed(source, file, error.without_url().to_string());
    let link = source.link(file).await?;
    let request = source.client().get(link.url).headers(link.headers);
    let answer = request.send().await.map_err(told)?;
    if answer.status() != StatusCode::OK {
        let reason = format!("the answer is {}", answer.status());
        return Err(failed(source, file, reason));
    }
    let bytes = body(answer, file.size).await.map_err(told)?;
    let right =
        bytes.len() as u64 == file.size && file.digest.is_none_or(|digest| gives(&bytes, digest));
    if right {
        return Ok(bytes);
    }
    let reason = "what came is not the file that the listing names".to_owned();
    Err(failed(source, file, reason))
}

async fn attempt_piece(
    source: &dyn Source,
    file: &RemoteFile,
    range: Range<u64>,
) -> Result<Vec<u8>, WeightsError> {
    let told = |error: reqwest::Error| failed(source, file, error.without_url().to_string());
    let link = source.link(file).await?;
    let wanted = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
    let wanted =
        HeaderValue::try_from(wanted).map_err(|error| failed(source, file, error.to_string()))?;
    let request = source.client().get(link.url).headers(link.headers);
    let answer = request.header(RANGE, wanted).send().await.map_err(told)?;
    let given = answer.headers().get(CONTENT_RANGE);
    let given = given
        .and_then(|given| given.to_str().ok())
        .map(str::to_owned);
    let promised = format!(
        "bytes {}-{}/{}",
        range.start,
        range.end.saturating_sub(1),
        file.size
    );
    if answer.status() != StatusCode::PARTIAL_CONTENT || given.as_deref() != Some(&promised) {
        let reason = format!(
            "{promised} was asked for, and the answer is {} with {}",
            answer.status(),
            given.as_deref().unwrap_or("no range")
        );
        return Err(failed(source, file, reason));
    }
    let length = range.end - range.start;
    let bytes = body(answer, length).await.map_err(told)?;
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => {
            let reason = format!("{} bytes came of {length}", bytes.len());
            Err(failed(source, file, reason))
        }
    }
}

fn gives(bytes: &[u8], digest: Digest) -> bool {
    match digest {
        Digest::Sha256(wanted) => <[u8; 32]>::from(Sha256::digest(bytes)) == wanted,
        Digest::GitSha1(wanted) => {
            let mut hash = Sha1::new();
            hash.update(format!("blob {}\0", bytes.len()));
            hash.update(bytes);
            <[u8; 20]>::from(hash.finalize()) == wanted
        }
    }
}
