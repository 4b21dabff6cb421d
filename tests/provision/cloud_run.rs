//! Services on Cloud Run, against a double that Google's own client accepts.

use cloud_doubles::{Fault, When};
use serde_json::json;

use super::google::{Cloud, SECRET, Worker, of};

fn line(cloud: &Cloud, more: &[&str]) -> Vec<String> {
    cloud.line("cloudrun", more)
}

#[test]
fn a_service_is_made_once_changed_and_taken_down() {
    let worker = Worker::start();
    let cloud = Cloud::new(&worker);
    let dry = cloud
        .machine
        .well(&of(&line(&cloud, &["--dry-run", "--public"])));
    assert!(cloud.server.seen().is_empty());
    assert!(
        dry.out.contains("serviceId=one")
            && dry.out.contains("********")
            && dry.out.contains("allUsers"),
        "{dry:?}"
    );

    // Private: asked with an ID token of this machine's account.
    let made = cloud.machine.well(&of(&line(&cloud, &[])));
    assert_eq!(made.json()["created"], true, "{made:?}");
    assert_eq!(made.json()["status"]["phase"], "asleep", "{made:?}");
    assert!(made.err.contains("--gcp-secret"), "{made:?}");
    assert_eq!(cloud.google.everything(), ["services/one"]);
    assert!(
        cloud
            .google
            .document("services/one")
            .to_string()
            .contains(SECRET)
    );

    let before = cloud.server.seen().len();
    let again = cloud.machine.well(&of(&line(&cloud, &[])));
    assert_eq!(again.json()["created"], false);
    assert_eq!(cloud.changes(before), [""; 0]);

    let before = cloud.server.seen().len();
    let more = cloud
        .machine
        .well(&of(&line(&cloud, &["--max-workers", "3"])));
    assert_eq!(
        more.json()["changed"],
        json!([{"field": "workers.max", "from": "1", "to": "3"}])
    );
    assert_eq!(cloud.changes(before), ["PATCH services/one"]);
    let seen = cloud.server.seen();
    let patch = seen.iter().rfind(|one| one.method == "PATCH").unwrap();
    assert_eq!(patch.parameter("updateMask"), Some("template"));

    let before = cloud.server.seen().len();
    let public = cloud
        .machine
        .well(&of(&line(&cloud, &["--max-workers", "3", "--public"])));
    assert_eq!(cloud.changes(before), ["POST services/one:setIamPolicy"]);
    let before = cloud.server.seen().len();
    let diff = cloud
        .machine
        .well(&of(&line(&cloud, &["--max-workers", "3", "--diff"])));
    assert_eq!(diff.json()["changes"][0]["field"], "access", "{diff:?}");
    cloud
        .machine
        .well(&of(&line(&cloud, &["--max-workers", "3"])));
    assert_eq!(cloud.changes(before), ["POST services/one:setIamPolicy"]);

    cloud
        .machine
        .well(&["endpoints", "scale", "one", "--min", "1", "--max", "2"]);
    let scaling = &cloud.google.document("services/one")["template"]["scaling"];
    assert_eq!(
        *scaling,
        json!({"minInstanceCount": 1, "maxInstanceCount": 2})
    );
    let labels = json!({"service_name": "one", "location": "europe-west4"});
    cloud.google.log("cloud_run_revision", labels, "listening");
    cloud.google.log(
        "cloud_run_revision",
        json!({"service_name": "other"}),
        "not ours",
    );
    let logs = cloud.machine.well(&["endpoints", "logs", "one"]);
    assert!(
        logs.out.ends_with("INFO listening\n") && logs.out.lines().count() == 1,
        "{logs:?}"
    );

    cloud.machine.well(&["endpoints", "delete", "one"]);
    assert_eq!(cloud.google.everything(), [""; 0]);
    for shown in [&dry, &made, &again, &more, &public, &diff, &logs] {
        let text = format!("{shown:?}");
        assert!(
            !text.contains("a_marked") && !text.contains("identity-for"),
            "{text}"
        );
    }
    assert!(!cloud.machine.remembered().contains("a_marked"));
}

#[test]
fn killed_at_every_request_the_next_run_finishes() {
    let worker = Worker::start();
    let cloud = Cloud::new(&worker);
    cloud.machine.well(&of(&line(&cloud, &["--public"])));
    let made = cloud.server.seen().len();
    cloud.machine.well(&["endpoints", "delete", "one"]);
    let deleted = cloud.server.seen().len() - made;
    drop(cloud);
    for nth in 0..made {
        for fault in [Fault::HoldBefore, Fault::HoldAfter] {
            let cloud = Cloud::new(&worker);
            let line = line(&cloud, &["--public"]);
            assert!(
                cloud.kill_at(&of(&line), nth, fault.clone()),
                "request {nth}"
            );
            cloud.machine.well(&of(&line));
            let all = cloud.google.everything();
            assert!(
                all.starts_with(&["services/one".to_owned()]),
                "killed at {nth}, {fault:?}: {all:?}"
            );
            let delete = ["endpoints", "delete", "one"];
            cloud.kill_at(&delete, nth % deleted, fault.clone());
            cloud.machine.run(&delete);
            let left = cloud.google.document("services/one");
            assert!(
                left.is_null(),
                "deleting killed at {}, {fault:?}",
                nth % deleted
            );
        }
    }
}

