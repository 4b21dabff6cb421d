//! On Vast.ai's market, as its documents describe it: one machine, with an address and a key, exactly one, and none when it fails.

use std::sync::Arc;
use std::time::Duration;

use chandler::provision::vast::{Options, Vast as Account};
use chandler::provision::{Name, Patience, Phase, Platform};
use cloud_doubles::vast::{KEY, Knobs, Vast};
use cloud_doubles::{Fault, Server, When};
use serde_json::{Value, json};

use super::command::{Machine, killed_at};
use super::wanted::{card, deployment};
use super::worker::{WORKER_KEY, Worker};

const SECRET: &str = "hf_a_marked_secret_value";
const MAKE: [&str; 16] = [
    "provision",
    "vast",
    "mock",
    "--gpu",
    "none",
    "--name",
    "one",
    "--wait",
    "--secret",
    "HF_TOKEN",
    "--secret",
    "CHANDLER_API_KEYS",
    "--start-timeout",
    "20s",
    "--owner",
    "tester",
];

struct Place {
    cloud: Arc<Vast>,
    server: Server,
    machine: Machine,
}

impl Place {
    fn new(knobs: Knobs) -> Self {
        let worker = Some(Worker::shared().to_owned());
        let cloud = Arc::new(Vast::new(Knobs { worker, ..knobs }));
        let server = Server::start(Arc::clone(&cloud) as _);
        let machine = Machine::new()
            .with("VAST_API_KEY", KEY)
            .with("CHANDLER_IMAGE", "registry.example/chandler:{kind}")
            .with("HF_TOKEN", SECRET)
            .with("CHANDLER_API_KEYS", WORKER_KEY);
        Self {
            cloud,
            server,
            machine,
        }
    }

    fn line<'a>(&'a self, further: &[&'a str]) -> Vec<&'a str> {
        [&MAKE[..], &["--api", &self.server.url], further].concat()
    }

    fn platform(&self) -> Account {
        let options = Options {
            api: self.server.url.clone(),
            max_price: Some(0.4),
            reliability: 0.98,
            countries: vec!["SE".to_owned()],
            disk_gb: None,
        };
        let patience = Patience {
            pace: 0.01,
            ..Patience::default()
        };
        Account::new(
            options,
            (Some(KEY.into()), Some(WORKER_KEY.into())),
            patience,
        )
        .unwrap()
    }

    fn changing(&self) -> usize {
        let seen = self.server.seen();
        seen.iter()
            .filter(|request| ["PUT", "DELETE"].contains(&request.method.as_str()))
            .count()
    }
}

fn name() -> Name {
    Name::parse("one").unwrap()
}

#[test]
fn from_nothing_to_a_prediction_and_a_second_run_rents_nothing() {
    let place = Place::new(Knobs {
        gone: vec![102],
        ..Knobs::default()
    });
    let made = place.machine.well(&place.line(&[]));
    // The cheapest was gone when it was asked for.
    assert!(
        made.err.contains("offer 102 is gone") && made.err.contains("experimental"),
        "{made:?}"
    );
    assert!(
        made.out
            .contains("$0.3100 per worker and hour (Vast.ai's dph_total"),
        "{made:?}"
    );
    assert!(
        made.out
            .contains("Authorization: Bearer $CHANDLER_API_KEYS"),
        "{made:?}"
    );
    let instance = &place.cloud.instances()[0];
    assert_eq!(
        (&instance["label"], &instance["image_runtype"]),
        (&json!("one"), &json!("args"))
    );
    let again = place.machine.well(&place.line(&["--json"]));
    assert_eq!(
        (&again.json()["created"], &again.json()["changed"]),
        (&json!(false), &json!([]))
    );
    assert_eq!((place.cloud.made(), place.cloud.instances().len()), (1, 1));
    let diff = place.machine.well(&place.line(&["--diff"]));
    assert_eq!(diff.out, "nothing differs\n");
    assert_eq!(place.changing(), 2);
}

#[test]
fn other_settings_are_another_machine_and_the_first_goes() {
    let place = Place::new(Knobs::default());
    place.machine.well(&place.line(&[]));
    let line = place.line(&["--set", "queue=7", "--json"]);
    let changed = place.machine.well(&line);
    let field = &changed.json()["changed"][0]["field"];
    assert_eq!(
        (field, &changed.json()["changed"][0]["to"]),
        (&json!("env.CHANDLER_QUEUE"), &json!("7"))
    );
    assert_eq!((place.cloud.made(), place.cloud.instances().len()), (2, 1));
    assert!(
        place.cloud.instances()[0]["extra_env"]
            .to_string()
            .contains("CHANDLER_QUEUE")
    );
    // What a variable was may have been a secret: it is not told.
    let diff = place.machine.well(&place.line(&["--diff"]));
    let line = diff
        .out
        .lines()
        .find(|line| line.contains("CHANDLER_QUEUE"));
    assert!(
        line.is_some_and(|line| line.contains("********") && !line.contains('7')),
        "{diff:?}"
    );
}

#[test]
fn a_public_worker_without_a_key_of_its_own_is_not_made() {
    let place = Place::new(Knobs::default());
    let line: Vec<&str> = place
        .line(&[])
        .into_iter()
        .filter(|word| *word != "CHANDLER_API_KEYS")
        .collect();
    let at = line.iter().rposition(|word| *word == "--secret").unwrap();
    let line = [&line[..at], &line[at + 1..]].concat();
    let refused = place.machine.run(&line);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.err.contains("--secret CHANDLER_API_KEYS"),
        "{refused:?}"
    );
    assert_eq!(place.cloud.made(), 0);
}

