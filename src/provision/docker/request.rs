//! The requests to docker's engine, as data.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{ID, Options};
use crate::provision::{Call, Deployment, MANAGED_BY, ProvisionError};

/// Where the worker listens in its container, and where its image keeps models.
pub(super) const PORT: &str = "8080/tcp";
const CACHE: &str = "/cache";
/// Names the variables that we set, since the image has some of its own.
pub(super) const VARIABLES: &str = "chandler-variables";
/// Names those of them that are secrets.
pub(super) const SECRETS: &str = "chandler-secrets";
/// How long a worker may take to finish its requests before docker kills it, in seconds.
const GRACE: u32 = 40;

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

pub(super) fn inspect(base: &str, name: &str) -> Call {
    Call::new(
        "look at the container",
        Method::GET,
        format!("{base}/containers/{name}/json"),
    )
}

pub(super) fn list(base: &str) -> Call {
    let filters = encoded(&json!({"label": [format!("managed-by={MANAGED_BY}")]}).to_string());
    let url = format!("{base}/containers/json?all=true&filters={filters}");
    Call::new("list the containers", Method::GET, url)
}

pub(super) fn image(base: &str, image: &str) -> Call {
    // A name has slashes, which the engine takes as they are.
    Call::new(
        "look for the image",
        Method::GET,
        format!("{base}/images/{image}/json"),
    )
}

pub(super) fn pull(base: &str, image: &str) -> Call {
    let (name, tag) = split(image);
    let tag = tag
        .map(|tag| format!("&tag={}", encoded(tag)))
        .unwrap_or_default();
    let url = format!("{base}/images/create?fromImage={}{tag}", encoded(name));
    Call::new(format!("pull {image}"), Method::POST, url).repeatable()
}

/// A name and its tag. Without one docker would pull every tag there is.
fn split(image: &str) -> (&str, Option<&str>) {
    if image.contains('@') {
        return (image, None);
    }
    match image.rsplit_once(':') {
        // A colon before the last slash is a registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (image, Some("latest")),
    }
}

/// What went wrong with a pull, which docker says in the middle of an answer that begins well.
pub(super) fn pull_error(told: &Value) -> Option<String> {
    let lines = match told {
        Value::String(text) => text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    lines
        .iter()
        .find_map(|line: &Value| Some(line.get("error")?.as_str()?.to_owned()))
}

pub(super) fn volume(base: &str, wanted: &Deployment, options: &Options) -> Call {
    let labels = json!({"managed-by": MANAGED_BY, "chandler-owner": wanted.owner});
    let body = json!({"Name": options.cache, "Labels": labels});
    Call::new(
        "make the volume for model files",
        Method::POST,
        format!("{base}/volumes/create"),
    )
    .with(body)
    .repeatable()
}

pub(super) fn create(
    base: &str,
    wanted: &Deployment,
    options: &Options,
) -> Result<Call, ProvisionError> {
    let variables = wanted.environment_with_placeholders();
    let names: Vec<&str> = variables.keys().map(String::as_str).collect();
    let mut labels = wanted.labels();
    labels.insert(VARIABLES.to_owned(), names.join(" "));
    let secrets: Vec<&str> = wanted.secrets.names().collect();
    labels.insert(SECRETS.to_owned(), secrets.join(" "));
    let environment: Vec<String> = variables
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let port = options
        .port
        .map(|port| port.to_string())
        .unwrap_or_default();
    let one = |key: &str, value: Value| Value::Object(Map::from_iter([(key.to_owned(), value)]));
    let mut host = json!({
        "PortBindings": one(PORT, json!([{"HostIp": options.host, "HostPort": port}])),
        "Binds": [format!("{}:{CACHE}", options.cache)],
        "RestartPolicy": {"Name": "unless-stopped"},
        "ReadonlyRootfs": true,
        "Tmpfs": {"/tmp": ""},
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
    });
    if !wanted.hardware.is_empty() {
        host["DeviceRequests"] =
            json!([{"Driver": "nvidia", "Count": 1, "Capabilities": [["gpu"]]}]);
    }
    let body = json!({
        "Image": wanted.image(ID)?,
        "Env": environment,
        "Labels": labels,
        "ExposedPorts": one(PORT, json!({})),
        "StopTimeout": GRACE,
        "HostConfig": host,
    });
    let url = format!("{base}/containers/create?name={}", wanted.name);
    Ok(Call::new("make the container", Method::POST, url).with(body))
}

pub(super) fn start(base: &str, id: &str) -> Call {
    Call::new(
        "start the container",
        Method::POST,
        format!("{base}/containers/{id}/start"),
    )
    .repeatable()
}

pub(super) fn stop(base: &str, id: &str) -> Call {
    let url = format!("{base}/containers/{id}/stop?t={GRACE}");
    Call::new("stop the container", Method::POST, url).repeatable()
}

pub(super) fn remove(base: &str, id: &str) -> Call {
    Call::new(
        "remove the container",
        Method::DELETE,
        format!("{base}/containers/{id}?force=true"),
    )
}

pub(super) fn logs(base: &str, id: &str, follow: bool, tail: &str) -> Call {
    let url =
        format!("{base}/containers/{id}/logs?stdout=true&stderr=true&follow={follow}&tail={tail}");
    Call::new("read the container's log", Method::GET, url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_port_is_no_tag() {
        assert_eq!(split("chandler"), ("chandler", Some("latest")));
        assert_eq!(
            split("host:5000/chandler"),
            ("host:5000/chandler", Some("latest"))
        );
        assert_eq!(
            split("host:5000/chandler:cpu"),
            ("host:5000/chandler", Some("cpu"))
        );
        assert_eq!(split("x@sha256:ab"), ("x@sha256:ab", None));
    }

    #[test]
    fn a_pull_that_fails_in_the_middle_is_a_failure() {
        let told = Value::String(
            "{\"status\":\"Pulling\"}\r\n{\"error\":\"no space left\"}\r\n".to_owned(),
        );
        assert_eq!(pull_error(&told).as_deref(), Some("no space left"));
        assert_eq!(pull_error(&json!({"status": "Pulled"})), None);
    }
}
