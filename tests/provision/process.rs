//! The worker as a process of this machine: for real, from nothing to a prediction and back.

use std::sync::Arc;
use std::time::Duration;

use cloud_doubles::{Cloud, Fault, Reply, Request, Server, When};
use serde_json::json;

use super::command::{Machine, Ran, until};

const MAKE: [&str; 6] = ["provision", "process", "mock", "--name", "one", "--wait"];

fn ask(url: &str) -> String {
    let body = json!({"model": "mock", "messages": [{"role": "user", "content": "hello there"}]})
        .to_string();
    let ran = std::process::Command::new("curl")
        .args([
            "-s",
            "-m",
            "10",
            &format!("{url}/v1/chat/completions"),
            "-H",
            "Content-Type: application/json",
            "-d",
            &body,
        ])
        .output()
        .unwrap();
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

fn url(ran: &Ran) -> String {
    ran.json()["url"].as_str().unwrap().to_owned()
}

/// Takes down whatever a test left.
struct Cleared<'a>(&'a Machine);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.0.run(&["endpoints", "delete", "one"]);
    }
}

#[test]
fn from_nothing_to_a_prediction_and_back() {
    let machine = Machine::new().with("HF_TOKEN", "hf_a_marked_secret");
    let _cleared = Cleared(&machine);
    let line = [
        &MAKE[..],
        &["--secret", "HF_TOKEN", "--set", "max_queue=7", "--json"],
    ]
    .concat();
    let made = machine.run(&line);
    // The settings that there are, are named.
    assert_eq!(made.code, Some(2), "{made:?}");
    let line = [
        &MAKE[..],
        &["--secret", "HF_TOKEN", "--set", "queue=7", "--json"],
    ]
    .concat();
    let made = machine.well(&line);
    assert_eq!(made.json()["created"], true);
    assert!(
        made.json()["first_prediction_seconds"].is_number(),
        "{made:?}"
    );
    let url = url(&made);
    assert!(ask(&url).contains("hello there"), "{}", ask(&url));

    // Again: nothing is done.
    let again = machine.well(&line);
    assert_eq!(
        (&again.json()["created"], &again.json()["url"]),
        (&json!(false), &json!(url))
    );
    let diff = [&line[..], &["--diff"]].concat();
    assert_eq!(
        machine.well(&diff).json(),
        json!({"exists": true, "changes": []})
    );

    // Another setting is a change, and only that; the port stays.
    let changed = [
        &MAKE[..],
        &["--secret", "HF_TOKEN", "--set", "queue=8", "--json"],
    ]
    .concat();
    let diff = machine.well(&[&changed[..], &["--diff"]].concat());
    let change = json!([{"field": "env.CHANDLER_QUEUE", "from": "7", "to": "8"}]);
    assert_eq!(diff.json()["changes"], change);
    let after = machine.well(&changed);
    assert_eq!(
        (&after.json()["changed"], &after.json()["url"]),
        (&change, &json!(url))
    );
    assert!(ask(&url).contains("hello there"));

    let listed = machine.well(&["endpoints", "list"]);
    assert!(
        listed.out.contains("one") && listed.out.contains("ready"),
        "{listed:?}"
    );
    let status = machine.well(&["endpoints", "status", "one", "--json"]);
    assert_eq!(status.json()["status"]["phase"], "serving");
    let logs = machine.well(&["endpoints", "logs", "one"]);
    assert!(logs.out.contains("listening"), "{logs:?}");

    for shown in [&made, &after, &diff, &listed, &status, &logs] {
        assert!(!format!("{shown:?}").contains("hf_a_marked_secret"));
    }
    assert!(!machine.remembered().contains("hf_a_marked_secret"));

    let told = machine.well(&[&MAKE[..], &["--secret", "HF_TOKEN", "--set", "queue=8"]].concat());
    assert!(
        told.err.contains("cost: $0.0000") && told.out.contains("endpoints delete one"),
        "{told:?}"
    );

    let gone = machine.well(&["endpoints", "delete", "one"]);
    assert!(gone.out.contains("one is gone"), "{gone:?}");
    assert!(ask(&url).is_empty());
    assert_eq!(machine.run(&["endpoints", "status", "one"]).code, Some(1));
    assert_eq!(
        machine.well(&["endpoints", "list", "--json"]).json(),
        json!([])
    );
}

