//! The hub as a source, against the double: listings, links, who gets the token, what is asked again, and every row of the
//! hub's table of errors as a user reads it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chandler::weights::WeightsError;
use chandler::weights::hub::{HubOptions, HubSource};
use chandler::weights::progress::Progress;
use chandler::weights::remote::{Digest, Link, RemoteFile, Source};
use chandler::weights::transfer::{self, Job, Stop, transfer};
use hub_double::{Access, Content, Double, Fault, Kind, Options, Repo, Side};

const CONFIG: &str = "{\"model_type\":\"llama\"}";
const TOKEN: &str = "hf_alice";

fn double() -> (Double, Content) {
    let double = Double::start(Options::default()).unwrap();
    let weights = Content::synthetic(11, 3_000_000);
    double.put(
        Repo::new("org/m")
            .git("config.json", CONFIG)
            .git("sub dir/notes #1.txt", "hello\n")
            .commit("refs/pr/1")
            .git("tokenizer.json", "{}")
            .lfs("model.safetensors", weights.clone())
            .commit("main")
            .tag("v1.0"),
    );
    (double, weights)
}

/// Impatient, so that a test that fails does so soon.
fn options(double: &Double, token: Option<&str>) -> HubOptions {
    HubOptions {
        endpoint: double.url().to_owned(),
        token: token.map(Into::into),
        answer_timeout: Duration::from_secs(5),
        tries: 3,
        backoff: Duration::from_millis(5),
        longest_backoff: Duration::from_millis(20),
        ..HubOptions::default()
    }
}

fn source(double: &Double, token: Option<&str>, repo: &str, revision: &str) -> HubSource {
    HubSource::new(&options(double, token), repo, revision).unwrap()
}

async fn file(source: &HubSource, path: &str) -> RemoteFile {
    let listing = source.list().await.unwrap();
    let found = listing.files.into_iter().find(|file| file.path == path);
    found.unwrap()
}

/// The bytes that a link leads to, from an offset.
async fn bytes(source: &HubSource, link: Link, from: u64) -> Vec<u8> {
    let asked = source.client().get(link.url).headers(link.headers);
    let answer = asked.header("range", format!("bytes={from}-")).send();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 206);
    answer.bytes().await.unwrap().to_vec()
}

fn lists_error(error: &WeightsError) -> String {
    let text = format!("{error} {error:?}");
    assert!(!text.contains("hf_"), "it tells a token: {text}");
    assert!(!text.contains("Signature"), "it tells a signature: {text}");
    error.to_string()
}

#[tokio::test]
async fn a_revision_becomes_a_commit_and_all_pages_of_its_tree() {
    let (double, weights) = double();
    double.page_size(2);
    let main = double.commit("org/m", "main").unwrap();
    for revision in ["main", "v1.0", main.as_str()] {
        double.forget();
        let source = source(&double, Some(TOKEN), "org/m", revision);
        assert_eq!(
            source.name(),
            format!(
                "{}/org/m@{revision}",
                double.url().trim_start_matches("http://")
            )
        );
        let listing = source.list().await.unwrap();
        assert_eq!(listing.commit, main);
        let told: Vec<_> = listing
            .files
            .iter()
            .map(|f| (f.path.as_str(), f.size))
            .collect();
        assert_eq!(
            told,
            [
                ("config.json", 22),
                ("model.safetensors", 3_000_000),
                ("sub dir/notes #1.txt", 6),
                ("tokenizer.json", 2),
            ]
        );
        let [config, model, ..] = listing.files.as_slice() else {
            panic!("no files");
        };
        assert_eq!(model.blob, weights.sha256());
        assert_eq!(model.digest, Digest::parse(weights.sha256()));
        assert_eq!(config.blob, Content::from(CONFIG).git_sha1());
        assert!(matches!(config.digest, Some(Digest::GitSha1(_))));
        let seen = double.seen();
        let trees = seen.iter().filter(|s| s.path.contains("/tree/"));
        assert_eq!(
            trees.count(),
            3,
            "five entries, a directory among them, two at a time"
        );
        assert!(
            seen.iter()
                .all(|s| s.authorization.as_deref() == Some("Bearer hf_alice"))
        );
    }
    let pull = source(&double, None, "org/m", "refs/pr/1")
        .list()
        .await
        .unwrap();
    assert_eq!(Some(pull.commit), double.commit("org/m", "refs/pr/1"));
    assert_eq!(pull.files.len(), 2);
}

