//! Transfers in a process of their own, which is this test binary once more: to be killed, to be given a full disk, to have its
//! memory looked at. What to do comes in one environment variable.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::kill;
use super::server::source;
use super::*;

/// What the child does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Its files may not grow beyond 6 MiB once some bytes have come.
    Full,
    /// Says how much memory it took.
    Memory,
    /// See [`kill`].
    Kill,
}

const VARIABLE: &str = "CHANDLER_TEST_TRANSFER_CHILD";

/// Starts the child; it writes its result to stderr, which is free of the test harness's own words.
pub fn start(mode: Mode, task: Value) -> Child {
    let mut task = task;
    task["mode"] = json!(format!("{mode:?}"));
    // Why a shell: the signal for files that grow too large would kill the process before it could say so.
    Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "weights::transfer::child::child",
            "--ignored",
            "--nocapture",
        ])
        .env(VARIABLE, task.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a child with one file of a bench; gives back what it said.
pub fn run(mode: Mode, bench: &Bench, file: &RemoteFile) -> String {
    let task = json!({
        "address": bench.server.address.to_string(),
        "directory": bench.directory.path(),
        "file": {"path": file.path, "size": file.size, "blob": file.blob},
        "digest": file.digest.is_some(),
        // One after the other, so that the file grows up to where the disk takes no more.
        "connections": if mode == Mode::Full { 1 } else { 32 },
    });
    let done = start(mode, task).wait_with_output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stderr).unwrap()
}

#[test]
#[ignore = "the child of other tests"]
fn child() {
    let Ok(task) = std::env::var(VARIABLE) else {
        return;
    };
    let task: Value = serde_json::from_str(&task).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let said = runtime.block_on(async {
        match task["mode"].as_str().unwrap() {
            "Full" => full(&task).await,
            "Memory" => memory(&task).await,
            _ => kill::child(&task).await,
        }
    });
    std::io::stderr().write_all(said.as_bytes()).unwrap();
}

async fn fetch(task: &Value, beside: impl Fn(u64) + Send + 'static) -> Result<(), WeightsError> {
    let address: SocketAddr = task["address"].as_str().unwrap().parse().unwrap();
    let directory = Path::new(task["directory"].as_str().unwrap());
    let file = &task["file"];
    let blob = file["blob"].as_str().unwrap();
    let size = file["size"].as_u64().unwrap();
    let file = RemoteFile {
        path: file["path"].as_str().unwrap().to_owned(),
        size,
        digest: chandler::weights::remote::Digest::parse(blob).filter(|_| task["digest"] == true),
        blob: blob.to_owned(),
        etag: None,
    };
    let partial = directory.join(format!("{blob}.chandler-partial"));
    let progress = Progress::default().add(&file.path, size);
    let counter = progress.clone();
    std::thread::spawn(move || {
        loop {
            beside(counter.received());
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let jobs = vec![Job {
        file,
        partial,
        progress,
    }];
    let whole = Arc::new(|_: &Job| Ok(()));
    let options = Options {
        connections: task["connections"].as_u64().unwrap() as usize,
        ..options()
    };
    transfer(source(address), jobs, &options, &Stop::new(), whole).await
}

async fn full(task: &Value) -> String {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = Rlimit {
        current: Some(6 << 20),
        maximum: Some(6 << 20),
    };
    let done = fetch(task, move |received| {
        if received > 0 {
            setrlimit(Resource::Fsize, limit).unwrap();
        }
    });
    done.await.unwrap_err().to_string()
}

async fn memory(task: &Value) -> String {
    let before = most_resident();
    fetch(task, |_| {}).await.unwrap();
    (most_resident() - before).to_string()
}

/// The most memory that this process ever had, in KiB.
fn most_resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}
