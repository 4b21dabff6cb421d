//! A deployment's name: what it is found by on every platform, and so what makes a second run find the first one's work.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ProvisionError;

/// Longest, so that it fits Cloud Run's service id (49), Kubernetes' labels (63) and RunPod's names with what we add.
const LONGEST: usize = 40;

/// A name: lower-case letters, digits and hyphens, beginning with a letter, ending with none of `-`; 3 to 40 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Reads a name as it was given.
    ///
    /// # Errors
    /// When a platform would not take it.
    pub fn parse(text: &str) -> Result<Self, ProvisionError> {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let right = (3..=LONGEST).contains(&text.len())
            && text.chars().all(letters)
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-');
        match right {
            true => Ok(Self(text.to_owned())),
            false => Err(ProvisionError::invalid(
                "name",
                text,
                "use 3 to 40 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen",
            )),
        }
    }

    /// The name of a model's deployment when nobody gave one: `chandler-` and the model's own name.
    pub fn of_model(model: &str) -> Self {
        let own = model
            .rsplit('/')
            .find(|part| !part.is_empty())
            .unwrap_or("model");
        let mut text = String::from("chandler-");
        for c in own.chars().flat_map(char::to_lowercase) {
            match c.is_ascii_alphanumeric() {
                true => text.push(c),
                false if text.ends_with('-') => {}
                false => text.push('-'),
            }
        }
        text.truncate(LONGEST);
        let text = text.trim_end_matches('-');
        Self(match text == "chandler" {
            true => "chandler-model".to_owned(),
            false => text.to_owned(),
        })
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = ProvisionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_some_platform_would_not_take_are_refused() {
        for good in ["abc", "sd-turbo", "a23"] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
        let long = "a".repeat(41);
        for bad in ["", "ab", "Abc", "1ab", "ab-", "a_b", "a.b", "äbc", &long] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_models_own_name_is_always_a_good_one() {
        for (model, name) in [
            ("demo", "chandler-demo"),
            (
                "Qwen/Qwen2.5-0.5B-Instruct",
                "chandler-qwen2-5-0-5b-instruct",
            ),
            ("s3://bucket/models/", "chandler-models"),
            ("///", "chandler-model"),
            ("…", "chandler-model"),
            (
                "org/a-name-that-is-much-longer-than-any-name-should-be",
                "chandler-a-name-that-is-much-longer-than",
            ),
        ] {
            let made = Name::of_model(model);
            assert_eq!(made.as_str(), name);
            assert!(Name::parse(made.as_str()).is_ok(), "{made}");
        }
    }
}
