//! From the objects of a bucket to the files of a model: markers and foreign keys are left out, unsafe ones refused, and what a
//! manifest says of a file is put beside what the bucket says. The same for every kind of bucket.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::WeightsError;
use super::manifest::{self, Manifest};
use super::names;
use super::remote::{Listing, RemoteFile};

/// One object under a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// Its name behind the prefix.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// For `If-Match`.
    pub etag: Option<String>,
    /// What tells this version of it from any other: ETag, generation or time.
    pub mark: String,
}

/// The name of a file behind the prefix; `None` for what is no file of the model: keys elsewhere, a directory's marker, our
/// own manifest.
pub(super) fn path<'a>(key: &'a str, base: &str) -> Option<&'a str> {
    let path = key.strip_prefix(base)?;
    (!path.is_empty() && !path.ends_with('/') && path != manifest::BESIDE).then_some(path)
}

/// The listing of a prefix.
pub(super) fn listing(
    place: &str,
    objects: Vec<Object>,
    manifest: Option<Manifest>,
) -> Result<Listing, WeightsError> {
    let malformed = |reason: String| WeightsError::Malformed {
        place: place.to_owned(),
        reason,
    };
    let Manifest { commit, files, .. } = manifest.unwrap_or_default();
    let mut named: BTreeMap<String, RemoteFile> = files
        .into_iter()
        .map(|file| (file.path.clone(), file))
        .collect();
    let mut listed = Vec::with_capacity(objects.len());
    for object in objects {
        names::file_path(&object.path)?;
        match named.remove(&object.path) {
            Some(file) if file.size != object.size => {
                return Err(malformed(format!(
                    "{} has {} bytes, and {} in the manifest: push the model again, or take the manifest away",
                    object.path, object.size, file.size
                )));
            }
            Some(file) => listed.push(RemoteFile {
                etag: object.etag,
                ..file
            }),
            // A commit's files are those of its manifest.
            None if commit.is_some() => {}
            None => listed.push(RemoteFile {
                blob: blob(&object),
                path: object.path,
                size: object.size,
                digest: None,
                etag: object.etag,
            }),
        }
    }
    if let Some(path) = named.keys().next() {
        return Err(malformed(format!(
            "{path} is in the manifest and not in the bucket: push the model again"
        )));
    }
    if listed.is_empty() {
        return Err(WeightsError::NotFound {
            place: place.to_owned(),
            what: "there are no files under this prefix".to_owned(),
            wanted: "name the prefix that holds config.json and the weights".to_owned(),
        });
    }
    listed.sort_by(|a, b| a.path.cmp(&b.path));
    manifest::no_file_is_a_directory(place, listed.iter().map(|file| file.path.as_str()))?;
    let commit = commit.unwrap_or_else(|| commit_of(&listed));
    Ok(Listing {
        commit,
        files: listed,
    })
}

/// A name for what the bucket holds now: 40 hexadecimal digits, as long as a commit. Another file, size or version is another.
fn commit_of(files: &[RemoteFile]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        for part in [&file.path, &file.size.to_string(), &file.blob] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
    }
    hex(&hash.finalize()).chars().take(40).collect()
}

/// A blob's name where no digest is known. Why the hash: two files may have the same mark where a store makes it of something
/// other than the bytes, and a mark may have characters that no file name has.
fn blob(object: &Object) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let mark: String = object.mark.chars().filter(plain).take(48).collect();
    let mut hash = Sha256::new();
    hash.update(object.path.as_bytes());
    hash.update([0]);
    hash.update(object.mark.as_bytes());
    let hash: String = hex(&hash.finalize()).chars().take(16).collect();
    format!("etag-{mark}-{}-{hash}", object.size)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(path: &str, size: u64, mark: &str) -> Object {
        Object {
            path: path.to_owned(),
            size,
            etag: Some(mark.to_owned()),
            mark: mark.to_owned(),
        }
    }

    #[test]
    fn markers_and_foreign_keys_are_no_files() {
        let cases = [
            ("p/config.json", Some("config.json")),
            ("p/a/b", Some("a/b")),
            ("p/", None),
            ("p/a/", None),
            ("q/config.json", None),
            ("p/chandler-manifest.json", None),
        ];
        for (key, expected) in cases {
            assert_eq!(path(key, "p/"), expected, "{key}");
        }
    }

    #[test]
    fn a_changed_bucket_is_another_commit_and_its_blobs_have_names_of_their_own() {
        let commit = |objects: Vec<Object>| listing("p", objects, None).unwrap();
        let one = commit(vec![object("b", 1, "\"x\""), object("a", 1, "\"x\"")]);
        assert_eq!(one.commit.len(), 40);
        assert_eq!(one.files[0].path, "a");
        assert_ne!(one.files[0].blob, one.files[1].blob);
        let again = commit(vec![object("a", 1, "\"x\""), object("b", 1, "\"x\"")]);
        assert_eq!(again, one);
        for other in [
            vec![object("a", 1, "\"y\""), object("b", 1, "\"x\"")],
            vec![object("a", 2, "\"x\""), object("b", 1, "\"x\"")],
            vec![object("a", 1, "\"x\"")],
        ] {
            assert_ne!(commit(other).commit, one.commit);
        }
        let odd = commit(vec![object("ü/ö", 3, "W/\"../../x\"")])
            .files
            .remove(0);
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        assert!(
            odd.blob.chars().all(safe) && odd.blob.starts_with("etag-"),
            "{}",
            odd.blob
        );
    }

    #[test]
    fn unsafe_keys_and_clashes_are_refused() {
        for bad in ["../x", "a//b", "a\\b", "a/./b", "c:x"] {
            let error = listing("p", vec![object(bad, 1, "x")], None).unwrap_err();
            assert!(error.to_string().contains("relative path"), "{error}");
        }
        let clash = vec![object("a", 1, "x"), object("a/b", 1, "x")];
        assert!(
            listing("p", clash, None)
                .unwrap_err()
                .to_string()
                .contains("both")
        );
        assert!(matches!(
            listing("p", Vec::new(), None),
            Err(WeightsError::NotFound { .. })
        ));
    }

    #[test]
    fn a_manifest_gives_digests_and_must_agree_with_the_bucket() {
        let sha = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let text = format!(r#"{{"version":1,"files":[{{"path":"a","size":1,"sha256":"{sha}"}}]}}"#);
        let manifest = || Some(Manifest::read("m", text.as_bytes()).unwrap());
        let both = vec![object("a", 1, "\"x\""), object("b", 1, "\"x\"")];
        let found = listing("p", both.clone(), manifest()).unwrap();
        assert_eq!((found.files[0].blob.as_str(), found.files.len()), (sha, 2));
        assert!(found.files[0].digest.is_some() && found.files[1].digest.is_none());
        assert_eq!(found.files[0].etag.as_deref(), Some("\"x\""));
        let other_size = vec![object("a", 2, "\"x\"")];
        let error = listing("p", other_size, manifest())
            .unwrap_err()
            .to_string();
        assert!(error.contains("push the model again"), "{error}");
        let missing = vec![object("b", 2, "\"x\"")];
        let error = listing("p", missing, manifest()).unwrap_err().to_string();
        assert!(error.contains("not in the bucket"), "{error}");
    }
}
