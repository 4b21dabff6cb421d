//! What every source has in common: the files of one revision, what is known of each before a byte has come, and where its
//! bytes are to be had. Apart from the sources, because transfer, cache and mirror know nothing else of them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use reqwest::Url;
use reqwest::header::HeaderMap;

use super::WeightsError;

/// A future that may be sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a file's bytes must give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Digest {
    /// SHA-256 of the bytes: the hub's LFS and Xet files, and everything that our own manifest names.
    Sha256([u8; 32]),
    /// SHA-1 of `blob LENGTH\0` and the bytes: the hub's small files, as git names them.
    GitSha1([u8; 20]),
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = match self {
            Self::Sha256(bytes) => bytes,
            Self::GitSha1(bytes) => bytes,
        };
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Digest {
    /// Reads 64 hexadecimal digits as SHA-256 and 40 as git's SHA-1; nothing else is a digest.
    pub fn parse(text: &str) -> Option<Self> {
        fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
            let mut bytes = [0; N];
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
            }
            Some(bytes)
        }
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        match text.len() {
            64 => bytes(text).map(Self::Sha256),
            40 => bytes(text).map(Self::GitSha1),
            _ => None,
        }
    }
}

/// One file of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path in the snapshot, with `/` between the parts; checked by [`super::names::file_path`].
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// What they must give, where the source says.
    pub digest: Option<Digest>,
    /// The name of its blob in the cache: the digest, or what else tells this version of the file from any other. Letters,
    /// digits, `-`, `_` and `.` only, and no leading dot.
    pub blob: String,
    /// The source's mark of this version, quotes and all, for `If-Match`; `None` where the digest is the only mark.
    pub etag: Option<String>,
}

/// One revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// What the snapshot's directory is called: the commit on the hub; a digest over the listing where there are no commits.
    pub commit: String,
    /// All files, in the order of their paths.
    pub files: Vec<RemoteFile>,
}

/// Where a file's bytes are to be had, for a while: an address with a signature expires.
#[derive(Clone)] // Why no Debug: address and headers may hold secrets.
pub struct Link {
    /// Answers `Range` requests with 206.
    pub url: Url,
    /// To be sent along, and to no other host.
    pub headers: HeaderMap,
}

/// A place that files come from. Everything that may differ between two places is behind this.
pub trait Source: Send + Sync {
    /// Its name for people, without a secret: `huggingface.co/org/name@main`, `s3://bucket/prefix`.
    fn name(&self) -> String;

    /// The files of the revision.
    fn list(&self) -> BoxFuture<'_, Result<Listing, WeightsError>>;

    /// Where a file's bytes are. Asked again when the last link has expired (403 after success) or was refused.
    fn link<'a>(&'a self, file: &'a RemoteFile) -> BoxFuture<'a, Result<Link, WeightsError>>;

    /// The client that links are to be asked with. It follows no redirects: a link leads to the bytes.
    fn client(&self) -> &reqwest::Client;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_told_by_its_length() {
        let sha = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(matches!(Digest::parse(sha), Some(Digest::Sha256(_))));
        assert_eq!(Digest::parse(sha).unwrap().to_string(), sha);
        let git = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
        assert!(matches!(Digest::parse(git), Some(Digest::GitSha1(_))));
        assert_eq!(Digest::parse(&git.to_uppercase()).unwrap().to_string(), git);
        for other in ["", "main", &sha[1..], &git.replace('e', "+")] {
            assert_eq!(Digest::parse(other), None, "{other}");
        }
    }
}
