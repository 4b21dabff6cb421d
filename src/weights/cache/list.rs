//! What the cache has, for people and programs: models, their revisions, sizes, last use, and whether they are whole.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serializer;

use super::scan::{self, Inode, Scan, Snapshot};
use super::{Cache, find, in_use, prune, tree};

/// A model in the cache.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Model {
    /// Its name on the hub, or that of its folder.
    pub model: String,
    /// The root that it is in.
    pub root: PathBuf,
    /// Whether something may be removed there.
    pub writable: bool,
    /// Bytes of all revisions, with what is unfinished; what several need counts once.
    pub bytes: u64,
    /// Its revisions.
    pub revisions: Vec<Revision>,
    /// Unfinished files.
    pub partials: usize,
    /// Blobs that no revision needs.
    pub orphans: usize,
}

/// A revision in the cache.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Revision {
    /// The commit.
    pub commit: String,
    /// Branches and tags that mean it here.
    pub refs: Vec<String>,
    /// Its directory.
    pub path: PathBuf,
    /// Files that are there.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// When it was last used, as far as is known.
    #[serde(serialize_with = "seconds")]
    pub last_used: SystemTime,
    /// Whether a process uses it.
    pub in_use: bool,
    /// Whether it is whole.
    #[serde(flatten)]
    pub state: State,
}

/// Whether a revision is whole.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// All that was wanted of it is there.
    Complete,
    /// Something that was wanted is not there yet.
    Partial {
        /// Which files.
        missing: Vec<String>,
    },
    /// Something that was there is not any more, or has another size.
    Broken {
        /// Which files.
        broken: Vec<String>,
    },
    /// What is there is sound, and nothing says what else there should be: an older Python fetched it.
    Unlisted,
}

/// Whole seconds since 1970.
pub(super) fn seconds<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    serializer.serialize_u64(since.as_secs())
}

impl Cache {
    /// Everything that is in the roots.
    pub fn list(&self) -> Vec<Model> {
        scan::everything(self)
            .iter()
            .map(|scan| self.model(scan))
            .collect()
    }

    fn model(&self, scan: &Scan) -> Model {
        Model {
            model: scan.folder.title(),
            root: scan.place.root.clone(),
            writable: scan.place.writable,
            bytes: prune::total(std::slice::from_ref(scan)),
            revisions: scan
                .snapshots
                .iter()
                .map(|snapshot| self.revision(scan, snapshot))
                .collect(),
            partials: scan.leftovers.len(),
            orphans: scan.orphans().count(),
        }
    }

    fn revision(&self, scan: &Scan, snapshot: &Snapshot) -> Revision {
        let payloads = snapshot
            .files
            .values()
            .filter_map(|file| file.payload.as_ref());
        let sizes: BTreeMap<Inode, u64> = payloads
            .map(|payload| (payload.inode, payload.size))
            .collect();
        Revision {
            refs: snapshot.refs.clone(),
            path: scan.place.snapshot(&snapshot.commit),
            files: snapshot.files.len(),
            bytes: sizes.values().sum(),
            last_used: snapshot.last_used,
            in_use: in_use::used(self, &scan.place, &snapshot.commit),
            state: state(scan, snapshot),
            commit: snapshot.commit.clone(),
        }
    }
}

fn state(scan: &Scan, snapshot: &Snapshot) -> State {
    let tree = tree::read(&scan.place, &snapshot.commit);
    let right = |path: &String, size: u64| match &tree {
        Some(tree) => tree.get(path).is_none_or(|entry| entry.size == size),
        None => true,
    };
    let sound = |path: &String| {
        let payload = snapshot
            .files
            .get(path)
            .and_then(|file| file.payload.as_ref());
        payload.is_some_and(|payload| right(path, payload.size))
    };
    let broken: Vec<String> = snapshot
        .files
        .keys()
        .filter(|path| !sound(path))
        .cloned()
        .collect();
    if !broken.is_empty() {
        return State::Broken { broken };
    }
    let all = || Some(tree.as_ref()?.keys().cloned().collect::<Vec<_>>());
    let Some(wanted) = find::recorded(&scan.place, &snapshot.commit).or_else(all) else {
        return State::Unlisted;
    };
    let missing: Vec<String> = wanted.into_iter().filter(|path| !sound(path)).collect();
    match missing.is_empty() {
        true => State::Complete,
        false => State::Partial { missing },
    }
}
