//! Python's `str` methods. Apart from those of lists and dicts because there are so many of them.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::Tuple;
use minijinja::{Error, Value};

use super::methods::{Arguments, is_space, wrong};

fn strings(parts: impl IntoIterator<Item = impl Into<String>>) -> Value {
    Value::from(
        parts
            .into_iter()
            .map(|part| Value::from(part.into()))
            .collect::<Vec<_>>(),
    )
}

fn triple(parts: [&str; 3]) -> Value {
    Value::from(Tuple::from(parts.map(Value::from)))
}

/// Calls a method of a string, or gives nothing when there is none of this name.
pub(super) fn method(s: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    if method == "format" {
        return format(FormatStyle::StrFormat, s, args).map(|text| Some(Value::from(text)));
    }
    let arguments = Arguments::of(method, args)?;
    let all = |test: fn(char) -> bool| !s.is_empty() && s.chars().all(test);
    let (value, takes) = match method {
        "upper" => (s.to_uppercase().into(), 0),
        "lower" | "casefold" => (s.to_lowercase().into(), 0),
        "title" => (title(s).into(), 0),
        "capitalize" => (capitalize(s).into(), 0),
        "swapcase" => (swapcase(s).into(), 0),
        "islower" => (
            has_case(s, char::is_lowercase, char::is_uppercase).into(),
            0,
        ),
        "isupper" => (
            has_case(s, char::is_uppercase, char::is_lowercase).into(),
            0,
        ),
        "isspace" => (all(is_space).into(), 0),
        "isalpha" => (all(char::is_alphabetic).into(), 0),
        "isalnum" => (all(char::is_alphanumeric).into(), 0),
        "isdigit" | "isdecimal" | "isnumeric" => (all(char::is_numeric).into(), 0),
        "isascii" => (s.is_ascii().into(), 0),
        "strip" | "lstrip" | "rstrip" => {
            let set = arguments.optional_text(0, "chars")?;
            let goes = |character: char| match &set {
                Some(set) => set.contains(character),
                None => is_space(character),
            };
            let stripped = match method {
                "strip" => s.trim_matches(goes),
                "lstrip" => s.trim_start_matches(goes),
                _ => s.trim_end_matches(goes),
            };
            (stripped.into(), 1)
        }
        "removeprefix" => {
            let affix = arguments.text(0, "prefix")?;
            (s.strip_prefix(affix.as_str()).unwrap_or(s).into(), 1)
        }
        "removesuffix" => {
            let affix = arguments.text(0, "suffix")?;
            (s.strip_suffix(affix.as_str()).unwrap_or(s).into(), 1)
        }
        "replace" => {
            let (old, new) = (arguments.text(0, "old")?, arguments.text(1, "new")?);
            let count = arguments.integer(2, "count")?.unwrap_or(-1);
            let replaced = match usize::try_from(count) {
                Ok(count) => s.replacen(old.as_str(), &new, count),
                Err(_) => s.replace(old.as_str(), &new),
            };
            (replaced.into(), 3)
        }
        "split" | "rsplit" => {
            let separator = arguments.optional_text(0, "sep")?;
            let most = arguments.integer(1, "maxsplit")?.unwrap_or(-1);
            let most = usize::try_from(most).ok();
            let parts = split(s, separator.as_deref(), most, method == "rsplit")?;
            (strings(parts), 2)
        }
        "splitlines" => {
            let keep = arguments
                .get(0, "keepends")?
                .is_some_and(|keep| keep.is_true());
            (strings(lines(s, keep)), 1)
        }
        "partition" => {
            let separator = arguments.text(0, "sep")?;
            let parts = s.split_once(separator.as_str());
            let (before, after) = parts.unwrap_or((s, ""));
            let found = parts.map_or("", |_| separator.as_str());
            (triple([before, found, after]), 1)
        }
        "rpartition" => {
            let separator = arguments.text(0, "sep")?;
            let parts = s.rsplit_once(separator.as_str());
            let (before, after) = parts.unwrap_or(("", s));
            let found = parts.map_or("", |_| separator.as_str());
            (triple([before, found, after]), 1)
        }
        "join" => {
            let mut parts = Vec::new();
            for value in arguments.need(0, "iterable")?.try_iter()? {
                match value.as_str() {
                    Some(text) => parts.push(text.to_owned()),
                    None => {
                        return Err(wrong(format!(
                            "join(): expected strings, not {}",
                            value.kind()
                        )));
                    }
                }
            }
            (parts.join(s).into(), 1)
        }
        "startswith" | "endswith" => {
            let affixes = arguments.need(0, "prefix")?;
            let matches = |affix: &str| match method {
                "startswith" => s.starts_with(affix),
                _ => s.ends_with(affix),
            };
            let found = match affixes.as_str() {
                Some(affix) => matches(affix),
                None => affixes
                    .try_iter()?
                    .any(|affix| affix.as_str().is_some_and(matches)),
            };
            (found.into(), 1)
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let needle = arguments.text(0, "sub")?;
            let (start, text) = window(
                s,
                arguments.integer(1, "start")?,
                arguments.integer(2, "end")?,
            );
            if method == "count" {
                let count = match needle.is_empty() {
                    true => text.chars().count() + 1,
                    false => text.matches(needle.as_str()).count(),
                };
                (Value::from(count), 3)
            } else {
                let at = match method.starts_with('r') {
                    true => text.rfind(needle.as_str()),
                    false => text.find(needle.as_str()),
                };
                let characters =
                    at.map(|at| start + text.get(..at).unwrap_or_default().chars().count());
                match characters {
                    Some(at) => (Value::from(at), 3),
                    None if method.ends_with("find") => (Value::from(-1), 3),
                    None => return Err(wrong("substring not found".into())),
                }
            }
        }
        "ljust" | "rjust" | "center" | "zfill" => {
            let width = arguments.integer(0, "width")?.unwrap_or(0);
            let fill = arguments.optional_text(1, "fillchar")?;
            let fill = fill.and_then(|fill| fill.chars().next()).unwrap_or(' ');
            (pad(s, method, width, fill)?.into(), 2)
        }
        "expandtabs" => (s.replace('\t', "        ").into(), 1),
        _ => return Ok(None),
    };
    arguments.at_most(takes)?;
    Ok(Some(value))
}

