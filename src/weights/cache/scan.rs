//! What is in a folder: snapshots, what their files lead to, blobs and leftovers. Looks only; listing, verifying and removing
//! decide what to make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::super::names;
use super::find;
use super::layout::{self, Place};
use super::{Cache, Folder, in_use};

/// A file on the disk, whatever names it has.
pub type Inode = (u64, u64);

/// Bytes on the disk.
#[derive(Debug, Clone)]
pub struct Payload {
    pub inode: Inode,
    pub size: u64,
    pub used: SystemTime,
}

impl Payload {
    fn of(metadata: &Metadata) -> Self {
        let accessed = metadata.accessed().unwrap_or(SystemTime::UNIX_EPOCH);
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.len(),
            used: accessed.max(modified),
        }
    }
}

/// A file of a snapshot.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The blob that it links to; `None` where it is a file of its own.
    pub blob: Option<String>,
    /// Its bytes; `None` where the link leads nowhere.
    pub payload: Option<Payload>,
}

/// A snapshot.
#[derive(Debug)]
pub struct Snapshot {
    pub commit: String,
    pub refs: Vec<String>,
    pub files: BTreeMap<String, Entry>,
    pub last_used: SystemTime,
}

/// A blob.
#[derive(Debug, Clone)]
pub struct Blob {
    /// `None` where it is a link that leads nowhere.
    pub payload: Option<Payload>,
}

/// A file that is not finished, and that nobody may be finishing any more.
#[derive(Debug, Clone)]
pub struct Leftover {
    pub path: PathBuf,
    /// The blob that it was to become; `None` for a file of our own.
    pub blob: Option<String>,
    pub size: u64,
    pub modified: SystemTime,
}

/// A folder.
#[derive(Debug)]
pub struct Scan {
    pub folder: Folder,
    pub place: Place,
    pub snapshots: Vec<Snapshot>,
    pub blobs: BTreeMap<String, Blob>,
    pub leftovers: Vec<Leftover>,
}

impl Scan {
    /// Blobs that no snapshot leads to.
    pub fn orphans(&self) -> impl Iterator<Item = (&String, &Blob)> {
        let mut names = BTreeSet::new();
        let mut inodes = BTreeSet::new();
        for file in self
            .snapshots
            .iter()
            .flat_map(|snapshot| snapshot.files.values())
        {
            names.extend(file.blob.as_deref());
            inodes.extend(file.payload.as_ref().map(|payload| payload.inode));
        }
        self.blobs.iter().filter(move |(name, blob)| {
            let linked = blob
                .payload
                .as_ref()
                .is_some_and(|payload| inodes.contains(&payload.inode));
            !linked && !names.contains(name.as_str())
        })
    }
}

/// All folders of a root, in the order of their names.
pub fn folders(root: &Path, writable: bool) -> Vec<(Folder, Place)> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| Folder::on_disk(entry.file_name().to_str()?));
    let mut folders: Vec<_> = named
        .map(|folder| (Place::new(root, folder.name(), writable), folder))
        .filter(|(place, _)| place.dir.is_dir())
        .map(|(place, folder)| (folder, place))
        .collect();
    folders.sort_by(|one, other| one.0.cmp(&other.0));
    folders
}

/// All folders of all roots.
pub fn everything(cache: &Cache) -> Vec<Scan> {
    let places = cache
        .roots()
        .flat_map(|(root, writable)| folders(root, writable));
    places.map(|(folder, place)| scan(folder, place)).collect()
}

/// One folder.
pub fn scan(folder: Folder, place: Place) -> Scan {
    let refs = refs(&place);
    let mut snapshots = Vec::new();
    for entry in fs::read_dir(place.snapshots())
        .into_iter()
        .flatten()
        .flatten()
    {
        let Ok(commit) = entry.file_name().into_string() else {
            continue;
        };
        if layout::is_commit(&commit) && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let named = refs
                .iter()
                .filter(|(_, of)| **of == commit)
                .map(|(name, _)| name.clone());
            let named = named.collect();
            snapshots.push(snapshot(&place, commit, named));
        }
    }
    snapshots.sort_by(|one, other| one.commit.cmp(&other.commit));
    date(&place, &mut snapshots);
    let (blobs, mut leftovers) = blobs(&place);
    leftovers.extend(temporaries(&place));
    Scan {
        folder,
        place,
        snapshots,
        blobs,
        leftovers,
    }
}

/// The commits that branches and tags mean.
pub fn refs(place: &Place) -> BTreeMap<String, String> {
    let names = find::files_in(&place.refs()).into_keys();
    let good = names.filter(|name| names::revision(name).is_ok() && !layout::is_commit(name));
    good.filter_map(|name| {
        let commit = find::commit_of(place, &name)?;
        Some((name, commit))
    })
    .collect()
}

