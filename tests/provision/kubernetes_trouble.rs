//! On a cluster when things go wrong: answers that are lost, kills at every request, workers that never come up, and secrets
//! that show up nowhere.

use std::time::Duration;

use chandler::provision::kubernetes::Options;
use chandler::provision::{Name, Platform};
use cloud_doubles::kubernetes::{Fate, Knobs};
use cloud_doubles::{Fault, When};

use super::command::{Ran, killed_at};
use super::kubernetes::{MAKE, Place, SECRET, options};
use super::wanted::deployment;

fn whole() -> Vec<&'static str> {
    vec![
        "deployments/one",
        "networkpolicies/one",
        "persistentvolumeclaims/one-cache",
        "secrets/one-env",
        "services/one",
    ]
}

#[test]
fn a_busy_and_a_failing_cluster_are_asked_again() {
    let place = Place::serving(1);
    let on = |path: &str| When::Matching {
        method: "PATCH",
        path: path.to_owned(),
        times: 1,
    };
    place
        .server
        .fault(on("/services/"), Fault::Status(429, Some(1)));
    place
        .server
        .fault(on("/secrets/"), Fault::Status(500, None));
    place
        .server
        .fault(on("/networkpolicies/"), Fault::CutBefore);
    place.server.fault(on("/deployments/"), Fault::CutAfter);
    place.machine.well(&MAKE);
    assert_eq!(place.cloud.objects(), whole());
    assert_eq!(place.cloud.made("deployments"), 1);
}

