//! A Kubernetes API server with one namespace: server-side apply with owners of fields, strict fields, dry runs, conflicts,
//! finalizers, and pods that come up after some looks, or never. Written from the API's reference; no client of Kubernetes' own
//! has spoken to it, only `kube`.

mod apply;
mod pods;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::{Cloud, Reply, Request, forward};

/// The namespace that exists.
pub const NAMESPACE: &str = "models";
/// The login that is let in.
pub const TOKEN: &str = "cluster-token-of-a-test";

/// What becomes of the pods of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fate {
    /// They serve after this many looks at them.
    #[default]
    Serve,
    /// No node takes them; what the scheduler says.
    Unschedulable(String),
    /// The image is not there.
    NoImage,
    /// The worker ends at once; its last lines.
    Crash(String),
    /// The worker takes too much memory.
    Killed,
    /// They load for ever.
    Load,
}

/// What the cluster does in a test.
#[derive(Debug, Clone, Default)]
pub struct Knobs {
    /// What becomes of pods.
    pub fate: Fate,
    /// Looks at pods until they serve.
    pub looks: u32,
    /// Looks until what is deleted is gone.
    pub lingers: u32,
    /// `HOST:PORT` of the worker behind the service.
    pub worker: Option<String>,
    /// Without KEDA and KServe.
    pub bare: bool,
    /// Repeats the request's body in errors, as careless webhooks do.
    pub echo: bool,
    /// Refuses applies of this plural.
    pub refuses: Option<&'static str>,
}

type Key = (&'static str, String);
/// A manager, and whether by apply.
type Manager = (String, bool);

#[derive(Debug, Clone)]
struct Stored {
    object: Value,
    owners: BTreeMap<Manager, BTreeSet<Vec<String>>>,
    /// Looks since it was deleted.
    looked: u32,
}

#[derive(Default)]
struct State {
    knobs: Knobs,
    objects: BTreeMap<Key, Stored>,
    /// Looks at the pods of a version of a deployment.
    pod_looks: BTreeMap<String, u32>,
    version: u64,
    made: BTreeMap<&'static str, u32>,
}

/// The API server.
#[derive(Default)]
pub struct Kubernetes {
    state: Mutex<State>,
}

impl Kubernetes {
    /// One that does as the knobs say.
    pub fn new(knobs: Knobs) -> Self {
        let state = State {
            knobs,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// Turns the knobs.
    pub fn turn(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut self.state.lock().unwrap().knobs);
    }

    /// A kubeconfig for it.
    pub fn kubeconfig(url: &str) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": url}}],
            "users": [{"name": "test", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE}}],
        })
        .to_string()
    }

    /// What there is, as `plural/name`.
    pub fn objects(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state
            .objects
            .keys()
            .map(|(plural, name)| format!("{plural}/{name}"))
            .collect()
    }

    /// One object.
    pub fn object(&self, plural: &str, name: &str) -> Option<Value> {
        let state = self.state.lock().unwrap();
        let found = state
            .objects
            .iter()
            .find(|((kind, called), _)| *kind == plural && called == name);
        found.map(|(_, stored)| stored.object.clone())
    }

    /// How often something of this plural came to be.
    pub fn made(&self, plural: &str) -> u32 {
        let state = self.state.lock().unwrap();
        state.made.get(plural).copied().unwrap_or(0)
    }

    /// Puts something there that somebody else made.
    pub fn put(&self, plural: &'static str, object: Value) {
        let mut state = self.state.lock().unwrap();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let stored = Stored {
            object,
            owners: BTreeMap::new(),
            looked: 0,
        };
        state.objects.insert((plural, name), stored);
    }

    /// Changes an object as somebody with `kubectl edit` would.
    pub fn edit(&self, plural: &'static str, name: &str, patch: &Value) {
        let mut state = self.state.lock().unwrap();
        let reply = apply::update(&mut state, (plural, name.to_owned()), patch, "kubectl-edit");
        assert_eq!(reply.status, 200);
    }
}

impl Cloud for Kubernetes {
    fn answer(&self, request: &Request) -> Reply {
        let mut state = self.state.lock().unwrap();
        if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return status(401, "Unauthorized", "Unauthorized");
        }
        let path = request.path.clone();
        let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if let [
            "api",
            "v1",
            "namespaces",
            space,
            "services",
            service,
            "proxy",
            rest @ ..,
        ] = segments.as_slice()
        {
            let worker = match proxied(&state, space, service) {
                Ok(worker) => worker,
                Err(reply) => return reply,
            };
            let path = format!("/{}", rest.join("/"));
            drop(state);
            return forward(&worker, request, &path);
        }
        let reply = route(&mut state, request, &segments);
        if state.knobs.echo && reply.status >= 400 {
            let body = String::from_utf8_lossy(&request.bytes).into_owned();
            return status(reply.status, "Invalid", &format!("refused: {body}"));
        }
        reply
    }
}

fn route(state: &mut State, request: &Request, segments: &[&str]) -> Reply {
    match segments {
        ["api", "v1", "nodes"] => Reply::json(
            200,
            &json!({
                "kind": "NodeList", "apiVersion": "v1",
                "items": [{"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.7"}]}}],
            }),
        ),
        ["api", "v1", "namespaces", space, "pods"] if *space == NAMESPACE => {
            pods::list(state, request)
        }
        ["api", "v1", "namespaces", space, "pods", name, "log"] if *space == NAMESPACE => {
            pods::log(state, name, request)
        }
        [root @ .., "namespaces", space, plural] => match kind(state, root, plural) {
            Some(_) if *space != NAMESPACE => {
                Reply::json(200, &json!({"kind": "List", "items": []}))
            }
            Some(kind) if request.method == "GET" => list(state, kind, request),
            Some(_) => status(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            ),
            None => unknown(),
        },
        [root @ .., "namespaces", space, plural, name] => match kind(state, root, plural) {
            None => unknown(),
            Some(kind) => one(state, request, space, (kind, (*name).to_owned())),
        },
        _ => unknown(),
    }
}

