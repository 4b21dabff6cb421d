//! A small file straight into memory, because the choice of the others depends on it; checked like every other.

use reqwest::StatusCode;
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
    let mut tries = 1;
    loop {
        match attempt(source, file).await {
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

async fn attempt(source: &dyn Source, file: &RemoteFile) -> Result<Vec<u8>, WeightsError> {
    let failed = |reason: String| WeightsError::Unreachable {
        place: source.name(),
        reason: format!("{}: {reason}", file.path),
    };
    let link = source.link(file).await?;
    let request = source.client().get(link.url).headers(link.headers);
    // Why without the address: it may be signed.
    let told = |error: reqwest::Error| failed(error.without_url().to_string());
    let mut answer = request.send().await.map_err(told)?;
    if answer.status() != StatusCode::OK {
        return Err(failed(format!("the answer is {}", answer.status())));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(told)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > file.size {
            break;
        }
    }
    let right =
        bytes.len() as u64 == file.size && file.digest.is_none_or(|digest| gives(&bytes, digest));
    if right {
        return Ok(bytes);
    }
    Err(failed(
        "what came is not the file that the listing names".to_owned(),
    ))
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
