//! RunPod's management API v2 and the one mutation of its GraphQL API that chandler sends, written from its OpenAPI document
//! (2.0.0) and from runpodctl's source for GraphQL: unknown fields refused, workers that come and get ready look by look,
//! no capacity, quotas, releases that make workers stale. The invocation side is `runpod-platform`'s.

mod check;
mod graphql;
mod stock;
mod workers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Map, Value, json};

use self::workers::Worker;
use crate::{Cloud, Reply, Request};

/// How many jobs an endpoint's queue holds.
pub type Queue = Arc<dyn Fn() -> u32 + Send + Sync>;

/// How it behaves; tests change it while it runs.
#[derive(Clone)]
pub struct Settings {
    /// The account's key.
    pub key: String,
    /// What `run`, `status` and the rest of a queue endpoint lie below.
    pub queue_url: String,
    /// The address of a load balancer.
    pub balancer_url: String,
    /// Jobs that wait or are worked on: a worker is started for them.
    pub queue: Queue,
    /// Looks at its workers until a new one is ready.
    pub looks: u32,
    /// What workers become instead of ready.
    pub instead_of_ready: Option<&'static str>,
    /// Pools that have machines; all when none are named.
    pub capacity: Option<Vec<&'static str>>,
    /// What creating and changing is refused with.
    pub refusal: Option<String>,
    /// The most workers that the account may have, and the sentence that says so with `{}` for their number.
    pub quota: Option<(u64, &'static str)>,
    /// Errors repeat the request's body, secrets and all.
    pub echo: bool,
    /// GraphQL makes the template and then fails.
    pub half: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            key: "rpa_key".to_owned(),
            queue_url: "http://127.0.0.1:1/v2/none".to_owned(),
            balancer_url: "http://127.0.0.1:1".to_owned(),
            queue: Arc::new(|| 0),
            looks: 2,
            instead_of_ready: None,
            capacity: None,
            refusal: None,
            quota: None,
            echo: false,
            half: false,
        }
    }
}

/// An endpoint.
struct Endpoint {
    /// As it is told.
    shown: Map<String, Value>,
    version: u64,
    workers: Vec<Worker>,
    /// Made through GraphQL, whose rules hold for it.
    graphql: bool,
    models: Vec<String>,
}

#[derive(Default)]
struct State {
    settings: Settings,
    endpoints: BTreeMap<String, Endpoint>,
    templates: BTreeMap<String, Value>,
    made: u64,
}

/// The double.
#[derive(Default)]
pub struct RunPod(Mutex<State>);

/// A refusal.
struct Problem {
    status: u16,
    detail: String,
    errors: Vec<String>,
}

impl Problem {
    fn of(status: u16, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    /// What does not fit the schema.
    fn schema(errors: Vec<String>) -> Self {
        Self {
            status: 422,
            detail: "Request validation failed.".to_owned(),
            errors,
        }
    }

    fn reply(self, request: &Request, echo: bool) -> Reply {
        let title = match self.status {
            400 => "Bad Request",
            401 => "Unauthorized",
            404 => "Not Found",
            405 => "Method Not Allowed",
            _ => "Unprocessable Entity",
        };
        let mut detail = self.detail;
        if echo {
            detail += &format!(" (you sent {})", String::from_utf8_lossy(&request.bytes));
        }
        let mut body = json!({"title": title, "status": self.status, "detail": detail});
        if !self.errors.is_empty() {
            body["errors"] = json!(self.errors);
        }
        let bytes = body.to_string().into_bytes();
        Reply::bytes(self.status, "application/problem+json", bytes)
    }
}

type Outcome = Result<Reply, Problem>;

impl RunPod {
    /// One that behaves so.
    pub fn new(settings: Settings) -> Arc<Self> {
        let double = Self::default();
        double.state().settings = settings;
        Arc::new(double)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Changes how it behaves.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state().settings);
    }

