//! What differs between two documents, field by field, without what only the cluster writes.

use serde_json::Value;

use super::kind::Kind;
use crate::provision::{Change, MASK};

/// Fields of `metadata` that the cluster writes by itself.
const OWN: [&str; 6] = [
    "managedFields",
    "resourceVersion",
    "generation",
    "uid",
    "creationTimestamp",
    "selfLink",
];
/// Annotations that controllers write.
const CONTROLLERS: [&str; 1] = ["deployment.kubernetes.io/revision"];

/// What changes when `after` takes the place of `before`.
pub(super) fn changes(kind: Kind, before: &Value, after: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    let begin = kind.name().to_lowercase();
    walk(&begin, before, after, &mut changes);
    if kind == Kind::Secret {
        for change in &mut changes {
            let secret = change.field.starts_with("secret.data");
            let mask = |text: &mut String| {
                if secret && !text.is_empty() {
                    *text = MASK.to_owned();
                }
            };
            mask(&mut change.from);
            mask(&mut change.to);
        }
    }
    changes
}

fn walk(field: &str, before: &Value, after: &Value, changes: &mut Vec<Change>) {
    if ignored(field) || before == after {
        return;
    }
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            for key in new.keys().chain(gone) {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned();
                let (old, new) = (of(old).unwrap_or_default(), of(new).unwrap_or_default());
                walk(&format!("{field}.{key}"), &old, &new, changes);
            }
        }
        (Value::Array(old), Value::Array(new)) => lists(field, old, new, changes),
        // An object that comes or goes is told by its fields.
        (Value::Object(_), Value::Null) => {
            walk(
                field,
                before,
                &Value::Object(serde_json::Map::new()),
                changes,
            );
        }
        (Value::Null, Value::Object(_)) => {
            walk(
                field,
                &Value::Object(serde_json::Map::new()),
                after,
                changes,
            );
        }
        _ => changes.push(Change {
            field: field.to_owned(),
            from: shown(before),
            to: shown(after),
        }),
    }
}

/// Lists of named things are compared by their names, others by their places.
fn lists(field: &str, old: &[Value], new: &[Value], changes: &mut Vec<Change>) {
    let name = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
    let named = old.iter().chain(new).all(|value| name(value).is_some());
    let find = |list: &[Value], key: &Option<String>| {
        let found = list.iter().find(|value| name(value) == *key);
        found.cloned().unwrap_or_default()
    };
    if named {
        let gone = old.iter().map(name).filter(|key| find(new, key).is_null());
        for key in new.iter().map(name).chain(gone.collect::<Vec<_>>()) {
            let place = format!("{field}[{}]", key.as_deref().unwrap_or_default());
            walk(&place, &find(old, &key), &find(new, &key), changes);
        }
        return;
    }
    for index in 0..old.len().max(new.len()) {
        let of = |list: &[Value]| list.get(index).cloned().unwrap_or_default();
        walk(&format!("{field}[{index}]"), &of(old), &of(new), changes);
    }
}

fn ignored(field: &str) -> bool {
    let mut parts = field.splitn(3, '.');
    let (_, second, rest) = (parts.next(), parts.next(), parts.next());
    match (second, rest) {
        (Some("status"), _) => true,
        (Some("metadata"), Some(rest)) => {
            OWN.iter().any(|own| {
                rest == *own
                    || rest.starts_with(&format!("{own}."))
                    || rest.starts_with(&format!("{own}["))
            }) || CONTROLLERS
                .iter()
                .any(|key| rest == format!("annotations.{key}"))
        }
        _ => false,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(kind: Kind, before: &Value, after: &Value) -> Vec<String> {
        let changes = changes(kind, before, after);
        let line = |change: &Change| format!("{}: {} -> {}", change.field, change.from, change.to);
        changes.iter().map(line).collect()
    }

    #[test]
    fn what_a_person_would_call_different_is_different() {
        let before = json!({
            "metadata": {"generation": 1, "resourceVersion": "5", "labels": {"a": "1"}},
            "spec": {"containers": [{"name": "worker", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}]},
            "status": {"ready": 1},
        });
        let after = json!({
            "metadata": {"generation": 2, "resourceVersion": "6", "labels": {"a": "2"}},
            "spec": {"containers": [{"name": "worker", "env": [{"name": "B", "value": "3"}]}]},
            "status": {"ready": 0},
        });
        assert_eq!(
            fields(Kind::Deployment, &before, &after),
            [
                "deployment.metadata.labels.a: 1 -> 2",
                "deployment.spec.containers[worker].env[B].value: 2 -> 3",
                "deployment.spec.containers[worker].env[A].name: A -> ",
                "deployment.spec.containers[worker].env[A].value: 1 -> ",
            ]
        );
        assert!(fields(Kind::Deployment, &before, &before).is_empty());
    }

    #[test]
    fn a_secret_that_differs_is_not_shown() {
        let of = |value: &str| json!({"data": {"HF_TOKEN": value}});
        assert_eq!(
            fields(Kind::Secret, &of("aHVzaA=="), &of("aHVzaDI=")),
            ["secret.data.HF_TOKEN: ******** -> ********"]
        );
    }
}
