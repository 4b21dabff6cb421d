//! The metadata of a GGUF file: typed values by key, and asking for one with an error that names it.
//! Apart from the header, which also knows tensors, because a model's configuration is read from these alone.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::text::quoted;
use super::cursor::{Cursor, MAX_TEXT_BYTES};
use crate::error::{NnError, Result};

/// The most elements a list may have. The largest vocabulary in use has a quarter of a million.
const MAX_LIST: u64 = 1 << 24;
/// The most keys a file may have; the busiest have some hundred.
const MAX_KEYS: u64 = 1 << 16;
/// The longest key, as the format's description has it.
const MAX_KEY_BYTES: u64 = (1 << 16) - 1;
/// Length of the key, type of the value, and one byte of value.
const LEAST_KEY_BYTES: u64 = 8 + 4 + 1;

/// A value of the metadata. Every whole number fits, whatever its width in the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number.
    Integer(i128),
    /// A number of either width.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A text.
    Text(String),
    /// Whole numbers.
    Integers(Vec<i64>),
    /// Numbers; both widths are kept as f32, which is what scores and factors are.
    Floats(Vec<f32>),
    /// Truth values.
    Bools(Vec<bool>),
    /// Texts.
    Texts(Vec<String>),
}

impl Value {
    /// What kind it is, in a message.
    fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Text(_) => "a text",
            Self::Integers(_) => "a list of whole numbers",
            Self::Floats(_) => "a list of numbers",
            Self::Bools(_) => "a list of truth values",
            Self::Texts(_) => "a list of texts",
        }
    }
}

/// The metadata of a GGUF file. Each question has an error that names the file, the key and what was found.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// Stands for the file in errors.
    pub(super) file: PathBuf,
    pub(super) values: BTreeMap<String, Value>,
}

impl Metadata {
    /// A value as it is.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// All keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// A text, if the key is there.
    ///
    /// # Errors
    /// [`NnError::WeightFile`] when it is of another type; so for all the others here.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A whole number that is not negative.
    ///
    /// # Errors
    /// As [`text`](Self::text), and for a negative number.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a whole number of 0 or more", |value| match value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A number; a whole one is one, too.
    ///
    /// # Errors
    /// As [`text`](Self::text), and for one that is not finite.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |value| match value {
            Value::Float(number) => number.is_finite().then_some(*number),
            Value::Integer(number) => Some(*number as f64),
            _ => None,
        })
    }

    /// True or false.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A list of texts.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub fn texts(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "a list of texts", |value| match value {
            Value::Texts(texts) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// A list of whole numbers.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub fn integers(&self, key: &str) -> Result<Option<&[i64]>> {
        self.typed(key, "a list of whole numbers", |value| match value {
            Value::Integers(numbers) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    /// A list of numbers.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>> {
        self.typed(key, "a list of numbers", |value| match value {
            Value::Floats(numbers) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    /// An error about a key, for those who know more about what it should be.
    pub fn refuse(&self, key: &str, reason: &str) -> NnError {
        NnError::WeightFile {
            file: self.file.clone(),
            reason: format!("{} {reason}", quoted(key)),
        }
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        take: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.values.get(key) else {
            return Ok(None);
        };
        take(value).map(Some).ok_or_else(|| {
            let shown = match value {
                Value::Integer(number) => format!("{number}, "),
                Value::Float(number) => format!("{number}, "),
                Value::Text(text) => format!("{}, ", quoted(text)),
                _ => String::new(),
            };
            self.refuse(
                key,
                &format!("is {shown}{}; {wanted} is wanted", value.kind()),
            )
        })
    }

    /// Reads all keys from where the cursor stands.
    pub(super) fn read(file: PathBuf, cursor: &mut Cursor<'_>, keys: u64) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        for place in 0..keys {
            let key = cursor.text(&format!("key {place}"), MAX_KEY_BYTES)?;
            if key.is_empty() {
                return Err(format!("key {place} is empty; download it again"));
            }
            if values.contains_key(&key) {
                return Err(format!(
                    "key {} is there twice; download it again",
                    quoted(&key)
                ));
            }
            let value = read_value(&key, cursor)?;
            values.insert(key, value);
        }
        Ok(Self { file, values })
    }

    /// The number of keys, checked.
    pub(super) fn count(cursor: &mut Cursor<'_>) -> Result<u64, String> {
        cursor.count("the number of keys", LEAST_KEY_BYTES, MAX_KEYS)
    }
}

/// The format's types of values, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    List,
    U64,
    I64,
    F64,
}

impl Kind {
    fn read(key: &str, cursor: &mut Cursor<'_>) -> Result<Self, String> {
        const KINDS: [Kind; 13] = [
            Kind::U8,
            Kind::I8,
            Kind::U16,
            Kind::I16,
            Kind::U32,
            Kind::I32,
            Kind::F32,
            Kind::Bool,
            Kind::Text,
            Kind::List,
            Kind::U64,
            Kind::I64,
            Kind::F64,
        ];
        let number = cursor.u32(&format!("the type of {}", quoted(key)))?;
        usize::try_from(number)
            .ok()
            .and_then(|number| KINDS.get(number).copied())
            .ok_or_else(|| {
                format!(
                    "the type of {} is {number}, and 0 to 12 are known; download it again",
                    quoted(key)
                )
            })
    }

    /// Bytes that one takes at least.
    fn least_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::Text => 8,
            Self::List => 12,
        }
    }
}

