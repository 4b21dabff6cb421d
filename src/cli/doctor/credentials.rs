//! Which credentials are there and where they come from, never what they are; and those that are of no use alone.

use secrecy::SecretString;

use super::finding::Finding;
use crate::config::{Setting, Settings};

const GROUP: &str = "credentials";

pub fn check(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![
        single("hub token", &settings.hf_token, "none: public models only"),
        api_keys(settings),
        pair(
            "object store",
            &settings.s3_access_key,
            &settings.s3_secret_key,
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
    ];
    let of_outputs = [
        &settings.bucket_access_key_id,
        &settings.bucket_secret_access_key,
    ];
    if of_outputs.iter().any(|key| key.is_some()) {
        let [access, secret] = of_outputs;
        let names = "BUCKET_ACCESS_KEY_ID and BUCKET_SECRET_ACCESS_KEY";
        findings.push(pair("store of outputs", access, secret, names));
    }
    if let Some(path) = settings.gs_credentials.as_ref() {
        let source = settings.gs_credentials.source.to_string();
        let shown = path.display();
        findings.push(match std::fs::read(path) {
            Ok(_) => Finding::ok(GROUP, "Google Cloud", format!("{shown} ({source})")),
            Err(error) => Finding::problem(GROUP, "Google Cloud", format!("{shown} ({source}) cannot be read: {error}"))
                .mended_by("mount the file, or take the setting away: on Google Cloud the metadata server gives credentials"),
        });
    } else if settings.gs_token.is_some() {
        findings.push(single("Google Cloud", &settings.gs_token, ""));
    }
    if settings.webhook_url.is_some() {
        findings.push(match settings.webhook_secret.is_some() {
            true => single("webhook secret", &settings.webhook_secret, ""),
            false => Finding::warning(GROUP, "webhook secret", "none: messages are not signed")
                .mended_by(
                    "set CHANDLER_WEBHOOK_SECRET, so that the receiver can tell them from others'",
                ),
        });
    }
    findings
}

fn single(check: &'static str, setting: &Setting<Option<SecretString>>, none: &str) -> Finding {
    match setting.is_some() {
        true => Finding::ok(GROUP, check, format!("set ({})", setting.source)),
        false => Finding::ok(GROUP, check, none),
    }
    .with("present", setting.is_some())
}

fn api_keys(settings: &Settings) -> Finding {
    let count = settings.api_keys.len();
    let found = match count {
        0 => "none: whoever reaches the port is answered".to_owned(),
        count => format!("{count} set ({})", settings.api_keys.source),
    };
    Finding::ok(GROUP, "API keys", found)
        .with("present", count > 0)
        .with("count", count)
}

/// An id and its secret.
fn pair(
    check: &'static str,
    access: &Setting<Option<SecretString>>,
    secret: &Setting<Option<SecretString>>,
    names: &str,
) -> Finding {
    match (access.is_some(), secret.is_some()) {
        (true, true) => Finding::ok(GROUP, check, format!("set ({})", access.source)),
        (false, false) => Finding::ok(GROUP, check, "none"),
        _ => Finding::problem(GROUP, check, format!("only one of {names} is set"))
            .mended_by("set both, or neither"),
    }
    .with("present", access.is_some() && secret.is_some())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use crate::config::{Given, resolve};

    fn found(environment: &[(&str, &str)]) -> Vec<Finding> {
        let given = Given::in_environment(environment);
        check(&resolve(&given).unwrap().settings)
    }

    #[test]
    fn what_is_set_is_told_by_its_source_and_never_by_its_value() {
        let findings = found(&[
            ("HF_TOKEN", "hf_private"),
            ("API_KEY", "key-private"),
            ("AWS_ACCESS_KEY_ID", "id-private"),
            ("AWS_SECRET_ACCESS_KEY", "secret-private"),
            ("CHANDLER_WEBHOOK_URL", "https://example.com/private-path"),
        ]);
        let text = serde_json::to_string(&findings).unwrap();
        assert!(!text.contains("private"), "{text}");
        for source in ["HF_TOKEN", "API_KEY", "AWS_ACCESS_KEY_ID"] {
            assert!(text.contains(&format!("environment {source}")), "{text}");
        }
        assert_eq!(
            findings.last().map(|finding| finding.level),
            Some(Level::Warning)
        );
    }

    #[test]
    fn half_a_pair_and_a_missing_file_are_problems() {
        let problems = |environment: &[(&str, &str)]| {
            let findings = found(environment);
            findings
                .into_iter()
                .filter(|finding| finding.level == Level::Problem)
                .count()
        };
        assert_eq!(problems(&[]), 0);
        assert_eq!(problems(&[("AWS_ACCESS_KEY_ID", "id")]), 1);
        assert_eq!(problems(&[("BUCKET_SECRET_ACCESS_KEY", "secret")]), 1);
        assert_eq!(
            problems(&[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")]),
            1
        );
    }
}
