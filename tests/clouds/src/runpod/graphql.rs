//! `saveEndpoint` of the GraphQL API, with the input that runpodctl has for it.

use serde_json::{Map, Value, json};

use super::{State, check};
use crate::Reply;

/// The fields of `EndpointInput` that are known.
const FIELDS: [&str; 19] = [
    "name",
    "type",
    "templateId",
    "template",
    "gpuIds",
    "gpuCount",
    "instanceIds",
    "workersMin",
    "workersMax",
    "locations",
    "networkVolumeId",
    "networkVolumeIds",
    "idleTimeout",
    "scalerType",
    "scalerValue",
    "executionTimeoutMs",
    "minCudaVersion",
    "flashBootType",
    "modelReferences",
];
const TEMPLATE: [&str; 5] = [
    "name",
    "imageName",
    "containerDiskInGb",
    "dockerArgs",
    "env",
];

fn errors(message: impl Into<String>) -> Reply {
    Reply::json(
        200,
        &json!({"errors": [{"message": message.into()}], "data": null}),
    )
}

fn unknown_field<'a>(map: &'a Map<String, Value>, known: &[&str]) -> Option<&'a str> {
    let mut keys = map.keys().map(String::as_str);
    keys.find(|key| !known.contains(key))
}

impl State {
    pub fn graphql(&mut self, body: &Value) -> Reply {
        let query = body["query"].as_str().unwrap_or_default();
        if !query.contains("($input: EndpointInput!)")
            || !query.contains("saveEndpoint(input: $input)")
        {
            return errors("Cannot query field");
        }
        let Some(input) = body["variables"]["input"].as_object() else {
            return errors(
                "Variable \"$input\" of required type \"EndpointInput!\" was not provided.",
            );
        };
        if let Some(field) = unknown_field(input, &FIELDS) {
            return errors(format!(
                "Field \"{field}\" is not defined by type \"EndpointInput\"."
            ));
        }
        let Some(template) = input.get("template").and_then(Value::as_object) else {
            return errors("template or templateId is required");
        };
        if let Some(field) = unknown_field(template, &TEMPLATE) {
            return errors(format!(
                "Field \"{field}\" is not defined by type \"TemplateInput\"."
            ));
        }
        let made = match self.endpoint_of(input, template) {
            Ok(made) => made,
            Err(message) => return errors(message),
        };
        if self
            .templates
            .values()
            .any(|one| one["name"] == template["name"])
        {
            return errors("Template name must be unique.");
        }
        if self.settings.half {
            let id = self.id("tpl");
            let left = json!({
                "id": id, "name": template["name"], "image": made["image"], "disk": made["disk"], "env": made["env"], "args": "",
                "mounts": {}, "ports": [], "registry": null, "serverless": true, "public": false, "category": "NVIDIA",
                "startSsh": false, "startJupyter": false, "allowedCudaVersions": [],
            });
            self.templates.insert(id, left);
            return errors("Something went wrong. Please try again later or contact support.");
        }
        if let Err(problem) = self.limits(&made) {
            return errors(problem.detail);
        }
        let models = input.get("modelReferences").and_then(Value::as_array);
        let models = models.into_iter().flatten().filter_map(Value::as_str);
        let models = models.map(str::to_owned).collect();
        let id = self.add(&made, models, true);
        Reply::json(200, &json!({"data": {"saveEndpoint": {"id": id}}}))
    }

    /// The same endpoint in API v2's words, checked by its rules.
    fn endpoint_of(
        &self,
        input: &Map<String, Value>,
        template: &Map<String, Value>,
    ) -> Result<Map<String, Value>, String> {
        let get = |key: &str| input.get(key).cloned().unwrap_or_default();
        if get("name").as_str().is_none_or(|name| name.len() < 3) {
            return Err("name must have 3 characters or more".to_owned());
        }
        let mut env = Map::new();
        for pair in template["env"].as_array().into_iter().flatten() {
            let key = pair["key"].as_str().ok_or("env has no key")?;
            env.insert(key.to_owned(), pair["value"].clone());
        }
        let ids = get("gpuIds");
        let ids = ids.as_str().unwrap_or_default().split(',');
        let (minus, pools): (Vec<&str>, Vec<&str>) = ids.partition(|id| id.starts_with('-'));
        let minus: Vec<&str> = minus.into_iter().map(|id| &id[1..]).collect();
        let mut gpu = json!({"pools": pools, "count": get("gpuCount")});
        if !minus.is_empty() {
            gpu["excludedTypes"] = json!(minus);
        }
        if let Some(version) = input.get("minCudaVersion") {
            gpu["minCudaVersion"] = version.clone();
        }
        let scaling = match get("scalerType").as_str() {
            Some("QUEUE_DELAY") => json!({"type": "QUEUE_DELAY", "queueDelay": get("scalerValue")}),
            _ => json!({"type": "REQUEST_COUNT", "requestCount": get("scalerValue")}),
        };
        let mut workers = json!({"min": get("workersMin"), "max": get("workersMax")});
        if let Some(idle) = input.get("idleTimeout") {
            workers["idleTimeout"] = idle.clone();
        }
        let volumes = get("networkVolumeIds");
        let volumes = volumes.as_array().into_iter().flatten();
        let volumes: Vec<&Value> = volumes.map(|one| &one["networkVolumeId"]).collect();
        let locations = get("locations");
        let locations = locations.as_str().unwrap_or_default().split(',');
        let locations: Vec<&str> = locations.filter(|id| !id.is_empty()).collect();
        let body = json!({
            "name": get("name"), "type": if get("type") == "LB" { "LOAD_BALANCER" } else { "QUEUE" },
            "image": template["imageName"], "disk": template["containerDiskInGb"], "env": env, "gpu": gpu, "scaling": scaling,
            "workers": workers, "dataCenterIds": locations, "networkVolumes": volumes, "timeout": get("executionTimeoutMs"),
            "flashboot": get("flashBootType"),
        });
        check::create(&body).map_err(|problem| {
            let errors = problem.errors.join("; ");
            format!("{} {errors}", problem.detail)
        })
    }
}
