//! A look at a model's files without fetching them: which would be loaded, and pieces of them. In this program, in a directory,
//! in the cache, or at the source, chosen by the rule of [`Store::fetch`] each time.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::choose::{Listed, Rule};
use super::super::remote::{RemoteFile, Source};
use super::super::{Location, Wanted, WeightsError};
use super::runtime::Fetching;
use super::{Ask, Fetched, Store, fetch, read};

/// Folders within folders: a model has one level of them.
const DEEPEST: usize = 4;

/// A model's files, as far as they have to be looked at.
pub struct Peek {
    /// Where they are, for people.
    pub place: String,
    files: Vec<(String, u64)>,
    from: From,
}

enum From {
    /// A directory, which is held as long as this lives where it is the cache's.
    Disk {
        root: PathBuf,
        _held: Option<Box<Fetched>>,
    },
    Remote(Arc<dyn Source>, Vec<RemoteFile>, Fetching),
    #[cfg(feature = "models")]
    Within(super::super::embedded::Files),
}

impl Peek {
    /// Paths and sizes of what would be loaded.
    pub fn files(&self) -> &[(String, u64)] {
        &self.files
    }

    /// Some of a file's bytes.
    ///
    /// # Errors
    /// [`WeightsError`], also for bytes that are not there.
    pub fn read(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>, WeightsError> {
        let unusable = || WeightsError::Unusable {
            model: self.place.clone(),
            reason: format!("{path} has no bytes {} to {}", range.start, range.end),
        };
        match &self.from {
            From::Disk { root, .. } => {
                let path = root.join(path);
                on_disk(&path, &range).map_err(WeightsError::disk(&path))
            }
            From::Remote(source, files, fetching) => {
                let file = files.iter().find(|file| file.path == path);
                let file = file.ok_or_else(unusable)?;
                if range == (0..file.size) {
                    // Why not as a range: so that it is held against its digest.
                    return fetching.wait(read::whole(source.as_ref(), file));
                }
                fetching.wait(read::piece(source.as_ref(), file, range.clone()))
            }
            #[cfg(feature = "models")]
            From::Within(files) => {
                let bytes = files.iter().find(|(name, _)| *name == path);
                let start = usize::try_from(range.start).map_err(|_| unusable())?;
                let end = usize::try_from(range.end).map_err(|_| unusable())?;
                let bytes = bytes.and_then(|(_, bytes)| bytes.get(start..end));
                bytes.map(<[u8]>::to_vec).ok_or_else(unusable)
            }
        }
    }
}

fn on_disk(path: &Path, range: &Range<u64>) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = Vec::new();
    file.take(range.end - range.start).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == range.end - range.start {
        true => Ok(bytes),
        false => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

impl Store {
    /// Looks at what would be loaded. What is in the cache is not asked for anywhere else.
    ///
    /// # Errors
    /// As [`Store::fetch`]; what is gated, private or not there is told apart.
    pub fn peek(&self, wanted: &Wanted, ask: &Ask) -> Result<Peek, WeightsError> {
        match &wanted.location {
            Location::Mock(_) => Err(WeightsError::Unusable {
                model: wanted.location.to_string(),
                reason: "it has no files".to_owned(),
            }),
            #[cfg(feature = "models")]
            Location::Demo(demo) => {
                let files = super::super::embedded::files(*demo)?;
                let sizes = files.iter();
                let sizes = sizes.map(|(name, bytes)| ((*name).to_owned(), bytes.len() as u64));
                Ok(Peek {
                    place: "this program".to_owned(),
                    files: sizes.collect(),
                    from: From::Within(files),
                })
            }
            #[cfg(not(feature = "models"))]
            Location::Demo(demo) => Err(WeightsError::NoPipelines(format!("{demo:?}"))),
            Location::Directory(path) => self.peek_here(wanted, path),
            Location::File(path) => {
                let folder = path
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty());
                self.peek_here(wanted, folder.unwrap_or(Path::new(".")))
            }
            Location::Hub { .. } | Location::S3(_) | Location::Gs(_) => self.peek_away(wanted, ask),
        }
    }

    fn peek_away(&self, wanted: &Wanted, ask: &Ask) -> Result<Peek, WeightsError> {
        let query = self.query(wanted, ask)?;
        if let Some(here) = self.here(&query)? {
            return Ok(Peek {
                place: format!("the cache, {} at commit {}", wanted.location, here.commit),
                files: sizes(&here),
                from: From::Disk {
                    root: here.dir.clone(),
                    _held: Some(Box::new(here)),
                },
            });
        }
        if self.options().offline {
            return Err(self.why_not_here(&query)?);
        }
        let fetching = Fetching::start(ask.stop.clone())?;
        let hinted = |error: WeightsError| error.with_hint(&wanted.hint);
        let (source, listing) = self.listed(&query, &fetching).map_err(hinted)?;
        let chosen = fetch::choose(&source, &listing, &query, &fetching);
        let (_, files) = chosen.map_err(hinted)?;
        Ok(Peek {
            place: format!("{} at commit {}", source.name(), listing.commit),
            files: files
                .iter()
                .map(|file| (file.path.clone(), file.size))
                .collect(),
            from: From::Remote(source, files, fetching),
        })
    }

    fn peek_here(&self, wanted: &Wanted, root: &Path) -> Result<Peek, WeightsError> {
        let mut all = Vec::new();
        walk(root, "", DEEPEST, &mut all).map_err(WeightsError::disk(root))?;
        all.sort();
        let listed = all.iter().map(|(path, size)| Listed { path, size: *size });
        let listed: Vec<Listed<'_>> = listed.collect();
        let trouble = RefCell::new(None);
        let read = |path: &str| {
            let path = root.join(path);
            let bytes = std::fs::read(&path).map_err(WeightsError::disk(&path));
            bytes.map_err(|error| trouble.replace(Some(error))).ok()
        };
        let choice = Rule::new(wanted, self.options()).choose(&listed, &read);
        if let Some(error) = trouble.into_inner() {
            return Err(error);
        }
        let chosen = choice?.files;
        all.retain(|(path, _)| chosen.contains(path));
        Ok(Peek {
            place: wanted.location.to_string(),
            files: all,
            from: From::Disk {
                root: root.to_owned(),
                _held: None,
            },
        })
    }
}

fn sizes(fetched: &Fetched) -> Vec<(String, u64)> {
    let files = fetched.files.iter();
    files.map(|file| (file.path.clone(), file.size)).collect()
}

/// All files under a directory, by their paths in it.
fn walk(
    folder: &Path,
    prefix: &str,
    deep: usize,
    found: &mut Vec<(String, u64)>,
) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        // Follows links: the cache's snapshots are made of them.
        let about = std::fs::metadata(entry.path())?;
        if about.is_file() {
            found.push((name, about.len()));
        } else if about.is_dir() && deep > 0 {
            walk(&entry.path(), &format!("{name}/"), deep - 1, found)?;
        }
    }
    Ok(())
}
