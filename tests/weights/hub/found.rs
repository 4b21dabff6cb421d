//! What is found: commits, trees, links, and the bytes behind them; and that the token stays with the hub.

use std::sync::{Arc, Mutex};

use chandler::weights::progress::Progress;
use chandler::weights::remote::Digest;
use chandler::weights::transfer::{self, Job, Stop, transfer};
use hub_double::{Access, Side};

use super::*;

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