    /// The endpoints, as they are told.
    pub fn endpoints(&self) -> Vec<Value> {
        let state = self.state();
        let shown = state.endpoints.values();
        shown
            .map(|endpoint| Value::Object(endpoint.shown.clone()))
            .collect()
    }

    /// The models that GraphQL was asked to keep for an endpoint.
    pub fn models(&self, id: &str) -> Vec<String> {
        self.state().endpoints[id].models.clone()
    }

    /// How many templates there are that endpoints do not hold.
    pub fn templates(&self) -> usize {
        self.state().templates.len()
    }

    /// Puts an endpoint there that somebody else made; says its id.
    pub fn plant(&self, body: Value) -> String {
        let Value::Object(body) = body else {
            panic!("an endpoint is an object");
        };
        self.state().add(&body, Vec::new(), false)
    }
}

impl State {
    fn id(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}{:04}", self.made)
    }

    /// Adds an endpoint of a checked body.
    fn add(&mut self, body: &Map<String, Value>, models: Vec<String>, graphql: bool) -> String {
        let id = self.id("ep");
        let mut shown = check::defaults();
        shown.insert("id".to_owned(), json!(id));
        let time = format!("2026-06-01T12:{:02}:{:02}Z", self.made / 60, self.made % 60);
        shown.insert("createdAt".to_owned(), json!(time));
        check::merge(&mut shown, body);
        let urls = self.urls(&shown);
        shown.insert("requestUrls".to_owned(), urls);
        let endpoint = Endpoint {
            shown,
            version: 1,
            workers: Vec::new(),
            graphql,
            models,
        };
        self.endpoints.insert(id.clone(), endpoint);
        id
    }

    fn urls(&self, shown: &Map<String, Value>) -> Value {
        if shown["type"] == "LOAD_BALANCER" {
            let base = &self.settings.balancer_url;
            return json!({"base": base, "health": format!("{base}/ping")});
        }
        let base = &self.settings.queue_url;
        let below = |path: &str| format!("{base}/{path}");
        json!({
            "run": below("run"), "runSync": below("runsync"), "status": below("status/{job_id}"),
            "stream": below("stream/{job_id}"), "cancel": below("cancel/{job_id}"), "retry": below("retry/{job_id}"),
            "purgeQueue": below("purge-queue"), "health": below("health"),
        })
    }

    /// What the account does not allow.
    fn limits(&self, body: &Map<String, Value>) -> Result<(), Problem> {
        if let Some(refusal) = &self.settings.refusal {
            return Err(Problem::of(400, refusal.clone()));
        }
        let wanted = body
            .get("workers")
            .and_then(|workers| workers["max"].as_u64());
        match (self.settings.quota, wanted) {
            (Some((most, sentence)), Some(wanted)) if wanted > most => {
                Err(Problem::of(400, sentence.replace("{}", &most.to_string())))
            }
            _ => Ok(()),
        }
    }

    fn create(&mut self, body: &Value) -> Outcome {
        let body = check::create(body)?;
        self.limits(&body)?;
        let id = self.add(&body, Vec::new(), false);
        Ok(Reply::json(201, &json!(self.endpoints[&id].shown)))
    }

    fn change(&mut self, id: &str, body: &Value) -> Outcome {
        let there = self.endpoints.get(id).ok_or_else(unknown)?;
        let body = check::update(body, &there.shown)?;
        self.limits(&body)?;
        let endpoint = self.endpoints.get_mut(id).ok_or_else(unknown)?;
        check::merge(&mut endpoint.shown, &body);
        // What the container is made of makes a release, and workers of before are stale.
        let container = [
            "image", "args", "disk", "env", "ports", "registry", "gpu", "cpu",
        ];
        if container.iter().any(|key| body.contains_key(*key)) {
            endpoint.version += 1;
        }
        Ok(Reply::json(200, &json!(endpoint.shown)))
    }

    fn delete(&mut self, id: &str) -> Outcome {
        let endpoint = self.endpoints.get(id).ok_or_else(unknown)?;
        if endpoint.graphql && endpoint.shown["workers"]["max"] != json!(0) {
            let detail = "workersMin and workersMax must be 0 before the endpoint is deleted";
            return Err(Problem::of(400, detail));
        }
        self.endpoints.remove(id);
        Ok(Reply::empty(204))
    }

    fn route(&mut self, request: &Request) -> Outcome {
        let body = request.json();
        let method = request.method.as_str();
        match (method, request.segments().as_slice()) {
            ("GET", ["v2", "serverless"]) => {
                let all: Vec<&Map<String, Value>> =
                    self.endpoints.values().map(|one| &one.shown).collect();
                Ok(Reply::json(200, &json!({"endpoints": all})))
            }
            ("POST", ["v2", "serverless"]) => self.create(&body),
            ("GET", ["v2", "serverless", id]) => {
                let found = self.endpoints.get(*id).ok_or_else(unknown)?;
                Ok(Reply::json(200, &json!(found.shown)))
            }
            ("PATCH", ["v2", "serverless", id]) => self.change(id, &body),
            ("DELETE", ["v2", "serverless", id]) => self.delete(id),
            ("GET", ["v2", "serverless", id, "workers"]) => self.workers(id),
            ("GET", ["v2", "serverless", id, "workers", worker, "logs"]) => {
                self.log(id, worker, request)
            }
            ("GET", ["v2", "templates"]) => {
                let all: Vec<&Value> = self.templates.values().collect();
                Ok(Reply::json(200, &json!({"templates": all})))
            }
            ("DELETE", ["v2", "templates", id]) => match self.templates.remove(*id) {
                Some(_) => Ok(Reply::empty(204)),
                None => Err(unknown()),
            },
            ("GET", ["v2", "catalog", "gpus"]) => Ok(Reply::json(200, &stock::gpus())),
            ("GET", ["v2", "catalog", "cpus"]) => Ok(Reply::json(200, &stock::cpus())),
            ("POST", ["graphql"]) => Ok(self.graphql(&body)),
            (_, ["v2", "serverless" | "templates" | "catalog", ..]) => {
                Err(Problem::of(405, "method not allowed"))
            }
            _ => Err(unknown()),
        }
    }

    fn log(&self, id: &str, worker: &str, request: &Request) -> Outcome {
        let endpoint = self.endpoints.get(id).ok_or_else(unknown)?;
        if !endpoint.workers.iter().any(|one| one.id == worker) {
            return Err(unknown());
        }
        let tail = request.parameter("tail").map(str::parse::<u32>);
        if !matches!(tail, None | Some(Ok(0..=5000))) {
            return Err(Problem::of(400, "tail must be 0 to 5000"));
        }
        let event = |number: u32, line: &str| {
            let ts = format!("2026-06-01T12:05:{number:02}Z");
            let data = json!({"ts": ts, "source": "container", "line": line});
            format!("id: {ts}/{number:012}\ndata: {data}\n\n").into()
        };
        // It stays open, as the real one does.
        let pieces = vec![
            (Duration::ZERO, event(1, "loading the model")),
            (Duration::from_millis(20), event(2, "serving")),
            (Duration::from_secs(3600), event(3, "never seen")),
        ];
        Ok(Reply::stream("text/event-stream", pieces))
    }
}

fn unknown() -> Problem {
    Problem::of(404, "resource not found")
}

impl Cloud for RunPod {
    fn answer(&self, request: &Request) -> Reply {
        let mut state = self.state();
        let key = format!("Bearer {}", state.settings.key);
        let outcome = match request.header("authorization") {
            Some(given) if given == key => state.route(request),
            Some(_) => Err(Problem::of(401, "invalid bearer token")),
            None => Err(Problem::of(401, "missing bearer token")),
        };
        let echo = state.settings.echo;
        let reply = outcome.unwrap_or_else(|problem| problem.reply(request, echo));
        reply.with(
            "ratelimit-policy",
            "\"minute\";q=60;w=60, \"hour\";q=3000;w=3600",
        )
    }
}
