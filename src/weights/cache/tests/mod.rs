//! Filling, finding, using, removing: what holds in one process. What holds between several is in `tests/weights`.

mod filling;
mod finding;
mod removing;
mod verifying;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use tempfile::TempDir;

use super::super::remote::{Digest, Listing, RemoteFile};
use super::*;

/// A commit of our own making.
pub fn commit(n: u8) -> String {
    format!("{n:040x}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file in LFS with these bytes.
pub fn lfs(path: &str, bytes: &str) -> (RemoteFile, Vec<u8>) {
    file(path, bytes, hex(&Sha256::digest(bytes)))
}

/// A file in git with these bytes.
pub fn git(path: &str, bytes: &str) -> (RemoteFile, Vec<u8>) {
    let blob = Sha1::digest(format!("blob {}\0{bytes}", bytes.len()));
    file(path, bytes, hex(&blob))
}

fn file(path: &str, bytes: &str, blob: String) -> (RemoteFile, Vec<u8>) {
    let file = RemoteFile {
        path: path.to_owned(),
        size: bytes.len() as u64,
        digest: Digest::parse(&blob),
        blob,
        etag: None,
    };
    (file, bytes.as_bytes().to_vec())
}

pub fn folder() -> Folder {
    Folder::model("org/name").unwrap()
}

pub fn listing(commit: String, files: &[(RemoteFile, Vec<u8>)]) -> Listing {
    let files = files.iter().map(|(file, _)| file.clone()).collect();
    Listing { commit, files }
}

/// Fills a snapshot as a transfer would.
pub fn fill(
    cache: &Cache,
    n: u8,
    files: &[(RemoteFile, Vec<u8>)],
    revision: Option<&str>,
) -> (Found, InUse) {
    let listing = listing(commit(n), files);
    let filling = cache
        .fill(&folder(), &listing, listing.files.clone())
        .unwrap();
    for (file, bytes) in files {
        match filling.claim(file).unwrap() {
            Claim::Here => {}
            Claim::Mine(claim) => {
                fs::write(claim.partial(), bytes).unwrap();
                filling.put(claim).unwrap();
            }
            Claim::Theirs => panic!("nobody else is here"),
        }
    }
    filling.finish(revision).unwrap()
}

/// All that is listed.
pub fn all(candidate: &Candidate<'_>) -> Option<Vec<String>> {
    Some(
        candidate
            .files
            .iter()
            .map(|file| file.path.clone())
            .collect(),
    )
}

pub fn cache(root: &Path) -> Cache {
    Cache::open(CacheOptions::new(root))
}

pub fn model() -> Vec<(RemoteFile, Vec<u8>)> {
    vec![
        git("config.json", "{}"),
        lfs("unet/deep/model.safetensors", "weights"),
    ]
}

/// Makes a snapshot look as if it had been used so long ago and never since.
pub fn age(found: &Found, hours: u64) {
    let then = SystemTime::now() - Duration::from_secs(hours * 3600);
    let times = fs::FileTimes::new().set_accessed(then).set_modified(then);
    for file in &found.files {
        let real = fs::canonicalize(found.dir.join(&file.path)).unwrap();
        fs::File::open(real).unwrap().set_times(times).unwrap();
    }
    let mark = found.place.mark(&found.commit);
    fs::File::open(mark).unwrap().set_times(times).unwrap();
}

pub fn root() -> (TempDir, Cache) {
    let root = tempfile::tempdir().unwrap();
    let cache = cache(root.path());
    (root, cache)
}
