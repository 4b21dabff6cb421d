//! The environment that a chat template runs in: what transformers adds to Jinja (`chat_template_utils.py`,
//! `_cached_compile_jinja_template`), where minijinja differs from Jinja, and the limits.

use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};

use super::clock::Clock;
use super::json;
use super::methods;
use crate::error::{Result, TextError};

/// Instructions that one rendering may take. A message takes a template about a hundred, and the engine does some 20 million in a
/// second, so this ends a loop that would not end within about half a second.
pub(super) const MOST_INSTRUCTIONS: u64 = 10_000_000;
/// Bytes that one rendering may write; far above what fits into any context window.
pub(super) const MOST_BYTES: usize = 64 << 20;
/// Nesting of macros and blocks.
const DEEPEST: usize = 200;

/// The text that a template raised, found again in the error's chain.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// An environment without templates.
pub(super) fn environment(clock: Clock) -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(|error| TextError::Template(error.to_string()))?;
    environment.set_syntax(syntax);
    environment.set_debug(false);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    // Jinja's default Undefined: printed as nothing, false, empty; but not a thing that has attributes.
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_fuel(Some(MOST_INSTRUCTIONS));
    environment.set_recursion_limit(DEEPEST);
    environment.set_unknown_method_callback(methods::unknown_method);
    environment.set_formatter(print);

    environment.add_filter("tojson", json::tojson);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("trim", trim);
    environment.add_filter("wordcount", |text: &str| text.split_whitespace().count());
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", |value: &Value| {
        is_iterable(value) && value.kind() != ValueKind::Iterable
    });
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    environment.add_function(
        "raise_exception",
        |message: &Value| -> std::result::Result<Value, Error> {
            let text = message.to_string();
            Err(Error::new(ErrorKind::InvalidOperation, text.clone()).with_source(Raised(text)))
        },
    );
    environment.add_function("strftime_now", move |format: &str| clock().strftime(format));
    Ok(environment)
}

/// Printing: as minijinja does, but numbers as Python's `str` writes them.
fn print(out: &mut Output, _state: &mut State, value: &Value) -> std::result::Result<(), Error> {
    let written = if value.kind() == ValueKind::Number && !value.is_integer() {
        fmt::Write::write_str(out, &json::number(value, "inf", "nan"))
    } else if let Some(text) = value.as_str() {
        fmt::Write::write_str(out, text)
    } else {
        fmt::Write::write_fmt(out, format_args!("{value}"))
    };
    written.map_err(Error::from)
}

/// minijinja holds None for iterable; in Python it is not.
fn is_iterable(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Undefined
            | ValueKind::String
            | ValueKind::Seq
            | ValueKind::Map
            | ValueKind::Iterable
    )
}

/// Jinja's `int`: the default, 0, where it is no number.
fn int(
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    kwargs: Kwargs,
) -> std::result::Result<Value, Error> {
    let default = or_named(default, &kwargs, "default")?.unwrap_or(Value::from(0));
    let base = match base {
        Some(base) => base,
        None => kwargs.get::<Option<u32>>("base")?.unwrap_or(10),
    };
    kwargs.assert_all_used()?;
    if value.is_integer() {
        return Ok(value.clone());
    }
    if value.kind() == ValueKind::Bool {
        return Ok(Value::from(u8::from(value.is_true())));
    }
    if let Some(text) = value.as_str() {
        let text = text.trim_matches(methods::is_space).replace('_', "");
        let digits = match base {
            16 => text.trim_start_matches("0x"),
            8 => text.trim_start_matches("0o"),
            2 => text.trim_start_matches("0b"),
            _ => &text,
        };
        if (2..=36).contains(&base)
            && let Ok(number) = i64::from_str_radix(digits, base)
        {
            return Ok(Value::from(number));
        }
    }
    Ok(match as_float(value) {
        // Within i64 by the comparison, so that the cast cuts off the fraction and nothing else.
        Some(float) if float.abs() < 9e18 => Value::from(float as i64),
        _ => default,
    })
}

