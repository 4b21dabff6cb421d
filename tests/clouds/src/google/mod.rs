//! Google Cloud as far as an endpoint needs it: logins, operations, Vertex AI (`vertex`), Cloud Run (`cloud_run`) and Cloud
//! Logging, on one address. Written from the published messages; Google's own clients prove it
//! (tests/conformance/google_provision.py).

pub mod login;
pub(crate) mod operations;
pub(crate) mod schema;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::forward;
pub use login::TOKEN;

use self::operations::{Effect, Ended, Operation};
use crate::{Cloud, Reply, Request, cloud_run, vertex};

/// The only project.
pub const PROJECT: &str = "a-project";
/// The only region.
pub const REGION: &str = "europe-west4";

/// How it behaves.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where the workers of all endpoints are, as `host:port`.
    pub worker: Option<String>,
    /// Looks at an operation until it ends.
    pub looks: u32,
    /// Machine types and accelerators of which there are none; `*` is all.
    pub without: Vec<String>,
    /// Whether a request for a machine is refused at once, for the quota.
    pub quota: bool,
    /// What is wrong with every container.
    pub broken: Option<String>,
    /// Secrets that Secret Manager has.
    pub secrets: Vec<String>,
    /// Whether everything that is to be made is refused, in words that repeat the request.
    pub echo: bool,
    /// Entries of a page.
    pub page: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            worker: None,
            looks: 2,
            without: Vec::new(),
            quota: false,
            broken: None,
            secrets: Vec::new(),
            echo: false,
            page: 1,
        }
    }
}

/// The double.
pub struct Google {
    pub(crate) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub setup: Setup,
    pub models: BTreeMap<String, Vec<Value>>,
    pub endpoints: BTreeMap<String, Value>,
    pub services: BTreeMap<String, cloud_run::Service>,
    pub operations: Vec<Operation>,
    pub logs: Vec<Value>,
    /// Counts whatever needs a number.
    pub count: i64,
}

/// An answer that is a refusal.
pub(crate) fn refused(status: u16, message: impl Into<String>) -> Reply {
    let word = match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ALREADY_EXISTS",
        429 => "RESOURCE_EXHAUSTED",
        501 => "UNIMPLEMENTED",
        _ => "INVALID_ARGUMENT",
    };
    failure(status, word, message)
}

pub(crate) fn failure(status: u16, word: &str, message: impl Into<String>) -> Reply {
    let message: String = message.into();
    let body = json!({"error": {"code": status, "message": message, "status": word}});
    Reply::json(status, &body)
}