#[test]
fn a_worker_that_never_serves_is_taken_down_unless_it_is_kept() {
    let machine = Machine::new();
    let _cleared = Cleared(&machine);
    let wrong = [
        "provision",
        "process",
        "mock",
        "--name",
        "one",
        "--wait",
        "--env",
        "CHANDLER_MODEL_X=1",
        "--env",
        "CHANDLER_QUEUE=none",
    ];
    let failed = machine.run(&wrong);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    // The worker's own words, and what was done about it.
    assert!(
        failed.err.contains("CHANDLER_QUEUE") && failed.err.contains("taking down"),
        "{failed:?}"
    );
    assert_eq!(
        machine.well(&["endpoints", "list", "--json"]).json(),
        json!([])
    );
    let kept = machine.run(&[&wrong[..], &["--keep"]].concat());
    assert_eq!(kept.code, Some(1));
    let listed = machine.well(&["endpoints", "list", "--json"]).json();
    assert_eq!(listed[0]["state"], "failed");
    let left = machine.well(&["endpoints", "gc"]);
    assert!(left.out.contains("process endpoint one"), "{left:?}");
    machine.well(&["endpoints", "gc", "--yes"]);
    assert!(
        machine
            .well(&["endpoints", "gc"])
            .out
            .contains("nothing is left over")
    );
}

#[test]
fn killed_at_any_moment_the_next_run_ends_with_one_worker() {
    for pause in [0, 5, 10, 20, 40, 80, 160, 320] {
        let machine = Machine::new();
        let _cleared = Cleared(&machine);
        let mut child = machine.start(&MAKE);
        std::thread::sleep(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
        let made = machine.well(&[&MAKE[..], &["--json"]].concat());
        let url = url(&made);
        assert!(ask(&url).contains("hello there"), "after {pause} ms");
        // One: nobody else holds the folder's lock, and when it goes its port is free.
        machine.well(&["endpoints", "delete", "one"]);
        until("the port is free", Duration::from_secs(5), || {
            ask(&url).is_empty()
        });
    }
}

#[test]
fn two_runs_at_once_make_one_worker() {
    let machine = Machine::new();
    let _cleared = Cleared(&machine);
    let runs: Vec<_> = (0..3)
        .map(|_| machine.start(&[&MAKE[..], &["--json"]].concat()))
        .collect();
    let ended: Vec<_> = runs
        .into_iter()
        .map(|run| run.wait_with_output().unwrap())
        .collect();
    let won = ended
        .iter()
        .filter(|output| output.status.success())
        .count();
    assert!(won >= 1, "{ended:?}");
    for output in ended.iter().filter(|output| !output.status.success()) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("works on `one`"), "{said}");
    }
    assert_eq!(
        machine
            .well(&["endpoints", "list", "--json"])
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_dry_run_shows_the_command_and_touches_nothing() {
    let machine = Machine::new().with("HF_TOKEN", "hf_a_marked_secret");
    let line = [
        "provision",
        "process",
        "mock",
        "--name",
        "one",
        "--dry-run",
        "--secret",
        "HF_TOKEN",
        "--port",
        "8123",
    ];
    let shown = machine.well(&line);
    for part in [
        "CHANDLER_MODEL=mock",
        "HF_TOKEN=********",
        "CHANDLER_PORT=8123",
        " serve",
    ] {
        assert!(shown.out.contains(part), "{shown:?}");
    }
    assert!(!format!("{shown:?}").contains("hf_a_marked"));
    assert!(!machine.folder().join("processes").exists());
    assert_eq!(
        machine.well(&["endpoints", "list", "--json"]).json(),
        json!([])
    );
}

#[test]
fn a_wrong_flag_names_itself_and_what_would_do() {
    let machine = Machine::new();
    for (line, said) in [
        (vec!["--name", "One"], "lower-case letters"),
        (vec!["--max-workers", "2"], "--max-workers 2"),
        (vec!["--set", "queu=1"], "queu"),
        (vec!["--set", "queue=many"], "queue"),
        (vec!["--secret", "NOT_SET"], "NOT_SET"),
        (vec!["--env", "=1"], "NAME=VALUE"),
        (vec!["--min-workers", "3"], "--min-workers is 3"),
        (vec!["--idle", "soon"], "soon"),
    ] {
        let ran =
            machine.run(&[&["provision", "process", "mock", "--dry-run"][..], &line].concat());
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains(said), "{said}: {ran:?}");
    }
    let near = machine.run(&["endpoints", "status", "two"]);
    assert!(near.err.contains("no endpoint called `two`"), "{near:?}");
}

