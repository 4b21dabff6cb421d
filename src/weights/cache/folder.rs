//! What a model's folder in the cache is called. Python's name for what comes from the hub, so that it finds it; names of our
//! own, which Python passes over, for what comes from a bucket.

use sha2::{Digest as _, Sha256};

use super::super::{WeightsError, names};

const MODEL: &str = "models--";
const S3: &str = "s3--";
const GS: &str = "gs--";
/// The longest readable part of a bucket's name and prefix.
const MAX_READABLE: usize = 120;

/// A folder of the cache, by a name that cannot lead out of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Folder {
    name: String,
}

impl Folder {
    /// A model of the hub: `org/name` or `name`.
    ///
    /// # Errors
    /// [`WeightsError::BadName`].
    pub fn model(id: &str) -> Result<Self, WeightsError> {
        names::repository(id)?;
        Ok(Self {
            name: format!("{MODEL}{}", id.replace('/', "--")),
        })
    }

    /// A prefix in a bucket of S3 or a store that speaks like it; `endpoint` tells buckets of one name in two stores apart.
    ///
    /// # Errors
    /// [`WeightsError::BadName`].
    pub fn s3(endpoint: Option<&str>, bucket: &str, prefix: &str) -> Result<Self, WeightsError> {
        let whole = format!("{}\n{bucket}\n{prefix}", endpoint.unwrap_or_default());
        Self::bucket(S3, &whole, bucket, prefix)
    }

    /// A prefix in a bucket of Google Cloud Storage.
    ///
    /// # Errors
    /// [`WeightsError::BadName`].
    pub fn gs(bucket: &str, prefix: &str) -> Result<Self, WeightsError> {
        Self::bucket(GS, &format!("{bucket}\n{prefix}"), bucket, prefix)
    }

    /// Readable, and with a digest, since two prefixes may read the same.
    fn bucket(kind: &str, whole: &str, bucket: &str, prefix: &str) -> Result<Self, WeightsError> {
        names::file_path(bucket)?;
        let prefix = prefix.trim_matches('/');
        let readable: String = format!("{bucket}--{}", prefix.replace('/', "--"))
            .chars()
            .map(|c| match c.is_ascii_alphanumeric() || "-_.".contains(c) {
                true => c,
                false => '_',
            })
            .take(MAX_READABLE)
            .collect();
        let digest = Sha256::digest(whole.as_bytes());
        let short: String = digest
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Self {
            name: format!("{kind}{}--{short}", readable.trim_end_matches('-')),
        })
    }

    /// A folder as it is called on disk, if it is one that this cache looks after. Datasets and spaces are not.
    pub fn on_disk(name: &str) -> Option<Self> {
        let kinds = [MODEL, S3, GS];
        let ours = kinds
            .iter()
            .any(|kind| name.len() > kind.len() && name.starts_with(kind));
        (ours && !name.contains('/') && names::file_path(name).is_ok()).then(|| Self {
            name: name.to_owned(),
        })
    }

    /// Its name on disk.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name for people: the model's on the hub, else the folder's.
    pub fn title(&self) -> String {
        match self.name.strip_prefix(MODEL) {
            Some(id) => id.replacen("--", "/", 1),
            None => self.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_folder_is_called_as_python_calls_it() {
        let name = |id| Folder::model(id).unwrap().name().to_owned();
        assert_eq!(name("gpt2"), "models--gpt2");
        assert_eq!(name("Qwen/Qwen2.5-0.5B"), "models--Qwen--Qwen2.5-0.5B");
        assert_eq!(Folder::model("a/b").unwrap().title(), "a/b");
        assert!(Folder::model("../x").is_err() && Folder::model("a--b/c").is_err());
    }

    #[test]
    fn two_prefixes_never_share_a_folder() {
        let s3 = |endpoint, bucket, prefix| {
            let folder = Folder::s3(endpoint, bucket, prefix).unwrap();
            assert_eq!(Folder::on_disk(folder.name()), Some(folder.clone()));
            folder.name
        };
        let names = [
            s3(None, "b", "a/c"),
            s3(None, "b", "a--c"),
            s3(None, "b", "a c"),
            s3(None, "b--a", "c"),
            s3(Some("https://r2"), "b", "a/c"),
            s3(None, "b", &"x/../".repeat(200)),
            Folder::gs("b", "a/c").unwrap().name,
        ];
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name) && name.len() < 200, "{name}");
            assert!(!name.contains('/'), "{name}");
        }
        assert!(Folder::s3(None, "..", "x").is_err());
    }

    #[test]
    fn what_is_not_ours_is_not_looked_after() {
        for name in [
            "datasets--a--b",
            "models--",
            ".locks",
            "blobs",
            "models--a/../b",
        ] {
            assert_eq!(Folder::on_disk(name), None, "{name}");
        }
    }
}
