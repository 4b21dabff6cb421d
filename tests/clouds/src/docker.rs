//! docker's engine: images, containers and volumes, as strict as its reference (v1.41). A container that is started is a real
//! process of this machine, when the double is told which program the image holds.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{Cloud, Reply, Request};

/// Fields of a container's body that the reference has and we know to check.
const BODY: &[&str] = &[
    "Image",
    "Env",
    "Labels",
    "ExposedPorts",
    "StopTimeout",
    "HostConfig",
    "Cmd",
    "Entrypoint",
    "User",
];
const HOST: &[&str] = &[
    "PortBindings",
    "Binds",
    "RestartPolicy",
    "ReadonlyRootfs",
    "Tmpfs",
    "CapDrop",
    "SecurityOpt",
    "DeviceRequests",
    "NanoCpus",
    "Memory",
    "AutoRemove",
];
const PREFIX: &str = "/v1.";

/// What the engine is told by a test.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The program that every image runs; without one a container runs nothing and never ends.
    pub program: Option<PathBuf>,
    /// Images that are there.
    pub images: Vec<String>,
    /// Images that can be pulled.
    pub registry: Vec<String>,
    /// Whether there is a GPU.
    pub gpu: bool,
}

/// A container.
struct Container {
    id: String,
    name: String,
    body: Value,
    port: Option<u16>,
    child: Option<Child>,
    log: Arc<Mutex<Vec<u8>>>,
    state: &'static str,
    exit: i32,
}

/// The engine.
pub struct Engine {
    setup: Setup,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    images: Vec<String>,
    containers: Vec<Container>,
    volumes: BTreeMap<String, Value>,
    count: usize,
}

impl Engine {
    /// An engine.
    pub fn new(setup: Setup) -> Arc<Self> {
        let state = State {
            images: setup.images.clone(),
            ..State::default()
        };
        Arc::new(Self {
            state: Mutex::new(state),
            setup,
        })
    }

    /// Names of the containers that there are.
    pub fn containers(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state
            .containers
            .iter()
            .map(|container| container.name.clone())
            .collect()
    }

