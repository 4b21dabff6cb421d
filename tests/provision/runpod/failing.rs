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
            let made = world.run(&arguments).await;
            assert_eq!(made.status.code(), Some(1), "{}", text(&made));
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
    let made = world.run(&["--wait"]).await;
    assert_eq!(made.status.code(), Some(1));
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
    let with_secret = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        command
            .args(["--secret", "HF_TOKEN"])
            .env("HF_TOKEN", SECRET);
        command
    };
    world.double.set(|settings| {
        settings.echo = true;
        settings.refusal = Some("the image may not be pulled".to_owned());
    });
    let mut outputs = Vec::new();
    for arguments in [&["--dry-run"][..], &["--wait"]] {
        outputs.push(with_secret(arguments).output().await.unwrap());
    }
    assert!(
        text(&outputs[0]).contains("\"HF_TOKEN\": \"********\""),
        "{}",
        text(&outputs[0])
    );
    assert!(
        text(&outputs[1]).contains("may not be pulled"),
        "{}",
        text(&outputs[1])
    );
    world.double.set(|settings| settings.refusal = None);
    outputs.push(with_secret(&[]).output().await.unwrap());
    let [endpoint] = world.double.endpoints().try_into().unwrap();
    assert_eq!(endpoint["env"]["HF_TOKEN"], SECRET);
    // The same secret is no difference; another one is, and so is that it is gone; neither value is shown.
    for (value, differs) in [(SECRET, false), ("hf_marked_other_0123456789", true)] {
        let mut command = with_secret(&["--diff"]);
        let output = command.env("HF_TOKEN", value).output().await.unwrap();
        assert_eq!(
            text(&output).contains("env.HF_TOKEN: ******** -> ********"),
            differs
        );
        outputs.push(output);
    }
    for arguments in [&["--diff"][..], &["--diff", "--env", "HF_TOKEN=plain"], &[]] {
        outputs.push(world.run(arguments).await);
    }
    assert!(
        text(&outputs[5]).contains("env.HF_TOKEN: ******** -> none"),
        "{}",
        text(&outputs[5])
    );
    let mut all: String = outputs.iter().map(text).collect();
    for file in std::fs::read_dir(world.folder.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            all.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
        }
    }
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
        let refused = world.run(arguments).await;
        assert_eq!(
            refused.status.code(),
            Some(2),
            "{arguments:?}: {}",
            text(&refused)
        );
        assert!(
            text(&refused).contains(said),
            "{arguments:?}: {}",
            text(&refused)
        );
    }
    let mut command = world.command(&[]);
    let refused = command.env_remove("RUNPOD_API_KEY").output().await.unwrap();
    assert!(
        text(&refused).contains("RUNPOD_API_KEY is not set"),
        "{}",
        text(&refused)
    );
    assert_eq!(world.changes(0).len(), 0);
    let mut wrong = world.command(&[]);
    let denied = wrong
        .env("RUNPOD_API_KEY", "rpa_other")
        .output()
        .await
        .unwrap();
    assert!(
        text(&denied).contains("check RUNPOD_API_KEY"),
        "{}",
        text(&denied)
    );
}
