//! What is asked again, after which pause, and when it is given up.

use std::time::Instant;

use hub_double::Kind;

use super::*;

#[tokio::test]
async fn what_passes_is_waited_for_and_what_does_not_is_told() {
    let (double, _) = double();
    let passing = [
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(503),
        Fault::Status(504),
        Fault::Status(408),
        Fault::CutBefore,
        Fault::Cut(40),
        Fault::TooMany {
            retry_after: Some(0),
            reset: None,
        },
    ];
    for fault in passing {
        double.script(Kind::Api, [fault.clone(), fault.clone()]);
        let listed = source(&double, None, "org/m", "main").list().await;
        assert!(listed.is_ok(), "{fault:?}: {}", listed.unwrap_err());
    }
    let source = source(&double, None, "org/m", "main");
    let model = file(&source, "model.safetensors").await;
    double.script(Kind::Resolve, [Fault::Status(503), Fault::CutBefore]);
    assert!(source.link(&model).await.is_ok());

    double.forget();
    double.script(Kind::Api, vec![Fault::Status(503); 4]);
    let error = source.list().await.unwrap_err();
    let text = lists_error(&error);
    assert!(kind(&error) == 'u' && text.contains("503"), "{text}");
    assert_eq!(
        double.seen().len(),
        4,
        "one question and three further attempts"
    );
}

#[tokio::test]
async fn the_rate_limit_is_waited_for_as_the_hub_asks() {
    let (double, _) = double();
    for (retry_after, reset) in [(Some(1), None), (None, Some(1))] {
        double.script(Kind::Api, [Fault::TooMany { retry_after, reset }]);
        let began = Instant::now();
        source(&double, None, "org/m", "main").list().await.unwrap();
        let took = began.elapsed().as_secs_f64();
        assert!((1.0..3.0).contains(&took), "{took} s");
    }
    double.forget();
    let too_long = Fault::TooMany {
        retry_after: None,
        reset: Some(900),
    };
    double.script(Kind::Api, [too_long]);
    let error = source(&double, None, "org/m", "main")
        .list()
        .await
        .unwrap_err();
    let text = lists_error(&error);
    assert!(
        kind(&error) == 'r' && text.contains("900 s") && text.contains("give a token"),
        "{text}"
    );
    assert_eq!(
        double.seen().len(),
        1,
        "nobody waits for a quarter of an hour"
    );
    let soon = Fault::TooMany {
        retry_after: Some(0),
        reset: None,
    };
    double.script(Kind::Api, vec![soon; 4]);
    let error = source(&double, None, "org/m", "main")
        .list()
        .await
        .unwrap_err();
    assert_eq!(kind(&error), 'r', "{error}");
}

#[tokio::test]
async fn a_silent_hub_and_a_missing_one_are_unreachable() {
    let (double, _) = double();
    let impatient = HubOptions {
        answer_timeout: Duration::from_millis(100),
        tries: 1,
        ..options(&double, None)
    };
    double.script(Kind::Api, vec![Fault::Delay(600); 2]);
    let silent = HubSource::new(&impatient, "org/m", "main").unwrap();
    let error = silent.list().await.unwrap_err();
    let text = lists_error(&error);
    assert!(
        kind(&error) == 'u' && text.contains("within 0.1 s"),
        "{text}"
    );
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = HubOptions {
        endpoint: format!("http://{}", free.local_addr().unwrap()),
        ..impatient
    };
    drop(free);
    let error = HubSource::new(&nobody, "org/m", "main")
        .unwrap()
        .list()
        .await
        .unwrap_err();
    assert_eq!(kind(&error), 'u', "{error}");
}

#[tokio::test]
async fn nothing_leaves_the_process_offline() {
    let (double, _) = double();
    let online = source(&double, None, "org/m", "main");
    let config = file(&online, "config.json").await;
    double.forget();
    let offline = HubOptions {
        offline: true,
        ..options(&double, Some(TOKEN))
    };
    let source = HubSource::new(&offline, "org/m", "main").unwrap();
    let listed = source.list().await.unwrap_err();
    let linked = source.link(&config).await.err().unwrap();
    for error in [listed, linked] {
        assert_eq!(kind(&error), 'o', "{error}");
        assert!(error.to_string().contains("HF_HUB_OFFLINE"));
    }
    assert!(double.seen().is_empty());
}
