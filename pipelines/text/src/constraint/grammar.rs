//! From a constraint to the grammar that llguidance compiles, with the limits on its text.

use chandler_core::RequestError;
use chandler_core::form::Constraint;
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Map, Value, json};

/// The field that an error of a constraint names. A front door puts its own name in its place.
pub(crate) const FIELD: &str = "constraint";
/// Bytes of a schema or a grammar.
const MOST_TEXT: usize = 256 << 10;
/// Bytes of a regular expression.
const MOST_REGEX: usize = 16 << 10;
/// Texts to choose from.
const MOST_CHOICES: usize = 4_096;
/// Levels of a schema. JSON text that is read has 128 at most.
const DEEPEST: usize = 128;
/// Space between two parts of JSON: any, but not without end, which is where a small model likes to stay. llguidance
/// takes the pattern once per place.
const SPACE: &str = r"[\x20\x0A\x0D\x09]{1,32}";
/// The key under which llguidance reads options within a schema.
const OPTIONS: &str = "x-guidance";

/// A grammar, and the field of the request that it comes from.
pub(crate) struct Language {
    pub(crate) field: String,
    pub(crate) grammar: TopLevelGrammar,
}

/// The grammar of a constraint.
///
/// # Errors
/// Names what is too large or empty.
pub(crate) fn constraint(constraint: &Constraint) -> Result<GrammarWithLexer, RequestError> {
    Ok(match constraint {
        Constraint::JsonObject => {
            GrammarWithLexer::from_json_schema(with_space(json!({"type": "object"}), false))
        }
        Constraint::JsonSchema(schema) => {
            checked_schema(FIELD, schema)?;
            GrammarWithLexer::from_json_schema(with_space(schema.clone(), false))
        }
        Constraint::Regex(regex) => {
            bounded(FIELD, "the regular expression", regex.len(), MOST_REGEX)?;
            GrammarWithLexer::from_regex(regex)
        }
        Constraint::Grammar(text) => {
            bounded(FIELD, "the grammar", text.len(), MOST_TEXT)?;
            GrammarWithLexer::from_lark(text.clone())
        }
        Constraint::Choice(choices) => choice(choices)?,
        other => {
            let message = format!("{other:?} is no constraint that this pipeline knows");
            return Err(RequestError::unsupported(FIELD, message));
        }
    })
}

fn choice(choices: &[String]) -> Result<GrammarWithLexer, RequestError> {
    bounded(FIELD, "the list of choices", choices.len(), MOST_CHOICES)?;
    let bytes: usize = choices.iter().map(String::len).sum();
    bounded(FIELD, "the choices' text", bytes, MOST_TEXT)?;
    if choices.is_empty() || choices.iter().any(String::is_empty) {
        let message =
            "the list of choices is empty or has an empty text; give texts to choose from";
        return Err(RequestError::field(FIELD, message));
    }
    let texts: Vec<String> = choices.iter().map(|text| lark_literal(text)).collect();
    Ok(grammar_text(&format!("start: {}", texts.join(" | "))))
}

/// A grammar from its text.
pub(crate) fn grammar_text(text: &str) -> GrammarWithLexer {
    GrammarWithLexer::from_lark(text.to_owned())
}

/// A text as a literal of the dialect, whose strings are JSON's.
pub(crate) fn lark_literal(text: &str) -> String {
    Value::from(text).to_string()
}

/// Refuses a schema that is no schema, or too large.
///
/// # Errors
/// Names `field`.
pub(crate) fn checked_schema(field: &str, schema: &Value) -> Result<(), RequestError> {
    if !schema.is_object() && !schema.is_boolean() {
        let message = format!("{field} is {schema}; a schema is a JSON object");
        return Err(RequestError::field(field, message));
    }
    if depth(schema, 0) > DEEPEST {
        let message = format!("the schema is nested deeper than {DEEPEST} levels");
        return Err(RequestError::field(field, message));
    }
    bounded(field, "the schema", schema.to_string().len(), MOST_TEXT)
}

fn depth(value: &Value, level: usize) -> usize {
    if level > DEEPEST {
        return level;
    }
    let inner = |value: &Value| depth(value, level + 1);
    match value {
        Value::Array(items) => items.iter().map(inner).max().unwrap_or(level),
        Value::Object(fields) => fields.values().map(inner).max().unwrap_or(level),
        _ => level,
    }
}

fn bounded(field: &str, what: &str, size: usize, most: usize) -> Result<(), RequestError> {
    if size <= most {
        return Ok(());
    }
    let message = format!("{what} has a size of {size}; at most {most} is taken");
    Err(RequestError::field(field, message))
}

/// A schema with the rule for space added, where it does not bring llguidance's options itself. `lenient` leaves aside
/// what llguidance does not know.
pub(crate) fn with_space(schema: Value, lenient: bool) -> Value {
    let mut fields = match schema {
        Value::Object(fields) => fields,
        // `true` is every value; `false` is none, which llguidance refuses in words of its own.
        Value::Bool(true) => Map::new(),
        other => return other,
    };
    let mut options = json!({"whitespace_pattern": SPACE});
    if let (true, Some(options)) = (lenient, options.as_object_mut()) {
        options.insert("lenient".into(), true.into());
    }
    fields.entry(OPTIONS).or_insert(options);
    Value::Object(fields)
}
