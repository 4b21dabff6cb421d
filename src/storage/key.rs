//! Object keys that cannot collide: prefix, job, and a random name. (One seed named objects by the second, and lost some.)

use uuid::Uuid;

/// Longest part of a key that is made from somebody else's text; S3 takes 1,024 bytes in all.
const PART: usize = 128;

/// `prefix/job/uuid.extension`.
pub fn object_key(prefix: &str, job: &str, extension: &str) -> String {
    let name = format!("{}.{extension}", Uuid::new_v4());
    let parts = prefix.split('/').filter(|part| !part.is_empty());
    let mut key: Vec<String> = parts.map(sanitised).collect();
    if !job.is_empty() {
        key.push(sanitised(job));
    }
    key.push(name);
    key.join("/")
}

/// A text as one part of a path: what is no letter, digit, dot, dash or underscore becomes a dash, so that no part can
/// lead elsewhere or has to be escaped.
pub fn sanitised(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let part: String = text
        .chars()
        .take(PART)
        .map(|c| if plain(c) { c } else { '-' })
        .collect();
    match part.as_str() {
        "." | ".." => "-".repeat(part.len()),
        _ => part,
    }
}
