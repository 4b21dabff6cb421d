//! `chandler serve` as a process of its own, with the platform's variables: only a process can be ended by a signal.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use runpod_platform::Platform;
use tempfile::NamedTempFile;

pub struct Process {
    child: Child,
    log: NamedTempFile,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    pub fn start(platform: &Platform, more: &[&str]) -> Self {
        let log = NamedTempFile::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chandler"));
        let serve = [
            "serve",
            "--model",
            "mock",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
        ];
        command.args(serve).args(more);
        // Nothing of where the tests run may tell the worker where it is.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["CHANDLER_", "RUNPOD_", "AIP_"]
                .iter()
                .any(|start| text.starts_with(start))
            {
                command.env_remove(name);
            }
        }
        command.envs(platform.environment("w1"));
        command
            .stdin(Stdio::null())
            .stdout(log.reopen().unwrap())
            .stderr(log.reopen().unwrap());
        let child = command.spawn().unwrap();
        Self { child, log }
    }

    pub fn terminate(&self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end; fails with the log's end when it does not come.
    pub async fn end(&mut self, limit: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                begun.elapsed() < limit,
                "the worker did not end:\n{}",
                self.said()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The end of what it wrote.
    pub fn said(&self) -> String {
        let log = std::fs::read_to_string(self.log.path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}
