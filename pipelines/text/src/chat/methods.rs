//! Python's methods of lists and dicts, which chat templates call and Jinja itself does not have, and the arguments of all methods
//! (those of strings are in `strings`). Our own, because `minijinja-contrib`'s pycompat lacks some that templates use (rsplit,
//! removeprefix, partition, index, …) and keyword arguments.

use minijinja::value::{Kwargs, Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::strings;

/// `[::-1]`, which `functions::adapted` writes as a call of this.
pub(super) const REVERSED: &str = "__reversed__";

/// What minijinja calls for a method that it does not know.
pub(super) fn unknown_method(
    _state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let found = match value.kind() {
        _ if method == REVERSED => Some(reversed(value)?),
        ValueKind::String => strings::method(value.as_str().unwrap_or_default(), method, args)?,
        ValueKind::Map => dict(value, method, &mut Arguments::of(method, args)?)?,
        ValueKind::Seq => list(value, method, &mut Arguments::of(method, args)?)?,
        _ => None,
    };
    found.ok_or_else(|| Error::from(ErrorKind::UnknownMethod))
}

fn reversed(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            Ok(text.chars().rev().collect::<String>().into())
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items: Vec<Value> = value.try_iter()?.checked().collect::<Result<_, _>>()?;
            items.reverse();
            Ok(if value.is_tuple() {
                Value::from(Tuple::from(items))
            } else {
                Value::from(items)
            })
        }
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        other => Err(wrong(format!("a value of type {other} cannot be sliced"))),
    }
}

/// What Python's `str.isspace` is true for, and its `strip` takes away: Rust's whitespace and four separators.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

/// Positional and keyword arguments, taken by position and name.
pub(super) struct Arguments<'a> {
    method: &'a str,
    positional: &'a [Value],
    named: Kwargs,
}

impl<'a> Arguments<'a> {
    pub(super) fn of(method: &'a str, args: &'a [Value]) -> Result<Self, Error> {
        let (positional, named) = match args.split_last() {
            Some((last, rest)) if last.is_kwargs() => (rest, Kwargs::try_from(last.clone())?),
            _ => (args, Kwargs::try_from(Value::UNDEFINED)?),
        };
        Ok(Self {
            method,
            positional,
            named,
        })
    }

    /// The argument, or nothing when it is absent or None.
    pub(super) fn get(&self, index: usize, name: &str) -> Result<Option<Value>, Error> {
        let found = match self.positional.get(index) {
            Some(value) => Some(value.clone()),
            None => self.named.get::<Option<Value>>(name)?,
        };
        Ok(found.filter(|value| !value.is_none()))
    }

    pub(super) fn need(&self, index: usize, name: &str) -> Result<Value, Error> {
        self.get(index, name)?.ok_or_else(|| {
            Error::new(
                ErrorKind::MissingArgument,
                format!("{}() needs {name}", self.method),
            )
        })
    }

    pub(super) fn text(&self, index: usize, name: &str) -> Result<String, Error> {
        let value = self.need(index, name)?;
        match value.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(wrong(format!(
                "{}(): {name} is a string, not {}",
                self.method,
                value.kind()
            ))),
        }
    }

    pub(super) fn optional_text(&self, index: usize, name: &str) -> Result<Option<String>, Error> {
        match self.get(index, name)? {
            Some(_) => self.text(index, name).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn integer(&self, index: usize, name: &str) -> Result<Option<i64>, Error> {
        match self.get(index, name)? {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(format!("{}(): {name} is an integer", self.method))),
            },
        }
    }

    pub(super) fn at_most(&self, count: usize) -> Result<(), Error> {
        if self.positional.len() > count {
            return Err(Error::new(
                ErrorKind::TooManyArguments,
                format!("{}() takes at most {count} arguments", self.method),
            ));
        }
        self.named.assert_all_used()
    }
}

pub(super) fn wrong(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn dict(value: &Value, method: &str, arguments: &mut Arguments) -> Result<Option<Value>, Error> {
    let pairs = || -> Result<Vec<(Value, Value)>, Error> {
        value
            .try_iter()?
            .map(|key| Ok((key.clone(), value.get_item(&key)?)))
            .collect()
    };
    let (found, takes) = match method {
        "get" => {
            let key = arguments
                .positional
                .first()
                .cloned()
                .ok_or_else(|| Error::new(ErrorKind::MissingArgument, "get() needs a key"))?;
            let item = value.get_item(&key)?;
            let found = if item.is_undefined() {
                arguments.get(1, "default")?.unwrap_or(Value::from(()))
            } else {
                item
            };
            (found, 2)
        }
        "keys" => (value.try_iter()?.collect(), 0),
        "values" => (pairs()?.into_iter().map(|(_, value)| value).collect(), 0),
        "items" => (
            pairs()?
                .into_iter()
                .map(|(key, value)| Value::from(Tuple::from([key, value])))
                .collect(),
            0,
        ),
        "copy" => (value.clone(), 0),
        _ => return Ok(None),
    };
    arguments.at_most(takes)?;
    Ok(Some(found))
}

fn list(value: &Value, method: &str, arguments: &mut Arguments) -> Result<Option<Value>, Error> {
    let (found, takes) = match method {
        "count" => {
            let wanted = arguments.positional.first().cloned().unwrap_or_default();
            let count = value.try_iter()?.filter(|item| *item == wanted).count();
            (Value::from(count), 1)
        }
        "index" => {
            let wanted = arguments.positional.first().cloned().unwrap_or_default();
            match value.try_iter()?.position(|item| item == wanted) {
                Some(at) => (Value::from(at), 1),
                None => return Err(wrong(format!("{wanted} is not in list"))),
            }
        }
        "copy" => (value.clone(), 0),
        _ => return Ok(None),
    };
    arguments.at_most(takes)?;
    Ok(Some(found))
}
