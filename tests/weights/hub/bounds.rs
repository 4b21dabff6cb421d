//! Where nothing of ours may go, and what of theirs may not come in.

use hub_double::{Kind, Side};

use super::*;

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
