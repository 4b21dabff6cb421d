//! What a path on the hub means.

/// A path of the hub's.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    WhoAmI,
    Info {
        repo: String,
        revision: Option<String>,
    },
    Tree {
        repo: String,
        revision: String,
        under: String,
    },
    PathsInfo {
        repo: String,
        revision: String,
    },
    Refs {
        repo: String,
    },
    XetToken {
        repo: String,
        revision: String,
    },
    Resolve {
        repo: String,
        revision: String,
        path: String,
    },
    /// Where a resolve of a git file may lead, on the hub itself.
    ResolveCache {
        repo: String,
        commit: String,
        path: String,
    },
    Control(String),
    Unknown,
}

const WORDS: [&str; 5] = ["revision", "tree", "paths-info", "refs", "xet-read-token"];

impl Route {
    pub fn of(path: &str) -> Self {
        let parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["api", "whoami-v2"] => Self::WhoAmI,
            ["control", what @ ..] => Self::Control(what.join("/")),
            ["api", "resolve-cache", "models", rest @ ..] if rest.len() >= 3 => {
                // The commit is the first part that can be one; a repository has one or two parts before it.
                let at = if is_commit(rest[1]) { 1 } else { 2 };
                Self::ResolveCache {
                    repo: rest[..at].join("/"),
                    commit: rest[at].to_owned(),
                    path: rest[at + 1..].join("/"),
                }
            }
            ["api", "models", rest @ ..] => Self::api(rest),
            rest => {
                let Some((repo, _, rest)) = split(rest, &["resolve"]) else {
                    return Self::Unknown;
                };
                match rest.as_slice() {
                    [revision, path @ ..] if !path.is_empty() => Self::Resolve {
                        repo,
                        revision: (*revision).to_owned(),
                        path: path.join("/"),
                    },
                    _ => Self::Unknown,
                }
            }
        }
    }

    fn api(parts: &[&str]) -> Self {
        let Some((repo, word, rest)) = split(parts, &WORDS) else {
            return match parts.len() {
                1 | 2 => Self::Info {
                    repo: parts.join("/"),
                    revision: None,
                },
                _ => Self::Unknown,
            };
        };
        let revision = rest.first().map(|revision| (*revision).to_owned());
        match (word, revision) {
            ("refs", None) => Self::Refs { repo },
            ("revision", Some(revision)) => Self::Info {
                repo,
                revision: Some(revision),
            },
            ("tree", Some(revision)) => Self::Tree {
                repo,
                revision,
                under: rest[1..].join("/"),
            },
            ("paths-info", Some(revision)) => Self::PathsInfo { repo, revision },
            ("xet-read-token", Some(revision)) => Self::XetToken { repo, revision },
            _ => Self::Unknown,
        }
    }
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A repository of one or two parts, the word behind it, and what follows.
fn split<'a>(parts: &[&'a str], words: &[&str]) -> Option<(String, &'a str, Vec<&'a str>)> {
    let at = (1..=2).find(|at| parts.get(*at).is_some_and(|part| words.contains(part)))?;
    Some((parts[..at].join("/"), parts[at], parts[at + 1..].to_vec()))
}

/// Undoes percent encoding.
pub fn decode(text: &str) -> String {
    let text = text.as_bytes();
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                bytes.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The values of a query's or a form's field, in order.
pub fn fields<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(move |(key, _)| decode(key) == name)
        .map(|(_, value)| decode(&value.replace('+', " ")))
}

/// A field that says yes.
pub fn is_set(query: &str, name: &str) -> bool {
    fields(query, name).any(|value| value.eq_ignore_ascii_case("true") || value == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart() {
        let resolve = |repo: &str, revision: &str, path: &str| Route::Resolve {
            repo: repo.into(),
            revision: revision.into(),
            path: path.into(),
        };
        assert_eq!(
            Route::of("/gpt2/resolve/main/a.txt"),
            resolve("gpt2", "main", "a.txt")
        );
        assert_eq!(
            Route::of("/o/m/resolve/refs%2Fpr%2F1/sub/a%20b"),
            resolve("o/m", "refs/pr/1", "sub/a b")
        );
        assert_eq!(
            Route::of("/api/models/o/m"),
            Route::Info {
                repo: "o/m".into(),
                revision: None
            }
        );
        assert_eq!(
            Route::of("/api/models/o/m/tree/main/sub"),
            Route::Tree {
                repo: "o/m".into(),
                revision: "main".into(),
                under: "sub".into()
            }
        );
        assert_eq!(Route::of("/api/models/a/b/c"), Route::Unknown);
        assert_eq!(Route::of("/o/m/resolve/main"), Route::Unknown);
    }
}
