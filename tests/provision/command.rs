//! The program as a person runs it, with records, state and environment of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use cloud_doubles::{Fault, Server, When};
use tempfile::TempDir;

/// A person's machine: a folder for what is remembered, and variables.
pub struct Machine {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl Machine {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            variables: vec![("CHANDLER_PROVISION_PACE".to_owned(), "0.02".to_owned())],
        }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn records(&self) -> PathBuf {
        self.folder().join("endpoints.db")
    }

    pub fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chandler"));
        command.args(line).env_clear();
        for kept in ["PATH", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
            .env("HOME", self.folder())
            .env("CHANDLER_RECORDS", self.records());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a line to its end.
    pub fn run(&self, line: &[&str]) -> Ran {
        Ran::of(line, self.command(line).output().unwrap())
    }

    /// Runs a line that has to succeed.
    pub fn well(&self, line: &[&str]) -> Ran {
        let ran = self.run(line);
        assert!(ran.code == Some(0), "{ran:?}");
        ran
    }

    /// Starts a line, to be killed.
    pub fn start(&self, line: &[&str]) -> Child {
        self.command(line).spawn().unwrap()
    }

    /// Every byte that this machine remembers, as text.
    pub fn remembered(&self) -> String {
        let mut text = String::new();
        let mut folders = vec![self.folder().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => text.push_str(&String::from_utf8_lossy(
                        &std::fs::read(entry.path()).unwrap_or_default(),
                    )),
                }
            }
        }
        text
    }
}

/// What came of a line.
#[derive(Debug)]
pub struct Ran {
    #[allow(dead_code, reason = "shown when a test fails")]
    line: String,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    fn of(line: &[&str], output: Output) -> Self {
        Self {
            line: line.join(" "),
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs a line until its request of this number is held there, kills it, and says whether it came so far; else it has ended.
pub fn killed_at(
    (machine, server): (&Machine, &Server),
    line: &[&str],
    number: usize,
    fault: Fault,
) -> bool {
    server.fault(When::Nth(number), fault);
    let mut child = machine.start(line);
    let end = Instant::now() + Duration::from_secs(60);
    let held = loop {
        if server.wait_held(Duration::from_millis(20)) {
            break true;
        }
        if child.try_wait().unwrap().is_some() {
            break false;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("request {number} did not come, nor did the run end");
        }
    };
    let _ = child.kill(); // it may have ended
    child.wait().unwrap();
    held
}

/// Waits for something to become true.
pub fn until(what: &str, time: Duration, is: impl Fn() -> bool) {
    let end = Instant::now() + time;
    while !is() {
        assert!(Instant::now() < end, "not within {time:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
