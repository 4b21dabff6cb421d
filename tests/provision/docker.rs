//! Containers, against a double of docker's engine whose containers are real workers.

use std::path::PathBuf;
use std::sync::Arc;

use cloud_doubles::docker::{Engine, Setup};
use cloud_doubles::{Fault, Server, When};
use serde_json::json;

use super::command::{Machine, killed_at};

const IMAGE: &str = "registry.example:5000/chandler:cpu";

struct Docker {
    engine: Arc<Engine>,
    server: Server,
    machine: Machine,
}

impl Docker {
    fn new() -> Self {
        let setup = Setup {
            program: Some(PathBuf::from(env!("CARGO_BIN_EXE_chandler"))),
            registry: vec![IMAGE.to_owned()],
            ..Setup::default()
        };
        let engine = Engine::new(setup);
        let machine = Machine::new().with("HF_TOKEN", "hf_a_marked_secret");
        let server = Server::start_unix(engine.clone(), &machine.folder().join("docker.sock"));
        let machine = machine.with("DOCKER_HOST", &server.url);
        Self {
            engine,
            server,
            machine,
        }
    }

    fn line<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        let line = [
            "provision",
            "docker",
            "mock",
            "--name",
            "one",
            "--image",
            IMAGE,
            "--wait",
            "--json",
            "--secret",
            "HF_TOKEN",
        ];
        [&line[..], more].concat()
    }

    /// The requests since some number of them, as method and path.
    fn since(&self, count: usize) -> Vec<String> {
        let seen = self.server.seen();
        seen.iter()
            .skip(count)
            .map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }
}

#[test]
fn a_container_is_made_once_changed_and_removed() {
    let docker = Docker::new();
    let made = docker.machine.well(&docker.line(&[]));
    assert_eq!(made.json()["created"], true, "{made:?}");
    let environment = docker.engine.environment("one");
    assert!(
        environment.contains(&"HF_TOKEN=hf_a_marked_secret".to_owned()),
        "{environment:?}"
    );

    // Again: it is only looked at.
    let before = docker.since(0).len();
    let again = docker.machine.well(&docker.line(&[]));
    assert_eq!(again.json()["created"], false);
    assert!(
        docker
            .since(before)
            .iter()
            .all(|request| request.starts_with("GET")),
        "{:?}",
        docker.since(before)
    );

    let diff = docker
        .machine
        .well(&docker.line(&["--set", "queue=5", "--diff"]));
    assert_eq!(
        diff.json()["changes"],
        json!([{"field": "env.CHANDLER_QUEUE", "from": "", "to": "5"}])
    );
    docker.machine.well(&docker.line(&["--set", "queue=5"]));
    assert!(
        docker
            .engine
            .environment("one")
            .contains(&"CHANDLER_QUEUE=5".to_owned())
    );
    assert_eq!(docker.engine.containers(), ["one"]);

    // Through the records, with the secret read again.
    let updated = docker.machine.well(&[
        "endpoints",
        "update",
        "one",
        "--set",
        "queue=6",
        "--unset",
        "HF_TOKEN",
        "--wait",
    ]);
    assert!(
        updated.out.contains("env.HF_TOKEN: ******** -> \n"),
        "{updated:?}"
    );
    assert!(
        !docker
            .engine
            .environment("one")
            .iter()
            .any(|pair| pair.starts_with("HF_TOKEN"))
    );

    // What was a secret is none the less one when it comes back as a plain value.
    docker.machine.well(&docker.line(&[]));
    let plain = docker.machine.well(
        &[
            &docker.line(&[])[..9],
            &["--diff", "--env", "HF_TOKEN=shown"],
        ]
        .concat(),
    );
    assert_eq!(
        plain.json()["changes"],
        json!([{"field": "env.HF_TOKEN", "from": "********", "to": "shown"}])
    );

    let logs = docker.machine.well(&["endpoints", "logs", "one"]);
    assert!(logs.out.contains("listening"), "{logs:?}");
    for shown in [&made, &again, &diff, &updated, &plain, &logs] {
        assert!(!format!("{shown:?}").contains("hf_a_marked"));
    }
    assert!(!docker.machine.remembered().contains("hf_a_marked"));
    docker.machine.well(&["endpoints", "delete", "one"]);
    assert!(docker.engine.containers().is_empty());
}