/// Takes what a webhook is told.
struct Receiver;

impl Cloud for Receiver {
    fn answer(&self, _: &Request) -> Reply {
        Reply::empty(204)
    }
}

#[test]
fn a_webhook_is_told_of_the_end_either_way_signed_and_until_it_listens() {
    let server = Server::start(Arc::new(Receiver));
    let secret = "whsec_a_marked_secret";
    let machine = Machine::new().with("CHANDLER_WEBHOOK_SECRET", secret);
    let _cleared = Cleared(&machine);
    let path = "/hook".to_owned();
    server.fault(
        When::Matching {
            method: "POST",
            path,
            times: 1,
        },
        Fault::Status(503, None),
    );
    let url = format!("{}/hook", server.url);
    let line = [&MAKE[..], &["--webhook", &url]].concat();
    let made = machine.well(&line);
    let told = server.seen();
    assert_eq!(told.len(), 2, "one attempt failed, and was repeated");
    assert_eq!(
        told[0].header("x-chandler-event-id"),
        told[1].header("x-chandler-event-id")
    );
    let signature = told[1].header("x-chandler-signature").unwrap();
    let seconds = signature
        .strip_prefix("t=")
        .and_then(|rest| rest.split_once(','))
        .unwrap()
        .0;
    let own = chandler::webhook::sign(
        &secret.to_owned().into(),
        seconds.parse().unwrap(),
        &told[1].bytes,
    );
    assert_eq!(own.as_deref(), Some(signature));
    let ready = told[1].json();
    assert_eq!(
        (&ready["event"], &ready["endpoint"]),
        (&json!("endpoint.ready"), &json!("one"))
    );
    assert!(
        ready["url"]
            .as_str()
            .unwrap()
            .starts_with("http://127.0.0.1:"),
        "{ready}"
    );

    machine.well(&["endpoints", "delete", "one"]);
    let failed = machine.run(&[&line[..], &["--env", "CHANDLER_QUEUE=none"]].concat());
    assert_eq!(failed.code, Some(1));
    let told = server.seen().last().unwrap().json();
    assert_eq!(
        (&told["event"], &told["removed"]),
        (&json!("endpoint.failed"), &json!(true))
    );
    assert!(
        told["error"].as_str().unwrap().contains("CHANDLER_QUEUE"),
        "{told}"
    );
    for text in [&format!("{made:?}{failed:?}{told}"), &machine.remembered()] {
        assert!(!text.contains("a_marked"), "{text}");
    }
}

#[test]
fn an_endpoint_is_measured_by_its_name() {
    let machine = Machine::new();
    let _cleared = Cleared(&machine);
    machine.well(&MAKE);
    let measured = machine
        .well(&["bench", "one", "--requests", "5", "--json"])
        .json();
    assert_eq!(measured["runs"][0]["succeeded"], 5, "{measured}");
    let unknown = machine.run(&["bench", "two"]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
}

#[test]
fn what_has_served_is_not_taken_down_when_a_change_fails() {
    let machine = Machine::new();
    let _cleared = Cleared(&machine);
    machine.well(&MAKE);
    let wrong = [&MAKE[..], &["--env", "CHANDLER_QUEUE=none"]].concat();
    // Twice: the first failure does not make it the second's prey.
    for _ in 0..2 {
        let failed = machine.run(&wrong);
        assert_eq!(failed.code, Some(1), "{failed:?}");
        assert!(!failed.err.contains("taking down"), "{failed:?}");
        let listed = machine.well(&["endpoints", "list", "--json"]).json();
        assert_eq!(listed[0]["state"], "updating", "{listed}");
        assert!(
            listed[0]["error"]
                .as_str()
                .unwrap()
                .contains("CHANDLER_QUEUE"),
            "{listed}"
        );
        let left = machine.well(&["endpoints", "gc"]);
        assert!(left.out.contains("nothing is left over"), "{left:?}");
    }
    machine.well(&MAKE);
    let listed = machine.well(&["endpoints", "list", "--json"]).json();
    assert_eq!(
        (&listed[0]["state"], &listed[0]["error"]),
        (&json!("ready"), &json!(null))
    );
}