/// `str.title`: a letter after anything but a letter is a capital.
fn title(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut inside = false;
    for character in s.chars() {
        if inside {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
        inside = character.is_alphabetic();
    }
    out
}

fn capitalize(s: &str) -> String {
    let mut characters = s.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + &characters.as_str().to_lowercase()
    })
}

fn swapcase(s: &str) -> String {
    s.chars()
        .flat_map(|character| -> Vec<char> {
            if character.is_uppercase() {
                character.to_lowercase().collect()
            } else {
                character.to_uppercase().collect()
            }
        })
        .collect()
}

fn has_case(s: &str, wanted: fn(char) -> bool, other: fn(char) -> bool) -> bool {
    s.chars().any(wanted) && !s.chars().any(other)
}

/// `str.split` and `str.rsplit`: at a separator, or at runs of whitespace.
fn split(
    s: &str,
    separator: Option<&str>,
    most: Option<usize>,
    from_right: bool,
) -> Result<Vec<String>, Error> {
    let limit = most.map_or(usize::MAX, |most| most.saturating_add(1));
    let Some(separator) = separator else {
        return Ok(split_whitespace(s, limit, from_right));
    };
    if separator.is_empty() {
        return Err(wrong("empty separator".into()));
    }
    let mut parts: Vec<String> = if from_right {
        s.rsplitn(limit, separator).map(str::to_owned).collect()
    } else {
        s.splitn(limit, separator).map(str::to_owned).collect()
    };
    if from_right {
        parts.reverse();
    }
    Ok(parts)
}

fn split_whitespace(s: &str, limit: usize, from_right: bool) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = s;
    loop {
        rest = if from_right {
            rest.trim_end_matches(is_space)
        } else {
            rest.trim_start_matches(is_space)
        };
        if rest.is_empty() {
            break;
        }
        let cut = match parts.len() + 1 < limit {
            false => None,
            true if from_right => rest.rsplit_once(is_space).map(|(rest, part)| (part, rest)),
            true => rest.split_once(is_space),
        };
        match cut {
            Some((part, left)) => {
                parts.push(part.to_owned());
                rest = left;
            }
            None => {
                // The last part keeps its inner whitespace, and that of its other end.
                parts.push(rest.to_owned());
                break;
            }
        }
    }
    if from_right {
        parts.reverse();
    }
    parts
}

/// `str.splitlines`: all of Python's line ends.
fn lines(s: &str, keep: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut characters = s.chars().peekable();
    while let Some(character) = characters.next() {
        let ends = matches!(
            character,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        );
        if !ends || keep {
            line.push(character);
        }
        if ends {
            if character == '\r' && characters.peek() == Some(&'\n') {
                characters.next();
                if keep {
                    line.push('\n');
                }
            }
            lines.push(std::mem::take(&mut line));
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// The characters from `start` to `end` as a slice does it, and where they begin.
fn window(s: &str, start: Option<i64>, end: Option<i64>) -> (usize, String) {
    if start.is_none() && end.is_none() {
        return (0, s.to_owned());
    }
    let length = s.chars().count();
    let clamp = |index: i64| {
        let size = i64::try_from(length).unwrap_or(i64::MAX);
        let index = if index < 0 { index + size } else { index };
        usize::try_from(index.clamp(0, size)).unwrap_or(length)
    };
    let (start, end) = (clamp(start.unwrap_or(0)), end.map_or(length, clamp));
    let text = s
        .chars()
        .skip(start)
        .take(end.saturating_sub(start))
        .collect();
    (start, text)
}

fn pad(s: &str, method: &str, width: i64, fill: char) -> Result<String, Error> {
    /// Wider than any template means it.
    const WIDEST: usize = 10_000;
    let width = usize::try_from(width).unwrap_or(0);
    if width > WIDEST {
        return Err(wrong(format!(
            "{method}(): {width} characters are too many"
        )));
    }
    let missing = width.saturating_sub(s.chars().count());
    let fill = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
    Ok(match method {
        "ljust" => s.to_owned() + &fill(missing),
        "rjust" => fill(missing) + s,
        "zfill" => {
            let (sign, digits) = match s.strip_prefix(['-', '+']) {
                Some(digits) => s.split_at(s.len() - digits.len()),
                None => ("", s),
            };
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
        // CPython's rule for the odd one: to the left when both the missing and the width are odd.
        _ => {
            let left = missing / 2 + (missing & width & 1);
            fill(left) + s + &fill(missing - left)
        }
    })
}