    /// The variables of a container.
    pub fn environment(&self, name: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let container = state
            .containers
            .iter()
            .find(|container| container.name == name)
            .unwrap();
        let list = container.body["Env"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        list.iter()
            .map(|pair| pair.as_str().unwrap().to_owned())
            .collect()
    }

    fn pull(&self, request: &Request) -> Reply {
        let (Some(name), tag) = (request.parameter("fromImage"), request.parameter("tag")) else {
            return failure(400, "fromImage is missing");
        };
        let image = tag.map_or_else(|| name.to_owned(), |tag| format!("{name}:{tag}"));
        let mut lines = json!({"status": "Pulling from library", "id": tag}).to_string() + "\r\n";
        if self.setup.registry.contains(&image) {
            self.state.lock().unwrap().images.push(image);
            lines += &(json!({"status": "Status: Downloaded newer image"}).to_string() + "\r\n");
        } else {
            lines += &(json!({"errorDetail": {"message": "manifest unknown"}, "error": "manifest unknown"}).to_string() + "\r\n");
        }
        // Line by line, as it goes: the official client takes a body of known length for one document.
        let piece = |line: &str| {
            (
                Duration::from_millis(1),
                Bytes::copy_from_slice(line.as_bytes()),
            )
        };
        Reply::stream(
            "application/json",
            lines.split_inclusive('\n').map(piece).collect(),
        )
    }

    fn create(&self, request: &Request) -> Reply {
        let body = request.json();
        let Some(name) = request.parameter("name") else {
            return failure(400, "this double wants a name");
        };
        if let Some(complaint) = complaint(&body) {
            return failure(400, &complaint);
        }
        let mut state = self.state.lock().unwrap();
        if let Some(there) = state
            .containers
            .iter()
            .find(|container| container.name == name)
        {
            return failure(
                409,
                &format!(
                    "Conflict. The container name \"/{name}\" is already in use by container \"{}\"",
                    there.id
                ),
            );
        }
        let image = body["Image"].as_str().unwrap_or_default().to_owned();
        if !state.images.contains(&image) {
            return failure(404, &format!("No such image: {image}"));
        }
        state.count += 1;
        let id = format!("{:064x}", state.count);
        state.containers.push(Container {
            id: id.clone(),
            name: name.to_owned(),
            body,
            port: None,
            child: None,
            log: Arc::default(),
            state: "created",
            exit: 0,
        });
        Reply::json(201, &json!({"Id": id, "Warnings": []}))
    }

    fn start(&self, container: &mut Container) -> Reply {
        if container.state == "running" {
            return Reply::empty(304);
        }
        let wants_gpu = container.body["HostConfig"]["DeviceRequests"]
            .as_array()
            .is_some_and(|list| !list.is_empty());
        if wants_gpu && !self.setup.gpu {
            return failure(
                500,
                "could not select device driver \"nvidia\" with capabilities: [[gpu]]",
            );
        }
        let binding = &container.body["HostConfig"]["PortBindings"]["8080/tcp"][0]["HostPort"];
        let asked = binding.as_str().unwrap_or_default().parse().unwrap_or(0);
        let port = TcpListener::bind(("127.0.0.1", asked))
            .and_then(|listener| listener.local_addr())
            .map(|address| address.port());
        let Ok(port) = port else {
            return failure(500, "Bind for 127.0.0.1 failed: port is already allocated");
        };
        container.port = Some(port);
        container.state = "running";
        let Some(program) = &self.setup.program else {
            return Reply::empty(204);
        };
        let mut command = Command::new(program);
        command
            .arg("serve")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        for pair in container.body["Env"].as_array().into_iter().flatten() {
            let (name, value) = pair.as_str().unwrap().split_once('=').unwrap();
            command.env(name, value);
        }
        command
            .env("CHANDLER_HOST", "127.0.0.1")
            .env("CHANDLER_PORT", port.to_string());
        let mut child = command.spawn().unwrap();
        let log = Arc::clone(&container.log);
        let mut errors = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = errors.read(&mut bytes) {
                log.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        container.child = Some(child);
        Reply::empty(204)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Container {
    /// Looks whether its process has ended.
    fn refresh(&mut self) {
        let ended = self
            .child
            .as_mut()
            .and_then(|child| child.try_wait().unwrap());
        if let Some(status) = ended {
            self.child = None;
            self.state = "exited";
            self.exit = status.code().unwrap_or(137);
        }
    }

    fn inspection(&self) -> Value {
        let ports = match (self.state, self.port) {
            ("running", Some(port)) => {
                json!({"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": port.to_string()}]})
            }
            _ => json!({}),
        };
        json!({
            "Id": self.id,
            "Name": format!("/{}", self.name),
            "RestartCount": 0,
            "State": {
                "Status": self.state, "Running": self.state == "running", "ExitCode": self.exit, "Error": "", "OOMKilled": false,
            },
            "Config": {"Tty": false, "Image": self.body["Image"], "Env": self.body["Env"], "Labels": self.body["Labels"]},
            "HostConfig": self.body["HostConfig"],
            "NetworkSettings": {"Ports": ports},
        })
    }

    fn frames(&self) -> Vec<u8> {
        let log = self.log.lock().unwrap();
        let mut frames = vec![2, 0, 0, 0];
        frames.extend((log.len() as u32).to_be_bytes());
        frames.extend_from_slice(&log);
        frames
    }
}

impl Cloud for Engine {
    fn answer(&self, request: &Request) -> Reply {
        let path = match request
            .path
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('/'))
        {
            Some((_, rest)) => format!("/{rest}"),
            None => request.path.clone(),
        };
        let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match (request.method.as_str(), segments.as_slice()) {
            ("GET" | "HEAD", ["_ping"]) => {
                Reply::bytes(200, "text/plain", "OK").with("api-version", "1.41")
            }
            ("GET", ["version"]) => Reply::json(
                200,
                &json!({"Version": "24.0.0", "ApiVersion": "1.41", "MinAPIVersion": "1.24"}),
            ),
            ("GET", ["images", .., "json"]) => {
                let name = path
                    .trim_start_matches("/images/")
                    .trim_end_matches("/json");
                match self
                    .state
                    .lock()
                    .unwrap()
                    .images
                    .iter()
                    .any(|image| image == name)
                {
                    true => Reply::json(200, &json!({"Id": "sha256:1", "RepoTags": [name]})),
                    false => failure(404, &format!("No such image: {name}")),
                }
            }
            ("POST", ["images", "create"]) => self.pull(request),
            ("POST", ["volumes", "create"]) => {
                let body = request.json();
                let name = body["Name"].as_str().unwrap_or_default().to_owned();
                self.state
                    .lock()
                    .unwrap()
                    .volumes
                    .entry(name)
                    .or_insert(body.clone());
                Reply::json(
                    201,
                    &json!({"Name": body["Name"], "Driver": "local", "Mountpoint": "/v", "Labels": body["Labels"], "Scope": "local"}),
                )
            }
            ("GET", ["containers", "json"]) => self.list(request),
            ("POST", ["containers", "create"]) => self.create(request),
            (method, ["containers", id, rest @ ..]) => self.of_container(method, id, rest),
            _ => failure(404, "page not found"),
        }
    }
}

impl Engine {
    fn list(&self, request: &Request) -> Reply {
        let filters: Value = request
            .parameter("filters")
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let labels: Vec<(String, String)> = filters["label"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|label| label.as_str()?.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let mut state = self.state.lock().unwrap();
        state.containers.iter_mut().for_each(Container::refresh);
        let fits = |container: &&Container| {
            labels
                .iter()
                .all(|(key, value)| container.body["Labels"][key] == value.as_str())
        };
        let row = |container: &Container| {
            json!({
                "Id": container.id, "Names": [format!("/{}", container.name)], "Image": container.body["Image"],
                "ImageID": "sha256:1", "Labels": container.body["Labels"], "State": container.state, "Ports": [],
            })
        };
        Reply::json(
            200,
            &state.containers.iter().filter(fits).map(row).collect(),
        )
    }

    fn of_container(&self, method: &str, id: &str, rest: &[&str]) -> Reply {
        let mut state = self.state.lock().unwrap();
        let at = state
            .containers
            .iter()
            .position(|container| container.id == id || container.name == id);
        let Some(at) = at else {
            return failure(404, &format!("No such container: {id}"));
        };
        let container = &mut state.containers[at];
        container.refresh();
        match (method, rest) {
            ("GET", ["json"]) => Reply::json(200, &container.inspection()),
            ("GET", ["logs"]) => Reply::bytes(
                200,
                "application/vnd.docker.multiplexed-stream",
                container.frames(),
            ),
            ("POST", ["start"]) => self.start(container),
            ("POST", ["stop"]) => {
                let runs = container.state == "running";
                if let Some(mut child) = container.child.take() {
                    let _ = child.kill();
                    let _ = child.wait();
                }
                container.state = "exited";
                Reply::empty(if runs { 204 } else { 304 })
            }
            ("DELETE", []) => {
                state.containers.remove(at);
                Reply::empty(204)
            }
            _ => failure(404, "page not found"),
        }
    }
}

fn complaint(body: &Value) -> Option<String> {
    let unknown = |fields: Option<&Map<String, Value>>, known: &[&str]| {
        fields?
            .keys()
            .find(|key| !known.contains(&key.as_str()))
            .map(|key| format!("unknown field {key}"))
    };
    if body["Image"].as_str().is_none_or(str::is_empty) {
        return Some("no image".to_owned());
    }
    let pairs = body["Env"].as_array();
    let wrong = pairs
        .into_iter()
        .flatten()
        .any(|pair| pair.as_str().is_none_or(|text| !text.contains('=')));
    if wrong {
        return Some("invalid environment variable".to_owned());
    }
    unknown(body.as_object(), BODY).or_else(|| unknown(body["HostConfig"].as_object(), HOST))
}

fn failure(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({"message": message}))
}
