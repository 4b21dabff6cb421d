//! Every way in which an answer is none.

use super::*;

/// What is wrong with an answer, by the number of the request; from the ninth on nothing is.
async fn troubled(number: usize) -> Response {
    match number {
        0 => (
            StatusCode::TOO_MANY_REQUESTS,
            [("retry-after", "1")],
            "slow down",
        )
            .into_response(),
        1 => body(
            500,
            json!({"error": {"message": "the device is gone: hush"}}),
        ),
        2 => body(200, json!({"error": "no workers available"})),
        3 => stream(ms(0), ms(0), 3, ""),
        4 => stream(
            ms(0),
            ms(0),
            1,
            "data: {\"error\":{\"message\":\"out of memory\"}}\n\ndata: [DONE]\n\n",
        ),
        5 => (StatusCode::OK, "<html>welcome</html>").into_response(),
        6 => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            body(200, json!({}))
        }
        7 => (StatusCode::FOUND, [("location", "/elsewhere")]).into_response(),
        8 => body(200, json!({"choices": []})),
        _ => {
            tokio::time::sleep(ms(100)).await;
            stream(ms(0), ms(0), 1, DONE)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_is_counted_as_what_it_is_and_none_as_an_answer() {
    let (url, _) = server(|_, number| Box::pin(troubled(number))).await;
    let quick = Options {
        timeout: ms(700),
        ..options()
    };
    let what = (Kind::OpenAi, Task::TextGeneration);
    let asker = asker_with(&url, what, quick, Some("hush"));
    let run = measured(&asker, plan(1, 11)).await;
    assert_eq!((run.requests, run.succeeded, run.failed), (11, 2, 9));
    let counted: Vec<(&str, u64)> = run
        .errors
        .iter()
        .map(|(kind, trouble)| (kind.as_str(), trouble.count))
        .collect();
    assert_eq!(
        counted,
        [
            ("broken off", 1),
            ("error in answer", 2),
            ("http 302", 1),
            ("http 429", 1),
            ("http 500", 1),
            ("malformed answer", 2),
            ("timeout", 1),
        ]
    );
    assert_eq!(
        run.errors["error in answer"].example,
        "no workers available"
    );
    assert_eq!(
        run.errors["http 500"].example,
        "the device is gone: ********"
    );
    // The fast failures are in no figure of answers.
    about(run.latency_ms.unwrap().p50, 100.0);
    assert_eq!(run.completion_tokens, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_listens_there_are_no_figures() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let what = (Kind::OpenAi, Task::TextGeneration);
    let asker = asker_with(&nobody, what, options(), None);
    let run = measured(&asker, plan(1, 2)).await;
    assert_eq!((run.errors["connection"].count, run.succeeded), (2, 0));
    assert!(run.latency_ms.is_none());
    let mut report = Report::new(asker.endpoint(), "chandler bench".into(), "1");
    report.runs.push(run);
    assert!(report.benchmarks().is_empty());
}
