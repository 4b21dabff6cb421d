//! What the hub refuses, in words that a user can act on. A function of its answer and of what was asked, apart from the
//! network, so that every row of the hub's table can be tried out.

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::address::Address;
use crate::weights::WeightsError;

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    /// The repository at a revision.
    Revision(&'a str),
    /// A file of it.
    File {
        /// Its path.
        path: &'a str,
        /// The revision, as the user named it.
        revision: &'a str,
    },
}

/// Who asked where.
pub(super) struct Asker<'a> {
    pub address: &'a Address,
    /// The source's name for people.
    pub place: &'a str,
    pub repo: &'a str,
    /// Whether a token was sent.
    pub has_token: bool,
}

/// What the hub says of a refusal.
pub(super) struct Said {
    pub status: StatusCode,
    /// `X-Error-Code`.
    pub code: Option<String>,
    /// `X-Error-Message`, else what the body says; cut, and without anything that a terminal obeys.
    pub message: Option<String>,
}

impl Said {
    pub fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let message = text("x-error-message").or_else(|| of_body(body));
        Self {
            status,
            code: text("x-error-code"),
            message: message
                .map(|message| cut(&message))
                .filter(|message| !message.is_empty()),
        }
    }

    /// Whether a further attempt could help.
    pub fn is_passing(&self) -> bool {
        matches!(self.status.as_u16(), 408 | 425 | 429 | 500..)
    }
}

/// `{"error": …}`, or `{"errors": [{"message": …}]}`.
fn of_body(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        error: Option<String>,
        #[serde(default)]
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        message: String,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    body.error
        .or_else(|| Some(body.errors.into_iter().next()?.message))
}

/// A text of the hub's as it may be shown.
pub(super) fn cut(text: &str) -> String {
    text.trim().escape_debug().take(300).collect()
}

