//! The fields of a model's JSON files, each error naming file, field, value and what would do.
//! Apart from the models, which say which fields there are and how large they may be.

use serde_json::{Map, Value};

use crate::error::{NnError, Result};
use crate::weights::Snapshot;

/// A JSON object of a snapshot.
#[derive(Debug, Clone)]
pub struct Fields {
    file: String,
    map: Map<String, Value>,
}

impl Fields {
    /// The file, or nothing when it is not there.
    ///
    /// # Errors
    /// When it is no JSON object.
    pub fn read(snapshot: &Snapshot, file: &str) -> Result<Option<Self>> {
        let Some(bytes) = snapshot.read(file)? else {
            return Ok(None);
        };
        let map = serde_json::from_slice(&bytes)
            .map_err(|error| NnError::config(file, format!("{error}")))?;
        Ok(Some(Self {
            file: file.to_owned(),
            map,
        }))
    }

    /// An object with nothing in it, for a file that is not there.
    pub fn none(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            map: Map::new(),
        }
    }

    /// All of it.
    pub fn into_value(self) -> Value {
        Value::Object(self.map)
    }

    /// An object that came from somewhere else; `file` is what errors call it. What is no object has no fields.
    pub fn of(file: &str, value: Value) -> Self {
        let map = match value {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        Self {
            file: file.to_owned(),
            map,
        }
    }

    /// A field's value; null is as good as not there.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// An error about a field.
    pub fn fault(&self, name: &str, message: impl Into<String>) -> NnError {
        NnError::config(format!("{}: {name}", self.file), message)
    }

    fn typed<T>(
        &self,
        name: &str,
        what: &str,
        of: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match of(value) {
            Some(value) => Ok(Some(value)),
            None => Err(self.fault(name, format!("{value} is not {what}"))),
        }
    }

    /// A whole number from 1 to `most`.
    ///
    /// # Errors
    /// Names the field, its value and what would do.
    pub fn size(&self, name: &str, most: usize) -> Result<Option<usize>> {
        let size = |value: &Value| whole(value).filter(|n| (1..=most as u64).contains(n));
        let found = self.typed(name, &format!("a whole number from 1 to {most}"), size)?;
        Ok(found.map(|n| n as usize))
    }

    /// The same of a field that must be there.
    ///
    /// # Errors
    /// Names the field, its value and what would do.
    pub fn needed_size(&self, name: &str, most: usize) -> Result<usize> {
        self.size(name, most)?
            .ok_or_else(|| self.fault(name, "it is missing or null"))
    }

    /// A number.
    ///
    /// # Errors
    /// Names the field, its value and what would do.
    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        self.typed(name, "a number", Value::as_f64)
    }

    /// True or false.
    ///
    /// # Errors
    /// Names the field, its value and what would do.
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// A text.
    ///
    /// # Errors
    /// Names the field, its value and what would do.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(self.fault(name, format!("{value} is not a text"))),
        }
    }

    /// A token id, below `vocab`. Of a list of them the first.
    ///
    /// # Errors
    /// Names the field, its value and what would do.
    pub fn id(&self, name: &str, vocab: usize) -> Result<Option<u32>> {
        let of = |value: &Value| match value {
            Value::Array(ids) => ids.first().and_then(|first| id(first, vocab)),
            one => id(one, vocab),
        };
        self.typed(name, &format!("a token id below {vocab}"), of)
    }

    /// A list of token ids, below `vocab`. Negative ones stand for nothing (-1 is openai-whisper's word for its own list).
    ///
    /// # Errors
    /// Names the field, its value and what would do.
    pub fn ids(&self, name: &str, vocab: usize) -> Result<Option<Vec<u32>>> {
        let of = |value: &Value| {
            let listed = value.as_array()?.iter();
            listed
                .filter(|value| value.as_i64().is_none_or(|n| n >= 0))
                .map(|value| id(value, vocab))
                .collect()
        };
        self.typed(name, &format!("a list of token ids below {vocab}"), of)
    }

    /// An object of token ids by name.
    ///
    /// # Errors
    /// Names the field, its value and what would do.
    pub fn ids_by_name(&self, name: &str, vocab: usize) -> Result<Option<Vec<(String, u32)>>> {
        let of = |value: &Value| {
            let entries = value.as_object()?.iter();
            entries
                .map(|(key, value)| Some((key.clone(), id(value, vocab)?)))
                .collect()
        };
        self.typed(name, &format!("an object of token ids below {vocab}"), of)
    }

    /// All fields.
    pub fn entries(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.map.iter()
    }
}

/// A whole number, which may be written as `512.0`.
fn whole(value: &Value) -> Option<u64> {
    let exact = |x: f64| (x >= 0.0 && x.fract() == 0.0 && x < 1e15).then_some(x as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(exact))
}

fn id(value: &Value, vocab: usize) -> Option<u32> {
    let id = whole(value)?;
    (id < vocab as u64).then_some(id as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_error_names_file_field_value_and_what_would_do() {
        let fields = Fields::of(
            "config.json",
            json!({"a": -3, "b": [1, 2.5], "c": {"x": 9}, "d": 512.0, "e": null, "f": [7, -1]}),
        );
        let said = |error: NnError| error.to_string();
        assert_eq!(
            said(fields.size("a", 9).unwrap_err()),
            "config.json: a: -3 is not a whole number from 1 to 9"
        );
        assert_eq!(
            said(fields.needed_size("e", 9).unwrap_err()),
            "config.json: e: it is missing or null"
        );
        assert!(fields.ids("b", 9).is_err() && fields.ids_by_name("c", 9).is_err());
        assert_eq!(fields.size("d", 512).unwrap(), Some(512));
        assert_eq!(fields.ids("f", 8).unwrap().unwrap(), [7]);
        assert!(fields.ids("f", 7).is_err(), "an id past the vocabulary");
    }
}
