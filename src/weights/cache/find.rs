//! Finding a snapshot that is here, with no network and no lock: which commit a revision means, and whether all that is wanted
//! of it is there. Works the same on a cache that cannot be written.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::super::{WeightsError, names};
use super::layout::{self, Place};
use super::{Cache, Folder, tree};

/// A file and its size.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FileSize {
    /// Its path in the snapshot.
    pub path: String,
    /// Bytes.
    pub size: u64,
}

/// A commit that may do; the caller's rule says what of it is wanted.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// Its directory. Small files, such as an index, may be read in it; none of them need be there.
    pub dir: &'a Path,
    /// Its files, in the order of their paths.
    pub files: &'a [FileSize],
    /// Whether these are all files of the commit, here or not. If not, nobody wrote down what it should have: these are the
    /// files that are here, and the rule decides whether they are enough.
    pub listed: bool,
    /// What was wanted of this commit when it was fetched into this cache, if this program did it.
    pub recorded: Option<&'a [String]>,
}

/// The paths that are wanted of a commit; `None` where no model can be made of it.
pub type Rule<'a> = dyn Fn(&Candidate<'_>) -> Option<Vec<String>> + 'a;

/// A snapshot that is here, and whole as far as it is wanted.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its directory.
    pub dir: PathBuf,
    /// Its commit.
    pub commit: String,
    /// The files that are wanted, all of them there.
    pub files: Vec<FileSize>,
    pub(super) place: Place,
}

/// What there is of a revision.
#[derive(Debug)]
pub enum Lookup {
    /// All that is wanted.
    Found(Found),
    /// A part.
    Incomplete {
        /// The commit.
        commit: String,
        /// Wanted files that are not there or have the wrong size; empty where the rule found no model at all.
        missing: Vec<String>,
    },
    /// Nothing.
    Absent,
}

impl Cache {
    /// The snapshot of a revision: a branch or tag that was fetched once, or a commit.
    ///
    /// # Errors
    /// [`WeightsError::BadName`] for a revision that is none. What cannot be read is not there.
    pub fn find(
        &self,
        folder: &Folder,
        revision: &str,
        rule: &Rule<'_>,
    ) -> Result<Option<Found>, WeightsError> {
        Ok(match self.look(folder, revision, rule)? {
            Lookup::Found(found) => Some(found),
            Lookup::Incomplete { .. } | Lookup::Absent => None,
        })
    }

    /// As [`Cache::find`], and tells what is missing.
    ///
    /// # Errors
    /// As [`Cache::find`].
    pub fn look(
        &self,
        folder: &Folder,
        revision: &str,
        rule: &Rule<'_>,
    ) -> Result<Lookup, WeightsError> {
        names::revision(revision)?;
        let mut best = Lookup::Absent;
        for (root, writable) in self.roots() {
            let Some(place) = spelled(root, folder.name(), writable) else {
                continue;
            };
            let Some(commit) = commit_of(&place, revision) else {
                continue;
            };
            match examine(&place, &commit, rule) {
                Lookup::Found(found) => return Ok(Lookup::Found(found)),
                Lookup::Absent => {}
                incomplete => best = incomplete,
            }
        }
        Ok(best)
    }
}

/// The folder as it is spelled in this root: RunPod lower-cases some names.
fn spelled(root: &Path, name: &str, writable: bool) -> Option<Place> {
    if root.join(name).join("snapshots").is_dir() {
        return Some(Place::new(root, name, writable));
    }
    let entries = fs::read_dir(root).ok()?;
    let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let other = names.find(|other| other.eq_ignore_ascii_case(name) && other != name)?;
    Some(Place::new(root, &other, writable))
}

/// The commit that a revision means here.
pub fn commit_of(place: &Place, revision: &str) -> Option<String> {
    if layout::is_commit(revision) {
        return Some(revision.to_owned());
    }
    // A commit has no more than 64 characters; whatever else the file is, it need not be read whole.
    let mut text = String::new();
    let file = fs::File::open(place.refs().join(revision)).ok()?;
    file.take(100).read_to_string(&mut text).ok()?;
    let commit = text.trim();
    if layout::is_commit(commit) {
        return Some(commit.to_owned());
    }
    tracing::warn!(folder = %place.dir.display(), revision, "a ref in the cache names no commit and is ignored");
    None
}

fn examine(place: &Place, commit: &str, rule: &Rule<'_>) -> Lookup {
    let dir = place.snapshot(commit);
    let here = files_in(&dir);
    let tree = tree::read(place, commit);
    if here.is_empty() && tree.is_none() {
        return Lookup::Absent;
    }
    let files: Vec<FileSize> = match &tree {
        Some(tree) => tree
            .iter()
            .map(|(path, entry)| FileSize {
                path: path.clone(),
                size: entry.size,
            })
            .collect(),
        None => here
            .iter()
            .map(|(path, size)| FileSize {
                path: path.clone(),
                size: *size,
            })
            .collect(),
    };
    let recorded = recorded(place, commit);
    let candidate = Candidate {
        dir: &dir,
        files: &files,
        listed: tree.is_some(),
        recorded: recorded.as_deref(),
    };
    let Some(wanted) = rule(&candidate) else {
        let commit = commit.to_owned();
        return Lookup::Incomplete {
            commit,
            missing: Vec::new(),
        };
    };
    let size = |path: &String| here.get(path).copied();
    let right = |path: &String| match &tree {
        Some(tree) => tree.get(path).map(|entry| entry.size) == size(path),
        None => true,
    };
    let (there, missing): (Vec<String>, Vec<String>) = wanted
        .into_iter()
        .partition(|path| size(path).is_some() && right(path));
    if !missing.is_empty() || there.is_empty() {
        let commit = commit.to_owned();
        return Lookup::Incomplete { commit, missing };
    }
    let sized = |path: String| FileSize {
        size: here.get(&path).copied().unwrap_or(0),
        path,
    };
    Lookup::Found(Found {
        files: there.into_iter().map(sized).collect(),
        commit: commit.to_owned(),
        place: place.clone(),
        dir,
    })
}

/// The files that are there, by path, through all links; a link that leads nowhere is not there.
pub fn files_in(dir: &Path) -> BTreeMap<String, u64> {
    let mut files = BTreeMap::new();
    let mut pending = vec![(dir.to_owned(), String::new())];
    while let Some((dir, prefix)) = pending.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = format!("{prefix}{name}");
            if names::file_path(&path).is_err() || unfinished(&name) {
                continue;
            }
            // A linked directory is not followed: Python makes none, and it may lead around in a circle.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push((entry.path(), format!("{path}/")));
            } else if let Ok(metadata) = fs::metadata(entry.path())
                && metadata.is_file()
            {
                files.insert(path, metadata.len());
            }
        }
    }
    files
}

fn unfinished(name: &str) -> bool {
    name.ends_with(layout::INCOMPLETE)
        || name.ends_with(layout::PARTIAL)
        || name.starts_with(layout::TEMPORARY)
}

/// What was wanted of a commit when it was fetched.
pub fn recorded(place: &Place, commit: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(place.record(commit)).ok()?;
    let record: Record = serde_json::from_str(&text).ok()?;
    record
        .wanted
        .iter()
        .all(|path| names::file_path(path).is_ok())
        .then_some(record.wanted)
}

/// What is written down of a fetch.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Record {
    /// The files that were wanted.
    pub wanted: Vec<String>,
}
