//! Endpoints on Vertex AI, against a double that Google's own client accepts.

use std::io::{Read, Write};

use cloud_doubles::{Fault, When};
use serde_json::json;

use super::google::{Cloud, SECRET, Worker, of};

const ONE: [&str; 2] = ["--min-workers", "1"];

fn line(cloud: &Cloud, more: &[&str]) -> Vec<String> {
    cloud.line("vertex", &[&ONE[..], more].concat())
}

/// What there is when all is well.
fn whole(cloud: &Cloud) -> bool {
    let all = cloud.google.everything();
    let kinds: Vec<&str> = all
        .iter()
        .map(|one| one.split('/').next().unwrap())
        .collect();
    kinds == ["models", "endpoints", "deployed"]
}

#[test]
fn an_endpoint_is_made_once_changed_and_taken_down() {
    let worker = Worker::start();
    let cloud = Cloud::new(&worker).of_a_user();
    let dry = cloud.machine.well(&of(&line(&cloud, &["--dry-run"])));
    assert!(cloud.server.seen().is_empty());
    assert!(
        dry.out.contains("models:upload")
            && dry.out.contains("********")
            && dry.out.contains("one:deployModel"),
        "{dry:?}"
    );

    let made = cloud.machine.well(&of(&line(&cloud, &[])));
    assert_eq!(made.json()["created"], true, "{made:?}");
    assert_eq!(made.json()["status"]["phase"], "serving", "{made:?}");
    assert!(made.err.contains("warning: HF_TOKEN"), "{made:?}");
    assert!(whole(&cloud), "{:?}", cloud.google.everything());
    let model = cloud.google.document("models/one");
    assert!(
        model.to_string().contains(SECRET),
        "the worker gets its secret"
    );
    let charged = |request: &cloud_doubles::Request| {
        request.header("x-goog-user-project") == Some("a-project")
    };
    let seen = cloud.server.seen();
    assert!(
        seen.iter()
            .filter(|one| one.path.ends_with(":deployModel"))
            .all(charged)
    );

    // Again: it is only looked at, and asked for a prediction.
    let before = seen.len();
    let again = cloud.machine.well(&of(&line(&cloud, &[])));
    assert_eq!(again.json()["created"], false);
    assert_eq!(cloud.changes(before), [""; 0]);

    let before = cloud.server.seen().len();
    let more = cloud
        .machine
        .well(&of(&line(&cloud, &["--max-workers", "2"])));
    assert_eq!(
        cloud.changes(before),
        ["POST endpoints/one:mutateDeployedModel"]
    );
    assert_eq!(
        more.json()["changed"],
        json!([{"field": "workers.max", "from": "1", "to": "2"}])
    );

    // Another environment is another version, which gets all requests before the old one goes.
    let before = cloud.server.seen().len();
    let changed = ["--max-workers", "2", "--set", "queue=5"];
    let diff = cloud
        .machine
        .well(&of(&line(&cloud, &[&changed[..], &["--diff"]].concat())));
    assert_eq!(
        diff.json()["changes"],
        json!([{"field": "env.CHANDLER_QUEUE", "from": "", "to": "5"}])
    );
    cloud.machine.well(&of(&line(&cloud, &changed)));
    assert_eq!(
        cloud.changes(before),
        [
            "POST models:upload",
            "POST endpoints/one:deployModel",
            "POST endpoints/one:undeployModel"
        ]
    );
    assert!(whole(&cloud), "{:?}", cloud.google.everything());
    let endpoint = cloud.google.document("endpoints/one");
    let deployed = &endpoint["deployedModels"][0];
    assert_eq!(deployed["modelVersionId"], "2");
    assert_eq!(
        endpoint["trafficSplit"],
        json!({deployed["id"].as_str().unwrap(): 100})
    );

    let slower = [&changed[..], &["--request-timeout", "10m"]].concat();
    let before = cloud.server.seen().len();
    cloud.machine.well(&of(&line(&cloud, &slower)));
    assert_eq!(cloud.changes(before), ["POST endpoints/one:update"]);

    cloud
        .machine
        .well(&["endpoints", "scale", "one", "--min", "2", "--max", "3"]);
    let scaled = &cloud.google.document("endpoints/one")["deployedModels"][0]["dedicatedResources"];
    assert_eq!(
        (&scaled["minReplicaCount"], &scaled["maxReplicaCount"]),
        (&json!(2), &json!(3))
    );
    let labels = json!({"endpoint_id": "one"});
    for text in ["loading", "ready", "asked"] {
        cloud
            .google
            .log("aiplatform.googleapis.com/Endpoint", labels.clone(), text);
    }
    let logs = cloud.machine.well(&["endpoints", "logs", "one"]);
    let lines: Vec<&str> = logs.out.lines().collect();
    assert_eq!(lines.len(), 3, "{logs:?}");
    assert!(
        lines[0].ends_with("INFO loading") && lines[2].ends_with("INFO asked"),
        "{logs:?}"
    );

    cloud.machine.well(&["endpoints", "delete", "one"]);
    assert_eq!(cloud.google.everything(), [""; 0]);
    for shown in [&dry, &made, &again, &more, &diff, &logs] {
        let text = format!("{shown:?}");
        assert!(!text.contains("a_marked"), "{text}");
    }
    std::fs::remove_file(cloud.machine.folder().join("login.json")).unwrap();
    assert!(!cloud.machine.remembered().contains("a_marked"));
}

