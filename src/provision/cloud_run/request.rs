//! The Cloud Run service of a deployment as data: pure functions, which the dry run, the work and the tests share.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::limits::{self, Limits};
use super::{ID, Options};
use crate::provision::google::seconds;
use crate::provision::{Call, Deployment, Name, ProvisionError};

/// The port in the container; `PORT` says it to the worker.
const PORT: u16 = 8080;
/// Requests come when this is 200: without a startup probe they would come when the port is open, which it is at once.
const READY: &str = "/isalive";
const ALIVE: &str = "/livez";
/// Seconds between two probes of a worker that starts.
const PERIOD: u64 = 10;
/// Where a bucket is mounted.
const MOUNT: &str = "/models";
/// The worker's variable of places that hold models already.
const READ_CACHES: &str = "CHANDLER_HUB_READ_CACHES";
/// What everybody may call is bound to.
pub(super) const INVOKER: &str = "roles/run.invoker";
/// Everybody.
pub(super) const EVERYBODY: &str = "allUsers";

/// Builds requests; `charged` is the project of a user's login.
pub(super) struct Requests<'a> {
    pub options: &'a Options,
    pub charged: Option<&'a str>,
}

impl Requests<'_> {
    fn call(&self, purpose: &str, method: Method, path: &str) -> Call {
        let call = Call::new(purpose, method, format!("{}{path}", self.options.base()));
        match self.charged {
            Some(project) => call.header("x-goog-user-project", project),
            None => call,
        }
    }

    pub(super) fn create(&self, wanted: &Deployment) -> Result<Call, ProvisionError> {
        let path = format!("?serviceId={}", wanted.name);
        Ok(self
            .call("create the service", Method::POST, &path)
            .with(service(wanted, self.options)?))
    }

    /// Changes these fields and no others.
    pub(super) fn update(
        &self,
        wanted: &Deployment,
        fields: &[&str],
    ) -> Result<Call, ProvisionError> {
        let path = format!("/{}?updateMask={}", wanted.name, fields.join(","));
        let mut body = Map::new();
        if let Value::Object(service) = service(wanted, self.options)? {
            body.extend(
                service
                    .into_iter()
                    .filter(|(field, _)| fields.contains(&field.as_str())),
            );
        }
        // The same template makes no other revision.
        Ok(self
            .call("update the service", Method::PATCH, &path)
            .with(Value::Object(body))
            .repeatable())
    }

    /// Changes the number of workers alone.
    pub(super) fn scale(&self, name: &Name, template: &Value, (min, max): (u32, u32)) -> Call {
        let mut template = template.clone();
        if let Some(template) = template.as_object_mut() {
            template.insert("scaling".to_owned(), scaling(min, max));
            // The next revision gets a name of its own.
            template.shift_remove("revision");
        }
        let path = format!("/{name}?updateMask=template");
        self.call("change the number of workers", Method::PATCH, &path)
            .with(json!({"template": template}))
            .repeatable()
    }

    pub(super) fn delete(&self, name: &Name) -> Call {
        self.call("delete the service", Method::DELETE, &format!("/{name}"))
    }

    pub(super) fn policy(&self, name: &Name) -> Call {
        let path = format!("/{name}:getIamPolicy");
        self.call("look who may call the service", Method::GET, &path)
    }

    pub(super) fn allow(&self, name: &Name, policy: &Value) -> Call {
        let path = format!("/{name}:setIamPolicy");
        self.call("say who may call the service", Method::POST, &path)
            .with(json!({"policy": policy}))
    }
}

/// A policy with everybody among those who may call the service, or without; none when it is so already.
pub(super) fn policy(there: &Value, public: bool) -> Option<Value> {
    let everybody = Value::from(EVERYBODY);
    let mut policy = there.as_object().cloned().unwrap_or_default();
    let mut bindings = match policy.get("bindings") {
        Some(Value::Array(bindings)) => bindings.clone(),
        _ => Vec::new(),
    };
    let is_invoker = |binding: &Value| {
        binding.get("role") == Some(&INVOKER.into()) && binding.get("condition").is_none()
    };
    let members = |binding: &Value| match binding.get("members") {
        Some(Value::Array(members)) => members.clone(),
        _ => Vec::new(),
    };
    let has = bindings
        .iter()
        .any(|binding| is_invoker(binding) && members(binding).contains(&everybody));
    if has == public {
        return None;
    }
    match public {
        true => bindings.push(json!({"role": INVOKER, "members": [EVERYBODY]})),
        false => {
            for binding in bindings.iter_mut().filter(|binding| is_invoker(binding)) {
                let others = members(binding).into_iter().filter(|one| *one != everybody);
                let others: Vec<Value> = others.collect();
                if let Some(binding) = binding.as_object_mut() {
                    binding.insert("members".to_owned(), others.into());
                }
            }
            bindings.retain(|binding| !members(binding).is_empty());
        }
    }
    policy.insert("bindings".to_owned(), bindings.into());
    Some(Value::Object(policy))
}

