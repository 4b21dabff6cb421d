//! Pictures in the operator's store: of a queue worker's jobs, whose output names them, and of a route's answer that is asked for
//! addresses. The whole program on a platform and a store of loopback.

use std::process::Stdio;
use std::time::Duration;

use runpod_platform::{Options, Platform, Status};
use s3_double::S3Double;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

const SOON: Duration = Duration::from_secs(30);

fn serve(platform: &Platform, store: &S3Double) -> Child {
    Command::new(env!("CARGO_BIN_EXE_chandler"))
        .args(["serve", "--model", "mock-image", "--host", "127.0.0.1"])
        .args(["--port", "0"])
        .env_clear()
        .envs(platform.environment("w1"))
        .env("OUTPUT_S3_URL", "s3://results/drawn")
        .env("AWS_ENDPOINT_URL", store.endpoint())
        .env("AWS_ACCESS_KEY_ID", &store.options().access_key)
        .env("AWS_SECRET_ACCESS_KEY", &store.options().secret_key)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn output(platform: &Platform, input: Value) -> Value {
    let id = platform.submit(input);
    let job = platform.ended(&id, SOON).await.unwrap();
    assert_eq!(job.status, Status::Completed, "{}", job.view);
    job.view["output"].clone()
}

async fn file_at(address: &Value) -> Vec<u8> {
    let answer = reqwest::get(address.as_str().unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.bytes().await.unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workers_pictures_lie_in_its_store_and_their_addresses_are_in_the_output() {
    let platform = Platform::start(Options::default()).await.unwrap();
    let store = S3Double::start(s3_double::Options::default()).await;
    store.bucket("results");
    let _worker = serve(&platform, &store);

    let drawn = output(
        &platform,
        json!({"prompt": "a", "num_images": 2, "seed": 1}),
    )
    .await;
    let images = drawn["images"].as_array().unwrap();
    assert_eq!((images.len(), &drawn["image_url"]), (2, &images[0]));
    for image in images {
        assert!(file_at(image).await.starts_with(b"\x89PNG"));
    }
    assert_eq!(drawn["artifact"]["content_type"], "image/png");
    assert_eq!(drawn["artifact"]["url"], images[0]);
    assert_eq!(drawn["artifacts"].as_array().unwrap().len(), 2);

    let asked = json!({"prompt": "a", "response_format": "url", "output_format": "jpeg"});
    let input = json!({"openai_route": "/v1/images/generations", "openai_input": asked});
    let mut answer = output(&platform, input).await;
    if answer.is_array() {
        answer = answer[0].take();
    }
    let url = &answer["data"][0]["url"];
    assert!(url.as_str().unwrap().contains("/results/drawn/"), "{url}");
    assert!(file_at(url).await.starts_with(b"\xff\xd8\xff"));
}