impl Asker<'_> {
    fn not_found(&self, what: String, wanted: String) -> WeightsError {
        WeightsError::NotFound {
            place: self.place.to_owned(),
            what,
            wanted,
        }
    }

    fn denied(&self, what: String, wanted: String) -> WeightsError {
        WeightsError::Denied {
            place: self.place.to_owned(),
            what,
            wanted,
        }
    }

    /// What is refused for good.
    pub fn refusal(&self, said: &Said, what: &What<'_>) -> WeightsError {
        let message = said.message.as_deref();
        let bad_token = message.is_some_and(|message| message.contains("Invalid credentials"));
        match (said.code.as_deref(), said.status.as_u16()) {
            (Some("GatedRepo"), _) => self.gated(),
            (Some("RevisionNotFound"), _) => self.no_revision(what),
            (Some("EntryNotFound"), _) => self.no_file(what),
            (Some("RepoNotFound"), _) => self.no_repo(),
            (_, 401) if bad_token => self.bad_token(),
            (_, 401) => self.no_repo(),
            (_, 403) if message == Some("Access to this resource is disabled.") => self.denied(
                format!("`{}` is disabled, by its owner or by the hub", self.repo),
                "choose another model".to_owned(),
            ),
            (_, 403) => self.forbidden(message),
            (_, 404 | 410) => match what {
                What::Revision(_) => self.no_repo(),
                What::File { .. } => self.no_file(what),
            },
            _ => WeightsError::Malformed {
                place: self.place.to_owned(),
                reason: match message {
                    Some(message) => format!(
                        "the hub refuses the request with {}: {message}",
                        said.status
                    ),
                    None => format!("the hub refuses the request with {}", said.status),
                },
            },
        }
    }

    fn bad_token(&self) -> WeightsError {
        self.denied(
            "the hub does not accept the token: it is mistyped, expired or revoked".to_owned(),
            format!(
                "set HF_TOKEN to a valid one ({}), or unset it for a public model",
                self.address.page("settings/tokens")
            ),
        )
    }

    fn gated(&self) -> WeightsError {
        let page = self.address.page(self.repo);
        match self.has_token {
            true => self.denied(
                format!("`{}` is gated, and the account of this token has not been let in", self.repo),
                format!("accept its licence or ask for access at {page}, or set HF_TOKEN to the token of an account that has access"),
            ),
            false => self.denied(
                format!("`{}` is gated: its licence has to be accepted", self.repo),
                format!("accept it at {page}, and set HF_TOKEN to a token of that account"),
            ),
        }
    }

    fn no_repo(&self) -> WeightsError {
        let what = format!("there is no model `{}`, or it is private", self.repo);
        let wanted = match self.has_token {
            true => {
                "check the name, and whether the token's account may read it (a fine-grained token needs the repository's read permission)"
            }
            false => "check the name, and set HF_TOKEN if the model is private",
        };
        self.not_found(what, wanted.to_owned())
    }

    fn no_revision(&self, what: &What<'_>) -> WeightsError {
        let (What::Revision(revision) | What::File { revision, .. }) = what;
        self.not_found(
            format!("`{}` has no branch, tag or commit `{revision}`", self.repo),
            format!(
                "choose one of those at {}, or leave it out for main",
                self.address.page(&format!("{}/tree/main", self.repo))
            ),
        )
    }

    fn no_file(&self, what: &What<'_>) -> WeightsError {
        match what {
            What::Revision(_) => self.no_repo(),
            What::File { path, revision } => self.not_found(
                format!("`{}` has no file {path} at `{revision}`", self.repo),
                "try again: the hub has listed it a moment ago".to_owned(),
            ),
        }
    }

    fn forbidden(&self, message: Option<&str>) -> WeightsError {
        let said = message.map_or_else(String::new, |message| format!(" ({message})"));
        let wanted = match self.has_token {
            true => format!(
                "give the token the permission to read `{}` ({}), or set HF_TOKEN to another",
                self.repo,
                self.address.page("settings/tokens")
            ),
            false => "set HF_TOKEN to a token that may read it; if a proxy or a firewall stands between, ask who runs it".to_owned(),
        };
        self.denied(
            format!("the hub refuses access to `{}`{said}", self.repo),
            wanted,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(
        status: u16,
        headers: &[(&'static str, &str)],
        body: &str,
        has_token: bool,
    ) -> WeightsError {
        let address = Address::new("https://huggingface.co").unwrap();
        let asker = Asker {
            address: &address,
            place: "huggingface.co/o/m@v1",
            repo: "o/m",
            has_token,
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let said = Said::read(StatusCode::from_u16(status).unwrap(), &map, body.as_bytes());
        assert!(!said.is_passing());
        asker.refusal(
            &said,
            &What::File {
                path: "a.json",
                revision: "v1",
            },
        )
    }

    #[test]
    fn every_row_of_the_hubs_table_has_words_of_its_own() {
        let code = |code| [("x-error-code", code)];
        let rows = [
            (
                told(404, &code("RevisionNotFound"), "", false),
                "no branch, tag or commit `v1`",
            ),
            (
                told(404, &code("EntryNotFound"), "", false),
                "no file a.json",
            ),
            (
                told(401, &code("GatedRepo"), "", false),
                "set HF_TOKEN to a token of that account",
            ),
            (
                told(403, &code("GatedRepo"), "", true),
                "has not been let in",
            ),
            (
                told(
                    403,
                    &[("x-error-message", "Access to this resource is disabled.")],
                    "",
                    true,
                ),
                "choose another model",
            ),
            (
                told(
                    401,
                    &[],
                    r#"{"error":"Invalid username or password."}"#,
                    false,
                ),
                "set HF_TOKEN if the model is private",
            ),
            (
                told(401, &code("RepoNotFound"), "", true),
                "token's account may read it",
            ),
            (
                told(
                    401,
                    &[],
                    r#"{"error":"Invalid credentials in Authorization header"}"#,
                    true,
                ),
                "mistyped, expired or revoked",
            ),
            (
                told(404, &code("RepoNotFound"), "", true),
                "there is no model `o/m`",
            ),
            (
                told(400, &[], r#"{"errors":[{"message":"what is this"}]}"#, true),
                "what is this",
            ),
            (
                told(403, &[("x-error-message", "token lacks scope")], "", true),
                "(token lacks scope)",
            ),
            (
                told(403, &[], "", false),
                "set HF_TOKEN to a token that may read it",
            ),
            (told(451, &[], "", false), "451"),
        ];
        for (error, words) in &rows {
            let error = error.to_string();
            assert!(error.contains(words), "{error}");
            assert!(error.starts_with("huggingface.co/o/m@v1: "), "{error}");
        }
        let kinds: Vec<_> = rows
            .iter()
            .map(|(error, _)| match error {
                WeightsError::NotFound { .. } => 'n',
                WeightsError::Denied { .. } => 'd',
                WeightsError::Malformed { .. } => 'm',
                _ => '?',
            })
            .collect();
        assert_eq!(String::from_iter(kinds), "nndddnndnmddm");
    }

    #[test]
    fn what_the_hub_says_is_cut_and_obeyed_by_no_terminal() {
        let long = format!("{{\"error\":\"\\u001b[2J{}\"}}", "x".repeat(5000));
        let error = told(418, &[], &long, false).to_string();
        assert!(error.len() < 500 && !error.contains('\u{1b}'), "{error}");
    }
}
