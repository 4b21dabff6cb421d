//! From bytes to JSON, and from JSON to values that cannot be wrong. Every error names the field or the place in the body.
//! Apart from the dialects because they share its leniency: null is absent, and `512.0` is a whole number.

use std::fmt::Display;
use std::ops::RangeInclusive;

use chandler_core::RequestError;
use serde_json::{Map, Value};

use crate::kinds::kind_of;
use crate::spellings::SPELLINGS;

/// Bytes as JSON. The content type is not asked: half of the clients that matter get it wrong.
///
/// # Errors
/// The byte at which the text is not UTF-8, or line and column at which it is not JSON.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, RequestError> {
    let bad = |message: String| RequestError::new(chandler_core::ErrorKind::BadInput, message);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        bad(format!(
            "the body is not UTF-8: byte {} does not continue the text",
            error.valid_up_to()
        ))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(bad("the body is empty; it must be a JSON object".into()));
    }
    // Why no depth check of our own: serde_json stops at 128 levels.
    serde_json::from_str(text).map_err(|error| bad(format!("the body is not valid JSON: {error}")))
}

/// A body that must be an object.
pub(super) fn object(value: &Value) -> Result<&Map<String, Value>, RequestError> {
    value.as_object().ok_or_else(|| {
        let message = format!("the body is {}; it must be a JSON object", kind_of(value));
        RequestError::new(chandler_core::ErrorKind::BadInput, message)
    })
}

/// Numbers and booleans as written, everything else by its sort: a prompt does not belong in an error.
fn shown(value: &Value) -> String {
    match value {
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::String(text) if text.len() <= 32 => format!("{text:?}"),
        other => kind_of(other).to_owned(),
    }
}

/// A field that will not do, and what would.
pub(super) fn wrong(name: &str, value: &Value, wanted: impl Display) -> RequestError {
    RequestError::field(
        name,
        format!("{name} is {}; it must be {wanted}", shown(value)),
    )
}

/// A whole number within a range, however the client wrote it.
pub(super) fn whole(
    name: &str,
    value: &Value,
    range: RangeInclusive<u32>,
) -> Result<u32, RequestError> {
    let number = match value {
        Value::Number(n) => match n.as_u64() {
            Some(whole) => Some(whole),
            None => n
                .as_f64()
                .filter(|f| f.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(f))
                .map(|f| f as u64),
        },
        _ => None,
    };
    number
        .and_then(|n| u32::try_from(n).ok())
        .filter(|n| range.contains(n))
        .ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            wrong(
                name,
                value,
                format_args!("a whole number from {low} to {high}"),
            )
        })
}

struct Layer<'a> {
    prefix: String,
    map: &'a Map<String, Value>,
}