impl Google {
    /// An empty project.
    pub fn new(setup: Setup) -> Arc<Self> {
        let state = State {
            setup,
            ..State::default()
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    /// Changes how it behaves.
    pub fn set(&self, change: impl FnOnce(&mut Setup)) {
        change(&mut self.state.lock().unwrap().setup);
    }

    /// Everything that exists, as `models/x`, `endpoints/x`, `deployed/ID` and `services/x`.
    pub fn everything(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let mut all: Vec<String> = state
            .models
            .keys()
            .map(|id| format!("models/{id}"))
            .collect();
        for (id, endpoint) in &state.endpoints {
            all.push(format!("endpoints/{id}"));
            let deployed = endpoint["deployedModels"].as_array();
            let deployed = deployed.into_iter().flatten();
            all.extend(deployed.map(|one| format!("deployed/{}", schema::text(one, "/id"))));
        }
        all.extend(state.services.keys().map(|id| format!("services/{id}")));
        let makes = |one: &&Operation| {
            let takes = matches!(one.effect, Effect::Delete { .. } | Effect::Stop { .. });
            one.ended.is_none() && !takes
        };
        let begun = state.operations.iter().filter(makes);
        all.extend(begun.map(|one| format!("under way: {}", one.name)));
        all
    }

    /// A model's versions, an endpoint or a service, as the API shows it.
    pub fn document(&self, path: &str) -> Value {
        let state = self.state.lock().unwrap();
        match path.split_once('/') {
            Some(("models", id)) => state.models.get(id).cloned().unwrap_or_default().into(),
            Some(("endpoints", id)) => state.endpoints.get(id).cloned().unwrap_or_default(),
            Some(("services", id)) => state
                .services
                .get(id)
                .map(|service| service.body.clone())
                .unwrap_or_default(),
            _ => Value::Null,
        }
    }

    /// A thing that somebody else has made.
    pub fn put(&self, path: &str, thing: Value) {
        let mut state = self.state.lock().unwrap();
        match path.split_once('/') {
            Some(("models", id)) => drop(state.models.insert(id.to_owned(), vec![thing])),
            Some(("endpoints", id)) => drop(state.endpoints.insert(id.to_owned(), thing)),
            Some(("services", id)) => {
                let service = cloud_run::Service::of(thing);
                state.services.insert(id.to_owned(), service);
            }
            _ => panic!("{path}"),
        }
    }

    /// A line of a log; `labels` are those of the resource.
    pub fn log(&self, kind: &str, labels: Value, line: &str) {
        let mut state = self.state.lock().unwrap();
        let number = state.logs.len();
        state.logs.push(json!({
            "insertId": format!("line-{number}"), "severity": "INFO",
            "timestamp": format!("2026-01-01T00:00:{:02}Z", number / 2),
            "resource": {"type": kind, "labels": labels},
            "jsonPayload": {"message": line},
        }));
    }
}

impl State {
    /// Begins an operation below a resource (`endpoints/x/`) or the location itself.
    pub(crate) fn begin(&mut self, below: &str, kind: &'static str, effect: Effect) -> Value {
        self.count += 1;
        let operation = Operation {
            name: format!(
                "projects/{PROJECT}/locations/{REGION}/{below}operations/{}",
                1000 + self.count
            ),
            kind,
            looks: self.setup.looks,
            effect,
            ended: None,
        };
        self.operations.push(operation.clone());
        operation.json(self.operations.len() - 1)
    }

    /// Looks at an operation: the last look ends it.
    pub(crate) fn look(&mut self, at: usize) -> Value {
        let operation = self.operations[at].clone();
        if operation.ended.is_none() {
            self.operations[at].looks = operation.looks.saturating_sub(1);
            if operation.looks == 0 {
                let ended = self.end(&operation.effect);
                self.operations[at].ended = Some(match ended {
                    Ok(response) => Ended::Well(response),
                    Err((code, message)) => Ended::Badly(code, message),
                });
            }
        }
        self.operations[at].json(at)
    }

    fn end(&mut self, effect: &Effect) -> Result<Value, (i64, String)> {
        match effect {
            Effect::Start { .. } | Effect::Stop { .. } => cloud_run::end(self, effect),
            _ => vertex::end(self, effect),
        }
    }

    /// Whether there is none of what is wanted.
    pub(crate) fn lacks(&self, wanted: &[&str]) -> bool {
        let none = |word: &String| word == "*" || wanted.contains(&word.as_str());
        self.setup.without.iter().any(none)
    }

    /// `…/operations`, `…/operations/ID`, `…:cancel`, `…:wait`.
    fn operation(&mut self, method: &str, path: &str) -> Option<Reply> {
        let (name, verb) = path.split_once(':').unwrap_or((path, ""));
        if let Some(parent) = name.strip_suffix("/operations") {
            let below = format!("{parent}/operations/");
            let found: Vec<usize> = (0..self.operations.len())
                .filter(|at| self.operations[*at].name.starts_with(&below))
                .collect();
            let shown: Vec<Value> = found.into_iter().map(|at| self.look(at)).collect();
            return Some(Reply::json(200, &json!({"operations": shown})));
        }
        if !name.contains("/operations/") {
            return None;
        }
        let found = self.operations.iter().position(|one| one.name == name);
        let Some(at) = found else {
            return Some(refused(404, format!("Operation {name} not found.")));
        };
        Some(match (method, verb) {
            ("GET", "") | ("POST", "wait") => Reply::json(200, &self.look(at)),
            ("POST", "cancel") => {
                let stopped = Ended::Badly(1, "The operation was cancelled.".to_owned());
                self.operations[at].ended.get_or_insert(stopped);
                Reply::json(200, &json!({}))
            }
            _ => refused(501, "not implemented here"),
        })
    }

    fn entries(&self, request: &Request) -> Reply {
        const FIELDS: &[schema::Field] = &[
            ("resourceNames", schema::Kind::List(&schema::Kind::Text)),
            ("filter", schema::Kind::Text),
            ("orderBy", schema::Kind::Text),
            ("pageSize", schema::Kind::Int),
            ("pageToken", schema::Kind::Text),
        ];
        let body = request.json();
        if let Err(message) = schema::check(&body, FIELDS) {
            return refused(400, message);
        }
        if body["resourceNames"] != json!([format!("projects/{PROJECT}")]) {
            return refused(403, "The caller does not have permission");
        }
        let filter = schema::text(&body, "/filter");
        let holds = |entry: &&Value| filter.split(" AND ").all(|term| matches(entry, term));
        let found: Vec<&Value> = self.logs.iter().filter(holds).collect();
        let from: usize = schema::text(&body, "/pageToken").parse().unwrap_or(0);
        let page: Vec<&Value> = found.iter().skip(from).take(2).copied().collect();
        let mut answer = json!({"entries": page});
        if from + 2 < found.len() {
            answer["nextPageToken"] = (from + 2).to_string().into();
        }
        Reply::json(200, &answer)
    }
}

/// One comparison of Logging's query language: `a.b="c"` or `timestamp>="…"`.
fn matches(entry: &Value, term: &str) -> bool {
    let value = |text: &str| text.trim_matches('"').to_owned();
    if let Some((_, since)) = term.split_once(">=") {
        return schema::text(entry, "/timestamp") >= value(since).as_str();
    }
    let Some((field, wanted)) = term.split_once('=') else {
        return false;
    };
    let pointer = format!("/{}", field.replace('.', "/"));
    schema::text(entry, &pointer) == value(wanted)
}

/// The entries of a list that a filter of labels or of a display name holds for, a page of them.
pub(crate) fn page(
    all: Vec<Value>,
    field: &str,
    request: &Request,
    size: usize,
) -> Result<Value, String> {
    let filter = request.parameter("filter").unwrap_or_default();
    let (key, wanted) = filter.split_once('=').unwrap_or(("", ""));
    let wanted = wanted.trim_matches('"');
    let pointer = match key.strip_prefix("labels.") {
        Some(label) => format!("/labels/{label}"),
        None if key == "displayName" || key == "display_name" => "/displayName".to_owned(),
        None if filter.is_empty() => String::new(),
        None => return Err(format!("Invalid filter: {filter}")),
    };
    let holds = |one: &Value| filter.is_empty() || schema::text(one, &pointer) == wanted;
    let found: Vec<Value> = all.into_iter().filter(|one| holds(one)).collect();
    let from: usize = request
        .parameter("pageToken")
        .and_then(|token| token.parse().ok())
        .unwrap_or(0);
    let page: Vec<Value> = found.iter().skip(from).take(size).cloned().collect();
    let mut answer = json!({field: page});
    if from + size < found.len() {
        answer["nextPageToken"] = (from + size).to_string().into();
    }
    Ok(answer)
}

impl Cloud for Google {
    fn answer(&self, request: &Request) -> Reply {
        if let Some(reply) = login::answer(request) {
            return reply;
        }
        let mut state = self.state.lock().unwrap();
        if let Some(path) = request.path.strip_prefix("/run/") {
            let forwarded = cloud_run::invoke(&state, request, path);
            drop(state);
            return forwarded.map_or_else(
                |reply| reply,
                |(worker, path)| forward(&worker, request, &path),
            );
        }
        if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return refused(401, "Request had invalid authentication credentials.");
        }
        if request.path == "/v2/entries:list" {
            return state.entries(request);
        }
        let (version, path) = match request.path.trim_start_matches('/').split_once('/') {
            Some(parts) => parts,
            None => return refused(404, "no such method"),
        };
        if let Some(reply) = state.operation(&request.method, path) {
            return reply;
        }
        let place = format!("projects/{PROJECT}/locations/{REGION}/");
        let Some(path) = path.strip_prefix(&place) else {
            return refused(403, "Permission denied on resource project.");
        };
        if state.setup.echo && request.method == "POST" {
            return refused(400, format!("Invalid request: {}", request.json()));
        }
        match version {
            "v1" => {
                if let Some(call) = vertex::invoked(&state, request, path) {
                    drop(state);
                    return match call {
                        Ok(call) => {
                            let reply = forward(&call.worker, request, &call.path);
                            vertex::wrapped(reply, call.added.as_ref())
                        }
                        Err(reply) => reply,
                    };
                }
                vertex::answer(&mut state, request, path)
            }
            "v2" => cloud_run::answer(&mut state, request, path),
            _ => refused(404, "no such version"),
        }
    }
}