#[test]
fn a_market_that_is_busy_or_loses_an_answer_gives_one_machine() {
    let place = Place::new(Knobs::default());
    let on = |method: &'static str, path: &str| When::Matching {
        method,
        path: path.to_owned(),
        times: 1,
    };
    place
        .server
        .fault(on("POST", "/bundles/"), Fault::Status(429, Some(1)));
    place
        .server
        .fault(on("GET", "/instances/"), Fault::Status(502, None));
    place.server.fault(on("PUT", "/asks/"), Fault::CutAfter);
    place.machine.well(&place.line(&[]));
    assert_eq!((place.cloud.made(), place.cloud.instances().len()), (1, 1));
}

#[test]
fn killed_at_any_request_the_next_run_finishes_it() {
    let mut number = 0;
    'requests: loop {
        for fault in [Fault::HoldBefore, Fault::HoldAfter] {
            let place = Place::new(Knobs {
                looks: 0,
                address_looks: 0,
                ..Knobs::default()
            });
            let line = place.line(&[]);
            if !killed_at(
                (&place.machine, &place.server),
                &line,
                number,
                fault.clone(),
            ) {
                break 'requests; // the next run would meet the fault that this one was too short for
            }
            place.machine.well(&line);
            assert_eq!(
                (place.cloud.made(), place.cloud.instances().len()),
                (1, 1),
                "{number} {fault:?}"
            );
        }
        number += 1;
    }
    assert!(number > 3, "only {number} requests were seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn left_at_any_request_a_deletion_is_finished_by_the_next() {
    let name = name();
    let mut number = 0;
    loop {
        let mut came = true;
        for fault in [Fault::HoldBefore, Fault::HoldAfter] {
            let place = Place::new(Knobs::default());
            let platform = place.platform();
            platform
                .apply(&deployment("one", Vec::new()), &|_| {})
                .await
                .unwrap();
            assert_eq!(platform.ours().await.unwrap().len(), 1);
            place
                .server
                .fault(When::Nth(place.server.seen().len() + number), fault);
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
            place.platform().delete(&name, &|_| {}).await.unwrap();
            assert!(place.cloud.instances().is_empty(), "{number}");
        }
        if !came {
            break;
        }
        number += 1;
    }
    assert!(number > 1, "only {number} requests were seen");
}

#[test]
fn what_does_not_come_up_is_given_back() {
    for (knobs, reason) in [
        (
            Knobs {
                ends_as: Some(("exited", "no such image")),
                ..Knobs::default()
            },
            "exited: no such image",
        ),
        (
            Knobs {
                gone: vec![101, 102, 103],
                ..Knobs::default()
            },
            "no_such_ask",
        ),
        (
            Knobs {
                offers: Vec::new(),
                ..Knobs::default()
            },
            "no offer fits",
        ),
        (
            Knobs {
                address_looks: 9_999,
                ..Knobs::default()
            },
            "it has no public address yet",
        ),
    ] {
        let place = Place::new(knobs);
        let line: Vec<&str> = place
            .line(&[])
            .iter()
            .map(|word| if *word == "20s" { "2s" } else { word })
            .collect();
        let failed = place.machine.run(&line);
        assert_eq!(failed.code, Some(1), "{failed:?}");
        assert!(failed.err.contains(reason), "{reason}: {failed:?}");
        assert!(place.cloud.instances().is_empty(), "{reason}");
    }
    let place = Place::new(Knobs {
        ends_as: Some(("exited", "no such image")),
        ..Knobs::default()
    });
    place.machine.run(&place.line(&["--keep"]));
    assert_eq!(place.cloud.instances().len(), 1);
}