/// A kind that the server knows, by its path.
fn kind(state: &State, root: &[&str], plural: &str) -> Option<&'static str> {
    let row = schema::KINDS.iter().find(|row| row.plural == plural)?;
    let root = root.join("/");
    let wanted = match row.version.contains('/') {
        true => format!("apis/{}", row.version),
        false => format!("api/{}", row.version),
    };
    let installed = !(state.knobs.bare && row.custom);
    (root == wanted && installed).then_some(row.plural)
}

fn one(state: &mut State, request: &Request, space: &str, key: Key) -> Reply {
    match request.method.as_str() {
        "GET" => get(state, &key),
        "DELETE" => delete(state, request, &key),
        "PATCH" if space != NAMESPACE => status(
            404,
            "NotFound",
            &format!("namespaces \"{space}\" not found"),
        ),
        "PATCH" => apply::patch(state, request, key),
        _ => status(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
    }
}

fn get(state: &mut State, key: &Key) -> Reply {
    settle(state, key);
    match state.objects.get(key) {
        Some(stored) => Reply::json(200, &stored.object),
        None => not_found(key),
    }
}

/// What controllers have done by the time somebody looks.
fn settle(state: &mut State, key: &Key) {
    let lingers = state.knobs.lingers;
    let Some(stored) = state.objects.get_mut(key) else {
        return;
    };
    if stored.object["metadata"].get("deletionTimestamp").is_some() {
        stored.looked += 1;
        if stored.looked > lingers {
            state.objects.remove(key);
        }
        return;
    }
    pods::control(state, key);
}

fn list(state: &mut State, plural: &'static str, request: &Request) -> Reply {
    let selector = request
        .parameter("labelSelector")
        .unwrap_or_default()
        .to_owned();
    let keys: Vec<Key> = state
        .objects
        .keys()
        .filter(|(kind, _)| *kind == plural)
        .cloned()
        .collect();
    let mut items = Vec::new();
    for key in keys {
        settle(state, &key);
        let found = state.objects.get(&key).map(|stored| stored.object.clone());
        items.extend(found.filter(|object| selected(object, &selector)));
    }
    Reply::json(
        200,
        &json!({"kind": "List", "apiVersion": "v1", "items": items}),
    )
}

fn selected(object: &Value, selector: &str) -> bool {
    selector
        .split(',')
        .filter(|part| !part.is_empty())
        .all(|part| {
            let (key, value) = part.split_once('=').unwrap();
            object["metadata"]["labels"]
                .get(key)
                .and_then(Value::as_str)
                == Some(value)
        })
}

fn delete(state: &mut State, request: &Request, key: &Key) -> Reply {
    let options = request.json();
    if let Some(fields) = options.as_object() {
        let known = [
            "apiVersion",
            "kind",
            "propagationPolicy",
            "preconditions",
            "gracePeriodSeconds",
        ];
        if let Some(field) = fields.keys().find(|field| !known.contains(&field.as_str())) {
            return status(400, "BadRequest", &format!("unknown field \"{field}\""));
        }
        let policy = options["propagationPolicy"]
            .as_str()
            .unwrap_or("Background");
        if !["Orphan", "Background", "Foreground"].contains(&policy) {
            return status(422, "Invalid", "propagationPolicy: Unsupported value");
        }
    }
    let lingers = state.knobs.lingers;
    let Some(stored) = state.objects.get_mut(key) else {
        return not_found(key);
    };
    let uid = &options["preconditions"]["uid"];
    if !uid.is_null() && *uid != stored.object["metadata"]["uid"] {
        return status(
            409,
            "Conflict",
            "Precondition failed: UID in precondition does not match",
        );
    }
    if lingers == 0 {
        state.objects.remove(key);
        return Reply::json(
            200,
            &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}),
        );
    }
    let metadata = &mut stored.object["metadata"];
    metadata["deletionTimestamp"] = "2026-11-22T12:00:00Z".into();
    metadata["finalizers"] = json!(["foregroundDeletion"]);
    Reply::json(200, &stored.object)
}

fn proxied(state: &State, space: &str, service: &str) -> Result<String, Reply> {
    let (name, port) = service.split_once(':').unwrap_or((service, ""));
    if space != NAMESPACE || port != "80" {
        return Err(status(
            404,
            "NotFound",
            "the server could not find the requested resource",
        ));
    }
    let ready = pods::any_ready(state, name);
    match (&state.knobs.worker, ready) {
        (Some(worker), true) => Ok(worker.clone()),
        _ => Err(status(
            503,
            "ServiceUnavailable",
            &format!("no endpoints available for service \"{service}\""),
        )),
    }
}

/// An answer of kind `Status`.
fn status(code: u16, reason: &str, message: &str) -> Reply {
    Reply::json(
        code,
        &json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code,
        }),
    )
}

fn not_found((plural, name): &Key) -> Reply {
    let message = format!("{plural} \"{name}\" not found");
    Reply::json(
        404,
        &json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": "NotFound", "details": {"name": name, "kind": plural}, "code": 404,
        }),
    )
}

/// A path that no kind has.
fn unknown() -> Reply {
    Reply::bytes(404, "text/plain; charset=utf-8", "404 page not found\n")
}
