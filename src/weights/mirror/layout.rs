//! Where things lie in a mirror: as in a Hugging Face cache, with a manifest per commit beside the snapshots.

use crate::weights::manifest::is_commit;

/// The folder of a repository.
pub(in crate::weights) fn folder(repository: &str) -> String {
    format!("models--{}", repository.replace('/', "--"))
}

/// Behind the folder: the manifest of a commit.
pub(in crate::weights) fn manifest(commit: &str) -> String {
    format!("manifests/{commit}.json")
}

/// What a ref's content names.
pub(in crate::weights) fn commit(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    is_commit(text).then(|| text.to_owned())
}

/// Whether a prefix ends in a repository's folder.
pub(in crate::weights) fn is_repository(prefix: &str) -> bool {
    let last = prefix.rsplit('/').next().unwrap_or_default();
    last.starts_with("models--")
}

/// The repository's folder and the commit of a prefix that ends in a snapshot.
pub(in crate::weights) fn snapshot(prefix: &str) -> Option<(&str, &str)> {
    let (rest, commit) = prefix.rsplit_once('/')?;
    let folder = rest.strip_suffix("/snapshots")?;
    (is_commit(commit) && is_repository(folder)).then_some((folder, commit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_tell_what_they_are() {
        let commit_name = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(folder("org/name"), "models--org--name");
        assert!(is_repository("a/models--org--name") && !is_repository("a/b"));
        let whole = format!("a/models--x/snapshots/{commit_name}");
        assert_eq!(snapshot(&whole), Some(("a/models--x", commit_name)));
        assert_eq!(snapshot("a/models--x/snapshots/main"), None);
        assert_eq!(snapshot(&format!("a/b/snapshots/{commit_name}")), None);
        assert_eq!(
            commit(format!("{commit_name}\n").as_bytes()).as_deref(),
            Some(commit_name)
        );
        for bad in ["", "main", "../../x", "0123"] {
            assert_eq!(commit(bad.as_bytes()), None);
        }
    }
}
