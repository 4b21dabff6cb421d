//! What the hub tells of a revision, read into files that are safe to name and can be checked.

use serde::Deserialize;

use crate::weights::names;
use crate::weights::remote::{Digest, RemoteFile};

/// More than any repository has; what goes on for longer is no tree.
const MAX_ENTRIES: usize = 1_000_000;

#[derive(Deserialize)]
struct Info {
    id: Option<String>,
    sha: Option<String>,
}

/// What the repository is called today, and the commit.
pub(super) fn info(body: &[u8]) -> Result<(Option<String>, String), String> {
    let info: Info = read(body)?;
    let sha = info.sha.ok_or("the model's info holds no commit (`sha`)")?;
    match super::is_commit(&sha) {
        true => Ok((info.id, sha.to_ascii_lowercase())),
        false => Err(
            "the model's info holds a commit (`sha`) that is not of 40 hexadecimal digits"
                .to_owned(),
        ),
    }
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
    oid: Option<String>,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: Option<u64>,
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| {
        format!("the answer is not the JSON that a hub gives ({error}): does HF_ENDPOINT name a hub, and does a proxy need a login?")
    })
}

/// The pages of a tree.
#[derive(Default)]
pub(super) struct Tree(Vec<RemoteFile>, usize);

impl Tree {
    /// A further page.
    pub fn add(&mut self, body: &[u8]) -> Result<(), String> {
        let entries: Vec<Entry> = read(body)?;
        self.1 += entries.len().max(1); // a page without an entry counts too, or they could go on for ever
        if self.1 > MAX_ENTRIES {
            return Err(format!("its tree has more than {MAX_ENTRIES} entries"));
        }
        for entry in entries.into_iter().filter(|entry| entry.kind == "file") {
            self.0.push(file(entry)?);
        }
        Ok(())
    }

    /// All files, in the order of their paths.
    pub fn files(mut self) -> Result<Vec<RemoteFile>, String> {
        self.0.sort_by(|a, b| a.path.cmp(&b.path));
        match self.0.windows(2).find(|pair| pair[0].path == pair[1].path) {
            Some(pair) => Err(format!("its tree has {} twice", pair[0].path)),
            None => Ok(self.0),
        }
    }
}

fn file(entry: Entry) -> Result<RemoteFile, String> {
    let path = entry.path;
    names::file_path(&path).map_err(|error| error.to_string())?;
    let lacks = |what: &str| format!("its tree tells no {what} of {path}");
    // LFS first: what git has of such a file is a pointer, whose digest is not the file's.
    let (digest, size) = match &entry.lfs {
        Some(lfs) => {
            let digest =
                Digest::parse(&lfs.oid).filter(|digest| matches!(digest, Digest::Sha256(_)));
            (
                digest.ok_or_else(|| lacks("SHA-256"))?,
                lfs.size.or(entry.size),
            )
        }
        None => {
            let digest = entry.oid.as_deref().and_then(Digest::parse);
            let digest = digest.filter(|digest| matches!(digest, Digest::GitSha1(_)));
            (digest.ok_or_else(|| lacks("digest of git's"))?, entry.size)
        }
    };
    Ok(RemoteFile {
        size: size.ok_or_else(|| lacks("size"))?,
        blob: digest.to_string(),
        digest: Some(digest),
        etag: None,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const GIT: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";

    fn tree(json: &str) -> Result<Vec<RemoteFile>, String> {
        let mut tree = Tree::default();
        tree.add(json.as_bytes())?;
        tree.files()
    }

    #[test]
    fn files_come_with_the_digest_of_their_bytes() {
        let files = tree(&format!(
            r#"[{{"type":"directory","path":"sub","oid":"{GIT}"}},
                {{"type":"file","path":"sub/b.safetensors","oid":"{GIT}","size":5,"lfs":{{"oid":"{SHA}","size":5,"pointerSize":134}},"xetHash":"{SHA}"}},
                {{"type":"file","path":"a.json","oid":"{GIT}","size":3}},
                {{"type":"commit","path":"submodule","oid":"{GIT}"}}]"#
        ))
        .unwrap();
        let told: Vec<_> = files
            .iter()
            .map(|f| (f.path.as_str(), f.size, f.blob.as_str()))
            .collect();
        assert_eq!(told, [("a.json", 3, GIT), ("sub/b.safetensors", 5, SHA)]);
        assert!(matches!(files[0].digest, Some(Digest::GitSha1(_))));
        assert!(matches!(files[1].digest, Some(Digest::Sha256(_))));
    }

    #[test]
    fn what_cannot_be_named_or_checked_is_refused() {
        let one = |path: &str, rest: &str| {
            tree(&format!(r#"[{{"type":"file","path":"{path}",{rest}}}]"#))
        };
        let good = format!(r#""oid":"{GIT}","size":1"#);
        assert!(one("a", &good).is_ok());
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "a\\\\b",
            "a\\nb",
        ] {
            let error = one(path, &good).unwrap_err();
            assert!(error.contains("relative path"), "{error}");
        }
        for (rest, word) in [
            (format!(r#""oid":"{GIT}""#), "size"),
            (r#""size":1"#.to_owned(), "digest"),
            (format!(r#""oid":"{SHA}","size":1"#), "digest"),
            (
                format!(r#""oid":"{GIT}","size":1,"lfs":{{"oid":"{GIT}"}}"#),
                "SHA-256",
            ),
        ] {
            let error = one("a", &rest).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        let twice =
            format!(r#"[{{"type":"file","path":"a",{good}}},{{"type":"file","path":"a",{good}}}]"#);
        assert!(tree(&twice).unwrap_err().contains("twice"));
        assert!(tree("<html>").unwrap_err().contains("HF_ENDPOINT"));
    }

    #[test]
    fn info_without_a_commit_is_none() {
        let sha = GIT.to_uppercase();
        let (id, commit) = info(format!(r#"{{"id":"o/m","sha":"{sha}"}}"#).as_bytes()).unwrap();
        assert_eq!((id.as_deref(), commit.as_str()), (Some("o/m"), GIT));
        for bad in [
            r#"{"id":"o/m"}"#,
            r#"{"sha":"../../main"}"#,
            r#"{"sha":null}"#,
            "[]",
        ] {
            assert!(info(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
