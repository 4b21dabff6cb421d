//! Server-side apply as the API's reference tells it: who says what owns it, what one no longer says goes, and a field that
//! another one owns is a conflict unless it is forced. Lists of named things are merged by name, others are one value.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Key, Manager, State, Stored, schema, status};
use crate::{Reply, Request};

type Path = Vec<String>;

pub(super) fn patch(state: &mut State, request: &Request, key: Key) -> Reply {
    if state.knobs.refuses == Some(key.0) {
        return status(422, "Invalid", "admission webhook denied the request");
    }
    let validation = request
        .parameter("fieldValidation")
        .unwrap_or("Warn")
        .to_owned();
    let manager = request
        .parameter("fieldManager")
        .unwrap_or_default()
        .to_owned();
    let document = request.json();
    match request.header("content-type") {
        Some("application/apply-patch+yaml") => {}
        Some("application/merge-patch+json") => return update(state, key, &document, &manager),
        other => {
            let message = format!("the body of the request was in an unknown format: {other:?}");
            return status(415, "UnsupportedMediaType", &message);
        }
    }
    if manager.is_empty() {
        return status(
            422,
            "Invalid",
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        );
    }
    let row = schema::KINDS
        .iter()
        .find(|row| row.plural == key.0)
        .unwrap();
    if let Some(wrong) = wrong_head(row, &key, &document) {
        return status(400, "BadRequest", &wrong);
    }
    if validation == "Strict"
        && let Some(field) = schema::unknown_field(row, &document)
    {
        return status(
            400,
            "BadRequest",
            &format!("failed to create typed patch object: .{field}: field not declared in schema"),
        );
    }
    if let Some(wrong) = wrong_values(key.0, &document) {
        return status(422, "Invalid", &wrong);
    }
    let how = How {
        force: request.parameter("force") == Some("true"),
        dry: request.parameter("dryRun") == Some("All"),
    };
    merged(state, key, &document, (manager, true), how)
}

struct How {
    force: bool,
    dry: bool,
}

fn merged(state: &mut State, key: Key, document: &Value, by: Manager, how: How) -> Reply {
    let before = state.objects.get(&key).cloned();
    let live = before.clone().unwrap_or_else(|| Stored {
        object: json!({"apiVersion": document["apiVersion"], "kind": document["kind"]}),
        owners: Default::default(),
        looked: 0,
    });
    let mut said = BTreeSet::new();
    fields(document, &mut Vec::new(), &mut said);
    let conflicts = conflicts(&live, document, &said, &by);
    if !conflicts.is_empty() && !how.force {
        return refused(document, &conflicts);
    }
    let mut after = live.clone();
    let old = after.owners.get(&by).cloned().unwrap_or_default();
    for path in old.difference(&said) {
        let others = after
            .owners
            .iter()
            .any(|(manager, owned)| *manager != by && owned.contains(path));
        if !others {
            remove(&mut after.object, path);
        }
    }
    for path in &said {
        let value = get(document, path).cloned().unwrap_or_default();
        set(&mut after.object, path, value);
    }
    for (manager, owned) in &mut after.owners {
        if *manager != by {
            owned.retain(|path| !conflicts.iter().any(|(conflict, _)| conflict == path));
        }
    }
    after.owners.insert(by, said);
    defaults(&key, &mut after.object);
    stamp(state, &key, before.as_ref(), &mut after);
    let reply = Reply::json(if before.is_some() { 200 } else { 201 }, &after.object);
    if !how.dry {
        if before.is_none() {
            *state.made.entry(key.0).or_default() += 1;
        }
        state.objects.insert(key, after);
    }
    reply
}

/// An ordinary change: what it changes is owned by who makes it, and by nobody else any more.
pub(super) fn update(state: &mut State, key: Key, patch: &Value, manager: &str) -> Reply {
    let Some(before) = state.objects.get(&key).cloned() else {
        return super::not_found(&key);
    };
    let mut after = before.clone();
    let mut said = BTreeSet::new();
    fields(patch, &mut Vec::new(), &mut said);
    for path in &said {
        let value = get(patch, path).cloned().unwrap_or_default();
        if get(&after.object, path) != Some(&value) {
            set(&mut after.object, path, value);
            for owned in after.owners.values_mut() {
                owned.remove(path);
            }
            let by = (manager.to_owned(), false);
            after.owners.entry(by).or_default().insert(path.clone());
        }
    }
    stamp(state, &key, Some(&before), &mut after);
    let reply = Reply::json(200, &after.object);
    state.objects.insert(key, after);
    reply
}

