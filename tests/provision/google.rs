//! A double of Google Cloud, a machine that is logged in there, and a real worker behind every endpoint.

use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloud_doubles::google::{Google, Setup};
use cloud_doubles::{Fault, Server, When};
use serde_json::json;

use super::command::{Machine, until};

pub const IMAGE: &str = "europe-west4-docker.pkg.dev/a-project/images/chandler:cpu";
pub const SECRET: &str = "hf_a_marked_secret";

/// A real worker, which serves the mock model.
pub struct Worker {
    pub address: String,
    process: Child,
}

impl Worker {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let port = address.rsplit(':').next().unwrap();
        let line = [
            "serve",
            "--model",
            "mock",
            "--host",
            "127.0.0.1",
            "--port",
            port,
        ];
        let mut command = Machine::new().command(&line);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let worker = Self {
            address,
            process: process.unwrap(),
        };
        until("the worker listens", Duration::from_secs(60), || {
            std::net::TcpStream::connect(&worker.address).is_ok()
        });
        worker
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub struct Cloud {
    pub google: Arc<Google>,
    pub server: Server,
    pub machine: Machine,
}

impl Cloud {
    pub fn new(worker: &Worker) -> Self {
        Self::with(Setup {
            worker: Some(worker.address.clone()),
            looks: 1,
            ..Setup::default()
        })
    }

    pub fn with(setup: Setup) -> Self {
        let google = Google::new(setup);
        let server = Server::start(google.clone());
        let host = server.url.trim_start_matches("http://").to_owned();
        let machine = Machine::new()
            .with("HF_TOKEN", SECRET)
            .with("GOOGLE_CLOUD_PROJECT", "a-project")
            .with("GOOGLE_CLOUD_REGION", "europe-west4")
            .with("GCE_METADATA_HOST", &host);
        Self {
            google,
            server,
            machine,
        }
    }

    /// Logged in as a user, by the file that gcloud makes.
    pub fn of_a_user(self) -> Self {
        let file = self.machine.folder().join("login.json");
        let login = json!({
            "type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "1//a_marked_refresh",
            "token_uri": format!("{}/token", self.server.url), "quota_project_id": "a-project",
        });
        std::fs::write(&file, login.to_string()).unwrap();
        let machine = self
            .machine
            .with("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap());
        Self { machine, ..self }
    }

    /// `provision PLATFORM` for the mock model.
    pub fn line(&self, platform: &str, more: &[&str]) -> Vec<String> {
        let line = [
            "provision",
            platform,
            "mock",
            "--name",
            "one",
            "--image",
            IMAGE,
            "--api",
            &self.server.url,
            "--logging-api",
            &self.server.url,
            "--wait",
            "--json",
            "--secret",
            "HF_TOKEN",
        ];
        let all = [&line[..], more].concat();
        all.into_iter().map(str::to_owned).collect()
    }

    /// The requests since some number of them that change something, as method and path.
    pub fn changes(&self, since: usize) -> Vec<String> {
        let seen = self.server.seen();
        let changes = seen.iter().skip(since).filter(|request| {
            let reads = request.method == "GET" || request.path == "/token";
            let predicts = request.path.contains("predict") || request.path.contains("/run/");
            !reads && !predicts && request.path != "/v2/entries:list"
        });
        let short = |path: &str| {
            path.rsplit("europe-west4/")
                .next()
                .unwrap_or(path)
                .to_owned()
        };
        changes
            .map(|request| format!("{} {}", request.method, short(&request.path)))
            .collect()
    }

    /// Runs a line whose `nth` request from now on never comes back, and kills it there; `false` when it made fewer.
    pub fn kill_at(&self, line: &[&str], nth: usize, fault: Fault) -> bool {
        let target = self.server.seen().len() + nth;
        self.server.fault(When::Nth(target), fault);
        let mut child = self.machine.start(line);
        let end = Instant::now() + Duration::from_secs(120);
        while self.server.seen().len() <= target && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "{line:?} hangs before request {nth}");
            std::thread::sleep(Duration::from_millis(5));
        }
        // What is carried out before it is held is carried out at once.
        std::thread::sleep(Duration::from_millis(30));
        let _ = child.kill();
        let _ = child.wait();
        self.server.seen().len() > target
    }
}

/// Borrowed.
pub fn of(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}
