//! Locks for file systems without `flock`: a file that its owner keeps changing. Whether the owner lives is judged by a change
//! that is seen over our own clock, never by comparing clocks of two hosts. Apart from `flock`, which needs none of this.
//!
//! A lock that is held alone is the highest of the files `LOCK.lease-N`. Whoever finds it given back or silent makes `N + 1`,
//! which the file system lets only one do; the highest is never removed, so that nobody can make an old number anew. Those who
//! share a lock have a file `LOCK.share-ID` each. Both sides first make their own file and then look for the others', so that
//! two may both step back, but never both go on.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::lock::{Guard, Kind, Tried};

/// A lease is changed so many times within the silence that would make it dead.
const BEATS: u32 = 8;
const FREE: &str = "free";
const HELD: &str = "held";

/// Takes leases and keeps them alive.
#[derive(Debug)]
pub struct Leases {
    silence: Duration,
    heart: Arc<Heart>,
    /// What was last read in the lease of another, and when it was first read.
    seen: Mutex<HashMap<PathBuf, (String, Instant)>>,
}

/// A lease that is held.
#[derive(Debug)]
pub struct Held(Arc<Lease>);

#[derive(Debug)]
struct Lease {
    path: PathBuf,
    file: File,
    owner: String,
    kind: Kind,
    beat: Mutex<u64>,
}

impl Held {
    /// Whether the file still is ours, and none is above it.
    pub fn still_held(&self) -> bool {
        let mine = fs::read_to_string(&self.0.path).is_ok_and(|text| text.contains(&self.0.owner));
        mine && match self.0.kind {
            Kind::Shared => true,
            Kind::Alone => split(&self.0.path).is_some_and(|(lock, number)| {
                highest(&lock).is_ok_and(|highest| highest == Some(number))
            }),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Why errors are passed over: an unreadable lease falls silent, which gives it back as well.
        match self.0.kind {
            Kind::Shared => {
                let _ = fs::remove_file(&self.0.path);
            }
            Kind::Alone => {
                let _ = self.0.write(FREE);
            }
        }
    }
}

impl Lease {
    fn write(&self, state: &str) -> io::Result<()> {
        let mut beat = lock(&self.beat);
        if *beat == u64::MAX {
            return Ok(()); // given back: a beat that comes late must not take it again
        }
        *beat = if state == FREE { u64::MAX } else { *beat + 1 };
        let text = format!("{state} {} {:020}\n", self.owner, *beat);
        self.file.write_all_at(text.as_bytes(), 0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Leases {
    pub fn new(silence: Duration) -> Self {
        Self {
            silence,
            heart: Arc::new(Heart {
                interval: silence / BEATS,
                leases: Mutex::new((false, Vec::new())),
            }),
            seen: Mutex::default(),
        }
    }

    /// Tries once.
    pub fn attempt(&self, lock: &Path, kind: Kind) -> io::Result<Tried> {
        match kind {
            Kind::Shared => self.share(lock),
            Kind::Alone => self.alone(lock),
        }
    }

    fn share(&self, lock: &Path) -> io::Result<Tried> {
        let owner = uuid::Uuid::new_v4().simple().to_string();
        let path = with_ending(lock, &format!(".share-{owner}"));
        let held = self.make(path, owner, Kind::Shared)?;
        let Some(number) = highest(lock)? else {
            return Ok(Tried::Locked(Guard::Lease(held)));
        };
        Ok(match self.judge(&numbered(lock, number))? {
            Life::Ended => Tried::Locked(Guard::Lease(held)),
            Life::Beats => Tried::Taken,
            Life::Silent => Tried::Silent,
        })
    }

    fn alone(&self, lock: &Path) -> io::Result<Tried> {
        let before = highest(lock)?;
        if let Some(number) = before {
            match self.judge(&numbered(lock, number))? {
                Life::Ended => {}
                Life::Beats => return Ok(Tried::Taken),
                Life::Silent => return Ok(Tried::Silent),
            }
        }
        let number = before.unwrap_or(0) + 1;
        let owner = uuid::Uuid::new_v4().simple().to_string();
        let held = match self.make(numbered(lock, number), owner, Kind::Alone) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Tried::Taken),
            made => made?,
        };
        if highest(lock)? != Some(number) {
            let path = held.0.path.clone();
            drop(held);
            remove(&path)?; // an old number made anew: somebody was faster by more than one
            return Ok(Tried::Taken);
        }
        for lower in numbers(lock)?.into_iter().filter(|other| *other < number) {
            remove(&numbered(lock, lower))?;
        }
        for sharer in sharers(lock)? {
            match self.judge(&sharer)? {
                Life::Ended => remove(&sharer)?,
                Life::Beats => return Ok(Tried::Taken),
                Life::Silent => return Ok(Tried::Silent),
            }
        }
        Ok(Tried::Locked(Guard::Lease(held)))
    }

    fn make(&self, path: PathBuf, owner: String, kind: Kind) -> io::Result<Held> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        let lease = Arc::new(Lease {
            path,
            file,
            owner,
            kind,
            beat: Mutex::new(0),
        });
        let held = Held(lease.clone());
        lease.write(HELD)?;
        self.heart.keep(&lease)?;
        Ok(held)
    }

    fn judge(&self, path: &Path) -> io::Result<Life> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Life::Ended),
            Err(error) => return Err(error),
        };
        let mut seen = lock(&self.seen);
        if text.starts_with(FREE) {
            seen.remove(path);
            return Ok(Life::Ended);
        }
        match seen.get(path) {
            Some((before, since)) if *before == text => {
                let dead = since.elapsed() >= self.silence;
                Ok(if dead { Life::Ended } else { Life::Silent })
            }
            Some(_) => {
                seen.insert(path.to_owned(), (text, Instant::now()));
                Ok(Life::Beats)
            }
            None => {
                seen.insert(path.to_owned(), (text, Instant::now()));
                Ok(Life::Silent)
            }
        }
    }
}