/// The house's names of fields, and the others for the same.
pub(super) type Spellings = [(&'static str, &'static [&'static str])];

/// The fields of a request: an object, and perhaps a second one with defaults behind it.
pub(super) struct Fields<'a> {
    layers: Vec<Layer<'a>>,
    spellings: &'static Spellings,
}

/// A field that was given.
pub(super) struct Found<'a> {
    pub(super) name: String,
    pub(super) value: &'a Value,
}

impl<'a> Fields<'a> {
    /// The fields of a whole body.
    pub(super) fn new(map: &'a Map<String, Value>) -> Self {
        Self::within(String::new(), map)
    }

    /// The fields of a part of a body, which errors name with the part's path in front.
    pub(super) fn within(prefix: String, map: &'a Map<String, Value>) -> Self {
        Self {
            layers: vec![Layer { prefix, map }],
            spellings: &[],
        }
    }

    /// A further object that is looked into for what the first does not have.
    pub(super) fn or(mut self, prefix: &str, map: Option<&'a Map<String, Value>>) -> Self {
        let prefix = prefix.to_owned();
        self.layers.extend(map.map(|map| Layer { prefix, map }));
        self
    }

    /// Takes other clients' spellings of the same fields as well.
    pub(super) fn with_spellings(self) -> Self {
        self.spelled(&SPELLINGS)
    }

    /// Takes these spellings of the same fields as well.
    pub(super) fn spelled(mut self, spellings: &'static Spellings) -> Self {
        self.spellings = spellings;
        self
    }

    /// The field, unless it is absent or null.
    pub(super) fn find(&self, key: &str) -> Option<Found<'a>> {
        let others = self
            .spellings
            .iter()
            .filter(|(name, _)| *name == key)
            .flat_map(|(_, others)| others.iter().copied());
        let keys: Vec<&str> = [key].into_iter().chain(others).collect();
        self.layers.iter().find_map(|layer| {
            keys.iter().find_map(|key| {
                let value = layer.map.get(*key).filter(|value| !value.is_null())?;
                let name = path(&layer.prefix, key);
                Some(Found { name, value })
            })
        })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// What an error calls this field.
    pub(super) fn name(&self, key: &str) -> String {
        let prefix = self.layers.first().map_or("", |layer| &layer.prefix);
        path(prefix, key)
    }

    pub(super) fn missing(&self, key: &str, wanted: &str) -> RequestError {
        let name = self.name(key);
        let message = format!("{name} is missing; it must be {wanted}");
        RequestError::field(name, message)
    }

    pub(super) fn string(&self, key: &str) -> Result<Option<&'a str>, RequestError> {
        self.read(key, "a string", Value::as_str)
    }

    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>, RequestError> {
        self.read(key, "true or false", Value::as_bool)
    }

    pub(super) fn array(&self, key: &str) -> Result<Option<&'a Vec<Value>>, RequestError> {
        self.read(key, "an array", Value::as_array)
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, RequestError> {
        self.read(key, "an object", Value::as_object)
    }

    pub(super) fn number(
        &self,
        key: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, RequestError> {
        let wanted = format!("a number from {} to {}", range.start(), range.end());
        self.read(key, &wanted, |value| {
            value.as_f64().filter(|number| range.contains(number))
        })
    }

    pub(super) fn whole(
        &self,
        key: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, RequestError> {
        self.find(key)
            .map(|found| whole(&found.name, found.value, range))
            .transpose()
    }

    /// A seed: any 64-bit whole number, signed or not, or a double without a fraction.
    pub(super) fn seed(&self, key: &str) -> Result<Option<u64>, RequestError> {
        self.read(key, "a whole number of at most 64 bits", |value| {
            let number = value.as_number()?;
            let signed = number.as_i64().map(|n| n as u64);
            number.as_u64().or(signed).or_else(|| {
                let double = number.as_f64().filter(|f| f.fract() == 0.0)?;
                let fits =
                    (-9.223_372_036_854_776e18..1.844_674_407_370_955_2e19).contains(&double);
                // Why two casts: a negative double saturates at 0 in an unsigned one.
                fits.then_some(if double < 0.0 {
                    double as i64 as u64
                } else {
                    double as u64
                })
            })
        })
    }

    /// A string or a list of strings, none of them empty.
    pub(super) fn strings(&self, key: &str, most: usize) -> Result<Vec<String>, RequestError> {
        let Some(Found { name, value }) = self.find(key) else {
            return Ok(Vec::new());
        };
        let items = match value {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        if items.len() > most {
            let message = format!(
                "{name} has {} entries; it may have at most {most}",
                items.len()
            );
            return Err(RequestError::field(name, message));
        }
        items
            .iter()
            .map(|item| match item {
                Value::String(text) if !text.is_empty() => Ok(text.clone()),
                other => Err(wrong(
                    &name,
                    other,
                    "a string, or a list of strings, none of them empty",
                )),
            })
            .collect()
    }

    /// A list of token ids.
    pub(super) fn tokens(&self, key: &str) -> Result<Vec<u32>, RequestError> {
        let Some(list) = self.array(key)? else {
            return Ok(Vec::new());
        };
        let name = self.name(key);
        token_ids(&name, list)
    }

    fn read<T>(
        &self,
        key: &str,
        wanted: &str,
        take: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, RequestError> {
        self.find(key)
            .map(|found| take(found.value).ok_or_else(|| wrong(&found.name, found.value, wanted)))
            .transpose()
    }
}

/// Every entry as a token id; errors name the entry.
pub(super) fn token_ids(name: &str, list: &[Value]) -> Result<Vec<u32>, RequestError> {
    list.iter()
        .enumerate()
        .map(|(i, value)| whole(&format!("{name}[{i}]"), value, 0..=u32::MAX))
        .collect()
}

fn path(prefix: &str, key: &str) -> String {
    if prefix.is_empty() {
        key.to_owned()
    } else {
        format!("{prefix}.{key}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_broken_body_is_told_where() {
        let at = |bytes: &[u8]| parse(bytes).unwrap_err().message;
        assert_eq!(
            at(b"{\"a\": \"\xff\"}"),
            "the body is not UTF-8: byte 7 does not continue the text"
        );
        assert!(
            at(b"{\"a\":\n 1,}").ends_with("at line 2 column 4"),
            "{}",
            at(b"{\"a\":\n 1,}")
        );
        assert!(at(" \n".as_bytes()).contains("empty"));
        assert!(at("[".repeat(100_000).as_bytes()).contains("recursion limit"));
        assert_eq!(parse("\u{feff}{}".as_bytes()).unwrap(), json!({}));
    }

    #[test]
    fn a_double_without_a_fraction_is_a_whole_number() {
        let read = |value: Value| whole("max_tokens", &value, 1..=4096).map_err(|e| e.message);
        assert_eq!(read(json!(512)), Ok(512));
        assert_eq!(read(json!(512.0)), Ok(512));
        for (value, shown) in [
            (json!(512.5), "512.5"),
            (json!(1e12), "1000000000000.0"),
            (json!(-1), "-1"),
            (json!(0), "0"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(true), "true"),
            (json!("512"), "\"512\""),
        ] {
            assert_eq!(
                read(value),
                Err(format!(
                    "max_tokens is {shown}; it must be a whole number from 1 to 4096"
                ))
            );
        }
    }

    #[test]
    fn seeds_keep_all_their_bits() {
        let seed = |value: Value| {
            let body = json!({ "seed": value });
            Fields::new(body.as_object().unwrap())
                .seed("seed")
                .ok()
                .flatten()
        };
        assert_eq!(seed(json!(u64::MAX)), Some(u64::MAX));
        assert_eq!(seed(json!(-1)), Some(u64::MAX));
        assert_eq!(seed(json!(-1.0)), Some(u64::MAX));
        assert_eq!(seed(json!(7.0)), Some(7));
        assert_eq!(seed(json!(7.5)), None);
        assert_eq!(seed(json!(1e300)), None);
    }

    #[test]
    fn the_first_object_wins_and_null_is_absent() {
        let (own, defaults) = (
            json!({"top_p": null, "topK": 3.0}),
            json!({"top_p": 0.5, "top_k": 7}),
        );
        let fields = Fields::within("instances[0]".into(), own.as_object().unwrap())
            .or("parameters", defaults.as_object())
            .with_spellings();
        assert_eq!(fields.number("top_p", 0.0..=1.0).unwrap(), Some(0.5));
        assert_eq!(fields.whole("top_k", 0..=100).unwrap(), Some(3));
        let error = fields.whole("top_k", 5..=100).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("instances[0].topK"));
    }
}
