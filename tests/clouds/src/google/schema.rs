//! What a request's body may be, as tables, and Google's words for what is wrong with one. The tables name the fields of the
//! published messages that a client here could send; every other one is unknown.

use serde_json::Value;

/// What a field holds, in proto3's JSON.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Text,
    Flag,
    /// 32 bits: a number, or a text of one.
    Int,
    /// 64 bits: the same, and a text when Google writes it.
    Long,
    /// `600s`
    Duration,
    /// One of these names, or its number.
    Enum(&'static [(&'static str, i64)]),
    Object(&'static [Field]),
    List(&'static Kind),
    Map(&'static Kind),
}

/// A field's name and what it holds.
pub type Field = (&'static str, Kind);

/// Checks a body.
///
/// # Errors
/// Google's words.
pub fn check(value: &Value, fields: &[Field]) -> Result<(), String> {
    object(value, fields, "")
}

fn object(value: &Value, fields: &[Field], path: &str) -> Result<(), String> {
    let Value::Object(given) = value else {
        return Err(wrong(path, value));
    };
    for (name, value) in given {
        let Some((_, kind)) = fields.iter().find(|(field, _)| field == name) else {
            return Err(format!(
                "Invalid JSON payload received. Unknown name \"{name}\" at '{path}': Cannot find field."
            ));
        };
        let path = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        kind.check(value, &path)?;
    }
    Ok(())
}

fn wrong(path: &str, value: &Value) -> String {
    format!("Invalid value at '{path}', {value}")
}

impl Kind {
    fn check(self, value: &Value, path: &str) -> Result<(), String> {
        let good = match self {
            Self::Object(fields) => return object(value, fields, path),
            Self::List(kind) => match value {
                Value::Array(list) => {
                    for (at, one) in list.iter().enumerate() {
                        kind.check(one, &format!("{path}[{at}]"))?;
                    }
                    true
                }
                _ => false,
            },
            Self::Map(kind) => match value {
                Value::Object(map) => {
                    for (key, one) in map {
                        kind.check(one, &format!("{path}[{key}]"))?;
                    }
                    true
                }
                _ => false,
            },
            Self::Text => value.is_string(),
            Self::Flag => value.is_boolean(),
            Self::Int | Self::Long => {
                value.is_i64()
                    || value
                        .as_str()
                        .is_some_and(|text| text.parse::<i64>().is_ok())
            }
            Self::Duration => value.as_str().is_some_and(|text| seconds(text).is_some()),
            Self::Enum(names) => names
                .iter()
                .any(|(name, number)| value == *name || value == *number),
        };
        match good {
            true => Ok(()),
            false => Err(wrong(path, value)),
        }
    }
}

/// The seconds of a duration.
pub fn seconds(text: &str) -> Option<f64> {
    text.strip_suffix('s')?.parse().ok()
}

/// The name of an enum's value, however it was sent.
pub fn named(value: &Value, names: &[(&'static str, i64)]) -> String {
    let found = names
        .iter()
        .find(|(name, number)| value == *name || value == *number);
    found.map_or_else(String::new, |(name, _)| (*name).to_owned())
}

/// A whole number, however it was sent.
pub fn integer(value: &Value, pointer: &str) -> i64 {
    let found = value.pointer(pointer);
    let number = found.and_then(|found| found.as_i64().or_else(|| found.as_str()?.parse().ok()));
    number.unwrap_or(0)
}

/// A text of a document.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// What Google says of labels: keys and values of lower-case letters, digits, `_` and `-`, 63 at most.
pub fn labels(value: &Value) -> Result<(), String> {
    let good = |text: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
        text.len() <= 63 && text.chars().all(plain)
    };
    let given = value.get("labels").and_then(Value::as_object);
    for (key, value) in given.into_iter().flatten() {
        let starts = key.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts || !good(key) || !value.as_str().is_some_and(good) {
            return Err(format!("Label \"{key}\" has an invalid key or value."));
        }
    }
    Ok(())
}