fn snapshot(place: &Place, commit: String, refs: Vec<String>) -> Snapshot {
    let mut files = BTreeMap::new();
    walk(&place.snapshot(&commit), "", &mut files);
    Snapshot {
        last_used: SystemTime::UNIX_EPOCH,
        commit,
        refs,
        files,
    }
}

/// When each was last used: by its mark, and by the file system's word on what only it has. What it shares with others tells
/// nothing of which of them was used.
fn date(place: &Place, snapshots: &mut [Snapshot]) {
    let mut users: BTreeMap<Inode, usize> = BTreeMap::new();
    for snapshot in snapshots.iter() {
        let payloads = snapshot
            .files
            .values()
            .filter_map(|file| file.payload.as_ref());
        let inodes: BTreeSet<Inode> = payloads.map(|payload| payload.inode).collect();
        inodes
            .into_iter()
            .for_each(|inode| *users.entry(inode).or_default() += 1);
    }
    for snapshot in snapshots {
        let payloads = snapshot
            .files
            .values()
            .filter_map(|file| file.payload.as_ref());
        let own = payloads.filter(|payload| users.get(&payload.inode) == Some(&1));
        let read = own.map(|payload| payload.used).max();
        let dir = place.snapshot(&snapshot.commit);
        let made = || {
            fs::metadata(dir)
                .and_then(|metadata| metadata.modified())
                .ok()
        };
        let known = in_use::marked(place, &snapshot.commit)
            .max(read)
            .or_else(made);
        snapshot.last_used = known.unwrap_or(SystemTime::UNIX_EPOCH);
    }
}

fn walk(dir: &Path, prefix: &str, files: &mut BTreeMap<String, Entry>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = format!("{prefix}{name}");
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), &format!("{path}/"), files);
            continue;
        }
        let metadata = fs::metadata(entry.path()).ok().filter(Metadata::is_file);
        let file = Entry {
            blob: linked_blob(&entry.path()),
            payload: metadata.as_ref().map(Payload::of),
        };
        files.insert(path, file);
    }
}

/// The blob of the folder that a link leads to, by the link's own words.
fn linked_blob(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    let name = target.file_name()?.to_str()?;
    let inside = target.parent()?.file_name()? == "blobs";
    (inside && layout::blob_name(name).is_ok()).then(|| name.to_owned())
}

fn blobs(place: &Place) -> (BTreeMap<String, Blob>, Vec<Leftover>) {
    let mut blobs = BTreeMap::new();
    let mut leftovers = Vec::new();
    for entry in fs::read_dir(place.blobs()).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if let Some(blob) = unfinished(&name) {
            leftovers.extend(leftover(&entry.path(), Some(blob)));
        } else if layout::blob_name(&name).is_ok() {
            let metadata = fs::metadata(entry.path()).ok().filter(Metadata::is_file);
            let payload = metadata.as_ref().map(Payload::of);
            blobs.insert(name, Blob { payload });
        }
    }
    (blobs, leftovers)
}

/// The blob that an unfinished file was to become: ours, Python 1.x's (`BLOB.incomplete`) or 2.x's (`BLOB.1234abcd.incomplete`).
fn unfinished(name: &str) -> Option<String> {
    let ours = [layout::PARTIAL, layout::JOURNAL, layout::NEW_JOURNAL];
    if let Some(blob) = ours.iter().find_map(|ending| name.strip_suffix(ending)) {
        return Some(blob.to_owned());
    }
    let blob = name.strip_suffix(layout::INCOMPLETE)?;
    Some(match blob.rsplit_once('.') {
        Some((blob, tag)) if tag.len() == 8 && tag.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            blob.to_owned()
        }
        _ => blob.to_owned(),
    })
}

/// The blobs that somebody fetches, or did not fetch to the end.
pub fn unfinished_blobs(place: &Place) -> BTreeSet<String> {
    let (_, leftovers) = blobs(place);
    leftovers
        .into_iter()
        .filter_map(|leftover| leftover.blob)
        .collect()
}

/// Files of our own that a killed process did not give their place, and snapshots that it did not finish removing.
fn temporaries(place: &Place) -> Vec<Leftover> {
    let entries = fs::read_dir(place.own()).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with(layout::TEMPORARY)
    });
    ours.filter_map(|entry| leftover(&entry.path(), None))
        .collect()
}

fn leftover(path: &Path, blob: Option<String>) -> Option<Leftover> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some(Leftover {
        path: path.to_owned(),
        blob,
        size: if metadata.is_file() {
            metadata.len()
        } else {
            0
        },
        modified: metadata.modified().ok()?,
    })
}

/// How long ago something was; nothing for what lies in the future.
pub fn age(time: SystemTime) -> Duration {
    SystemTime::now().duration_since(time).unwrap_or_default()
}
