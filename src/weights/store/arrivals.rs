//! What of a snapshot is there already while the rest still comes, for whoever can begin with a part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::super::remote::RemoteFile;

/// Files that are there and files that are awaited. Told by the fetch, asked by a loader on another thread.
#[derive(Debug, Default)]
pub struct Arrivals {
    state: Mutex<State>,
    news: Condvar,
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    dir: PathBuf,
    /// Every file that is wanted, and its bytes; empty before the choice is made.
    wanted: BTreeMap<String, u64>,
    here: BTreeSet<String>,
    /// How the fetch ended: everything is there, or why not.
    end: Option<Result<(), String>>,
    /// Whether somebody has begun with the directory.
    begun: bool,
}

/// Counts one who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Arrivals {
    /// These files will be in the directory.
    pub(super) fn expect(&self, dir: &Path, files: &[RemoteFile]) {
        let mut state = self.state();
        if state.begun && state.dir != dir {
            // Another source has another revision: what was begun cannot be finished.
            state.end = Some(Err(
                "the sources have different revisions of it: start again".to_owned(),
            ));
            self.news.notify_all();
            return;
        }
        state.dir = dir.to_owned();
        state.here.clear();
        state.wanted = files
            .iter()
            .map(|file| (file.path.clone(), file.size))
            .collect();
    }

    /// A file is there, whole and checked.
    pub(super) fn arrive(&self, path: &str) {
        self.state().here.insert(path.to_owned());
        self.news.notify_all();
    }

    /// The fetch has ended, and with it all waiting.
    pub(super) fn end(&self, how: Result<(), String>) {
        self.state().end.get_or_insert(how);
        self.news.notify_all();
    }

    /// Bytes of a file that is there or will be.
    pub fn size(&self, path: &str) -> Option<u64> {
        self.state().wanted.get(path).copied()
    }

    /// Blocks until the file is there.
    ///
    /// # Errors
    /// Why it will not come.
    pub fn wait(&self, path: &str) -> Result<(), String> {
        self.until(|state| state.here.contains(path)).map(drop)
    }

    /// Whether somebody waits for a file just now.
    pub fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// The directory, as soon as all files but the weights are there; `None` where a part is of no use, or everything is there
    /// already. Never blocks.
    pub fn begun(&self) -> Option<PathBuf> {
        let mut state = self.state();
        let sharded = state.wanted.keys().any(|path| path.ends_with(INDEX));
        let small = |path: &&String| !path.ends_with(".safetensors");
        let ready = state
            .wanted
            .keys()
            .filter(small)
            .all(|path| state.here.contains(path));
        if state.end.is_some() || !sharded || !ready {
            return None;
        }
        state.begun = true;
        Some(state.dir.clone())
    }

    fn until(&self, there: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>, String> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let mut state = self.state();
        loop {
            if there(&state) {
                return Ok(state);
            }
            match &state.end {
                Some(Ok(())) => return Ok(state),
                Some(Err(reason)) => return Err(reason.clone()),
                None => {}
            }
            state = self
                .news
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Only a model in shards gains by beginning early.
const INDEX: &str = "model.safetensors.index.json";

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn file(path: &str) -> RemoteFile {
        RemoteFile {
            path: path.to_owned(),
            size: 7,
            digest: None,
            blob: "b".to_owned(),
            etag: None,
        }
    }

    #[test]
    fn loading_may_begin_when_all_but_the_weights_are_there() {
        let arrivals = Arc::new(Arrivals::default());
        assert_eq!(arrivals.begun(), None);
        let files = [
            "config.json",
            INDEX,
            "model-1.safetensors",
            "model-2.safetensors",
        ]
        .map(file);
        arrivals.expect(Path::new("/snapshot"), &files);
        arrivals.arrive("config.json");
        assert_eq!(arrivals.begun(), None);
        arrivals.arrive(INDEX);
        assert_eq!(arrivals.begun(), Some("/snapshot".into()));
        assert_eq!(arrivals.size("model-1.safetensors"), Some(7));
        assert_eq!(arrivals.size("model-3.safetensors"), None);
        arrivals.arrive("model-1.safetensors");
        arrivals.expect(Path::new("/snapshot"), &files);
        arrivals.arrive("model-1.safetensors");
        assert_eq!(arrivals.wait("model-1.safetensors"), Ok(()));
        let later = std::thread::spawn({
            let arrivals = arrivals.clone();
            move || arrivals.wait("model-2.safetensors")
        });
        while !arrivals.is_awaited() {
            std::thread::sleep(Duration::from_millis(1));
        }
        arrivals.end(Err("stopped".to_owned()));
        assert_eq!(later.join().unwrap(), Err("stopped".to_owned()));
        assert!(!arrivals.is_awaited());
        assert_eq!(
            arrivals.wait("model-1.safetensors"),
            Ok(()),
            "what is there stays there"
        );
        // One file: there is nothing to begin with.
        let single = Arrivals::default();
        single.expect(
            Path::new("/s"),
            &["config.json", "model.safetensors"].map(file),
        );
        single.arrive("config.json");
        assert_eq!(single.begun(), None);
    }
}