#[tokio::test]
async fn the_token_goes_to_the_hub_and_never_to_the_cdn() {
    let (double, weights) = double();
    let source = source(&double, Some(TOKEN), "org/m", "main");
    let model = file(&source, "model.safetensors").await;
    let link = source.link(&model).await.unwrap();
    assert!(link.url.as_str().starts_with(double.cdn_url()));
    assert!(!link.headers.contains_key("authorization"));
    let got = bytes(&source, link, 1_000_000).await;
    assert_eq!(got, weights.bytes().unwrap()[1_000_000..]);

    let notes = file(&source, "sub dir/notes #1.txt").await;
    let link = source.link(&notes).await.unwrap();
    assert!(link.url.as_str().starts_with(double.url()));
    assert!(!format!("{:?}", link.headers).contains(TOKEN));
    assert_eq!(bytes(&source, link, 1).await, b"ello\n");

    let cdn = double.seen_by(Side::Cdn);
    assert_eq!(cdn.len(), 1);
    assert!(
        cdn.iter()
            .all(|s| s.authorization.is_none() && s.cookie.is_none())
    );
    let hub = double.seen_by(Side::Hub);
    assert!(
        hub.iter()
            .all(|s| s.authorization.as_deref() == Some("Bearer hf_alice"))
    );
    let agent = hub[0].user_agent.as_deref().unwrap();
    assert!(agent.starts_with("chandler/"), "{agent}");
    for seen in double.seen() {
        assert_eq!(seen.accept_encoding.as_deref(), Some("identity"));
    }
}

#[tokio::test]
async fn an_expired_link_is_replaced_by_another() {
    let (double, _) = double();
    let source = source(&double, None, "org/m", "main");
    let model = file(&source, "model.safetensors").await;
    let old = source.link(&model).await.unwrap();
    double.expire_links();
    let refused = source.client().get(old.url.clone()).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    let new = source.link(&model).await.unwrap();
    assert_ne!(old.url, new.url);
    assert_eq!(bytes(&source, new, 2_999_990).await.len(), 10);
}

#[tokio::test]
async fn a_renamed_repository_and_the_hubs_own_cache_are_followed() {
    let (double, _) = double();
    double.put(Repo::renamed("old/name", "org/m"));
    double.put(
        Repo::new("org/cached")
            .git("a b.json", CONFIG)
            .resolve_cache()
            .xet(),
    );
    let commit = double.commit("org/m", "main").unwrap();
    for revision in ["main", commit.as_str()] {
        let source = source(&double, Some(TOKEN), "old/name", revision);
        let config = file(&source, "config.json").await;
        let link = source.link(&config).await.unwrap();
        assert_eq!(
            link.url.path(),
            format!("/org/m/resolve/{commit}/config.json")
        );
        assert_eq!(bytes(&source, link, 0).await, CONFIG.as_bytes());
    }
    let source = source(&double, Some(TOKEN), "org/cached", "main");
    let link = source.link(&file(&source, "a b.json").await).await.unwrap();
    assert!(link.url.path().starts_with("/api/resolve-cache/"));
    assert_eq!(bytes(&source, link, 0).await, CONFIG.as_bytes());
    assert!(double.seen().iter().all(|s| s.authorization.is_some()));
}

#[tokio::test]
async fn xet_files_come_over_plain_http() {
    let (double, weights) = double();
    double.put(
        Repo::new("org/x")
            .lfs("model.safetensors", weights.clone())
            .xet(),
    );
    let source = source(&double, None, "org/x", "main");
    let model = file(&source, "model.safetensors").await;
    assert_eq!(model.blob, weights.sha256());
    let link = source.link(&model).await.unwrap();
    assert_eq!(bytes(&source, link, 2_999_999).await.len(), 1);
}