enum Life {
    /// Given back, gone, or silent for too long.
    Ended,
    /// Changed since it was last looked at.
    Beats,
    /// Not changed, for now.
    Silent,
}

/// One thread that changes all leases of a cache, as long as there are any.
#[derive(Debug)]
struct Heart {
    interval: Duration,
    /// Whether the thread runs, and what it changes.
    leases: Mutex<(bool, Vec<Weak<Lease>>)>,
}

impl Heart {
    fn keep(self: &Arc<Self>, lease: &Arc<Lease>) -> io::Result<()> {
        let mut leases = lock(&self.leases);
        leases.1.push(Arc::downgrade(lease));
        if !leases.0 {
            let heart = self.clone();
            let thread = std::thread::Builder::new().name("leases".into());
            thread.spawn(move || heart.beat())?;
            leases.0 = true;
        }
        Ok(())
    }

    fn beat(&self) {
        loop {
            std::thread::sleep(self.interval);
            let mut leases = lock(&self.leases);
            leases.1.retain(|lease| match lease.upgrade() {
                Some(lease) => {
                    // Why passed over: the next beat may get through, and whoever relies on the lease asks before it does.
                    let _ = lease.write(HELD);
                    true
                }
                None => false,
            });
            if leases.1.is_empty() {
                leases.0 = false;
                return;
            }
        }
    }
}

fn with_ending(lock: &Path, ending: &str) -> PathBuf {
    let mut name = lock.file_name().unwrap_or_default().to_os_string();
    name.push(ending);
    lock.with_file_name(name)
}

fn numbered(lock: &Path, number: u64) -> PathBuf {
    with_ending(lock, &format!(".lease-{number}"))
}

fn split(lease: &Path) -> Option<(PathBuf, u64)> {
    let (lock, number) = lease.file_name()?.to_str()?.rsplit_once(".lease-")?;
    Some((lease.with_file_name(lock), number.parse().ok()?))
}

fn endings(lock: &Path, mark: &str) -> io::Result<Vec<String>> {
    let name = lock
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut endings = Vec::new();
    for entry in fs::read_dir(lock.parent().unwrap_or(Path::new(".")))? {
        let other = entry?.file_name().to_string_lossy().into_owned();
        let ending = other
            .strip_prefix(&name)
            .and_then(|rest| rest.strip_prefix(mark));
        endings.extend(ending.map(str::to_owned));
    }
    Ok(endings)
}

fn numbers(lock: &Path) -> io::Result<Vec<u64>> {
    let endings = endings(lock, ".lease-")?;
    Ok(endings
        .iter()
        .filter_map(|number| number.parse().ok())
        .collect())
}

fn highest(lock: &Path) -> io::Result<Option<u64>> {
    Ok(numbers(lock)?.into_iter().max())
}

fn sharers(lock: &Path) -> io::Result<Vec<PathBuf>> {
    let owners = endings(lock, ".share-")?;
    Ok(owners
        .iter()
        .map(|owner| with_ending(lock, &format!(".share-{owner}")))
        .collect())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(400);

    fn until_locked(leases: &Leases, path: &Path, kind: Kind) -> (Held, Duration) {
        let begun = Instant::now();
        loop {
            if let Tried::Locked(Guard::Lease(held)) = leases.attempt(path, kind).unwrap() {
                return (held, begun.elapsed());
            }
            assert!(begun.elapsed() < SHORT * 20, "never");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_beating_lease_is_never_taken_and_a_silent_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let mine = Leases::new(SHORT);
        let (held, _) = until_locked(&mine, &path, Kind::Alone);
        let theirs = Leases::new(SHORT);
        let begun = Instant::now();
        while begun.elapsed() < SHORT * 3 {
            assert!(!matches!(
                theirs.attempt(&path, Kind::Alone).unwrap(),
                Tried::Locked(_)
            ));
            std::thread::sleep(Duration::from_millis(20));
        }
        lock(&mine.heart.leases).1.clear(); // the owner's death: the lease stays and beats no more
        let (taken, after) = until_locked(&theirs, &path, Kind::Alone);
        assert!(after >= SHORT / 2, "{after:?}");
        assert!(taken.still_held() && !held.still_held());
    }

    #[test]
    fn a_dead_sharer_is_passed_over_after_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.use");
        let mine = Leases::new(SHORT);
        let (held, _) = until_locked(&mine, &path, Kind::Shared);
        let theirs = Leases::new(SHORT);
        assert!(!matches!(
            theirs.attempt(&path, Kind::Alone).unwrap(),
            Tried::Locked(_)
        ));
        lock(&mine.heart.leases).1.clear();
        let (_, after) = until_locked(&theirs, &path, Kind::Alone);
        assert!(
            after >= SHORT / 2 && held.0.path.exists() == held.still_held(),
            "{after:?}"
        );
    }

    #[test]
    fn only_one_of_many_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let leases = Leases::new(Duration::from_secs(20));
                    let mut times = 0;
                    while times < 20 {
                        if let Tried::Locked(guard) = leases.attempt(&path, Kind::Alone).unwrap() {
                            assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                            std::thread::yield_now();
                            inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            drop(guard);
                            times += 1;
                        }
                        std::thread::yield_now();
                    }
                });
            }
        });
        assert_eq!(numbers(&path).unwrap().len(), 1);
    }
}