#[test]
fn lost_answers_and_refusals_for_now_make_no_second_one() {
    let worker = Worker::start();
    for path in ["/services", ":setIamPolicy"] {
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
            let made = cloud.machine.well(&of(&line(&cloud, &["--public"])));
            assert_eq!(made.json()["created"], true, "{path} {fault:?}");
            assert!(!cloud.google.document("services/one").is_null());
        }
    }
}

#[test]
fn a_failure_is_told_and_leaves_nothing() {
    let worker = Worker::start();
    type Change = fn(&mut cloud_doubles::google::Setup);
    let failures: [(Change, &[&str], &str); 4] = [
        (
            |setup| setup.broken = Some("port 8080".to_owned()),
            &[],
            "HEALTH_CHECK_CONTAINER_ERROR: The user-provided container failed",
        ),
        (
            |_| {},
            &["--gcp-secret", "TOKEN=hub-token"],
            "Permission denied on secret",
        ),
        (
            |setup| setup.without = vec!["nvidia-l4".to_owned()],
            &["--gpu", "l4"],
            "to lend now",
        ),
        (
            |setup| setup.quota = true,
            &["--gpu", "l4"],
            "Quota exceeded",
        ),
    ];
    for (change, flags, words) in failures {
        let cloud = Cloud::new(&worker);
        cloud.google.set(change);
        let failed = cloud.machine.run(&of(&line(&cloud, flags)));
        assert!(
            failed.code == Some(1) && failed.err.contains(words),
            "{failed:?}"
        );
        assert_eq!(cloud.google.everything(), [""; 0], "{words}");
    }
    // Kept, it is made anew when there is another run.
    let cloud = Cloud::new(&worker);
    cloud
        .google
        .set(|setup| setup.broken = Some("port 8080".to_owned()));
    let kept = cloud.machine.run(&of(&line(&cloud, &["--keep"])));
    assert_eq!(kept.code, Some(1));
    assert_eq!(cloud.google.everything(), ["services/one"]);
    let status = cloud.machine.run(&["endpoints", "status", "one", "--json"]);
    assert!(
        status.out.contains("HEALTH_CHECK_CONTAINER_ERROR"),
        "{status:?}"
    );
    cloud.google.set(|setup| setup.broken = None);
    cloud.machine.well(&of(&line(&cloud, &[])));
}

#[test]
fn a_gpu_and_kept_secrets_reach_the_service() {
    let worker = Worker::start();
    let cloud = Cloud::new(&worker);
    cloud
        .google
        .set(|setup| setup.secrets = vec!["hub-token".to_owned()]);
    let flags = [
        "--gpu",
        "l4",
        "--gcp-secret",
        "TOKEN=hub-token:3",
        "--gcs-volume",
        "models:hub",
    ];
    let made = cloud.machine.well(&of(&line(&cloud, &flags)));
    let hardware = made.json()["status"]["hardware"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(hardware.starts_with("nvidia-l4, 4 vCPU"), "{hardware}");
    let before = cloud.server.seen().len();
    cloud.machine.well(&of(&line(&cloud, &flags)));
    assert_eq!(cloud.changes(before), [""; 0]);
}

#[test]
fn what_is_not_ours_is_left_alone_and_refusals_tell_no_secret() {
    let worker = Worker::start();
    let cloud = Cloud::new(&worker);
    let theirs = json!({"name": "x/services/one", "labels": {}});
    cloud.google.put("services/one", theirs.clone());
    let failed = cloud.machine.run(&of(&line(&cloud, &[])));
    assert!(failed.err.contains("did not make"), "{failed:?}");
    assert_eq!(cloud.google.document("services/one"), theirs);

    let cloud = Cloud::new(&worker);
    cloud.google.set(|setup| setup.echo = true);
    let failed = cloud.machine.run(&of(&line(&cloud, &[])));
    assert!(
        failed.code == Some(1) && failed.err.contains("Invalid request"),
        "{failed:?}"
    );
    assert!(!format!("{failed:?}").contains(SECRET), "{failed:?}");
    assert!(!cloud.machine.remembered().contains(SECRET));

    // Nobody is logged in: no metadata server, no file.
    let nowhere = cloud.machine.with("GCE_METADATA_HOST", "127.0.0.1:9");
    let line = [
        "provision",
        "cloudrun",
        "mock",
        "--name",
        "one",
        "--image",
        super::google::IMAGE,
        "--api",
        &cloud.server.url,
    ];
    let failed = nowhere.run(&line);
    assert!(
        failed.err.contains("application-default login"),
        "{failed:?}"
    );
}
