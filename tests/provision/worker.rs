//! A real worker, for doubles to pass predictions on to.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::command::until;

/// The key that it asks for.
pub const WORKER_KEY: &str = "worker-key-of-a-test";

/// Ended with the test.
pub struct Worker {
    child: Child,
    /// `HOST:PORT`
    pub address: String,
}

impl Worker {
    /// The mock model, behind a key.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        drop(listener);
        let line = [
            "serve",
            "--model",
            "mock",
            "--host",
            "127.0.0.1",
            "--port",
            &port,
        ];
        let child = Command::new(env!("CARGO_BIN_EXE_chandler"))
            .args(line)
            .env_clear()
            .env("CHANDLER_API_KEYS", WORKER_KEY)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = format!("127.0.0.1:{port}");
        let worker = Self { child, address };
        until("the worker answers", Duration::from_secs(30), || {
            TcpStream::connect(&worker.address).is_ok()
        });
        worker
    }

    /// One for all tests of this binary that only need that there is one.
    pub fn shared() -> &'static str {
        static WORKER: OnceLock<Worker> = OnceLock::new();
        &WORKER.get_or_init(Self::start).address
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
