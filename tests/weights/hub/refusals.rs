//! What the hub refuses, in the words that a user reads.

use hub_double::{Access, Kind};

use super::*;

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
