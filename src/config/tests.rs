//! Precedence, synonyms and errors, on made-up machines.

use std::io::Write;

use secrecy::ExposeSecret;

use super::resolve::*;
use super::{ConfigError, LogFormat, Platform, Source, Switch, Value};

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
        environment: environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        file: written.as_ref().map(|f| f.path().to_owned()),
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

#[test]
fn a_platform_changes_defaults_and_says_so() {
    let set = |environment: &[(&str, &str)], flags: &[(&'static str, &str)], file| {
        resolved(flags, environment, file).unwrap()
    };
    let run = [("K_SERVICE", "worker")];
    let cloud = set(&run, &[], None);
    assert_eq!(cloud.platform, Platform::CloudRun);
    let grace = &cloud.settings.drain_grace;
    assert_eq!(grace.value, std::time::Duration::from_secs(8));
    assert_eq!(grace.source.to_string(), "platform Cloud Run");
    assert_eq!(*cloud.settings.log_format, LogFormat::Google);
    assert_eq!(*cloud.settings.port, 8080);
    for said in [
        set(&run, &[("drain_grace", "5s")], None),
        set(&run, &[], Some("drain_grace = \"5s\"\n")),
        set(&[run[0], ("CHANDLER_DRAIN_GRACE", "5s")], &[], None),
    ] {
        assert_eq!(
            said.settings.drain_grace.value,
            std::time::Duration::from_secs(5)
        );
    }
    let elsewhere = set(&[], &[], None).settings.drain_grace;
    assert_eq!(elsewhere.source, Source::Default);
}

#[test]
fn runpods_load_balancer_finds_the_worker_where_it_looks() {
    let ports = |environment: &[(&str, &str)]| {
        let settings = resolved(&[], environment, None).unwrap().settings;
        let route = settings.ping_route.as_ref().map(|route| route.0.clone());
        (*settings.port, *settings.health_port, route)
    };
    assert_eq!(ports(&[("RUNPOD_ENDPOINT_ID", "e")]), (80, None, None));
    let all = [
        ("PORT", "5000"),
        ("PORT_HEALTH", "5001"),
        ("HEALTH_CHECK_PATH", "/up"),
    ];
    assert_eq!(ports(&all), (5000, Some(5001), Some("/up".into())));
    // A Pod's owner opens ports by himself.
    assert_eq!(ports(&[("RUNPOD_POD_ID", "p")]), (8080, None, None));
}

#[test]
fn vertex_artifacts_are_the_model_only_when_nobody_names_one() {
    let model = |environment: &[(&str, &str)], flags: &[(&'static str, &str)], file| {
        let resolution = resolved(flags, environment, file).unwrap();
        assert!(resolution.warnings.is_empty(), "{:?}", resolution.warnings);
        let model = resolution.settings.model;
        (model.value, model.source.to_string())
    };
    let is = |model: &str, source: &str| (model.to_owned(), source.to_owned());
    let artifacts = [("AIP_MODE", "PREDICTION"), ("AIP_STORAGE_URI", "gs://b/m")];
    let empty = [("AIP_MODE", "PREDICTION"), ("AIP_STORAGE_URI", "")];
    assert_eq!(
        model(&artifacts, &[], None),
        is("gs://b/m", "environment AIP_STORAGE_URI")
    );
    assert_eq!(model(&empty, &[], None), is("demo", "default"));
    assert_eq!(model(&artifacts[1..], &[], None), is("demo", "default"));
    let named = [artifacts[0], artifacts[1], ("MODEL_NAME", "mock")];
    assert_eq!(
        model(&named, &[], None),
        is("mock", "environment MODEL_NAME")
    );
    assert_eq!(model(&artifacts, &[("model", "mock")], None).0, "mock");
    assert_eq!(model(&artifacts, &[], Some("model = \"mock\"\n")).0, "mock");
}

#[test]
fn other_workers_names_are_honoured_where_they_mean_the_same() {
    let environment = [
        ("MODEL_NAME", "mock"),
        ("DEFAULT_BATCH_SIZE", "20"),
        ("MIN_BATCH_SIZE", "2"),
        ("BATCH_SIZE_GROWTH_FACTOR", "1.5"),
        ("RAW_OPENAI_OUTPUT", "0"),
        ("REQUEST_TIMEOUT", "3600"),
        ("MODEL_LOAD_WAIT_TIMEOUT_SECONDS", "840"),
        ("MAX_CONCURRENCY", "30"),
        ("QUANTIZATION", "awq"),
    ];
    let resolution = resolved(&[], &environment, None).unwrap();
    let settings = resolution.settings;
    assert_eq!(settings.model.as_str(), "mock");
    assert_eq!(settings.stream_chunk.get(), 20);
    assert_eq!(settings.stream_chunk_first.get(), 2);
    assert_eq!(settings.stream_chunk_growth.show(), "1.5");
    assert_eq!(settings.raw_openai_output.show(), "off");
    assert_eq!(settings.request_timeout.as_secs(), 3600);
    assert_eq!(settings.load_wait.as_secs(), 840);
    assert_eq!(settings.max_rows.get(), 30);
    assert_eq!(resolution.warnings.len(), 1, "{:?}", resolution.warnings);
    assert!(resolution.warnings[0].starts_with("QUANTIZATION is"));
    for factor in ["0", "0.5", "nan", "inf", "x"] {
        let error = resolved(&[], &[("BATCH_SIZE_GROWTH_FACTOR", factor)], None).unwrap_err();
        assert!(error.to_string().contains("of 1 or more"), "{error}");
    }
}

#[test]
fn the_volume_of_runpods_images_holds_the_cache_on_runpod_only() {
    let cache = |environment: &[(&str, &str)]| {
        let cache = resolved(&[], environment, None).unwrap().settings.cache_dir;
        (cache.show(), cache.source)
    };
    let volume = ("BASE_PATH", "/runpod-volume");
    let home = ("HOME", "/home/somebody");
    let on_volume = "/runpod-volume/chandler".to_owned();
    assert_eq!(
        cache(&[volume, home, ("RUNPOD_POD_ID", "a")]),
        (on_volume, Source::Environment("BASE_PATH"))
    );
    let at_home = (
        "/home/somebody/.cache/chandler".to_owned(),
        Source::Environment("HOME"),
    );
    assert_eq!(cache(&[volume, home]), at_home);
    assert_eq!(
        cache(&[("BASE_PATH", "api"), home, ("RUNPOD_POD_ID", "a")]),
        at_home
    );
    let named = [
        ("CHANDLER_CACHE_DIR", "/mine"),
        volume,
        ("RUNPOD_POD_ID", "a"),
    ];
    assert_eq!(cache(&named).0, "/mine");
}

#[test]
fn a_wrong_address_is_not_repeated_because_it_may_hold_a_key() {
    let error = resolved(
        &[("webhook_url", "https://me:hush@hooks.example/")],
        &[],
        None,
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("--webhook-url is `********`: give an address"),
        "{error}"
    );
    assert!(!error.contains("hush"), "{error}");
}

#[test]
fn the_stores_of_runpod_and_of_amazon_are_told_apart() {
    let environment = [
        ("BUCKET_ENDPOINT_URL", "https://minio.example/results"),
        ("BUCKET_ACCESS_KEY_ID", "hush1"),
        ("AWS_ENDPOINT_URL", "https://aws.example"),
        ("AWS_ENDPOINT_URL_S3", "https://s3.example"),
        ("AWS_ACCESS_KEY_ID", "hush2"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("OUTPUT_S3_URL", "s3://outputs/a/"),
    ];
    let resolution = resolved(&[], &environment, None).unwrap();
    let shown = resolution.settings.shown();
    let of = |key: &str| {
        let row = shown.iter().find(|row| row.key == key).unwrap();
        (row.value.clone(), row.source.to_string())
    };
    let from = |value: &str, name: &str| (value.to_owned(), format!("environment {name}"));
    assert_eq!(
        of("bucket_endpoint_url"),
        from("https://minio.example/********", "BUCKET_ENDPOINT_URL")
    );
    assert_eq!(
        of("s3_endpoint"),
        from("https://s3.example/", "AWS_ENDPOINT_URL_S3")
    );
    assert_eq!(
        of("bucket_access_key_id"),
        from("********", "BUCKET_ACCESS_KEY_ID")
    );
    assert_eq!(of("s3_access_key"), from("********", "AWS_ACCESS_KEY_ID"));
    assert_eq!(of("s3_region"), from("eu-west-1", "AWS_DEFAULT_REGION"));
    assert_eq!(of("output_s3"), from("s3://outputs/a", "OUTPUT_S3_URL"));
    assert!(!format!("{:?}", resolution.settings).contains("hush"));
}

#[test]
fn the_hubs_cache_is_where_its_own_tools_have_it() {
    let cache = |environment: &[(&str, &str)]| {
        let cache = resolved(&[], environment, None).unwrap().settings.hub_cache;
        (cache.show(), cache.source)
    };
    let home = ("HOME", "/home/user");
    let from = |path: &str, name| (path.to_owned(), Source::Environment(name));
    assert_eq!(
        cache(&[home]),
        from("/home/user/.cache/huggingface/hub", "HOME")
    );
    let xdg = ("XDG_CACHE_HOME", "/xdg");
    assert_eq!(
        cache(&[home, xdg]),
        from("/xdg/huggingface/hub", "XDG_CACHE_HOME")
    );
    let hf_home = ("HF_HOME", "~/hf");
    assert_eq!(
        cache(&[home, xdg, hf_home]),
        from("/home/user/hf/hub", "HF_HOME")
    );
    let legacy = ("HUGGINGFACE_HUB_CACHE", "/legacy");
    assert_eq!(
        cache(&[home, hf_home, legacy]),
        from("/legacy", "HUGGINGFACE_HUB_CACHE")
    );
    let own = ("CHANDLER_HUB_CACHE", "/own");
    assert_eq!(cache(&[legacy, own, ("HF_HUB_CACHE", "/hf")]).0, "/own");
    let volume = [
        home,
        ("BASE_PATH", "/runpod-volume"),
        ("RUNPOD_POD_ID", "a"),
    ];
    assert_eq!(
        cache(&volume),
        from("/runpod-volume/huggingface-cache/hub", "BASE_PATH")
    );
    assert_eq!(cache(&[]), (String::new(), Source::Default));
    let read = |environment: &[(&str, &str)]| {
        let read = resolved(&[], environment, None)
            .unwrap()
            .settings
            .hub_read_caches;
        read.show()
    };
    assert_eq!(read(&[]), "");
    let runpods = "/runpod-volume/huggingface-cache/hub";
    assert_eq!(read(&[("RUNPOD_WEBHOOK_GET_JOB", "https://x")]), runpods);
}

#[test]
fn the_token_that_was_written_down_is_used_unless_one_is_given_or_it_is_forbidden() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), " hf_written\n").unwrap();
    let home = ("HF_HOME", dir.path().to_str().unwrap());
    let token = |environment: &[(&str, &str)]| {
        let resolution = resolved(&[], environment, None).unwrap();
        let token = resolution.settings.hf_token.value;
        (
            token.map(|token| token.expose_secret().to_owned()),
            resolution.warnings,
        )
    };
    assert_eq!(token(&[home]), (Some("hf_written".to_owned()), Vec::new()));
    assert_eq!(
        token(&[home, ("HF_TOKEN", "hf_given")]).0.unwrap(),
        "hf_given"
    );
    for yes in ["1", "TRUE", "on"] {
        assert_eq!(
            token(&[home, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", yes)]).0,
            None
        );
    }
    assert_eq!(token(&[("HF_HOME", "/nowhere")]), (None, Vec::new()));
    let (none, warnings) = token(&[home, ("HF_TOKEN_PATH", "/nowhere/token")]);
    assert_eq!(none, None);
    assert!(warnings[0].contains("/nowhere/token"), "{warnings:?}");
}

#[test]
fn a_switch_that_keeps_the_network_out_has_the_hubs_names() {
    for name in [
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "CHANDLER_HUB_OFFLINE",
    ] {
        for (text, switch) in [("1", Switch::On), ("ON", Switch::On), ("0", Switch::Off)] {
            let settings = resolved(&[], &[(name, text)], None).unwrap().settings;
            assert_eq!(*settings.hub_offline, switch, "{name}={text}");
        }
    }
}