fn read_value(key: &str, cursor: &mut Cursor<'_>) -> Result<Value, String> {
    let kind = Kind::read(key, cursor)?;
    let what = || format!("the value of {}", quoted(key));
    Ok(match kind {
        Kind::F32 | Kind::F64 => Value::Float(float(kind, &what(), cursor)?),
        Kind::Bool => Value::Bool(truth(&what(), cursor)?),
        Kind::Text => Value::Text(cursor.text(&what(), MAX_TEXT_BYTES)?),
        Kind::List => read_list(key, cursor)?,
        _ => Value::Integer(integer(kind, &what(), cursor)?),
    })
}

fn read_list(key: &str, cursor: &mut Cursor<'_>) -> Result<Value, String> {
    let kind = Kind::read(key, cursor)?;
    let count = cursor.count(
        &format!("the length of the list {}", quoted(key)),
        kind.least_bytes(),
        MAX_LIST,
    )?;
    let what = format!("an element of {}", quoted(key));
    // Grown as elements arrive and not reserved, so that a count costs nothing before its bytes were read.
    Ok(match kind {
        Kind::Text => {
            let texts = (0..count).map(|_| cursor.text(&what, MAX_TEXT_BYTES));
            Value::Texts(texts.collect::<Result<_, String>>()?)
        }
        Kind::F32 | Kind::F64 => {
            let numbers = (0..count).map(|_| Ok(float(kind, &what, cursor)? as f32));
            Value::Floats(numbers.collect::<Result<_, String>>()?)
        }
        Kind::Bool => Value::Bools(
            (0..count)
                .map(|_| truth(&what, cursor))
                .collect::<Result<_, String>>()?,
        ),
        Kind::List => {
            return Err(format!(
                "{} is a list of lists, and no model's metadata has one; download it again",
                quoted(key)
            ));
        }
        _ => {
            let numbers = (0..count).map(|_| {
                let number = integer(kind, &what, cursor)?;
                i64::try_from(number).map_err(|_| {
                    format!("{what} is {number}, and {} is the most in a list", i64::MAX)
                })
            });
            Value::Integers(numbers.collect::<Result<_, String>>()?)
        }
    })
}

fn integer(kind: Kind, what: &str, cursor: &mut Cursor<'_>) -> Result<i128, String> {
    Ok(match kind {
        Kind::U8 => u8::from_le_bytes(cursor.array(what)?).into(),
        Kind::I8 => i8::from_le_bytes(cursor.array(what)?).into(),
        Kind::U16 => u16::from_le_bytes(cursor.array(what)?).into(),
        Kind::I16 => i16::from_le_bytes(cursor.array(what)?).into(),
        Kind::U32 => cursor.u32(what)?.into(),
        Kind::I32 => i32::from_le_bytes(cursor.array(what)?).into(),
        Kind::I64 => i64::from_le_bytes(cursor.array(what)?).into(),
        _ => cursor.u64(what)?.into(),
    })
}

fn float(kind: Kind, what: &str, cursor: &mut Cursor<'_>) -> Result<f64, String> {
    Ok(match kind {
        Kind::F32 => f32::from_le_bytes(cursor.array(what)?).into(),
        _ => f64::from_le_bytes(cursor.array(what)?),
    })
}

fn truth(what: &str, cursor: &mut Cursor<'_>) -> Result<bool, String> {
    match cursor.array::<1>(what)? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(format!(
            "{what} is {other}, and a truth value is 0 or 1; download it again"
        )),
    }
}
