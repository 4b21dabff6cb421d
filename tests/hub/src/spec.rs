//! A repository as JSON, for scripts in other languages and for the binary's `--spec`.

use std::io;
use std::path::PathBuf;

use serde::Deserialize;

use crate::content::Content;
use crate::repo::{Access, Repo};

/// A repository as JSON.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    id: String,
    #[serde(default)]
    access: Access,
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    xet: bool,
    #[serde(default)]
    resolve_cache: bool,
    renamed_to: Option<String>,
    /// Everything in it, before `files`.
    directory: Option<PathBuf>,
    #[serde(default)]
    files: Vec<FileSpec>,
    /// Further names of the commit, besides `main`.
    #[serde(default)]
    tags: Vec<String>,
    /// Files that change in further commits on `main`.
    #[serde(default)]
    later: Vec<Vec<FileSpec>>,
}

/// A file as JSON: its text, a file on disk, or a seed and a size.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    path: String,
    #[serde(default)]
    lfs: bool,
    text: Option<String>,
    file: Option<PathBuf>,
    seed: Option<u64>,
    #[serde(default)]
    size: u64,
}

impl FileSpec {
    fn add(&self, repo: Repo) -> io::Result<Repo> {
        let content = match (&self.text, &self.file, self.seed) {
            (Some(text), None, None) => Content::from(text.clone()),
            (None, Some(file), None) => Content::file(file)?,
            (None, None, Some(seed)) => Content::synthetic(seed, self.size),
            _ => {
                return Err(io::Error::other(format!(
                    "{}: give one of text, file, seed",
                    self.path
                )));
            }
        };
        Ok(if self.lfs {
            repo.lfs(&self.path, content)
        } else {
            repo.git(&self.path, content)
        })
    }
}

impl Spec {
    /// The repository.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn repo(&self) -> io::Result<Repo> {
        if let Some(to) = &self.renamed_to {
            return Ok(Repo::renamed(&self.id, to));
        }
        let mut repo = Repo::new(&self.id).access(self.access);
        repo = self.allow.iter().fold(repo, |repo, user| repo.allow(user));
        if let Some(directory) = &self.directory {
            repo = repo.directory(directory)?;
        }
        for file in &self.files {
            repo = file.add(repo)?;
        }
        repo = repo.commit("main");
        repo = self.tags.iter().fold(repo, |repo, tag| repo.tag(tag));
        for files in &self.later {
            for file in files {
                repo = file.add(repo)?;
            }
            repo = repo.commit("main");
        }
        if self.xet {
            repo = repo.xet();
        }
        Ok(if self.resolve_cache {
            repo.resolve_cache()
        } else {
            repo
        })
    }
}
