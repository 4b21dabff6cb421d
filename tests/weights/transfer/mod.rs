//! The transfer, against a server that does everything wrong, on a real disk, killed and stopped.

mod child;
mod faults;
mod interrupted;
mod kill;
mod server;
mod shapes;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chandler::weights::WeightsError;
use chandler::weights::progress::{Progress, Totals};
use chandler::weights::remote::RemoteFile;
use chandler::weights::transfer::{Job, Options, Stop, transfer};

use server::{Server, bytes};

const MIB: usize = 1 << 20;

/// Options with which tests are not slow.
fn options() -> Options {
    Options {
        range_bytes: 1 << 20,
        tries: 5,
        read_timeout: Duration::from_millis(400),
        backoff: Duration::from_millis(5),
        longest_backoff: Duration::from_millis(40),
        ..Options::default()
    }
}

/// A directory, a server, and what was handed over.
struct Bench {
    server: Server,
    directory: tempfile::TempDir,
    options: Options,
    stop: Stop,
    progress: Progress,
    whole: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new() -> Self {
        Self {
            server: Server::start(),
            directory: tempfile::tempdir().unwrap(),
            options: options(),
            stop: Stop::new(),
            progress: Progress::default(),
            whole: Arc::default(),
        }
    }

    fn partial(&self, file: &RemoteFile) -> PathBuf {
        let name = format!("{}.chandler-partial", file.blob);
        self.directory.path().join(name)
    }

    fn jobs(&mut self, files: &[RemoteFile]) -> Vec<Job> {
        self.progress = Progress::default();
        let job = |file: &RemoteFile| Job {
            file: file.clone(),
            partial: self.partial(file),
            progress: self.progress.add(&file.path, file.size),
        };
        files.iter().map(job).collect()
    }

    /// Fetches the files; what is handed over has to be right, and is moved to where the cache would have it.
    async fn fetch(&mut self, files: &[RemoteFile]) -> Result<(), WeightsError> {
        let jobs = self.jobs(files);
        let whole = self.whole.clone();
        let done = move |job: &Job| {
            let content = std::fs::read(&job.partial).unwrap();
            assert_eq!(content.len() as u64, job.file.size);
            std::fs::rename(&job.partial, job.partial.with_extension("")).unwrap();
            whole.lock().unwrap().push(job.file.path.clone());
            Ok(())
        };
        let source = self.server.source();
        transfer(source, jobs, &self.options, &self.stop, Arc::new(done)).await
    }

    /// Whether a file is where the cache would have it, with these bytes, and nothing else is left of it.
    fn assert_here(&self, file: &RemoteFile, expected: &[u8]) {
        let path = self.directory.path().join(&file.blob);
        // Why not assert_eq: nobody reads megabytes.
        assert!(
            std::fs::read(&path).unwrap() == expected,
            "{} differs",
            file.path
        );
    }

    fn assert_no_leftovers(&self) {
        for entry in std::fs::read_dir(self.directory.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.contains("chandler-"), "{name} is left");
        }
    }

    fn totals(&self) -> Totals {
        self.progress.totals()
    }
}

/// One file of this length, and its bytes.
fn one(bench: &Bench, length: usize) -> (RemoteFile, Vec<u8>) {
    let content = bytes(length as u64, length);
    (
        bench.server.add("model.safetensors", content.clone()),
        content,
    )
}