/// What the server writes itself: a new version where anything differs.
fn stamp(state: &mut State, key: &Key, before: Option<&Stored>, after: &mut Stored) {
    if before.is_some_and(|before| before.object == after.object) {
        return;
    }
    state.version += 1;
    let version = state.version;
    let spec_changed = before.is_none_or(|before| before.object["spec"] != after.object["spec"]);
    let metadata = &mut after.object["metadata"];
    metadata["resourceVersion"] = version.to_string().into();
    if metadata.get("uid").is_none() {
        metadata["uid"] = format!("uid-{}-{version}", key.0).into();
        metadata["creationTimestamp"] = "2026-11-22T11:00:00Z".into();
        metadata["generation"] = 0.into();
    }
    if spec_changed {
        let generation = metadata["generation"].as_u64().unwrap_or(0);
        metadata["generation"] = (generation + 1).into();
    }
}

fn wrong_head(row: &schema::Row, (_, name): &Key, document: &Value) -> Option<String> {
    let metadata = &document["metadata"];
    if document["apiVersion"] != row.version || document["kind"] != row.kind {
        return Some(format!(
            "the API version in the data ({}) does not match",
            document["apiVersion"]
        ));
    }
    if metadata["name"] != *name {
        return Some("the name of the object does not match the name on the URL".to_owned());
    }
    if metadata.get("managedFields").is_some() {
        return Some("metadata.managedFields must be nil".to_owned());
    }
    let labels = metadata["labels"].as_object().cloned().unwrap_or_default();
    let long = |value: &Value| value.as_str().is_none_or(|text| text.len() > 63);
    labels
        .values()
        .any(long)
        .then(|| "metadata.labels: must be no more than 63 characters".to_owned())
}

/// What the server checks beyond the names of fields, as far as a worker's documents could be wrong in it.
fn wrong_values(plural: &str, document: &Value) -> Option<String> {
    let spec = &document["spec"];
    match plural {
        "secrets" => {
            let data = document["data"].as_object().cloned().unwrap_or_default();
            let base64 = |value: &Value| {
                let text = value.as_str().unwrap_or("!");
                text.len().is_multiple_of(4)
                    && text
                        .trim_end_matches('=')
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "+/".contains(c))
            };
            (!data.values().all(base64)).then(|| "illegal base64 data at input byte 0".to_owned())
        }
        "deployments" => {
            let labels = &spec["template"]["metadata"]["labels"];
            let wanted = spec["selector"]["matchLabels"].as_object()?;
            let fits = wanted
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value));
            let recreate = spec["strategy"]["type"] == "Recreate"
                && spec["strategy"].get("rollingUpdate").is_some();
            (!fits || recreate).then(|| "`selector` does not match template `labels`".to_owned())
        }
        "horizontalpodautoscalers" => {
            let (least, most) = (spec["minReplicas"].as_u64()?, spec["maxReplicas"].as_u64()?);
            (least == 0 || most < least)
                .then(|| "spec.minReplicas: must be greater than or equal to 1".to_owned())
        }
        _ => None,
    }
}

fn defaults((plural, _): &Key, object: &mut Value) {
    let default = |value: &mut Value, key: &str, default: Value| {
        if let Some(fields) = value.as_object_mut() {
            fields.entry(key).or_insert(default);
        }
    };
    match *plural {
        "deployments" => {
            default(&mut object["spec"], "replicas", 1.into());
            default(
                &mut object["spec"]["template"]["spec"],
                "restartPolicy",
                "Always".into(),
            );
            default(
                &mut object["spec"]["template"]["spec"],
                "dnsPolicy",
                "ClusterFirst".into(),
            );
        }
        "services" => {
            default(&mut object["spec"], "clusterIP", "10.96.0.10".into());
            default(&mut object["spec"], "sessionAffinity", "None".into());
            if object["spec"]["type"] == "NodePort" {
                default(&mut object["spec"]["ports"][0], "nodePort", 30080.into());
            }
            if object["spec"]["type"] == "LoadBalancer" {
                object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}});
            }
        }
        _ => {}
    }
}

