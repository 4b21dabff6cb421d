//! Names that come from outside and become paths here: of repositories, of files in them, of revisions. What could leave the
//! cache is refused before anything is made of it.

use super::WeightsError;

/// The longest path of a file, in bytes.
const MAX_PATH: usize = 1024;

fn refuse(what: &'static str, value: &str, wanted: &'static str) -> WeightsError {
    let mut value: String = value.escape_debug().take(200).collect();
    if value.is_empty() {
        value.push_str("(empty)");
    }
    WeightsError::BadName {
        what,
        value,
        wanted,
    }
}

/// A file's path in a snapshot: relative, with `/` between its parts, and none of them `.` or `..`.
///
/// # Errors
/// [`WeightsError::BadName`].
pub fn file_path(path: &str) -> Result<(), WeightsError> {
    let good = |part: &str| !part.is_empty() && part != "." && part != "..";
    let plain = |c: char| !c.is_control() && c != '\\' && c != ':';
    if path.len() <= MAX_PATH && path.split('/').all(good) && path.chars().all(plain) {
        return Ok(());
    }
    Err(refuse(
        "file name",
        path,
        "a file of a model has a relative path without `..`, backslashes, colons and control characters",
    ))
}

/// A repository on the hub: `name` or `org/name`, of letters, digits, `-`, `_` and `.`.
///
/// # Errors
/// [`WeightsError::BadName`].
pub fn repository(id: &str) -> Result<(), WeightsError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && part.chars().all(plain)
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            // Would be read as the slash of the cache's own names.
            && !part.contains("--")
            && !part.contains("..")
    };
    if id.split('/').count() <= 2 && id.split('/').all(good) {
        return Ok(());
    }
    Err(refuse(
        "model",
        id,
        "a repository on the hub is called org/name, of letters, digits, `-`, `_` and `.`",
    ))
}

/// A branch, a tag or a commit; branches may have slashes (`refs/pr/1`).
///
/// # Errors
/// [`WeightsError::BadName`].
pub fn revision(name: &str) -> Result<(), WeightsError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+');
    let good = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains("..");
    if name.len() <= 200 && name.chars().all(plain) && name.split('/').all(good) {
        return Ok(());
    }
    Err(refuse(
        "revision",
        name,
        "give a branch, a tag or a commit, such as main or v1.0",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_the_cache() {
        for good in [
            "config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "a b/ü.txt",
            "...",
            "a..b",
        ] {
            assert!(file_path(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            "a//b",
            "a/./b",
            "a/",
            "C:\\x",
            "a\\..\\b",
            "a\nb",
            "a\0",
            "c:x",
        ] {
            let error = file_path(bad).unwrap_err().to_string();
            assert!(error.contains("relative path"), "{error}");
        }
        assert!(file_path(&"a".repeat(2000)).is_err());
        for good in ["gpt2", "org/name", "Qwen/Qwen2.5-0.5B-Instruct", "a_b/c.d"] {
            assert!(repository(good).is_ok(), "{good}");
        }
        for bad in [
            "", "a/b/c", "../x", "a/..", "a--b/c", "/a", "a/", "a b/c", "-a/b", "a/b.", "a\\b",
            "a/b\n",
        ] {
            assert!(repository(bad).is_err(), "{bad}");
        }
        for good in [
            "main",
            "v1.0",
            "refs/pr/1",
            "0123456789abcdef0123456789abcdef01234567",
        ] {
            assert!(revision(good).is_ok(), "{good}");
        }
        for bad in [
            "", "../main", "a/../b", "/a", "a//b", "a b", ".git/x", "a\n",
        ] {
            assert!(revision(bad).is_err(), "{bad}");
        }
    }
}
