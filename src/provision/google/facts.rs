//! What is compared of a thing that exists and the same thing as it should be: flat, in text, with what the platform adds by
//! itself left out. Both sides are read from the API's own documents by the same functions.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{entries, text};
use crate::provision::secrets::{MASK, mask_text};
use crate::provision::{Change, Deployment, Secrets};

/// By field.
pub(in crate::provision) type Facts = BTreeMap<String, String>;

/// Adds a fact, where there is something to say.
pub(in crate::provision) fn fact(facts: &mut Facts, field: &str, value: Option<&Value>) {
    let text = match value {
        None | Some(Value::Null) => return,
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    // What is absent and what has its default are one in proto3's JSON.
    if !["", "0", "false"].contains(&text.as_str()) {
        facts.insert(field.to_owned(), text);
    }
}

/// Adds our own labels.
pub(in crate::provision) fn labels(facts: &mut Facts, thing: &Value) {
    for label in ["managed-by", "chandler-deployment", "chandler-owner"] {
        fact(
            facts,
            &format!("labels.{label}"),
            thing.pointer(&format!("/labels/{label}")),
        );
    }
}

/// Adds a container's environment. A value that may be a secret is compared, and never told.
pub(in crate::provision) fn environment(facts: &mut Facts, list: &Value, wanted: &Deployment) {
    let plain = wanted.environment();
    for variable in entries(list, "") {
        let name = text(variable, "/name");
        let value = text(variable, "/value");
        let secret = wanted.secrets.get(name);
        let placeholder = Secrets::placeholder(name);
        let told = if let Some(reference) = variable.pointer("/valueSource/secretKeyRef") {
            let version = text(reference, "/version");
            format!("secret {}:{version}", text(reference, "/secret"))
        } else if value == placeholder || secret.is_some_and(|secret| same(secret, value)) {
            placeholder
        } else if secret.is_none() && plain.contains_key(name) {
            value.to_owned()
        } else {
            MASK.to_owned()
        };
        facts.insert(format!("env.{name}"), told);
    }
}

fn same(secret: &secrecy::SecretString, value: &str) -> bool {
    secrecy::ExposeSecret::expose_secret(secret) == value
}

/// An old value. One of the environment may have been a secret once, whatever it is now.
fn told_of_old(field: &str, value: &str) -> String {
    let is_reference = value.is_empty() || value.starts_with("secret ");
    match field.starts_with("env.") && !is_reference {
        true => MASK.to_owned(),
        false => mask_text(value),
    }
}

/// What differs.
pub(in crate::provision) fn changes(there: &Facts, should: &Facts) -> Vec<Change> {
    let fields: std::collections::BTreeSet<&String> = there.keys().chain(should.keys()).collect();
    let of = |facts: &Facts, field: &String| facts.get(field).cloned().unwrap_or_default();
    fields
        .into_iter()
        .filter(|field| there.get(*field) != should.get(*field))
        .map(|field| Change {
            field: field.clone(),
            from: told_of_old(field, &of(there, field)),
            to: mask_text(&of(should, field)),
        })
        .collect()
}
