//! Precedence, synonyms and errors, on made-up machines.

mod platforms;

use std::io::Write;

use super::resolve::*;
use super::{ConfigError, Source, Value};

fn given(
    flags: &[(&'static str, &str)],
    environment: &[(&str, &str)],
    file: Option<&str>,
) -> (Given, Option<tempfile::NamedTempFile>) {
    let written = file.map(|text| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    });
    let given = Given {
        flags: flags.iter().map(|(k, v)| (*k, (*v).to_owned())).collect(),
        file: written.as_ref().map(|f| f.path().to_owned()),
        ..Given::in_environment(environment)
    };
    (given, written)
}

fn resolved(
    flags: &[(&'static str, &str)],
    environment: &[(&str, &str)],
    file: Option<&str>,
) -> Result<Resolution, ConfigError> {
    let (given, _keep) = given(flags, environment, file);
    resolve(&given)
}

#[test]
fn flag_over_environment_over_file_over_default() {
    let file = Some("queue = 3\nmax_rows = 3\nprefill_chunk = 3\n");
    let environment = [("CHANDLER_QUEUE", "2"), ("CHANDLER_MAX_ROWS", "2")];
    let settings = resolved(&[("queue", "1")], &environment, file)
        .unwrap()
        .settings;
    assert_eq!(
        (settings.queue.get(), settings.queue.source.clone()),
        (1, Source::Flag("queue"))
    );
    assert_eq!(settings.max_rows.get(), 2);
    assert_eq!(
        settings.max_rows.source,
        Source::Environment("CHANDLER_MAX_ROWS")
    );
    assert_eq!(settings.prefill_chunk.get(), 3);
    assert!(matches!(settings.prefill_chunk.source, Source::File(_)));
    assert_eq!(settings.body_limit.source, Source::Default);
}

#[test]
fn the_card_comes_after_the_file_and_before_the_default() {
    let mut models = tempfile::NamedTempFile::new().unwrap();
    write!(models, "[[model]]\nid = \"mine\"\ntask = \"text-generation\"\nsource = \"someone/mine\"\nrevision = \"v2\"\ntested = \"expected\"\nsettings = {{ max_model_len = 4096, queue = 9 }}\n").unwrap();
    let path = models.path().to_str().unwrap();
    let file = format!("models_file = {path:?}\nmodel = \"MINE\"\nqueue = 3\n");
    let resolution = resolved(&[], &[], Some(&file)).unwrap();
    let settings = resolution.settings;
    assert_eq!(resolution.card.unwrap().id, "mine");
    assert_eq!(
        settings.max_model_len.map(std::num::NonZeroUsize::get),
        Some(4096)
    );
    assert_eq!(
        settings.max_model_len.source,
        Source::Catalog("mine".into())
    );
    assert_eq!(settings.revision.as_deref(), Some("v2"));
    assert_eq!(settings.queue.get(), 3);
}

#[test]
fn synonyms_are_honoured_and_a_contradiction_is_told() {
    let one = resolved(
        &[],
        &[
            ("MODEL_NAME", "some/where"),
            ("DTYPE", "float16"),
            ("MAX_MODEL_LEN", "128"),
        ],
        None,
    )
    .unwrap();
    assert_eq!(*one.settings.model, "some/where");
    assert_eq!(one.settings.dtype.as_str(), "f16");
    assert!(one.warnings.is_empty(), "{:?}", one.warnings);
    let two = resolved(&[], &[("HF_MODEL_ID", "a/a"), ("MODEL_NAME", "b/b")], None).unwrap();
    assert_eq!(*two.settings.model, "a/a");
    assert_eq!(
        two.warnings,
        ["HF_MODEL_ID and MODEL_NAME are set to different values; HF_MODEL_ID wins"]
    );
    let same = resolved(&[], &[("HF_MODEL_ID", "a/a"), ("MODEL_NAME", "a/a")], None).unwrap();
    assert!(same.warnings.is_empty());
}

#[test]
fn the_port_follows_the_house_rule() {
    let port = |flags: &[(&'static str, &str)], environment: &[(&str, &str)]| {
        *resolved(flags, environment, None).unwrap().settings.port
    };
    assert_eq!(port(&[], &[]), 8080);
    assert_eq!(port(&[], &[("PORT", "1")]), 1);
    assert_eq!(port(&[], &[("PORT", "1"), ("AIP_HTTP_PORT", "2")]), 1);
    assert_eq!(
        port(
            &[],
            &[
                ("PORT", "1"),
                ("AIP_HTTP_PORT", "2"),
                ("AIP_MODE", "PREDICTION")
            ]
        ),
        2
    );
    assert_eq!(
        port(
            &[],
            &[
                ("CHANDLER_PORT", "3"),
                ("AIP_HTTP_PORT", "2"),
                ("AIP_MODE", "PREDICTION")
            ]
        ),
        3
    );
    assert_eq!(port(&[("port", "4")], &[("CHANDLER_PORT", "3")]), 4);
}

#[test]
fn vertex_routes_count_only_on_vertex() {
    let routes = [
        ("AIP_HEALTH_ROUTE", "/v1/endpoints/1/deployedModels/2"),
        (
            "AIP_PREDICT_ROUTE",
            "/v1/endpoints/1/deployedModels/2:predict",
        ),
    ];
    assert!(
        resolved(&[], &routes, None)
            .unwrap()
            .settings
            .health_route
            .is_none()
    );
    let vertex = [routes[0], routes[1], ("AIP_MODE", "PREDICTION")];
    let settings = resolved(&[], &vertex, None).unwrap().settings;
    assert_eq!(settings.health_route.as_ref().unwrap().0, routes[0].1);
    assert_eq!(settings.predict_route.as_ref().unwrap().0, routes[1].1);
}

#[test]
fn a_runpod_worker_writes_its_lines_as_the_console_reads_them() {
    let queue = [
        ("RUNPOD_WEBHOOK_GET_JOB", "http://h/job-take/$ID"),
        ("RUNPOD_DEBUG_LEVEL", "WARN"),
    ];
    let settings = resolved(&[], &queue, None).unwrap().settings;
    assert_eq!(settings.log_format.as_str(), "runpod");
    assert_eq!(settings.log_level.0, "warn");
    let said = [
        queue[0],
        ("RUNPOD_LOG_LEVEL", "2"),
        ("CHANDLER_LOG_FORMAT", "text"),
    ];
    let settings = resolved(&[], &said, None).unwrap().settings;
    assert_eq!(
        (settings.log_format.as_str(), settings.log_level.0.as_str()),
        ("text", "debug")
    );
}

#[test]
fn an_empty_text_is_nothing_said() {
    let settings = resolved(
        &[("model", "")],
        &[("HF_MODEL_ID", ""), ("MODEL_NAME", " x/y ")],
        None,
    )
    .unwrap()
    .settings;
    assert_eq!(*settings.model, "x/y");
}

#[test]
fn a_wrong_value_names_its_place_and_what_would_do() {
    let says = |flags: &[(&'static str, &str)], environment: &[(&str, &str)], file| {
        resolved(flags, environment, file).unwrap_err().to_string()
    };
    assert_eq!(
        says(&[("port", "70000")], &[], None),
        "--port is `70000`: give a whole number from 0 to 65535"
    );
    assert_eq!(
        says(&[], &[("PORT", "http")], None),
        "PORT is `http`: give a whole number from 0 to 65535"
    );
    assert!(says(&[], &[], Some("drain_grace = \"soon\"")).starts_with("drain_grace in "));
    assert!(
        says(&[], &[], Some("drain_graze = \"5s\""))
            .ends_with("has no setting `drain_graze`; did you mean drain_grace?")
    );
    assert!(says(&[], &[], Some("queue = ")).starts_with("cannot read "));
}

#[test]
fn a_misspelt_variable_is_told() {
    let warnings = resolved(&[], &[("CHANDLER_PROT", "1")], None)
        .unwrap()
        .warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("CHANDLER_PROT is not a setting and was ignored"));
}

#[test]
fn keys_come_from_the_environment_and_the_key_file() {
    let mut keys = tempfile::NamedTempFile::new().unwrap();
    keys.write_all(b"# team\n\nbeta\n gamma \n").unwrap();
    let path = keys.path().to_str().unwrap();
    let settings = resolved(&[("api_key_file", path)], &[("API_KEY", "alpha")], None)
        .unwrap()
        .settings;
    assert_eq!(settings.api_keys.len(), 3);
    assert_eq!(settings.api_keys.source, Source::Environment("API_KEY"));
    let shown = settings.shown();
    let row = shown.iter().find(|row| row.key == "api_keys").unwrap();
    assert_eq!(row.value, "********,********,********");
}

#[test]
fn a_place_for_keys_without_keys_does_not_open_the_worker() {
    assert!(
        resolved(&[], &[("CHANDLER_API_KEYS", " , ")], None)
            .unwrap_err()
            .to_string()
            .contains("holds no API key")
    );
    let empty = tempfile::NamedTempFile::new().unwrap();
    let path = empty.path().to_str().unwrap();
    assert!(matches!(
        resolved(&[("api_key_file", path)], &[], None),
        Err(ConfigError::NoKeys { .. })
    ));
}

#[test]
fn the_cache_is_where_somebody_says_or_where_the_user_keeps_caches() {
    let cache = |flags: &[(&'static str, &str)], environment: &[(&str, &str)]| {
        let setting = resolved(flags, environment, None)
            .unwrap()
            .settings
            .cache_dir;
        (
            setting.value.map(|path| path.display().to_string()),
            setting.source,
        )
    };
    let both = [("XDG_CACHE_HOME", "/xdg"), ("HOME", "/home/user")];
    let found = |path: &str, source| (Some(path.to_owned()), source);
    assert_eq!(
        cache(&[("cache_dir", "/flag")], &both),
        found("/flag", Source::Flag("cache-dir"))
    );
    assert_eq!(
        cache(&[], &both),
        found("/xdg/chandler", Source::Environment("XDG_CACHE_HOME"))
    );
    // A relative one is to be ignored, says the specification.
    let relative = [("XDG_CACHE_HOME", "xdg"), ("HOME", "/home/user")];
    assert_eq!(
        cache(&[], &relative),
        found("/home/user/.cache/chandler", Source::Environment("HOME"))
    );
    assert_eq!(cache(&[], &[]), (None, Source::Default));
    // Said to be kept nowhere.
    assert_eq!(cache(&[("cache_dir", "none")], &both).0, None);
    let error = resolved(&[("quantize", "q5")], &[], None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("q4k, q8_0"), "{error}");
}

#[test]
fn adapters_come_from_a_flag_a_variable_or_a_list_in_the_file() {
    let lora = |flags: &[(&'static str, &str)], environment: &[(&str, &str)], file| {
        let settings = resolved(flags, environment, file).unwrap().settings;
        (settings.lora.show(), settings.lora.source.clone())
    };
    let file = Some("lora = [\"a=one\", \"b=two\"]\n");
    let (shown, source) = lora(&[], &[], file);
    assert_eq!(shown, "a=one,b=two");
    assert!(matches!(source, Source::File(_)));
    let json = r#"[{"name": "sql", "path": "three"}]"#;
    let vllm = lora(&[], &[("LORA_MODULES", json)], file);
    assert_eq!(
        vllm,
        ("sql=three".to_owned(), Source::Environment("LORA_MODULES"))
    );
    let flag = lora(&[("lora", "c=four")], &[("CHANDLER_LORA", "d=five")], file);
    assert_eq!(flag, ("c=four".to_owned(), Source::Flag("lora")));
    let error = resolved(&[("lora", "c")], &[], None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("--lora") && error.contains("name=directory"),
        "{error}"
    );
}
