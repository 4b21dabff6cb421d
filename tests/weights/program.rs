//! The program itself: `chandler pull`, two of them on one cache, one that is killed, and a worker.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hub_double::Content;
use serde_json::Value;

use super::setup::*;

pub fn chandler(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chandler"));
    command
        .args(arguments)
        .env_clear()
        .env("HF_ENDPOINT", world.hub.url())
        .env("HF_HOME", world.home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn ended(child: Child) -> (String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert!(status.success(), "{stdout}{stderr}");
    (stdout, stderr)
}

pub fn run(world: &World, arguments: &[&str]) -> (String, String) {
    ended(chandler(world, arguments).spawn().unwrap())
}

#[test]
fn pull_says_what_it_would_do_does_it_and_prints_the_directory() {
    let world = World::new();
    let (plan, _) = run(&world, &["pull", REPO, "--dry-run", "--json"]);
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let files = plan["files"].as_array().unwrap();
    assert_eq!(files.len(), WANTED.len());
    assert!(files.iter().all(|file| file["here"] == false));
    assert!(plan["bytes_to_fetch"].as_u64().unwrap() > 2 * SHARD);
    let skipped = plan["skipped"].as_array().unwrap();
    let pickle = skipped
        .iter()
        .find(|file| file["path"] == "pytorch_model.bin")
        .unwrap();
    assert_eq!(pickle["why"], "pickle");
    assert_eq!(world.cdn_requests(), 0);
    assert!(!world.cache().exists());

    let (stdout, _) = run(&world, &["pull", REPO]);
    let dir = stdout.trim_end();
    let commit = world.hub.commit(REPO, "main").unwrap();
    assert!(
        dir.ends_with(&format!("models--org--model/snapshots/{commit}")),
        "{dir}"
    );
    holds(Path::new(dir), 1);

    let (plan, _) = run(&world, &["pull", REPO, "--dry-run"]);
    assert!(plan.contains("0 of 6 files are to be fetched"), "{plan}");
    world.hub.forget();
    let (json, _) = run(&world, &["pull", REPO, "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (json["directory"].as_str(), json["commit"].as_str()),
        (Some(dir), Some(commit.as_str()))
    );
    // A pull asks whether there is a newer one, and needs nothing else.
    assert_eq!(world.cdn_requests(), 0);
    assert!(!world.requests().is_empty());
}

#[test]
fn two_pulls_on_one_cache_fetch_everything_once() {
    let world = World::new();
    world.hub.throttle(2 * SHARD);
    let start = || chandler(&world, &["pull", REPO]).spawn().unwrap();
    let both = [start(), start()].map(ended);
    assert_eq!(both[0].0, both[1].0);
    holds(Path::new(both[0].0.trim_end()), 1);
    let fetched = world.hub.cdn_bytes();
    assert!(
        fetched < 2 * SHARD + SHARD / 4,
        "{fetched} bytes for two shards of {SHARD}"
    );
}

#[test]
fn a_pull_that_is_killed_goes_on_where_it_was() {
    let world = World::new();
    let big = 48 << 20;
    world.hub.put(model("org/big", 20).lfs(
        "model-00001-of-00002.safetensors",
        Content::synthetic(20, big),
    ));
    world.hub.throttle(2 << 20);
    let mut child = chandler(&world, &["pull", "org/big"]).spawn().unwrap();
    let began = Instant::now();
    while world.hub.cdn_bytes() < 24 << 20 {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = world.hub.cdn_bytes();
    world.hub.throttle(0);
    let (stdout, _) = run(&world, &["pull", "org/big"]);
    let again = world.hub.cdn_bytes() - before;
    assert!(
        again < big,
        "{again} bytes were fetched after the kill, as if nothing had been there"
    );
    let bytes = std::fs::read(Path::new(stdout.trim_end()).join(WANTED[1])).unwrap();
    assert!(bytes == Content::synthetic(20, big).bytes().unwrap());
}

#[test]
fn what_goes_wrong_is_said_in_one_line_with_a_code() {
    let world = World::new();
    for (arguments, code, said) in [
        (&["pull", "org/nowhere"][..], 1, "org/nowhere"),
        (&["pull", "demo"], 2, "part of this program"),
        (&["pull", "./nowhere"], 2, "no such directory"),
        (&["pull", "tinylama"], 2, "tinyllama"),
        (&["pull", REPO, "--hub-offline", "on"], 1, "HF_HUB_OFFLINE"),
    ] {
        let output = chandler(&world, arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
}