#[test]
fn every_route_is_below_invoke_when_that_is_wanted() {
    let worker = Worker::start();
    let cloud = Cloud::new(&worker);
    let made = cloud.machine.well(&of(&line(&cloud, &["--invoke"])));
    let made = made.json();
    let url = made["url"].as_str().unwrap();
    assert!(url.ends_with("/endpoints/one/invoke"), "{url}");
    assert!(
        cloud
            .server
            .seen()
            .iter()
            .any(|one| one.path.ends_with("/invoke/predict"))
    );
}

#[test]
fn killed_at_every_request_the_next_run_finishes() {
    let worker = Worker::start();
    let cloud = Cloud::new(&worker);
    cloud.machine.well(&of(&line(&cloud, &[])));
    let made = cloud.server.seen().len();
    cloud.machine.well(&["endpoints", "delete", "one"]);
    let deleted = cloud.server.seen().len() - made;
    drop(cloud);
    for nth in 0..made {
        for fault in [Fault::HoldBefore, Fault::HoldAfter] {
            let cloud = Cloud::new(&worker);
            let line = line(&cloud, &[]);
            assert!(
                cloud.kill_at(&of(&line), nth, fault.clone()),
                "request {nth}"
            );
            cloud.machine.well(&of(&line));
            assert!(
                whole(&cloud),
                "killed at {nth}, {fault:?}: {:?}",
                cloud.google.everything()
            );
            // And the other way, killed as well.
            let delete = ["endpoints", "delete", "one"];
            cloud.kill_at(&delete, nth % deleted, fault.clone());
            cloud.machine.run(&delete);
            assert_eq!(
                cloud.google.everything(),
                [""; 0],
                "deleting killed at {}, {fault:?}",
                nth % deleted
            );
        }
    }
}

#[test]
fn lost_answers_and_refusals_for_now_make_no_second_one() {
    let worker = Worker::start();
    for path in ["models:upload", "/endpoints", ":deployModel"] {
        for fault in [
            Fault::CutAfter,
            Fault::CutBefore,
            Fault::Status(503, None),
            Fault::Status(429, Some(1)),
        ] {
            let cloud = Cloud::new(&worker);
            let when = When::Matching {
                method: "POST",
                path: path.to_owned(),
                times: 1,
            };
            cloud.server.fault(when, fault.clone());
            cloud.machine.well(&of(&line(&cloud, &[])));
            assert!(
                whole(&cloud),
                "{path} {fault:?}: {:?}",
                cloud.google.everything()
            );
            assert_eq!(
                cloud
                    .google
                    .document("models/one")
                    .as_array()
                    .unwrap()
                    .len(),
                1
            );
        }
    }
}

#[test]
fn the_next_hardware_is_tried_and_a_failure_leaves_nothing() {
    let worker = Worker::start();
    let cloud = Cloud::new(&worker);
    cloud
        .google
        .set(|setup| setup.without = vec!["NVIDIA_TESLA_T4".to_owned()]);
    let made = cloud.machine.well(&of(&line(&cloud, &["--gpu", "t4,l4"])));
    let hardware = made.json()["status"]["hardware"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(hardware.contains("NVIDIA_L4"), "{hardware}");
    assert!(whole(&cloud), "{:?}", cloud.google.everything());

    type Change = fn(&mut cloud_doubles::google::Setup);
    let failures: [(Change, &str); 4] = [
        (|setup| setup.without = vec!["*".to_owned()], "to lend now"),
        (|setup| setup.quota = true, "quotas are exceeded"),
        (
            |setup| setup.broken = Some("it crashed".to_owned()),
            "it crashed",
        ),
        (|setup| setup.worker = Some(liar()), "not with a prediction"),
    ];
    for (change, words) in failures {
        let cloud = Cloud::new(&worker);
        cloud.google.set(change);
        let failed = cloud.machine.run(&of(&line(&cloud, &[])));
        assert!(
            failed.code == Some(1) && failed.err.contains(words),
            "{failed:?}"
        );
        assert_eq!(cloud.google.everything(), [""; 0], "{words}");
        let kept = cloud.machine.run(&of(&line(&cloud, &["--keep"])));
        assert_eq!(kept.code, Some(1));
        assert!(!cloud.google.everything().is_empty(), "{words}");
    }
}

/// Something that answers everything with a 200 and an error.
fn liar() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let body = "{\"error\": \"out of memory\"}";
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all((head + body).as_bytes());
        }
    });
    address
}

#[test]
fn what_is_not_ours_is_left_alone_and_refusals_tell_no_secret() {
    let worker = Worker::start();
    let cloud = Cloud::new(&worker);
    let theirs = json!({"name": "x/endpoints/one", "displayName": "one", "labels": {"managed-by": "terraform"}});
    cloud.google.put("endpoints/one", theirs.clone());
    let failed = cloud.machine.run(&of(&line(&cloud, &[])));
    assert!(failed.err.contains("did not make"), "{failed:?}");
    assert_eq!(cloud.google.document("endpoints/one"), theirs);

    let cloud = Cloud::new(&worker);
    cloud.google.set(|setup| setup.echo = true);
    let failed = cloud.machine.run(&of(&line(&cloud, &[])));
    assert!(
        failed.code == Some(1) && failed.err.contains("Invalid request"),
        "{failed:?}"
    );
    assert!(!format!("{failed:?}").contains(SECRET), "{failed:?}");
    assert!(!cloud.machine.remembered().contains(SECRET));

    let asleep = cloud.machine.run(&of(&cloud.line("vertex", &[])));
    assert!(
        asleep.code == Some(2) && asleep.err.contains("--min-workers"),
        "{asleep:?}"
    );
}