fn scaling(min: u32, max: u32) -> Value {
    json!({"minInstanceCount": min, "maxInstanceCount": max})
}

/// The service as it should be, without its name, which the address says.
pub(super) fn service(wanted: &Deployment, options: &Options) -> Result<Value, ProvisionError> {
    Ok(json!({
        "labels": wanted.labels(),
        "ingress": "INGRESS_TRAFFIC_ALL",
        "template": template(wanted, options)?,
    }))
}

fn template(wanted: &Deployment, options: &Options) -> Result<Value, ProvisionError> {
    let limits = limits::of(wanted, options)?;
    let mut template = json!({
        "containers": [container(wanted, options, &limits)?],
        "scaling": scaling(wanted.scaling.min, wanted.scaling.max),
        "maxInstanceRequestConcurrency": wanted.scaling.concurrency,
        "timeout": seconds(wanted.request_timeout),
        "executionEnvironment": "EXECUTION_ENVIRONMENT_GEN2",
    });
    let mut further = Map::new();
    if let Some(accelerator) = &limits.accelerator {
        further.insert(
            "nodeSelector".to_owned(),
            json!({"accelerator": accelerator}),
        );
        // With it a project needs a quota that none has to begin with.
        further.insert("gpuZonalRedundancyDisabled".to_owned(), true.into());
    }
    if let Some(account) = &options.service_account {
        further.insert("serviceAccount".to_owned(), account.as_str().into());
    }
    if let Some(volume) = &options.volume {
        let mut bucket = json!({"bucket": volume.bucket, "readOnly": true});
        if let (Some(path), Some(bucket)) = (&volume.path, bucket.as_object_mut()) {
            bucket.insert(
                "mountOptions".to_owned(),
                json!([format!("only-dir={path}")]),
            );
        }
        further.insert(
            "volumes".to_owned(),
            json!([{"name": "models", "gcs": bucket}]),
        );
    }
    if let Some(template) = template.as_object_mut() {
        template.extend(further);
    }
    Ok(template)
}

fn container(
    wanted: &Deployment,
    options: &Options,
    limits: &Limits,
) -> Result<Value, ProvisionError> {
    let probe = |path: &str, period: u64, failures: u64| {
        json!({
            "httpGet": {"path": path, "port": PORT},
            "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": failures,
        })
    };
    let start = wanted.start_timeout.as_secs().div_ceil(PERIOD).max(1);
    let mut container = json!({
        "image": wanted.image(ID)?,
        "ports": [{"containerPort": PORT}],
        "env": environment(wanted, options)?,
        "resources": {
            "limits": limits.json(),
            // A model that is loaded, and a GPU, are there between two requests, too.
            "cpuIdle": false,
            "startupCpuBoost": true,
        },
        "startupProbe": probe(READY, PERIOD, start),
        "livenessProbe": probe(ALIVE, 30, 4),
    });
    if let (Some(_), Some(container)) = (&options.volume, container.as_object_mut()) {
        let mount = json!([{"name": "models", "mountPath": MOUNT}]);
        container.insert("volumeMounts".to_owned(), mount);
    }
    Ok(container)
}

fn environment(wanted: &Deployment, options: &Options) -> Result<Vec<Value>, ProvisionError> {
    let mut all = wanted.environment_with_placeholders();
    if options.volume.is_some() && !all.contains_key(READ_CACHES) {
        all.insert(READ_CACHES.to_owned(), MOUNT.to_owned());
    }
    let reserved = |name: &&String| name.as_str() == "PORT" || name.starts_with("K_");
    if let Some(name) = all.keys().find(reserved) {
        return Err(ProvisionError::invalid(
            "--env",
            name,
            "Cloud Run sets PORT and the variables that begin with K_ itself",
        ));
    }
    if let Some(twice) = options
        .secrets
        .iter()
        .find(|secret| all.contains_key(&secret.variable))
    {
        return Err(ProvisionError::invalid(
            "--gcp-secret",
            &twice.variable,
            "the variable has a value already; give it once",
        ));
    }
    let plain = all
        .into_iter()
        .map(|(name, value)| json!({"name": name, "value": value}));
    let kept = options.secrets.iter().map(|secret| {
        let reference = json!({"secret": secret.secret, "version": secret.version});
        json!({"name": secret.variable, "valueSource": {"secretKeyRef": reference}})
    });
    Ok(plain.chain(kept).collect())
}
