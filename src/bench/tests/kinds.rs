//! What the other kinds of endpoints and tasks are asked, and what is counted of their answers.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_each_kind_are_counted() {
    let (url, seen) = server(|path, _| {
        let answer = match path.as_str() {
            "/v1/audio/transcriptions" => json!({"text": "hello", "duration": 2.5}),
            "/v1/images/generations" => json!({"data": [{"b64_json": "x"}]}),
            "/predict" => json!({"predictions": [{"images": ["x"], "steps": 7, "text": "a",
                "usage": {"prompt_tokens": 2, "completion_tokens": 5}}]}),
            _ => json!({"data": []}),
        };
        Box::pin(async move { body(200, answer) })
    })
    .await;
    let drawing = || Options {
        steps: Some(4),
        size: Some((64, 32)),
        ..options()
    };
    let of = |kind, task| asker(&url, kind, task, drawing());
    let run = measured(
        &of(Kind::OpenAi, Task::AutomaticSpeechRecognition),
        plan(1, 2),
    )
    .await;
    let heard = run.audio_s_per_s.unwrap() * run.duration_s;
    assert!((4.9..5.1).contains(&heard), "{heard}");
    assert_eq!((run.steps_per_s, run.ttft_ms), (None, None));
    let run = measured(&of(Kind::OpenAi, Task::TextToImage), plan(1, 2)).await;
    let steps = run.steps_per_s.unwrap() * run.duration_s;
    assert!((7.9..8.1).contains(&steps), "{steps}");
    // The endpoint's own word for its steps is worth more than what was asked for.
    let run = measured(&of(Kind::Predict, Task::TextToImage), plan(1, 2)).await;
    let steps = run.steps_per_s.unwrap() * run.duration_s;
    assert!((13.9..14.1).contains(&steps), "{steps}");
    let run = measured(&of(Kind::Predict, Task::TextGeneration), plan(1, 2)).await;
    assert_eq!(
        (run.prompt_tokens, run.completion_tokens),
        (Some(4), Some(10))
    );
    assert_eq!(run.steps_per_s, None);
    let seen = seen.lock().unwrap();
    let asked = |path: &str| {
        seen.iter()
            .find(|(line, _)| line.ends_with(path))
            .unwrap()
            .1
            .clone()
    };
    assert_eq!(asked("/images/generations")["size"], "64x32");
    assert_eq!(asked("/images/generations")["steps"], 4);
    let instance = &asked("/predict")["instances"][0];
    assert_eq!(
        (&instance["width"], &instance["num_inference_steps"]),
        (&json!(64), &json!(4))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_waited_for_and_those_that_are_given_up_are_cancelled() {
    let (url, seen) = server(|path, number| {
        let last = path.rsplit('/').next().unwrap_or_default().to_owned();
        let name = ["a", "b", "c"][number % 3];
        let answer = match last.as_str() {
            "runsync" if number == 0 => {
                json!({"id": "a", "status": "COMPLETED", "delayTime": 30, "executionTime": 70,
                "output": [{"choices": [{"tokens": ["x"]}], "usage": {"input": 2, "output": 6}}]})
            }
            "runsync" if number == 3 => {
                json!({"id": "d", "status": "COMPLETED", "output": {"error": "too long"}})
            }
            "runsync" => json!({"id": name, "status": "IN_QUEUE"}),
            "b" if number == 1 => json!({"id": "b", "status": "IN_PROGRESS", "delayTime": 5}),
            "b" => json!({"id": "b", "status": "FAILED", "error": "out of memory"}),
            "c" => json!({"id": "c", "status": "IN_PROGRESS"}),
            _ => json!({"id": "c", "status": "CANCELLED"}),
        };
        // One look that fails says nothing of the job.
        let status = if last == "b" && number == 0 { 503 } else { 200 };
        Box::pin(async move { body(status, answer) })
    })
    .await;
    let quick = Options {
        timeout: ms(2000),
        ..options()
    };
    let endpoint = format!("{url}/v2/abc");
    let asker = asker(&endpoint, Kind::RunPod, Task::TextGeneration, quick);
    let run = measured(&asker, plan(1, 4)).await;
    let labels: Vec<&str> = run.errors.keys().map(String::as_str).collect();
    assert_eq!(labels, ["error in answer", "job FAILED", "timeout"]);
    assert_eq!(run.errors["job FAILED"].example, "out of memory");
    assert_eq!((run.succeeded, run.completion_tokens), (1, Some(6)));
    assert_eq!(run.delay_ms.unwrap().p50, 30.0);
    assert_eq!(run.execution_ms.unwrap().p50, 70.0);
    let seen = seen.lock().unwrap();
    let (first, asked) = &seen[0];
    assert_eq!(first, "POST /v2/abc/runsync?wait=2000");
    assert_eq!(
        asked["policy"],
        json!({"executionTimeout": 5000, "ttl": 10_000})
    );
    assert_eq!(asked["input"]["sampling_params"]["max_tokens"], 8);
    let cancelled: Vec<&str> = seen
        .iter()
        .filter_map(|(line, _)| line.strip_prefix("POST /v2/abc/cancel/"))
        .collect();
    assert_eq!(cancelled, ["c"]);
}
