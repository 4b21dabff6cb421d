//! Secrets on their way to a platform. What we build, print, compare and keep only names them; they are put in at the very
//! end, when a request is sent, and taken out again of whatever comes back.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// What stands for a secret in a request: no text that a person would write.
const OPEN: &str = "\u{1}secret:";
const CLOSE: &str = "\u{1}";
/// Before the name of one whose base64 is wanted; no variable is called so.
const BASE64: &str = "base64:";
/// What is shown in its place.
pub const MASK: &str = "********";

/// Secrets by name: values of the worker's environment, mostly.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, SecretString>);

// Why by hand: names are no secret, and nothing else may be seen.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl FromIterator<(String, SecretString)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (String, SecretString)>>(secrets: I) -> Self {
        Self(secrets.into_iter().collect())
    }
}

impl Secrets {
    /// Adds one.
    pub fn insert(&mut self, name: impl Into<String>, secret: SecretString) {
        self.0.insert(name.into(), secret);
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// One of them, for those who have to compare what a platform says with it.
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What stands for a secret in a request's body or URL.
    pub fn placeholder(name: &str) -> String {
        format!("{OPEN}{name}{CLOSE}")
    }

    /// The same for its base64.
    pub fn placeholder_base64(name: &str) -> String {
        Self::placeholder(&format!("{BASE64}{name}"))
    }

    /// A text with its placeholders filled.
    pub fn fill_text(&self, text: &str) -> String {
        if !text.contains(OPEN) {
            return text.to_owned();
        }
        self.0.iter().fold(text.to_owned(), |text, (name, secret)| {
            let secret = secret.expose_secret();
            let text = text.replace(&Self::placeholder(name), secret);
            match text.contains(BASE64) {
                true => text.replace(&Self::placeholder_base64(name), &STANDARD.encode(secret)),
                false => text,
            }
        })
    }

    /// A body with its placeholders filled.
    pub fn fill(&self, value: &Value) -> Value {
        map_texts(value, &|text| self.fill_text(text))
    }

    /// A text from elsewhere without any of our secrets in it: platforms repeat requests in their errors.
    pub fn scrub(&self, text: &str) -> String {
        let long = |secret: &&SecretString| secret.expose_secret().len() >= 4;
        self.0
            .values()
            .filter(long)
            .map(ExposeSecret::expose_secret)
            .fold(text.to_owned(), |text, secret| {
                text.replace(secret, MASK)
                    .replace(&STANDARD.encode(secret), MASK)
            })
    }
}

/// A body as it is shown: placeholders masked.
pub fn masked(value: &Value) -> Value {
    map_texts(value, &mask_text)
}

/// A text as it is shown.
pub fn mask_text(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        shown.push_str(before);
        shown.push_str(MASK);
        rest = after.split_once(CLOSE).map_or("", |(_, after)| after);
    }
    shown + rest
}

fn map_texts(value: &Value, change: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(list) => list.iter().map(|one| map_texts(one, change)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, one)| (key.clone(), map_texts(one, change)))
            .collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_there_when_sent_and_nowhere_else() {
        let secrets: Secrets = [("HF_TOKEN".to_owned(), "hf_hush".into())]
            .into_iter()
            .collect();
        let body = json!({"env": [{"name": "A", "value": format!("x{}y", Secrets::placeholder("HF_TOKEN"))}], "n": 1});
        assert_eq!(secrets.fill(&body)["env"][0]["value"], "xhf_hushy");
        assert_eq!(masked(&body)["env"][0]["value"], "x********y");
        assert!(!format!("{body} {} {secrets:?}", masked(&body)).contains("hush"));
        assert_eq!(secrets.scrub("bad value hf_hush!"), "bad value ********!");
        let encoded = secrets.fill_text(&Secrets::placeholder_base64("HF_TOKEN"));
        assert_eq!(encoded, "aGZfaHVzaA==");
        assert_eq!(secrets.scrub(&format!("no {encoded}")), "no ********");
        assert_eq!(mask_text(&Secrets::placeholder_base64("HF_TOKEN")), MASK);
    }
}
