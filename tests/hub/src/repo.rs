//! Repositories as a test gives them: files, commits, names of commits, and who may see what.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use sha1::{Digest, Sha1};

use crate::content::{Content, hex};

/// How git keeps a file, which decides how the hub hands it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// In git itself: the hub serves it, and its name is git's SHA-1.
    Git,
    /// As LFS: the CDN serves it, and its name is its SHA-256.
    Lfs,
}

/// One file of a commit.
#[derive(Debug, Clone)]
pub struct RepoFile {
    /// How it is kept.
    pub kept: Kept,
    /// Its bytes.
    pub content: Content,
}

impl RepoFile {
    /// The name of its blob: what `X-Linked-Etag` or `ETag` says.
    pub fn etag(&self) -> &str {
        match self.kept {
            Kept::Git => self.content.git_sha1(),
            Kept::Lfs => self.content.sha256(),
        }
    }

    /// What git itself holds for an LFS file.
    pub fn pointer(&self) -> String {
        format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
            self.content.sha256(),
            self.content.size()
        )
    }

    /// The name of git's own blob, of the file or of its pointer.
    pub fn oid(&self) -> String {
        match self.kept {
            Kept::Git => self.content.git_sha1().to_owned(),
            Kept::Lfs => Content::from(self.pointer()).git_sha1().to_owned(),
        }
    }

    /// What stands for the file in Xet's own store. Made up: nothing here speaks Xet.
    pub fn xet_hash(&self) -> String {
        Content::from(format!("xet {}", self.content.sha256()))
            .sha256()
            .to_owned()
    }
}

/// The files of one commit, by their paths.
pub type Files = BTreeMap<String, RepoFile>;

/// Who may have a repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Everybody.
    #[default]
    Public,
    /// Everybody sees its files' names; their bytes are for who has accepted its licence.
    Gated,
    /// For others it does not exist.
    Private,
    /// Nobody: its owner or the hub has closed it.
    Disabled,
}

/// One repository.
#[derive(Debug, Clone)]
pub struct Repo {
    pub(crate) id: String,
    pub(crate) access: Access,
    /// Names of the users who have accepted the licence or belong to the owner.
    pub(crate) allowed: Vec<String>,
    pub(crate) commits: BTreeMap<String, Arc<Files>>,
    pub(crate) refs: BTreeMap<String, String>,
    pub(crate) xet: bool,
    /// Files of git's are served behind a relative redirect, as production does it since 2025.
    pub(crate) resolve_cache: bool,
    pub(crate) renamed_to: Option<String>,
    draft: Files,
    last: Option<String>,
}

impl Repo {
    /// A public repository without a file.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            access: Access::Public,
            allowed: Vec::new(),
            commits: BTreeMap::new(),
            refs: BTreeMap::new(),
            xet: false,
            resolve_cache: false,
            renamed_to: None,
            draft: Files::new(),
            last: None,
        }
    }

    /// A name that leads to another.
    pub fn renamed(id: &str, to: &str) -> Self {
        let mut repo = Self::new(id);
        repo.renamed_to = Some(to.to_owned());
        repo
    }

    fn put(mut self, path: &str, kept: Kept, content: Content) -> Self {
        let file = RepoFile { kept, content };
        self.draft.insert(path.to_owned(), file);
        self
    }

    /// A file that git keeps itself, for the next commit.
    #[must_use]
    pub fn git(self, path: &str, content: impl Into<Content>) -> Self {
        self.put(path, Kept::Git, content.into())
    }

    /// A file in LFS, for the next commit.
    #[must_use]
    pub fn lfs(self, path: &str, content: impl Into<Content>) -> Self {
        self.put(path, Kept::Lfs, content.into())
    }

    /// The next commit lacks this file.
    #[must_use]
    pub fn without(mut self, path: &str) -> Self {
        self.draft.remove(path);
        self
    }

    /// Everything in a directory, as the hub's default rules keep it: weights and whatever is large in LFS.
    ///
    /// # Errors
    /// As the file system has it.
    pub fn directory(mut self, dir: &Path) -> io::Result<Self> {
        let mut open = vec![dir.to_owned()];
        while let Some(next) = open.pop() {
            for entry in std::fs::read_dir(&next)? {
                let path = entry?.path();
                if path.is_dir() {
                    open.push(path);
                    continue;
                }
                let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy();
                let content = Content::file(&path)?;
                let large = content.size() > 10 << 20;
                let weights = [
                    ".safetensors",
                    ".gguf",
                    ".bin",
                    ".pt",
                    ".onnx",
                    ".msgpack",
                    ".h5",
                ];
                let lfs = large || weights.iter().any(|ending| name.ends_with(ending));
                self = self.put(&name, if lfs { Kept::Lfs } else { Kept::Git }, content);
            }
        }
        Ok(self)
    }

    /// Makes a commit of the files so far, and lets a branch point at it. The next one begins with the same files.
    #[must_use]
    pub fn commit(mut self, branch: &str) -> Self {
        let mut digest = Sha1::new();
        for (path, file) in &self.draft {
            digest.update(format!("{path}\0{}\0", file.oid()));
        }
        digest.update(self.last.as_deref().unwrap_or_default());
        let id = hex(&digest.finalize());
        self.commits
            .insert(id.clone(), Arc::new(self.draft.clone()));
        self.refs.insert(branch.to_owned(), id.clone());
        self.last = Some(id);
        self
    }

    /// A further name of the last commit.
    #[must_use]
    pub fn tag(mut self, name: &str) -> Self {
        if self.last.is_none() {
            self = self.commit("main");
        }
        if let Some(last) = &self.last {
            self.refs.insert(name.to_owned(), last.clone());
        }
        self
    }

    /// Who may have it.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// A user who has accepted the licence, or belongs to the owner.
    #[must_use]
    pub fn allow(mut self, user: &str) -> Self {
        self.allowed.push(user.to_owned());
        self
    }

    /// Its LFS files are said to be on Xet too.
    #[must_use]
    pub fn xet(mut self) -> Self {
        self.xet = true;
        self
    }

    /// Files of git's are served behind a relative redirect.
    #[must_use]
    pub fn resolve_cache(mut self) -> Self {
        self.resolve_cache = true;
        self
    }

    /// With a commit on main, whatever was forgotten.
    pub(crate) fn whole(self) -> Self {
        if self.commits.is_empty() {
            self.commit("main")
        } else {
            self
        }
    }

    /// The id of what a branch, a tag, a commit or the beginning of a commit's id names.
    pub fn find(&self, revision: &str) -> Option<&str> {
        if let Some(id) = self.refs.get(revision) {
            return Some(id);
        }
        let hexadecimal = revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        if revision.len() < 7 || !hexadecimal {
            return None;
        }
        let mut found = self.commits.keys().filter(|id| id.starts_with(revision));
        found.next().map(String::as_str)
    }
}
