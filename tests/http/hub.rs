//! What RunPod's Hub reads of this repository: hub.json and tests.json have the fields that it knows, name variables that the
//! program knows, with values that it takes, and its tests pass.

use std::collections::BTreeMap;

use chandler::api::{self, ApiSettings};
use chandler::config::{Given, SPECS, resolve};
use chandler::engine::{Engine, EngineOptions};
use chandler::runpod::{Handler, Job, Piece, Streaming, Work};
use chandler_core::mock::{MockOptions, MockPipeline};
use futures_util::StreamExt;
use serde_json::{Map, Value};

fn file(name: &str) -> Value {
    let path = format!("{}/.runpod/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The object, which has all of the first fields, perhaps some of the second, and no other.
fn object<'a>(value: &'a Value, required: &[&str], optional: &[&str]) -> &'a Map<String, Value> {
    let map = value.as_object().unwrap();
    for key in required {
        assert!(map.contains_key(*key), "{key} is missing in {value}");
    }
    for key in map.keys() {
        let known = required.iter().chain(optional).any(|known| known == key);
        assert!(known, "the Hub knows no {key} in {value}");
    }
    map
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map[key].as_str().filter(|text| !text.is_empty()).unwrap()
}

/// What a form writes into the environment.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The program takes this value of this variable, and knows it without a warning.
fn is_taken(key: &str, value: &Value) {
    let known = SPECS
        .iter()
        .flat_map(|spec| spec.variables)
        .any(|variable| variable.name == key);
    assert!(known, "{key} is no variable of the program's");
    let given = Given {
        environment: BTreeMap::from([(key.to_owned(), written(value))]),
        ..Given::default()
    };
    let resolution = resolve(&given).unwrap_or_else(|error| panic!("{error}"));
    assert!(resolution.warnings.is_empty(), "{:?}", resolution.warnings);
}

#[test]
fn the_hub_knows_every_field_and_the_program_every_variable() {
    let hub = file("hub.json");
    let top = object(
        &hub,
        &["title", "description", "type", "category", "config"],
        &["iconUrl"],
    );
    assert!(!text(top, "title").is_empty() && !text(top, "description").is_empty());
    assert_eq!(text(top, "type"), "serverless");
    assert!(["audio", "embedding", "language", "video", "image"].contains(&text(top, "category")));
    let config = object(
        &top["config"],
        &["runsOn", "containerDiskInGb"],
        &[
            "endpointType",
            "gpuCount",
            "gpuIds",
            "cpuFlavor",
            "allowedCudaVersions",
            "presets",
            "env",
        ],
    );
    assert!(["GPU", "CPU"].contains(&text(config, "runsOn")));
    assert!(config["containerDiskInGb"].is_u64() && config["gpuCount"].is_u64());
    let variables = config["env"].as_array().unwrap();
    for variable in variables {
        let variable = object(variable, &["key"], &["value", "input"]);
        assert!(variable.contains_key("value") != variable.contains_key("input"));
        let key = text(variable, "key");
        match variable.get("value") {
            Some(value) => is_taken(key, value),
            None => form_is_taken(key, &variable["input"]),
        }
    }
    for preset in config["presets"].as_array().unwrap() {
        let preset = object(preset, &["name", "defaults"], &[]);
        for (key, value) in preset["defaults"].as_object().unwrap() {
            assert!(variables.iter().any(|variable| variable["key"] == *key));
            is_taken(key, value);
        }
    }
}

/// One field of the form: its kind, and that the program takes all that it may write.
fn form_is_taken(key: &str, input: &Value) {
    let input = object(
        input,
        &["name", "type"],
        &[
            "description",
            "default",
            "required",
            "advanced",
            "options",
            "min",
            "max",
            "trueValue",
            "falseValue",
        ],
    );
    let kind = text(input, "type");
    assert!(["string", "huggingface", "number", "boolean"].contains(&kind));
    for name in ["default", "min", "max", "trueValue", "falseValue"] {
        if let Some(value) = input.get(name) {
            is_taken(key, value);
        }
    }
    for option in input
        .get("options")
        .into_iter()
        .flat_map(|o| o.as_array().unwrap())
    {
        let option = object(option, &["label", "value"], &[]);
        is_taken(key, &option["value"]);
    }
    let says = input.get("default").or(input.get("min"));
    assert!(says.is_none() || (kind == "number") == says.is_some_and(Value::is_number));
}

#[tokio::test]
async fn the_hubs_tests_pass() {
    let tests = file("tests.json");
    let top = object(&tests, &["tests"], &["config"]);
    let config = object(
        &top["config"],
        &[],
        &[
            "gpuTypeId",
            "gpuCount",
            "cpuFlavor",
            "env",
            "allowedCudaVersions",
        ],
    );
    for variable in config["env"].as_array().unwrap() {
        let variable = object(variable, &["key", "value"], &[]);
        is_taken(text(variable, "key"), &variable["value"]);
    }
    let engine = Engine::start(EngineOptions::default(), |_| {
        Ok(MockPipeline::new(MockOptions::default()))
    });
    engine
        .watch()
        .wait_for(|s| *s == chandler::engine::Status::Ready)
        .await
        .unwrap();
    let router = api::inner_router(ApiSettings::default(), engine);
    let handler = Handler::new(router, Streaming::default());
    for test in top["tests"].as_array().unwrap() {
        let test = object(test, &["name", "input"], &["timeout"]);
        let name = text(test, "name");
        assert!(test["timeout"].as_u64().is_some_and(|millis| millis > 0));
        let job = Job {
            id: name.to_owned(),
            input: test["input"].clone(),
            rest: Map::new(),
        };
        let pieces: Vec<Piece> = handler.start(job).collect().await;
        let Some(Piece::Done(outcome)) = pieces.last() else {
            panic!("{name}: {pieces:?}");
        };
        let output = outcome
            .body
            .get("output")
            .filter(|output| !output.is_null());
        assert!(output.is_some(), "{name}: {}", outcome.body);
    }
}
