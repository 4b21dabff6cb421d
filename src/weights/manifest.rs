//! The manifest that lies beside files in a bucket: which files there are, how large, and what their bytes must give. We write
//! it, but it is read from outside, so that nothing in it is believed before it is checked.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::WeightsError;
use super::names;
use super::remote::{Digest, RemoteFile};

/// The one that lies beside the files of a plain prefix.
pub(super) const BESIDE: &str = "chandler-manifest.json";
/// The only version there is.
const VERSION: u32 = 1;
/// No model has so many files; what names more is none of ours.
pub(super) const MOST_FILES: usize = 10_000;
/// A manifest of that many files is smaller.
pub(super) const MOST_BYTES: usize = 8 << 20;
/// Larger than any file of a model (S3's own limit is 50 TB), and small enough that no sum of them overflows.
const LARGEST: u64 = 1 << 46;

/// What a manifest says, checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Manifest {
    /// The repository on the hub, where the files are of one.
    pub repository: Option<String>,
    /// The commit, where the files are of one.
    pub commit: Option<String>,
    /// In the order of their paths; each with a digest, and its blob named after it.
    pub files: Vec<RemoteFile>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    repository: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    #[serde(default)]
    files: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    path: String,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// As git names the file's bytes; the hub gives no other digest of small files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    git_sha1: Option<String>,
}

/// Whether a text can name a commit: 40 hexadecimal digits on the hub.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Refuses paths of which one is a directory of another: no disk can hold both.
pub(super) fn no_file_is_a_directory<'a>(
    place: &str,
    paths: impl Iterator<Item = &'a str>,
) -> Result<(), WeightsError> {
    let all: BTreeSet<&str> = paths.collect();
    for path in &all {
        let inside = format!("{path}/");
        let next = all.range(inside.as_str()..).next();
        if next.is_some_and(|next| next.starts_with(&inside)) {
            return Err(WeightsError::Malformed {
                place: place.to_owned(),
                reason: format!("`{path}` is both a file and a directory"),
            });
        }
    }
    Ok(())
}

