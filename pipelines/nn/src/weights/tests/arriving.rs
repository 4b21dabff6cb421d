//! Shards that come one after another: what is there loads, what is not is waited for, and what never comes is an error.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::*;

const SHARDS: [&str; 2] = [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
];
const INDEX: &str = r#"{"weight_map":{"a":"model-00001-of-00002.safetensors",
    "b":"model-00002-of-00002.safetensors"}}"#;

/// A download that the test is.
#[derive(Default)]
struct Download {
    here: Mutex<BTreeMap<String, Result<(), String>>>,
    news: Condvar,
    sizes: BTreeMap<String, u64>,
}

impl Download {
    fn arrive(&self, file: &str) {
        self.end(file, Ok(()));
    }

    fn end(&self, file: &str, how: Result<(), String>) {
        self.here.lock().unwrap().insert(file.to_owned(), how);
        self.news.notify_all();
    }
}

impl Arrivals for Download {
    fn size(&self, file: &str) -> Option<u64> {
        self.sizes.get(file).copied()
    }

    fn wait(&self, file: &str) -> Result<(), String> {
        let mut here = self.here.lock().unwrap();
        loop {
            if let Some(how) = here.get(file) {
                return how.clone();
            }
            here = self.news.wait(here).unwrap();
        }
    }
}

fn shard(name: &str, number: f32) -> Vec<u8> {
    written(&[(name, tensor(&[number], &[1]))])
}

/// An empty directory, and a download of these files into it.
fn download(files: &[&str]) -> (tempfile::TempDir, Arc<Download>) {
    let sizes = files.iter().map(|file| ((*file).to_owned(), 100));
    let download = Download {
        sizes: sizes.collect(),
        ..Download::default()
    };
    (tempfile::tempdir().unwrap(), Arc::new(download))
}

fn put(dir: &tempfile::TempDir, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(dir.path().join(name), bytes).unwrap();
}

#[test]
fn a_shard_that_is_there_loads_while_the_next_one_comes() {
    let (dir, coming) = download(&["model.safetensors.index.json", SHARDS[0], SHARDS[1]]);
    let snapshot = Snapshot::arriving(dir.path(), coming.clone());
    put(&dir, "model.safetensors.index.json", INDEX);
    coming.arrive("model.safetensors.index.json");
    let weights = snapshot.weights().unwrap();
    assert_eq!(weights.names(), ["a", "b"]);
    assert_eq!(weights.total_bytes(), 200);
    weights
        .prefetch(&|done, total| assert_eq!((done, total), (0, 200)))
        .unwrap();
    put(&dir, SHARDS[0], shard("a", 1.));
    coming.arrive(SHARDS[0]);
    assert_eq!(weights.tensor("a").unwrap().to_f32().unwrap(), [1.]);
    assert!(weights.contains("b"), "asked without waiting");

    let later = std::thread::spawn({
        let weights = weights.clone();
        move || weights.tensor("b").unwrap().to_f32().unwrap()
    });
    std::thread::sleep(Duration::from_millis(30));
    assert!(!later.is_finished(), "there is nothing to load yet");
    put(&dir, SHARDS[1], shard("b", 2.));
    coming.arrive(SHARDS[1]);
    assert_eq!(later.join().unwrap(), [2.]);
    assert!(weights.stamp().contains(SHARDS[1]));
    assert!(weights.tensor("c").unwrap_err().to_string().contains('c'));
}

#[test]
fn a_single_file_is_waited_for_whole() {
    let (dir, coming) = download(&["model.safetensors"]);
    let snapshot = Snapshot::arriving(dir.path(), coming.clone());
    let later = std::thread::spawn(move || snapshot.weights().unwrap().names());
    std::thread::sleep(Duration::from_millis(30));
    assert!(!later.is_finished());
    put(&dir, "model.safetensors", shard("a", 1.));
    coming.arrive("model.safetensors");
    assert_eq!(later.join().unwrap(), ["a"]);
}

#[test]
fn what_does_not_come_is_an_error_that_says_why() {
    let (dir, coming) = download(&["model.safetensors.index.json", SHARDS[0], SHARDS[1]]);
    let snapshot = Snapshot::arriving(dir.path(), coming.clone());
    put(&dir, "model.safetensors.index.json", INDEX);
    coming.arrive("model.safetensors.index.json");
    let weights = snapshot.weights().unwrap();
    coming.end(SHARDS[0], Err("the hub cannot be reached".to_owned()));
    let error = weights.tensor("a").unwrap_err().to_string();
    assert!(
        error.contains(SHARDS[0]) && error.contains("cannot be reached"),
        "{error}"
    );
    // Another revision's shard under the same name.
    put(&dir, SHARDS[1], shard("z", 2.));
    coming.arrive(SHARDS[1]);
    let error = weights.tensor("b").unwrap_err().to_string();
    assert!(error.contains("different revisions"), "{error}");

    let (dir, coming) = download(&["model.safetensors.index.json", SHARDS[0]]);
    put(&dir, "model.safetensors.index.json", INDEX);
    coming.arrive("model.safetensors.index.json");
    let path: PathBuf = dir.path().into();
    let error = Snapshot::arriving(path, coming)
        .weights()
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains(SHARDS[1]), "{error}");
}

#[test]
fn an_adapter_that_was_there_before_is_not_waited_for() {
    let (dir, coming) = download(&["model.safetensors", "adapter.new.safetensors"]);
    let snapshot = Snapshot::arriving(dir.path(), coming.clone());
    put(&dir, "adapter.old.safetensors", shard("a", 1.0));
    let holds = |name: &str| snapshot.holds(&format!("adapter.{name}.safetensors"));
    assert_eq!(
        (holds("old"), holds("new"), holds("other")),
        (true, true, false)
    );
    let old = snapshot.weights_named("adapter.old.safetensors").unwrap();
    assert_eq!(old.names(), ["a"]);
    assert!(snapshot.weights_named("adapter.other.safetensors").is_err());
    put(&dir, "adapter.new.safetensors", shard("b", 2.0));
    coming.arrive("adapter.new.safetensors");
    let new = snapshot.weights_named("adapter.new.safetensors").unwrap();
    assert_eq!(new.names(), ["b"]);
}