#[test]
fn killed_at_any_request_the_next_run_finishes_it() {
    let line = MAKE;
    let mut number = 0;
    loop {
        let mut came = true;
        for fault in [Fault::HoldBefore, Fault::HoldAfter] {
            let place = Place::serving(0);
            came &= killed_at(
                (&place.machine, &place.server),
                &line,
                number,
                fault.clone(),
            );
            if !came {
                break; // the next run would meet the fault that this one was too short for
            }
            let ran = place.machine.well(&line);
            assert!(
                ran.out.contains("serves after"),
                "{number} {fault:?} {ran:?}"
            );
            assert_eq!(place.cloud.objects(), whole(), "{number} {fault:?}");
            for plural in ["deployments", "services", "secrets"] {
                assert_eq!(place.cloud.made(plural), 1, "{number} {fault:?} {plural}");
            }
        }
        if !came {
            break;
        }
        number += 1;
    }
    assert!(number > 15, "only {number} requests were seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn left_at_any_request_a_deletion_is_finished_by_the_next() {
    let mut number = 0;
    let name = Name::parse("one").unwrap();
    loop {
        let mut came = true;
        for fault in [Fault::HoldBefore, Fault::HoldAfter] {
            let place = Place::serving(0);
            let platform = place.platform(options());
            platform
                .apply(&deployment("one", Vec::new()), &|_| {})
                .await
                .unwrap();
            assert_eq!(platform.ours().await.unwrap().len(), 5);
            let from = place.server.seen().len();
            place.server.fault(When::Nth(from + number), fault);
            // As a kill does, this leaves the request without anybody who waits for its answer.
            tokio::select! {
                _ = platform.delete(&name, &|_| {}) => came = false,
                () = async {
                    while !place.server.wait_held(Duration::from_millis(1)) {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                } => {}
            }
            if !came {
                break;
            }
            let again = place.platform(options());
            again.delete(&name, &|_| {}).await.unwrap();
            assert!(
                place.cloud.objects().is_empty(),
                "{number}: {:?}",
                place.cloud.objects()
            );
            assert!(!again.delete(&name, &|_| {}).await.unwrap());
        }
        if !came {
            break;
        }
        number += 1;
    }
    assert!(number > 10, "only {number} requests were seen");
}

#[tokio::test]
async fn the_cache_stays_where_it_is_to_be_kept() {
    let place = Place::serving(0);
    let keeping = Options {
        keep_cache: true,
        ..options()
    };
    let platform = place.platform(keeping);
    let name = Name::parse("one").unwrap();
    platform
        .apply(&deployment("one", Vec::new()), &|_| {})
        .await
        .unwrap();
    assert!(platform.delete(&name, &|_| {}).await.unwrap());
    assert_eq!(place.cloud.objects(), ["persistentvolumeclaims/one-cache"]);
    let left = platform.ours().await.unwrap();
    assert!(left.len() == 1 && left[0].orphan, "{left:?}");
    platform.remove(&left[0]).await.unwrap();
    assert!(place.cloud.objects().is_empty());
}

/// A run that has to fail, and what it says.
fn fails(fate: Fate, further: &[&str]) -> (Place, Ran) {
    let place = Place::new(Knobs {
        fate,
        lingers: 1,
        ..Knobs::default()
    });
    let quick = ["--start-timeout", "3s", "--capacity-wait", "1s"];
    let line = [&MAKE[..10], &quick, further].concat();
    let ran = place.machine.run(&line);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    (place, ran)
}

#[test]
fn workers_that_never_serve_are_taken_down_and_the_reason_is_told() {
    let lacking = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.";
    for (fate, reason) in [
        (
            Fate::Unschedulable(lacking.to_owned()),
            "3 Insufficient nvidia.com/gpu",
        ),
        (Fate::NoImage, "ImagePullBackOff: Back-off pulling image"),
        (
            Fate::Crash("no such model\n".to_owned()),
            "its last words: no such model",
        ),
        (Fate::Killed, "OOMKilled"),
        (Fate::Load, "did not serve within 3 s"),
    ] {
        let (place, ran) = fails(fate.clone(), &[]);
        assert!(ran.err.contains(reason), "{fate:?} {ran:?}");
        assert!(
            place.cloud.objects().is_empty(),
            "{fate:?} {:?}",
            place.cloud.objects()
        );
    }
    let (place, _) = fails(Fate::NoImage, &["--keep"]);
    assert_eq!(place.cloud.objects(), whole());
}

#[test]
fn a_secret_shows_up_nowhere() {
    let place = Place::new(Knobs {
        lingers: 0,
        echo: true,
        refuses: Some("secrets"),
        ..Knobs::default()
    });
    let refused = place.machine.run(&MAKE);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    // The cluster repeats the request, and with it the secret's base64.
    assert!(refused.err.contains("refused"), "{refused:?}");
    place.cloud.turn(|knobs| knobs.refuses = None);
    let made = place.machine.well(&MAKE);
    let diff = place
        .machine
        .well(&[&MAKE[..], &["--diff", "--json"]].concat());
    let dry = place.machine.well(&[&MAKE[..], &["--dry-run"]].concat());
    let encoded = "aGZfYV9tYXJrZWRfc2VjcmV0X3ZhbHVl";
    for ran in [refused, made, diff, dry] {
        let text = format!("{ran:?}");
        assert!(!text.contains(SECRET) && !text.contains(encoded), "{text}");
    }
    let remembered = place.machine.remembered();
    assert!(!remembered.contains(SECRET) && !remembered.contains(encoded));
}

#[test]
fn a_login_that_is_not_let_in_says_so() {
    let place = Place::serving(0);
    let file = place.machine.folder().join("kubeconfig");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("cluster-token", "another-token")).unwrap();
    let refused = place.machine.run(&MAKE);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("HTTP 401") && refused.err.contains("kubectl auth can-i"),
        "{refused:?}"
    );
    std::fs::write(&file, text.replace("\"token\":\"cluster-token-of-a-test\"", "\"exec\":{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"command\":\"false\",\"interactiveMode\":\"Never\"}")).unwrap();
    let refused = place.machine.run(&MAKE);
    assert!(
        refused
            .err
            .contains("`false`, which gives the login, ended"),
        "{refused:?}"
    );
}
