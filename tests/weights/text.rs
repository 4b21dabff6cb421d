//! Language models that come from the hub: they answer as from a directory, sharded and with an adapter, while their shards
//! are still coming, and again without any network.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hub_double::{Double, Options, Repo};
use serde_json::Value;

fn fixture(name: &str) -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/text/tests/fixtures");
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixtures");
    let made = random_checkpoints::checkpoint(&fixtures.join(name), &scratch).unwrap();
    made.to_str().unwrap().to_owned()
}

/// The repository with everything of a fixture, expectations included: nobody fetches those.
fn publish(hub: &Double, id: &str, name: &str) {
    hub.put(Repo::new(id).directory(Path::new(&fixture(name))).unwrap());
}

/// What the program answers with these arguments.
fn answer(hub: &Double, home: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_chandler"))
        .args([
            "run",
            "a b",
            "--raw",
            "--json",
            "--max-tokens",
            "6",
            "--temperature",
            "0",
        ])
        .args(arguments)
        .env_clear()
        .env("HF_ENDPOINT", hub.url())
        .env("HF_HOME", home)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["text"].as_str().unwrap().to_owned()
}

#[test]
fn a_sharded_model_from_the_hub_answers_as_from_a_directory() {
    let hub = Double::start(Options::default()).unwrap();
    let home = tempfile::tempdir().unwrap();
    publish(&hub, "org/llama", "llama3-bf16-sharded");
    let here = answer(
        &hub,
        home.path(),
        &["--model", &fixture("llama3-bf16-sharded")],
    );
    assert_eq!(hub.seen().len(), 0);
    assert_eq!(answer(&hub, home.path(), &["--model", "org/llama"]), here);
    let seen = hub.seen();
    assert!(
        !seen.iter().any(|one| one.path.contains("expected")),
        "nobody needs it"
    );
    hub.forget();
    assert_eq!(
        answer(&hub, home.path(), &["--model", "org/llama@main"]),
        here
    );
    assert_eq!(hub.seen().len(), 0, "everything is in the cache");
}

#[test]
fn an_adapter_from_the_hub_answers_as_from_a_directory() {
    let hub = Double::start(Options::default()).unwrap();
    let home = tempfile::tempdir().unwrap();
    publish(&hub, "org/wide", "lora/llama2-f32/wide");
    let model = fixture("llama2-f32");
    let with = |place: &str| {
        let lora = format!("wide={place}");
        answer(
            &hub,
            home.path(),
            &["--model", &model, "--lora", &lora, "--adapter", "wide"],
        )
    };
    let here = with(&fixture("lora/llama2-f32/wide"));
    assert_eq!(with("org/wide"), here);
    assert!(!hub.seen().is_empty());
    assert_ne!(answer(&hub, home.path(), &["--model", &model]), here);
}

#[test]
fn a_hub_that_fails_in_the_middle_ends_the_start_with_its_reason() {
    let hub = Double::start(Options::default()).unwrap();
    let home = tempfile::tempdir().unwrap();
    publish(&hub, "org/llama", "llama3-bf16-sharded");
    let last = "model-00004-of-00004.safetensors";
    hub.script_for(
        hub_double::Kind::Resolve,
        last,
        [404; 40].map(hub_double::Fault::Status),
    );
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_chandler"))
        .args(["run", "a", "--model", "org/llama"])
        .env_clear()
        .env("HF_ENDPOINT", hub.url())
        .env("HF_HOME", home.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(last), "{stderr}");
    assert!(began.elapsed() < Duration::from_secs(60));
}
