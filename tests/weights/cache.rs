//! One cache and several processes: this test binary, started again as the other one.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chandler::weights::WeightsError;
use chandler::weights::cache::{
    BlobClaim, Cache, CacheOptions, Candidate, Claim, Folder, Locks, PruneOptions,
};
use chandler::weights::remote::{Digest, Listing, RemoteFile};
use sha2::{Digest as _, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const FILES: usize = 12;
const NOBODY: u32 = 65_534;
/// Short, so that a test need not wait for 20 s.
const SILENCE: Duration = Duration::from_millis(1500);

/// What is in file `n`.
pub fn bytes(n: usize) -> Vec<u8> {
    format!("file {n} ").repeat(2000 + n).into_bytes()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn listing() -> Listing {
    let file = |n: usize| {
        let blob = hex(&Sha256::digest(bytes(n)));
        RemoteFile {
            path: format!("part/{n:02}.safetensors"),
            size: bytes(n).len() as u64,
            digest: Digest::parse(&blob),
            blob,
            etag: None,
        }
    };
    Listing {
        commit: COMMIT.to_owned(),
        files: (0..FILES).map(file).collect(),
    }
}

fn folder() -> Folder {
    Folder::model("org/name").unwrap()
}

fn open(root: &Path, locks: Locks) -> Cache {
    let mut options = CacheOptions::new(root);
    options.locks = locks;
    options.silence = SILENCE;
    Cache::open(options)
}

fn all(candidate: &Candidate<'_>) -> Option<Vec<String>> {
    Some(
        candidate
            .files
            .iter()
            .map(|file| file.path.clone())
            .collect(),
    )
}

/// Fetches what nobody else does, slowly, until all is here; gives how many files it fetched.
fn fill(cache: &Cache) -> usize {
    let listing = listing();
    let filling = cache
        .fill(&folder(), &listing, listing.files.clone())
        .unwrap();
    let mut pending: Vec<usize> = (0..FILES).collect();
    let mut fetched = 0;
    while !pending.is_empty() {
        pending.retain(|n| match filling.claim(&listing.files[*n]).unwrap() {
            Claim::Here => false,
            Claim::Theirs => true,
            Claim::Mine(claim) => {
                std::thread::sleep(Duration::from_millis(20));
                fs::write(claim.partial(), bytes(*n)).unwrap();
                filling.put(claim).unwrap();
                fetched += 1;
                false
            }
        });
        std::thread::sleep(Duration::from_millis(5));
    }
    filling.finish(Some("main")).unwrap();
    fetched
}

fn whole(cache: &Cache) {
    let found = cache.find(&folder(), "main", &all).unwrap().unwrap();
    assert_eq!(found.files.len(), FILES);
    for (n, file) in found.files.iter().enumerate() {
        assert_eq!(fs::read(found.dir.join(&file.path)).unwrap(), bytes(n));
    }
}

/// The other process.
struct Other(Child, BufReader<std::process::ChildStdout>);

impl Other {
    fn start(task: &str, root: &Path, locks: Locks) -> Self {
        Self::run(
            Command::new(std::env::current_exe().unwrap()),
            task,
            root,
            locks,
        )
    }

    fn run(mut command: Command, task: &str, root: &Path, locks: Locks) -> Self {
        let mut child = command
            .args([
                "weights::cache::the_other_process",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env("CHANDLER_TEST_TASK", task)
            .env("CHANDLER_TEST_ROOT", root)
            .env(
                "CHANDLER_TEST_LOCKS",
                if locks == Locks::Auto {
                    "auto"
                } else {
                    "leases"
                },
            )
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self(child, out)
    }

    /// Waits for a word of the other process, and gives what follows on its line.
    fn says(&mut self, word: &str) -> String {
        let mut line = String::new();
        while self.1.read_line(&mut line).unwrap() > 0 {
            if let Some((_, rest)) = line.split_once(&format!("{word}:")) {
                return rest.trim().to_owned();
            }
            line.clear();
        }
        panic!("it ended without saying {word}");
    }

    fn kill(&mut self) {
        self.0.kill().unwrap(); // SIGKILL
        self.0.wait().unwrap();
    }

    fn ends_well(mut self) {
        let mut rest = String::new();
        self.1.read_to_string(&mut rest).unwrap();
        assert!(self.0.wait().unwrap().success(), "{rest}");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "is what the other tests start"]
fn the_other_process() {
    let Ok(task) = std::env::var("CHANDLER_TEST_TASK") else {
        return;
    };
    let root = PathBuf::from(std::env::var_os("CHANDLER_TEST_ROOT").unwrap());
    let leases = std::env::var("CHANDLER_TEST_LOCKS").unwrap() == "leases";
    let cache = open(&root, if leases { Locks::Leases } else { Locks::Auto });
    match task.as_str() {
        "fill" => println!("fetched:{}", fill(&cache)),
        "die" => {
            let listing = listing();
            let filling = cache
                .fill(&folder(), &listing, listing.files.clone())
                .unwrap();
            let Claim::Mine(claim) = filling.claim(&listing.files[0]).unwrap() else {
                panic!("it is mine");
            };
            fs::write(claim.partial(), &bytes(0)[..100]).unwrap();
            println!("claimed:");
            std::thread::sleep(Duration::from_secs(120));
        }
        "hold" => {
            let found = cache.find(&folder(), "main", &all).unwrap().unwrap();
            let _in_use = cache.hold(&found).unwrap();
            println!("holding:");
            std::thread::sleep(Duration::from_secs(120));
        }
        "read" => read_only(&cache),
        other => panic!("no task {other}"),
    }
}

#[test]
fn two_processes_fetch_every_file_once() {
    for locks in [Locks::Auto, Locks::Leases] {
        let root = tempfile::tempdir().unwrap();
        let mut other = Other::start("fill", root.path(), locks);
        let cache = open(root.path(), locks);
        let ours = fill(&cache);
        let theirs: usize = other.says("fetched").parse().unwrap();
        other.ends_well();
        assert_eq!(ours + theirs, FILES, "{ours} and {theirs} with {locks:?}");
        whole(&cache);
    }
}

fn wait_for(claim: &dyn Fn() -> Claim) -> (BlobClaim, Duration) {
    let begun = Instant::now();
    loop {
        match claim() {
            Claim::Mine(claim) => return (claim, begun.elapsed()),
            Claim::Here => panic!("nobody has put it"),
            Claim::Theirs => assert!(begun.elapsed() < SILENCE * 10, "never taken over"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_killed_process_leaves_its_bytes_to_the_next() {
    for locks in [Locks::Auto, Locks::Leases] {
        let root = tempfile::tempdir().unwrap();
        let mut other = Other::start("die", root.path(), locks);
        other.says("claimed");
        let cache = open(root.path(), locks);
        let listing = listing();
        let filling = cache
            .fill(&folder(), &listing, listing.files.clone())
            .unwrap();
        let claim = || filling.claim(&listing.files[0]).unwrap();
        let watched = Instant::now();
        while watched.elapsed() < SILENCE * 2 {
            assert!(matches!(claim(), Claim::Theirs), "it lives ({locks:?})");
            std::thread::sleep(Duration::from_millis(50));
        }
        other.kill();
        let (claim, after) = wait_for(&claim);
        let most = if locks == Locks::Auto {
            Duration::from_millis(500)
        } else {
            SILENCE * 5
        };
        assert!(after < most, "{after:?} with {locks:?}");
        assert_eq!(fs::read(claim.partial()).unwrap(), bytes(0)[..100]);
        drop((claim, filling));
        assert_eq!(fill(&cache), FILES);
        whole(&cache);
    }
}

#[test]
fn what_another_process_uses_is_not_removed_until_it_ends() {
    for locks in [Locks::Auto, Locks::Leases] {
        let root = tempfile::tempdir().unwrap();
        let cache = open(root.path(), locks);
        fill(&cache);
        let mut other = Other::start("hold", root.path(), locks);
        other.says("holding");
        let budget = PruneOptions {
            budget: Some(0),
            ..PruneOptions::default()
        };
        let pruned = cache.prune(&budget).unwrap();
        assert!(
            pruned.removed.is_empty() && pruned.in_use.len() == 1,
            "{pruned:?}"
        );
        assert!(cache.list()[0].revisions[0].in_use);
        let error = cache.remove(&folder(), Some("main"), false).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        whole(&cache);
        other.kill();
        assert_eq!(cache.prune(&budget).unwrap().removed.len(), 1, "{locks:?}");
        assert!(cache.find(&folder(), "main", &all).unwrap().is_none());
    }
}

/// What works without writing, and what says that it does not.
fn read_only(cache: &Cache) {
    whole(cache);
    let found = cache.find(&folder(), "main", &all).unwrap().unwrap();
    drop(cache.hold(&found).unwrap());
    cache.point(&folder(), "v2", COMMIT).unwrap();
    assert_eq!(cache.list()[0].revisions.len(), 1);
    let mut listing = listing();
    listing.commit = "f".repeat(40);
    let failed = [
        cache.writable().unwrap_err(),
        cache
            .fill(&folder(), &listing, listing.files.clone())
            .unwrap_err(),
        cache.remove(&folder(), None, false).unwrap_err(),
        cache.prune(&PruneOptions::default()).unwrap_err(),
    ];
    for error in failed {
        assert!(matches!(error, WeightsError::Disk { .. }), "{error}");
        assert!(error.to_string().contains("--hub-cache"), "{error}");
    }
    println!("read:");
}

/// Everything below, with its kind and size.
fn contents(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        found.push((
            entry.path(),
            if metadata.is_dir() { 0 } else { metadata.len() },
        ));
        if metadata.is_dir() {
            found.extend(contents(&entry.path()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_cache_that_cannot_be_written_is_read() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("hub");
    fill(&open(&root, Locks::Auto));
    // Root may write everywhere: then nobody reads, from a place that nobody may enter.
    let binary = outer.path().join("tests");
    let own = std::env::current_exe().unwrap();
    fs::hard_link(&own, &binary)
        .or_else(|_| fs::copy(&own, &binary).map(drop))
        .unwrap();
    let before = contents(&root);
    let dirs = before
        .iter()
        .map(|(path, _)| path.as_path())
        .filter(|path| path.is_dir() && !path.is_symlink());
    for dir in dirs.chain([root.as_path()]) {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o555)).unwrap();
    }
    fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&binary);
    command.current_dir(outer.path());
    if fs::metadata(&root).is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
    {
        command.uid(NOBODY);
    }
    let mut other = Other::run(command, "read", &root, Locks::Auto);
    other.says("read");
    other.ends_well();
    assert_eq!(contents(&root), before);
    for (path, _) in before
        .iter()
        .filter(|(path, _)| path.is_dir() && !path.is_symlink())
    {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
}