/// Fields that another one owns and says otherwise.
fn conflicts(
    live: &Stored,
    document: &Value,
    said: &BTreeSet<Path>,
    by: &Manager,
) -> Vec<(Path, Manager)> {
    let mut found = Vec::new();
    for (manager, owned) in live.owners.iter().filter(|(manager, _)| *manager != by) {
        for path in said.intersection(owned) {
            if get(&live.object, path) != get(document, path) {
                found.push((path.clone(), manager.clone()));
            }
        }
    }
    found
}

fn refused(document: &Value, conflicts: &[(Path, Manager)]) -> Reply {
    let version = document["apiVersion"].as_str().unwrap_or_default();
    let field = |path: &Path| format!(".{}", path.join("."));
    let cause = |(path, (manager, _)): &(Path, Manager)| {
        json!({
            "reason": "FieldManagerConflict",
            "message": format!("conflict with \"{manager}\" using {version}"),
            "field": field(path),
        })
    };
    let causes: Vec<Value> = conflicts.iter().map(cause).collect();
    let list: Vec<String> = conflicts
        .iter()
        .map(|(path, (manager, _))| format!("\"{manager}\" using {version}: {}", field(path)))
        .collect();
    let message = format!(
        "Apply failed with {} conflict(s): conflicts with {}",
        causes.len(),
        list.join(", ")
    );
    Reply::json(
        409,
        &json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": "Conflict", "details": {"causes": causes}, "code": 409,
        }),
    )
}

/// The paths of a document's values: into objects, and into lists of named things.
fn fields(value: &Value, path: &mut Path, found: &mut BTreeSet<Path>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let head = path.is_empty() && ["apiVersion", "kind"].contains(&key.as_str());
                let own = *path == ["metadata"] && ["name", "namespace"].contains(&key.as_str());
                path.push(key.clone());
                match own {
                    // Who it is belongs to nobody, but has to stand there.
                    true => {
                        found.insert(path.clone());
                    }
                    false if !head => fields(value, path, found),
                    false => {}
                }
                path.pop();
            }
        }
        Value::Array(list)
            if !list.is_empty() && list.iter().all(|one| one["name"].is_string()) =>
        {
            for one in list {
                path.push(format!("[name={}]", one["name"].as_str().unwrap()));
                fields(one, path, found);
                path.pop();
            }
        }
        _ => {
            found.insert(path.clone());
        }
    }
}

fn named(segment: &str) -> Option<&str> {
    segment.strip_prefix("[name=")?.strip_suffix(']')
}

fn get<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter()
        .try_fold(value, |value, segment| match named(segment) {
            Some(name) => value.as_array()?.iter().find(|one| one["name"] == name),
            None => value.get(segment),
        })
}

fn set(value: &mut Value, path: &[String], to: Value) {
    let Some((segment, rest)) = path.split_first() else {
        *value = to;
        return;
    };
    if let Some(name) = named(segment) {
        if !value.is_array() {
            *value = json!([]);
        }
        let list = value.as_array_mut().unwrap();
        let place = list
            .iter()
            .position(|one| one["name"] == name)
            .unwrap_or_else(|| {
                list.push(json!({"name": name}));
                list.len() - 1
            });
        set(&mut list[place], rest, to);
        return;
    }
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    set(
        value
            .as_object_mut()
            .unwrap()
            .entry(segment)
            .or_insert(Value::Null),
        rest,
        to,
    );
}

/// Takes a value away, and what is empty after it.
fn remove(value: &mut Value, path: &[String]) {
    let Some((segment, rest)) = path.split_first() else {
        return;
    };
    if let Some(name) = named(segment) {
        let Some(list) = value.as_array_mut() else {
            return;
        };
        let Some(place) = list.iter().position(|one| one["name"] == name) else {
            return;
        };
        remove(&mut list[place], rest);
        let left = list[place].as_object().is_none_or(Map::is_empty);
        if left {
            list.remove(place);
        }
        return;
    }
    let Some(map) = value.as_object_mut() else {
        return;
    };
    if rest.is_empty() {
        map.shift_remove(segment);
    } else if let Some(inner) = map.get_mut(segment) {
        remove(inner, rest);
        let empty = inner.as_object().is_some_and(Map::is_empty)
            || inner.as_array().is_some_and(Vec::is_empty);
        if empty {
            map.shift_remove(segment);
        }
    }
}
