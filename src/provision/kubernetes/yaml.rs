//! Documents as YAML, for people who apply them themselves.

use serde_json::Value;

use super::kind::Kind;
use super::manifests::Wanted;
use crate::provision::{ProvisionError, Secrets};

/// Every document, with secrets as a reference and a line that says how to make them; with `secrets` whole.
pub(super) fn print(wanted: &Wanted<'_>, secrets: bool) -> Result<String, ProvisionError> {
    let mut text = String::new();
    for object in wanted.objects()? {
        if object.kind == Kind::Secret && !secrets {
            text.push_str(&how_to_make(wanted));
            continue;
        }
        let filled = match secrets {
            true => wanted.deployment.secrets.fill(&object.manifest),
            false => object.manifest,
        };
        text.push_str("---\n");
        text.push_str(&document(&filled)?);
    }
    Ok(text)
}

/// One document.
fn document(value: &Value) -> Result<String, ProvisionError> {
    serde_saphyr::to_string(value).map_err(|error| ProvisionError::Local {
        purpose: "write YAML".to_owned(),
        reason: error.to_string(),
    })
}

fn how_to_make(wanted: &Wanted<'_>) -> String {
    let deployment = wanted.deployment;
    let secret = Kind::Secret.called(&deployment.name);
    let namespace = &wanted.options.namespace;
    let mut text = format!(
        "# Not in here: the secret `{secret}`. Make it before the rest (or print it with --yaml-secrets):\n#   kubectl -n {namespace} create secret generic {secret}"
    );
    for name in deployment.secrets.names() {
        text.push_str(&format!(" --from-literal={name}=\"${name}\""));
    }
    text.push('\n');
    text
}

/// What stands for the secret's version in documents that are printed.
pub(super) fn printed_version(secrets: &Secrets) -> String {
    match secrets.is_empty() {
        true => String::new(),
        false => "1".to_owned(),
    }
}