impl Manifest {
    /// Reads and checks a manifest; `place` is where it lies.
    pub(super) fn read(place: &str, bytes: &[u8]) -> Result<Self, WeightsError> {
        let malformed = |reason: String| WeightsError::Malformed {
            place: place.to_owned(),
            reason,
        };
        // The version first: what a later one writes need not parse.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let version: Version = serde_json::from_slice(bytes)
            .map_err(|error| malformed(format!("is no manifest: {error}")))?;
        if version.version != VERSION {
            return Err(malformed(format!(
                "is a manifest of version {}, and this program reads version {VERSION}: update it, or push the model again",
                version.version
            )));
        }
        let written: Written = serde_json::from_slice(bytes)
            .map_err(|error| malformed(format!("is no manifest: {error}")))?;
        if let Some(repository) = &written.repository {
            names::repository(repository)?;
        }
        if let Some(commit) = written.commit.as_ref().filter(|commit| !is_commit(commit)) {
            let commit: String = commit.escape_debug().take(80).collect();
            return Err(malformed(format!("names `{commit}`, which is no commit")));
        }
        if written.files.is_empty() || written.files.len() > MOST_FILES {
            let files = written.files.len();
            return Err(malformed(format!(
                "names {files} files, where there should be 1 to {MOST_FILES}"
            )));
        }
        let mut files = Vec::with_capacity(written.files.len());
        for entry in written.files {
            names::file_path(&entry.path)?;
            files.push(entry.checked().map_err(malformed)?);
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let twice = files.windows(2).find_map(|pair| match pair {
            [a, b] if a.path == b.path => Some(&a.path),
            _ => None,
        });
        if let Some(path) = twice {
            return Err(malformed(format!("names {path} twice")));
        }
        no_file_is_a_directory(place, files.iter().map(|file| file.path.as_str()))?;
        Ok(Self {
            repository: written.repository,
            commit: written.commit,
            files,
        })
    }

    /// As it is written. Files without a digest are left out: nobody could check them.
    pub(super) fn written(&self) -> Vec<u8> {
        let files = self.files.iter().filter_map(|file| {
            let digest = file.digest?;
            let text = Some(digest.to_string());
            let (sha256, git_sha1) = match digest {
                Digest::Sha256(_) => (text, None),
                Digest::GitSha1(_) => (None, text),
            };
            Some(Entry {
                path: file.path.clone(),
                size: file.size,
                sha256,
                git_sha1,
            })
        });
        let written = Written {
            version: VERSION,
            repository: self.repository.clone(),
            commit: self.commit.clone(),
            files: files.collect(),
        };
        // Texts and numbers only: there is nothing in it that could fail.
        serde_json::to_vec_pretty(&written).unwrap_or_default()
    }
}

impl Entry {
    fn checked(self) -> Result<RemoteFile, String> {
        let Self { path, size, .. } = self;
        if size > LARGEST {
            return Err(format!("says that {path} has {size} bytes"));
        }
        let sha256 = self.sha256.as_deref().map(Digest::parse);
        let git_sha1 = self.git_sha1.as_deref().map(Digest::parse);
        let digest = match (sha256, git_sha1) {
            (Some(Some(digest @ Digest::Sha256(_))), _) => digest,
            (None, Some(Some(digest @ Digest::GitSha1(_)))) => digest,
            (None, None) => return Err(format!("has no digest of {path}")),
            _ => return Err(format!("has a digest of {path} that is none")),
        };
        Ok(RemoteFile {
            path,
            size,
            digest: Some(digest),
            blob: digest.to_string(),
            etag: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const GIT: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";

    fn read(text: &str) -> Result<Manifest, WeightsError> {
        Manifest::read("s3://b/m.json", text.as_bytes())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = format!(
            r#"{{"version":1,"repository":"org/name","commit":"{GIT}","later":true,"files":[
                {{"path":"z/model.safetensors","size":5,"sha256":"{SHA}"}},{{"path":"config.json","size":0,"git_sha1":"{GIT}"}}]}}"#
        );
        let manifest = read(&text).unwrap();
        assert_eq!(manifest.files[0].path, "config.json");
        assert_eq!(
            (
                manifest.files[0].blob.as_str(),
                manifest.files[1].blob.as_str()
            ),
            (GIT, SHA)
        );
        let again = Manifest::read("x", &manifest.written()).unwrap();
        assert_eq!(again, manifest);
    }

    #[test]
    fn a_manifest_that_lies_is_refused() {
        let with = |entry: &str| format!(r#"{{"version":1,"files":[{entry}]}}"#);
        let file = |path: &str| format!(r#"{{"path":{path:?},"size":1,"sha256":"{SHA}"}}"#);
        let cases = [
            ("{}".to_owned(), "no manifest"),
            ("[1]".to_owned(), "names 0 files"),
            (r#"{"version":2,"files":"later"}"#.to_owned(), "version 2"),
            (with(""), "names 0 files"),
            (with(&file("../x")), "relative path"),
            (with(&file("/etc/passwd")), "relative path"),
            (with(&file("a\\b")), "relative path"),
            (with(&format!("{},{}", file("a"), file("a"))), "twice"),
            (
                with(&format!("{},{},{}", file("a"), file("a/b"), file("a-b"))),
                "both a file and a directory",
            ),
            (with(r#"{"path":"a","size":1}"#), "no digest of a"),
            (
                with(r#"{"path":"a","size":1,"sha256":"00"}"#),
                "that is none",
            ),
            (
                with(&format!(r#"{{"path":"a","size":1,"sha256":"{GIT}"}}"#)),
                "that is none",
            ),
            (
                with(&format!(r#"{{"path":"a","size":-1,"sha256":"{SHA}"}}"#)),
                "no manifest",
            ),
            (
                with(&format!(
                    r#"{{"path":"a","size":18446744073709551615,"sha256":"{SHA}"}}"#
                )),
                "has 18446744073709551615 bytes",
            ),
            (
                r#"{"version":1,"commit":"../../x","files":[]}"#.to_owned(),
                "no commit",
            ),
            (
                r#"{"version":1,"repository":"../x","files":[]}"#.to_owned(),
                "org/name",
            ),
        ];
        for (text, expected) in cases {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