#[test]
fn killed_at_every_request_the_next_run_ends_with_one_container() {
    let mut number = 0;
    'requests: loop {
        for fault in [Fault::HoldBefore, Fault::HoldAfter] {
            let docker = Docker::new();
            let place = (&docker.machine, &docker.server);
            if !killed_at(place, &docker.line(&[]), number, fault.clone()) {
                break 'requests; // the next run would meet the fault that this one was too short for
            }
            docker.machine.well(&docker.line(&[]));
            assert_eq!(
                docker.engine.containers(),
                ["one"],
                "killed at request {number}, {fault:?}"
            );
            // And the other way: taken down instead.
            docker.machine.well(&["endpoints", "delete", "one"]);
            assert!(docker.engine.containers().is_empty());
        }
        number += 1;
    }
    assert!(number >= 5, "only {number} requests were seen");
}

#[test]
fn a_lost_answer_makes_no_second_container() {
    for fault in [Fault::CutAfter, Fault::CutBefore, Fault::Status(503, None)] {
        let docker = Docker::new();
        let path = "/containers/create".to_owned();
        docker.server.fault(
            When::Matching {
                method: "POST",
                path,
                times: 1,
            },
            fault,
        );
        docker.machine.well(&docker.line(&[]));
        assert_eq!(docker.engine.containers(), ["one"]);
    }
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let docker = Docker::new();
    docker.machine.well(&docker.line(&[]));
    // Another person's machine remembers nothing and finds the mark; a container without our mark is nobody's business.
    let foreign = Docker::new();
    let body = json!({"Image": IMAGE, "Env": ["A=b"]});
    let pull = format!(
        "/images/create?fromImage={}&tag=cpu",
        "registry.example%3A5000%2Fchandler"
    );
    let socket = foreign.server.url.trim_start_matches("unix://").to_owned();
    for (path, body) in [
        (pull, json!({})),
        ("/containers/create?name=one".to_owned(), body),
    ] {
        let ran = std::process::Command::new("curl")
            .args([
                "-sf",
                "--unix-socket",
                &socket,
                "-X",
                "POST",
                "-H",
                "Content-Type: application/json",
                "-d",
                &body.to_string(),
            ])
            .arg(format!("http://docker{path}"))
            .output()
            .unwrap();
        assert!(ran.status.success(), "{path}");
    }
    let refused = foreign.machine.run(&foreign.line(&[]));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("did not make"), "{refused:?}");
    assert_eq!(foreign.engine.containers(), ["one"]);
    assert_eq!(
        foreign
            .machine
            .well(&["endpoints", "list", "--json"])
            .json(),
        json!([])
    );
}

#[test]
fn an_image_that_cannot_be_had_and_a_missing_engine_are_told() {
    let docker = Docker::new();
    let line = [
        "provision",
        "docker",
        "mock",
        "--name",
        "one",
        "--image",
        "nowhere/else:1",
        "--wait",
    ];
    let failed = docker.machine.run(&line);
    assert!(failed.err.contains("manifest unknown"), "{failed:?}");
    assert!(docker.engine.containers().is_empty());
    let none = ["provision", "docker", "mock", "--name", "one", "--wait"];
    let failed = docker.machine.run(&none);
    assert!(
        failed.code == Some(2) && failed.err.contains("--image"),
        "{failed:?}"
    );
    let away = docker
        .machine
        .run(&docker.line(&["--engine", "unix:///nowhere/docker.sock"]));
    assert!(
        away.code == Some(1) && away.err.contains("cannot be reached"),
        "{away:?}"
    );
    let wrong = docker
        .machine
        .run(&docker.line(&["--engine", "ssh://host"]));
    assert!(
        wrong.code == Some(2) && wrong.err.contains("DOCKER_HOST"),
        "{wrong:?}"
    );
}