/// Jinja's `float`: the default, 0.0, where it is no number.
fn float(
    value: &Value,
    default: Option<Value>,
    kwargs: Kwargs,
) -> std::result::Result<Value, Error> {
    let default = or_named(default, &kwargs, "default")?.unwrap_or(Value::from(0.0));
    kwargs.assert_all_used()?;
    Ok(as_float(value).map_or(default, Value::from))
}

fn as_float(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some(text) => text.trim_matches(methods::is_space).parse().ok(),
        None => f64::try_from(value.clone()).ok(),
    }
}

fn or_named(
    value: Option<Value>,
    kwargs: &Kwargs,
    name: &str,
) -> std::result::Result<Option<Value>, Error> {
    match value {
        Some(value) => Ok(Some(value)),
        None => kwargs.get::<Option<Value>>(name),
    }
}

/// Jinja's `trim`, which is Python's `strip`.
fn trim(value: &Value, characters: Option<&str>) -> String {
    let text = match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    };
    match characters {
        Some(set) => text.trim_matches(|character| set.contains(character)),
        None => text.trim_matches(methods::is_space),
    }
    .to_owned()
}

/// The source as minijinja can read it. Two things are written differently:
/// `{% generation %}…{% endgeneration %}`, a tag of transformers' own that marks what a model is trained on, becomes a block with the
/// same scope and the same white space around it; and `[::-1]` becomes a method of ours, because minijinja 3.0.5 panics on it when
/// what it reverses is empty (`value/ops.rs`, `range_step_backwards`).
pub(super) fn adapted(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let openings = ["{%", "{{", "{#"];
    while let Some(at) = openings.iter().filter_map(|open| rest.find(open)).min() {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let close = match from.get(..2) {
            Some("{#") => "#}",
            Some("{{") => "}}",
            _ => "%}",
        };
        let end = from.find(close).map_or(from.len(), |end| end + 2);
        let (tag, after) = from.split_at(end);
        rest = after;
        let name = tag
            .trim_start_matches("{%")
            .trim_end_matches("%}")
            .trim_start_matches(['-', '+'])
            .trim_end_matches(['-', '+'])
            .trim();
        match name {
            _ if close == "#}" => out.push_str(tag),
            "generation" => out.push_str(&tag.replacen("generation", "with", 1)),
            "endgeneration" => out.push_str(&tag.replacen("endgeneration", "endwith", 1)),
            "raw" => {
                let (raw, after) = rest.split_at(rest.find("endraw").unwrap_or(rest.len()));
                out.push_str(tag);
                out.push_str(raw);
                rest = after;
            }
            _ => push_with_reversals(&mut out, tag),
        }
    }
    out.push_str(rest);
    out
}

/// Writes a tag with `[::-1]` outside of strings as a call of [`methods::REVERSED`].
fn push_with_reversals(out: &mut String, tag: &str) {
    const REVERSAL: &str = "[::-1]";
    let mut quote = None;
    let mut rest = tag;
    while let Some(character) = rest.chars().next() {
        if quote.is_none()
            && let Some(after) = rest.strip_prefix(REVERSAL)
        {
            out.push_str(&format!(".{}()", methods::REVERSED));
            rest = after;
            continue;
        }
        let mut taken = character.len_utf8();
        match (quote, character) {
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (Some(_), '\\') => taken += rest.chars().nth(1).map_or(0, char::len_utf8),
            _ => {}
        }
        let (part, after) = rest.split_at(taken);
        out.push_str(part);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_and_reversals_are_rewritten_and_nothing_else() {
        for (source, expected) in [
            (
                "a{%- generation -%}b{%+ endgeneration %}{% set generation = 1 %}",
                "a{%- with -%}b{%+ endwith %}{% set generation = 1 %}",
            ),
            (
                "{# {% generation %} #}{% raw %}{% generation %}{{ a[::-1] }}{% endraw %}",
                "{# {% generation %} #}{% raw %}{% generation %}{{ a[::-1] }}{% endraw %}",
            ),
            (
                "[::-1]{{ a[::-1][0] ~ '[::-1]\\'[::-1]' }}{% for x in a[1:][::-1] %}",
                "[::-1]{{ a.__reversed__()[0] ~ '[::-1]\\'[::-1]' }}{% for x in a[1:].__reversed__() %}",
            ),
        ] {
            assert_eq!(adapted(source), expected);
        }
    }
}