/// What is refused, and by what word it is told.
fn refusals() -> Vec<(
    &'static str,
    &'static str,
    Option<&'static str>,
    char,
    &'static str,
)> {
    vec![
        (
            "org/none",
            "main",
            None,
            'n',
            "set HF_TOKEN if the model is private",
        ),
        (
            "org/none",
            "main",
            Some(TOKEN),
            'n',
            "token's account may read it",
        ),
        ("org/private", "main", None, 'n', "or it is private"),
        (
            "org/private",
            "main",
            Some("hf_bob"),
            'n',
            "or it is private",
        ),
        (
            "org/m",
            "no-such",
            None,
            'n',
            "no branch, tag or commit `no-such`",
        ),
        (
            "org/m",
            "0000000000000000000000000000000000000000",
            None,
            'n',
            "no branch, tag or commit",
        ),
        (
            "org/m",
            "main",
            Some("hf_wrong"),
            'd',
            "mistyped, expired or revoked",
        ),
        ("org/closed", "main", None, 'd', "disabled"),
    ]
}

fn kind(error: &WeightsError) -> char {
    match error {
        WeightsError::NotFound { .. } => 'n',
        WeightsError::Denied { .. } => 'd',
        WeightsError::RateLimited { .. } => 'r',
        WeightsError::Unreachable { .. } => 'u',
        WeightsError::Malformed { .. } => 'm',
        WeightsError::Changed { .. } => 'c',
        WeightsError::Offline(_) => 'o',
        _ => '?',
    }
}

#[tokio::test]
async fn each_refusal_of_a_listing_is_told_apart_and_not_asked_again() {
    let (double, _) = double();
    double.put(
        Repo::new("org/private")
            .git("a", "a")
            .access(Access::Private)
            .allow("alice"),
    );
    double.put(
        Repo::new("org/closed")
            .git("a", "a")
            .access(Access::Disabled),
    );
    for (repo, revision, token, expected, words) in refusals() {
        double.forget();
        let error = source(&double, token, repo, revision)
            .list()
            .await
            .unwrap_err();
        let text = lists_error(&error);
        assert_eq!(kind(&error), expected, "{text}");
        assert!(text.contains(words) && text.contains(repo), "{text}");
        assert_eq!(double.seen().len(), 1, "{text}");
    }
    let list = source(&double, Some(TOKEN), "org/private", "main")
        .list()
        .await;
    assert_eq!(list.unwrap().files.len(), 1);
}

