//! What platforms, volumes and stores around the worker make of its settings.

use secrecy::ExposeSecret;

use super::super::{LogFormat, Platform, Source, Switch, Value};
use super::resolved;

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
