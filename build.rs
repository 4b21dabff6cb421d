//! Writes the commit into the program (`chandler --version`), read from git's own files so that no git is needed, and
//! watches only the files that change when the commit does.

use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=CHANDLER_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let given = std::env::var("CHANDLER_COMMIT")
        .ok()
        .filter(|text| !text.is_empty());
    let commit = given
        .or_else(commit)
        .unwrap_or_else(|| "unknown".to_owned());
    let short = commit.get(..12).unwrap_or(&commit);
    println!("cargo::rustc-env=CHANDLER_BUILD_COMMIT={short}");
    println!("cargo::rustc-env=CHANDLER_BUILD_FEATURES={}", features());
}

/// The features that this build has, as Cargo tells build scripts.
fn features() -> String {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut features: Vec<String> = names
        .filter_map(|name| Some(name.strip_prefix("CARGO_FEATURE_")?.to_lowercase()))
        .filter(|name| name != "default")
        .collect();
    features.sort();
    if features.is_empty() {
        "none".to_owned()
    } else {
        features.join(", ")
    }
}

fn commit() -> Option<String> {
    let git = git_directory()?;
    let head = watched(&git.join("HEAD"))?;
    let Some(reference) = head.strip_prefix("ref: ") else {
        return Some(head);
    };
    // A linked worktree keeps its branches in the main repository's directory.
    let common = fs::read_to_string(git.join("commondir"))
        .map_or_else(|_| git.clone(), |path| git.join(path.trim()));
    watched(&common.join(reference)).or_else(|| {
        let packed = watched(&common.join("packed-refs"))?;
        let mut lines = packed.lines().filter_map(|line| line.split_once(' '));
        lines
            .find(|(_, name)| *name == reference)
            .map(|(commit, _)| commit.to_owned())
    })
}

/// `.git` beside the manifest: a directory, or a file that names one.
fn git_directory() -> Option<PathBuf> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    let git = root.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let text = fs::read_to_string(&git).ok()?;
    Some(root.join(text.trim().strip_prefix("gitdir: ")?))
}

/// A file's text, and a promise to look again when it changes. A missing file is not watched: that would run us every time.
fn watched(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(text.trim().to_owned())
}