#[test]
fn a_secret_shows_up_nowhere() {
    let place = Place::new(Knobs {
        echo: true,
        gone: vec![102],
        ..Knobs::default()
    });
    let made = place.machine.well(&place.line(&[]));
    assert!(made.err.contains("offer 102 is gone"), "{made:?}");
    let dry = place.machine.well(&place.line(&["--dry-run"]));
    assert!(
        dry.out.contains("PUT") && dry.out.contains("/api/v0/asks/{offer}/"),
        "{dry:?}"
    );
    let other = Place {
        machine: place.machine.with("HF_TOKEN", "hf_another_marked_value"),
        ..place
    };
    let diff = other.machine.well(&other.line(&["--diff"]));
    assert!(diff.out.contains("env.HF_TOKEN"), "{diff:?}");
    for ran in [made, dry, diff] {
        let text = format!("{ran:?}");
        assert!(
            !text.contains("marked") && !text.contains(WORKER_KEY) && !text.contains(KEY),
            "{text}"
        );
    }
    assert!(!other.machine.remembered().contains("marked"));
}

#[tokio::test]
async fn a_search_asks_for_what_the_model_takes() {
    let place = Place::new(Knobs::default());
    let platform = place.platform();
    let wanted = deployment("one", vec![card("rtx-4090", "x", "RTX 4090")]);
    platform.apply(&wanted, &|_| {}).await.unwrap();
    assert_eq!(
        place.cloud.searches()[0],
        json!({
            "type": "ondemand", "limit": 20, "order": [["dph_total", "asc"]], "allocated_storage": 22,
            "verified": {"eq": true}, "rentable": {"eq": true}, "num_gpus": {"eq": 1}, "direct_port_count": {"gte": 1},
            "disk_space": {"gte": 22}, "reliability": {"gte": 0.98}, "gpu_name": {"in": ["RTX 4090"]},
            "gpu_ram": {"gte": 10240}, "cpu_ram": {"gte": 6144}, "cuda_max_good": {"gte": 12.4},
            "dph_total": {"lte": 0.4}, "geolocation": {"in": ["SE"]},
        })
    );
    let status = platform.status(&name()).await.unwrap();
    assert_eq!(
        (status.phase, status.hardware.as_deref()),
        (Phase::Starting, Some("RTX 4090"))
    );
    assert_eq!(status.price.unwrap().usd_per_hour, 0.22);
}

#[tokio::test]
async fn logs_come_from_where_they_were_put_and_pages_are_read_to_the_end() {
    let place = Place::new(Knobs {
        page: 2,
        ..Knobs::default()
    });
    for id in 1..5 {
        place
            .cloud
            .put(json!({"id": id, "label": format!("other-{id}"), "extra_env": []}));
    }
    let platform = place.platform();
    platform
        .apply(&deployment("one", Vec::new()), &|_| {})
        .await
        .unwrap();
    let lines = std::sync::Mutex::new(Vec::new());
    let sink = |line: &str| {
        lines.lock().unwrap().push(line.to_owned());
        true
    };
    platform.logs(&name(), false, &sink).await.unwrap();
    assert_eq!(*lines.lock().unwrap(), ["first line", "second line"]);
    assert_eq!(platform.ours().await.unwrap().len(), 1);
    assert!(platform.delete(&name(), &|_| {}).await.unwrap());
    let left: Vec<Value> = place
        .cloud
        .instances()
        .iter()
        .map(|one| one["id"].clone())
        .collect();
    assert_eq!(left, [1, 2, 3, 4].map(|id| json!(id)));
}

#[tokio::test]
async fn an_instance_of_that_label_that_is_not_ours_is_left_alone() {
    let place = Place::new(Knobs::default());
    place
        .cloud
        .put(json!({"id": 1, "label": "one", "extra_env": [["A", "b"]]}));
    let platform = place.platform();
    let error = platform
        .apply(&deployment("one", Vec::new()), &|_| {})
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("instance called `one`"),
        "{error}"
    );
    assert_eq!((place.cloud.made(), place.cloud.instances().len()), (0, 1));
}