#[tokio::test]
async fn a_gated_model_is_listed_and_its_files_are_refused_in_words() {
    let (double, weights) = double();
    let gated = Repo::new("org/g")
        .git("config.json", "{}")
        .lfs("model.safetensors", weights);
    double.put(gated.access(Access::Gated).allow("alice"));
    for path in ["config.json", "model.safetensors"] {
        for (token, words) in [
            (None, "set HF_TOKEN to a token of that account"),
            (Some("hf_bob"), "has not been let in"),
        ] {
            let source = source(&double, token, "org/g", "main");
            let wanted = file(&source, path).await;
            double.forget();
            let error = source.link(&wanted).await.err().unwrap();
            let text = lists_error(&error);
            assert_eq!(kind(&error), 'd', "{text}");
            assert!(
                text.contains(words) && text.contains(&format!("{}/org/g", double.url())),
                "{text}"
            );
            assert_eq!(double.seen().len(), 1);
        }
        let source = source(&double, Some(TOKEN), "org/g", "main");
        assert!(source.link(&file(&source, path).await).await.is_ok());
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let (double, _) = double();
    let source = source(&double, None, "org/m", "main");
    let mut config = file(&source, "config.json").await;
    config.path = "gone.json".to_owned();
    let error = source.link(&config).await.err().unwrap();
    let text = lists_error(&error);
    assert!(
        kind(&error) == 'n' && text.contains("no file gone.json"),
        "{text}"
    );
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Fault {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Fault::Answer {
        status,
        headers: headers.collect::<BTreeMap<_, _>>(),
        body: body.to_owned(),
    }
}

#[tokio::test]
async fn other_refusals_tell_what_the_hub_says_and_never_the_token() {
    let (double, _) = double();
    let source = source(&double, Some(TOKEN), "org/m", "main");
    for (fault, expected, words) in [
        (
            answer(400, &[], r#"{"error":"bad cursor"}"#),
            'm',
            "bad cursor",
        ),
        (
            answer(403, &[("x-error-message", "your token lacks a scope")], ""),
            'd',
            "(your token lacks a scope)",
        ),
        (
            answer(403, &[], "the token hf_alice is bad"),
            'd',
            "give the token the permission",
        ),
        (
            answer(403, &[("x-error-message", "hf_alice is bad")], ""),
            'd',
            "give the token the permission",
        ),
        (answer(404, &[], "nothing"), 'n', "there is no model"),
        (answer(418, &[], "tea"), 'm', "418"),
        (Fault::Page, 'm', "HF_ENDPOINT"),
        (answer(200, &[], "{\"id\":\"org/m\"}"), 'm', "commit"),
    ] {
        double.script(Kind::Api, [fault]);
        let error = source.list().await.unwrap_err();
        let text = lists_error(&error);
        assert_eq!(kind(&error), expected, "{text}");
        assert!(text.contains(words), "{text}");
    }
    assert!(source.list().await.is_ok(), "an error is not remembered");
}

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

#[tokio::test]
async fn no_answer_leads_the_token_or_the_tree_elsewhere() {
    let (double, _) = double();
    let source = source(&double, Some(TOKEN), "org/m", "main");
    let elsewhere = format!("{}/api/models/org/m", double.cdn_url());
    double.script(Kind::Api, [answer(302, &[("location", &elsewhere)], "")]);
    let error = source.list().await.unwrap_err();
    assert!(
        kind(&error) == 'm' && error.to_string().contains("not the hub"),
        "{error}"
    );
    let next = format!("<{elsewhere}>; rel=\"next\"");
    double.script_for(Kind::Api, "/tree/", [answer(200, &[("link", &next)], "[]")]);
    let error = source.list().await.unwrap_err();
    assert!(
        kind(&error) == 'm' && error.to_string().contains("goes on"),
        "{error}"
    );
    for location in [
        "ftp://127.0.0.1/x",
        "http://user:word@127.0.0.1/x",
        "https://",
    ] {
        double.script(Kind::Api, [answer(307, &[("location", location)], "")]);
        let error = source.list().await.unwrap_err();
        assert!(
            kind(&error) == 'm' && !error.to_string().contains("word"),
            "{error}"
        );
    }
    double.script(
        Kind::Api,
        vec![answer(307, &[("location", "/api/models/org/m/revision/main")], ""); 20],
    );
    let error = source.list().await.unwrap_err();
    assert!(error.to_string().contains("more than 8 times"), "{error}");
    double.heal();
    assert!(double.seen_by(Side::Cdn).is_empty());
}

#[tokio::test]
async fn names_that_lead_out_of_the_cache_are_refused() {
    let (double, _) = double();
    let source = source(&double, None, "org/m", "main");
    let git = Content::from("x").git_sha1().to_owned();
    for path in ["../../etc/cron.d/x", "/etc/passwd", "a/../../b", "C:\\\\x"] {
        let tree = format!(r#"[{{"type":"file","path":"{path}","oid":"{git}","size":1}}]"#);
        double.script_for(Kind::Api, "/tree/", [answer(200, &[], &tree)]);
        let error = source.list().await.unwrap_err();
        assert!(
            kind(&error) == 'm' && error.to_string().contains("relative path"),
            "{error}"
        );
    }
    for (repo, revision) in [
        ("../m", "main"),
        ("org/m", "../main"),
        ("a/b/c", "main"),
        ("org/m", ""),
    ] {
        let refused = HubSource::new(&options(&double, None), repo, revision);
        assert!(matches!(refused.err(), Some(WeightsError::BadName { .. })));
    }
    let bad_token = HubSource::new(&options(&double, Some("hf_\nx")), "org/m", "main");
    assert!(lists_error(&bad_token.err().unwrap()).contains("HF_TOKEN"));
}

#[tokio::test]
async fn a_file_that_is_another_one_than_listed_is_not_fetched() {
    let (double, weights) = double();
    let source = source(&double, None, "org/m", "main");
    let model = file(&source, "model.safetensors").await;
    let commit = double.commit("org/m", "main").unwrap();
    let cdn = format!("{}/x", double.cdn_url());
    let other = Content::from("other");
    for (etag, size, said, expected) in [
        (other.sha256(), "3000000", commit.as_str(), 'c'),
        (weights.sha256(), "2999999", commit.as_str(), 'c'),
        (
            weights.sha256(),
            "3000000",
            "0000000000000000000000000000000000000000",
            'm',
        ),
    ] {
        let headers = [
            ("location", cdn.as_str()),
            ("x-linked-etag", etag),
            ("x-linked-size", size),
            ("x-repo-commit", said),
        ];
        double.script(Kind::Resolve, [answer(302, &headers, "")]);
        let error = source.link(&model).await.err().unwrap();
        assert_eq!(kind(&error), expected, "{error}");
    }
}

/// All together: a private, renamed repository whose links end while it arrives, through faults of every kind.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_repository_arrives_through_faults() {
    let (double, weights) = double();
    let second = Content::synthetic(12, 1_500_001);
    let mut private = Repo::new("org/p").access(Access::Private).allow("alice");
    private = private.git("config.json", CONFIG).resolve_cache();
    private = private
        .lfs("a.safetensors", weights.clone())
        .lfs("b.safetensors", second.clone());
    double.put(private);
    double.put(Repo::renamed("org/was-p", "org/p"));
    double.link_rules(hub_double::LinkRules {
        uses: None,
        seconds: Some(0.15),
    });
    double.throttle(1_500_000);
    double.rates(hub_double::Rates {
        status: 0.1,
        cut: 0.1,
        cut_before: 0.05,
        wrong_range: 0.05,
        within: 100_000,
        ..hub_double::Rates::default()
    });
    let patient = HubOptions {
        tries: 20,
        ..options(&double, Some(TOKEN))
    };
    let source = Arc::new(HubSource::new(&patient, "org/was-p", "main").unwrap());
    let listing = source.list().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let progress = Progress::default();
    let jobs = listing.files.iter().map(|file| Job {
        file: file.clone(),
        partial: dir.path().join(&file.blob),
        progress: progress.add(&file.path, file.size),
    });
    let done = Arc::new(Mutex::new(Vec::new()));
    let whole = {
        let done = done.clone();
        move |job: &Job| {
            done.lock()
                .unwrap()
                .push((job.file.path.clone(), std::fs::read(&job.partial).unwrap()));
            Ok(())
        }
    };
    let options = transfer::Options {
        range_bytes: 200_000,
        tries: 50,
        backoff: Duration::from_millis(2),
        longest_backoff: Duration::from_millis(10),
        ..transfer::Options::default()
    };
    transfer(
        source,
        jobs.collect(),
        &options,
        &Stop::new(),
        Arc::new(whole),
    )
    .await
    .unwrap();
    let mut done = std::mem::take(&mut *done.lock().unwrap());
    done.sort();
    let expected = [
        ("a.safetensors", weights.bytes().unwrap()),
        ("b.safetensors", second.bytes().unwrap()),
        ("config.json", CONFIG.into()),
    ];
    assert_eq!(done.len(), expected.len());
    for ((path, bytes), (name, content)) in done.iter().zip(&expected) {
        assert!(path == name && bytes == content, "{path}");
    }
    assert!(double.injected().values().sum::<u64>() > 0);
    let expired = double
        .seen_by(Side::Cdn)
        .iter()
        .filter(|s| s.status == 403)
        .count();
    assert!(expired > 0, "no link has ended on the way");
    assert!(
        double
            .seen_by(Side::Cdn)
            .iter()
            .all(|s| s.authorization.is_none())
    );
}
