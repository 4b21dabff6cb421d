//! `trees/{commit}.json`: the whole list of a commit's files, in the format of huggingface_hub 2.x. It tells a snapshot that is
//! whole from one that is not, without asking the hub.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

use super::super::remote::{Digest, Listing, RemoteFile};
use super::super::{WeightsError, names};
use super::layout::{self, Place};

/// The format that huggingface_hub 2.4 reads and writes.
const FORMAT: u64 = 1;
/// A longer file is none: repositories with ten thousands of files have a few MB.
const MAX_BYTES: u64 = 256 << 20;

/// One file, with the hub's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub size: u64,
    /// Git's SHA-1: of the file, or of the pointer where it is in LFS.
    pub blob_id: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lfs_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lfs_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub xet_hash: Option<String>,
}

impl Entry {
    /// What the file's blob is called.
    pub fn blob(&self) -> &str {
        self.lfs_sha256.as_deref().unwrap_or(&self.blob_id)
    }

    fn of(file: &RemoteFile) -> Self {
        match file.digest {
            Some(Digest::Sha256(_)) if Digest::parse(&file.blob) == file.digest => Self {
                size: file.size,
                blob_id: pointer_id(&file.blob, file.size),
                lfs_sha256: Some(file.blob.clone()),
                lfs_size: Some(file.size),
                xet_hash: None,
            },
            _ => Self {
                size: file.size,
                blob_id: file.blob.clone(),
                lfs_sha256: None,
                lfs_size: None,
                xet_hash: None,
            },
        }
    }
}

/// What git calls the pointer that stands in the repository for a file in LFS. The hub's listing says it, too; this way it
/// need not be carried through everything that handles files.
fn pointer_id(sha256: &str, size: u64) -> String {
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n");
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", pointer.len()));
    hash.update(pointer);
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The files of a commit, by path.
pub type Tree = BTreeMap<String, Entry>;

#[derive(Serialize, Deserialize)]
struct Document {
    format_version: u64,
    files: BTreeMap<String, serde_json::Value>,
}

/// Reads the list of a commit. `None` where there is none, or none that can be trusted; entries whose names lead anywhere else
/// are passed over, so that they can be neither wanted nor found.
pub fn read(place: &Place, commit: &str) -> Option<Tree> {
    let path = place.tree(commit);
    let document = match parse(&path) {
        Ok(document) => document?,
        Err(reason) => {
            tracing::warn!(path = %path.display(), %reason, "a list of files in the cache cannot be read and is ignored");
            return None;
        }
    };
    let mut tree = Tree::new();
    for (file, value) in document.files {
        if names::file_path(&file).is_err() {
            tracing::warn!(path = %path.display(), ?file, "a file name in the cache leads elsewhere and is ignored");
            continue;
        }
        let entry: Entry = serde_json::from_value(value).ok()?;
        layout::blob_name(entry.blob()).ok()?;
        tree.insert(file, entry);
    }
    Some(tree)
}

fn parse(path: &Path) -> Result<Option<Document>, String> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = String::new();
    file.take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    let document: Document = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    match document.format_version {
        FORMAT => Ok(Some(document)),
        other => Err(format!("its format is {other}, and {FORMAT} is known")),
    }
}

/// Writes the list of a commit, unless one that says the same is there: Python's also has the Xet hashes.
pub fn write(place: &Place, listing: &Listing) -> Result<(), WeightsError> {
    let wanted: Tree = listing
        .files
        .iter()
        .map(|file| (file.path.clone(), Entry::of(file)))
        .collect();
    if read(place, &listing.commit).is_some_and(|there| says(&there, &wanted)) {
        return Ok(());
    }
    let files = wanted
        .into_iter()
        .filter_map(|(path, entry)| Some((path, serde_json::to_value(entry).ok()?)));
    let document = Document {
        format_version: FORMAT,
        files: files.collect(),
    };
    let mut text = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, indent);
    let path = place.tree(&listing.commit);
    document
        .serialize(&mut serializer)
        .map_err(|error| WeightsError::disk(&path)(error.into()))?;
    place.write(&path, &text)
}

fn says(there: &Tree, wanted: &Tree) -> bool {
    there.len() == wanted.len()
        && wanted.iter().all(|(path, entry)| {
            let same = |other: &Entry| other.size == entry.size && other.blob() == entry.blob();
            there.get(path).is_some_and(same)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, blob: &str, size: u64) -> RemoteFile {
        RemoteFile {
            path: path.into(),
            size,
            digest: Digest::parse(blob),
            blob: blob.into(),
            etag: None,
        }
    }

    #[test]
    fn a_pointers_name_is_what_git_calls_it() {
        // `printf 'version …' | git hash-object --stdin` of the pointer of an empty file.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(pointer_id(empty, 0), POINTER_OF_EMPTY);
    }
    const POINTER_OF_EMPTY: &str = "fc8e42b32efb9a9bf3ae0234a18a948e499490f8";

    #[test]
    fn what_is_written_is_read_and_bad_names_are_not() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::new(root.path(), "models--a--b", true);
        let commit = "0".repeat(40);
        let files = vec![
            file("a/config.json", &"1".repeat(40), 3),
            file("model.safetensors", &"2".repeat(64), 5),
        ];
        let listing = Listing {
            commit: commit.clone(),
            files,
        };
        write(&place, &listing).unwrap();
        let tree = read(&place, &commit).unwrap();
        assert_eq!(tree["model.safetensors"].blob(), "2".repeat(64));
        assert_eq!(tree["a/config.json"].blob(), "1".repeat(40));

        let text = fs::read_to_string(place.tree(&commit)).unwrap();
        assert!(
            text.starts_with("{\n \"format_version\": 1,\n \"files\": {\n  \"a/config.json\""),
            "{text}"
        );
        let poisoned = text.replace("a/config.json", "../../../../etc/passwd");
        fs::write(place.tree(&commit), poisoned).unwrap();
        assert_eq!(read(&place, &commit).unwrap().len(), 1);
        fs::write(
            place.tree(&commit),
            text.replace(&"1".repeat(40), "../../x"),
        )
        .unwrap();
        assert!(read(&place, &commit).is_none());
        for bad in ["{", "{\"format_version\": 2, \"files\": {}}", "[]", ""] {
            fs::write(place.tree(&commit), bad).unwrap();
            assert!(read(&place, &commit).is_none(), "{bad}");
        }
        write(&place, &listing).unwrap(); // a broken one is replaced
        assert_eq!(read(&place, &commit).unwrap().len(), 2);
    }

    #[test]
    fn pythons_list_with_xet_hashes_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::new(root.path(), "models--a--b", true);
        let commit = "a".repeat(40);
        let blob = "2".repeat(64);
        let text = format!(
            r#"{{"format_version": 1, "files": {{"w": {{"size": 5, "blob_id": "x", "lfs_sha256": "{blob}", "lfs_size": 5, "xet_hash": "{blob}"}}}}}}"#
        );
        place.write(&place.tree(&commit), text.as_bytes()).unwrap();
        let listing = Listing {
            commit: commit.clone(),
            files: vec![file("w", &blob, 5)],
        };
        write(&place, &listing).unwrap();
        assert_eq!(fs::read_to_string(place.tree(&commit)).unwrap(), text);
    }
}
