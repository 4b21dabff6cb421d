//! RunPod: the program against a double of its management API, with a real worker behind a double of its queue.

mod failing;
mod gpu;
mod killed;
mod making;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chandler::provision::Patience;
use chandler::provision::runpod::{Options, RunPod as Cloud};
use cloud_doubles::runpod::{RunPod, Settings};
use cloud_doubles::{Request, Server};
use runpod_platform::Platform;
use serde_json::Value;
use tokio::process::{Child, Command};

use super::command::{Machine, Ran};

const PACE: f64 = 0.01;
const KEY: &str = "rpa_marked_key";
const SOON: Duration = Duration::from_secs(60);

/// RunPod, and somebody who uses it.
struct World {
    double: Arc<RunPod>,
    server: Server,
    queue: Arc<Platform>,
    machine: Machine,
}

impl World {
    async fn new() -> Self {
        Self::on(queue().await)
    }

    /// A new management API in front of a queue that exists.
    fn on(queue: Arc<Platform>) -> Self {
        let waiting = Arc::clone(&queue);
        let double = RunPod::new(Settings {
            key: KEY.to_owned(),
            queue_url: queue.url(),
            queue: Arc::new(move || {
                let jobs = &waiting.health()["jobs"];
                let count = |key: &str| jobs[key].as_u64().unwrap() as u32;
                count("inQueue") + count("inProgress")
            }),
            ..Settings::default()
        });
        let machine = Machine::new()
            .with("RUNPOD_API_KEY", KEY)
            .with("CHANDLER_PROVISION_PACE", &PACE.to_string());
        Self {
            server: Server::start(Arc::clone(&double) as Arc<dyn cloud_doubles::Cloud>),
            double,
            queue,
            machine,
        }
    }

    /// `chandler provision runpod mock …`
    fn line<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let own = ["provision", "runpod", "mock", "--api", &self.server.url];
        let image = [
            "--image",
            "registry.example/chandler:{kind}",
            "--gpu",
            "none",
        ];
        [&own[..], &image, arguments].concat()
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.machine.run(&self.line(arguments))
    }

    fn well(&self, arguments: &[&str]) -> Ran {
        self.machine.well(&self.line(arguments))
    }

    /// The platform as a program would use it.
    fn cloud(&self, options: Options) -> Cloud {
        let options = Options {
            api: self.server.url.clone(),
            ..options
        };
        let patience = Patience {
            pace: PACE,
            ..Patience::default()
        };
        Cloud::new(options, Some(KEY.into()), patience).unwrap()
    }

    /// What was asked that changes anything, since so many requests.
    fn changes(&self, since: usize) -> Vec<Request> {
        let mut seen = self.server.seen().split_off(since);
        seen.retain(|request| request.method != "GET");
        seen
    }

    /// A worker with the variables of the first endpoint that is as wanted, as soon as there is one.
    fn worker_when(
        &self,
        wanted: impl Fn(&Value) -> bool + Send + 'static,
    ) -> tokio::task::JoinHandle<Child> {
        let (double, queue) = (Arc::clone(&self.double), Arc::clone(&self.queue));
        tokio::spawn(async move {
            let end = Instant::now() + SOON;
            loop {
                if let Some(endpoint) = double.endpoints().into_iter().find(&wanted) {
                    let env: BTreeMap<String, String> =
                        serde_json::from_value(endpoint["env"].clone()).unwrap();
                    let queued = endpoint["type"] == "QUEUE";
                    return worker(&queue, queued, env);
                }
                assert!(Instant::now() < end, "no such endpoint was made");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    }
}

async fn queue() -> Arc<Platform> {
    let options = runpod_platform::Options {
        client_key: KEY.to_owned(),
        ..Default::default()
    };
    Arc::new(Platform::start(options).await.unwrap())
}

/// The program as RunPod would start it: with the endpoint's variables and those of the platform.
fn worker(queue: &Platform, queued: bool, env: BTreeMap<String, String>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chandler"));
    command
        .args(["serve", "--host", "127.0.0.1"])
        .env_clear()
        .envs(env)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    match queued {
        true => command.args(["--port", "0"]).envs(queue.environment("w1")),
        false => command.env("RUNPOD_ENDPOINT_ID", "fake-endpoint"),
    };
    command.spawn().unwrap()
}

fn mock_worker(queue: &Platform) -> Child {
    let env = [("CHANDLER_MODEL".to_owned(), "mock".to_owned())];
    worker(queue, true, env.into())
}

fn text(ran: &Ran) -> String {
    format!("{}{}", ran.out, ran.err)
}
