//! What fails takes down what it made, and tells no secret.

use cloud_doubles::{Cloud as Double, Reply};
use serde_json::json;

use super::*;

const SECRET: &str = "hf_marked_secret_0123456789";

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_never_serves_is_taken_down_unless_it_is_to_be_kept() {
    for (instead, said) in [
        (Some("INITIALIZING"), "did not serve within"),
        (Some("RUNNING"), "did not serve within"),
        (Some("UNHEALTHY"), "unhealthy"),
    ] {
        for keep in [false, true] {
            let world = World::new().await;
            world
                .double
                .set(|settings| settings.instead_of_ready = instead);
            let mut arguments = vec!["--wait", "--start-timeout", "1s"];
            arguments.extend(keep.then_some("--keep"));
            let made = world.run(&arguments);
            assert_eq!(made.code, Some(1), "{}", text(&made));
            assert!(text(&made).contains(said), "{instead:?}: {}", text(&made));
            assert_eq!(
                world.double.endpoints().len(),
                usize::from(keep),
                "{instead:?}"
            );
        }
    }
}

/// A queue whose jobs end well and hold no prediction.
struct Liar;

impl Double for Liar {
    fn answer(&self, request: &Request) -> Reply {
        let body = match request.segments().last() {
            Some(&"health") => json!({"jobs": {"inQueue": 0}, "workers": {"ready": 1}}),
            Some(&"run") => json!({"id": "job-u1", "status": "IN_QUEUE"}),
            _ => {
                json!({"id": "job-u1", "status": "COMPLETED", "output": {"Error": "CUDA out of memory"}})
            }
        };
        Reply::json(200, &body)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_completes_with_an_error_in_it_is_no_prediction() {
    let world = World::new().await;
    let liar = Server::start(Arc::new(Liar));
    let url = format!("{}/v2/x", liar.url);
    world.double.set(|settings| settings.queue_url = url);
    let made = world.run(&["--wait"]);
    assert_eq!(made.code, Some(1));
    assert!(
        text(&made).contains("CUDA out of memory"),
        "{}",
        text(&made)
    );
    assert_eq!(world.double.endpoints().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_reach_the_worker_and_stand_nowhere_else() {
    let world = World::new().await;
    let with_secret = |arguments: &[&str], value: &str| {
        let line = world.line(&[arguments, &["--secret", "HF_TOKEN"]].concat());
        let mut command = world.machine.command(&line);
        let output = command.env("HF_TOKEN", value).output().unwrap();
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    };
    world.double.set(|settings| {
        settings.echo = true;
        settings.refusal = Some("the image may not be pulled".to_owned());
    });
    let mut all = with_secret(&["--dry-run"], SECRET);
    assert!(all.contains("\"HF_TOKEN\": \"********\""), "{all}");
    let refused = with_secret(&["--wait"], SECRET);
    assert!(refused.contains("may not be pulled"), "{refused}");
    all += &refused;
    world.double.set(|settings| settings.refusal = None);
    all += &with_secret(&[], SECRET);
    let [endpoint] = world.double.endpoints().try_into().unwrap();
    assert_eq!(endpoint["env"]["HF_TOKEN"], SECRET);
    // The same secret is no difference; another one is, and so is that it is gone; neither value is shown.
    for (value, differs) in [(SECRET, false), ("hf_marked_other_0123456789", true)] {
        let told = with_secret(&["--diff"], value);
        let shown = "env.HF_TOKEN: ******** -> ********";
        assert_eq!(told.contains(shown), differs, "{told}");
        all += &told;
    }
    let gone = world.run(&["--diff"]);
    assert!(
        gone.out.contains("env.HF_TOKEN: ******** -> none"),
        "{gone:?}"
    );
    all += &text(&gone);
    for arguments in [&["--diff", "--env", "HF_TOKEN=plain"][..], &[]] {
        all += &text(&world.run(arguments));
    }
    all += &world.machine.remembered();
    for secret in [SECRET, "hf_marked_other", KEY] {
        assert!(!all.contains(secret), "{secret} is shown");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_options_are_named_before_anything_is_sent() {
    let world = World::new().await;
    for (arguments, said) in [
        (&["--idle", "2h"][..], "--idle is `7200s`"),
        (
            &["--cached-model"],
            "no cached model for workers without a GPU",
        ),
        (
            &["--runpod-secret", "CHANDLER_MODEL=x"],
            "--runpod-secret is `CHANDLER_MODEL`",
        ),
        (&["--cpu", "cpu5c:3"], "a power of two"),
        (&["--queue-delay", "0.1"], "0.5 at least"),
        (&["--flashboot", "fast"], "none of off, on and priority"),
    ] {
        let refused = world.run(arguments);
        assert_eq!(refused.code, Some(2), "{arguments:?}: {}", text(&refused));
        assert!(
            text(&refused).contains(said),
            "{arguments:?}: {}",
            text(&refused)
        );
    }
    let other = |key: &str| {
        let mut command = world.machine.command(&world.line(&[]));
        let output = command.env("RUNPOD_API_KEY", key).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let none = other("");
    assert!(none.contains("RUNPOD_API_KEY is not set"), "{none}");
    assert_eq!(world.changes(0).len(), 0);
    let denied = other("rpa_other");
    assert!(denied.contains("check RUNPOD_API_KEY"), "{denied}");
}
