//! What a JSON value is called in an error. Apart, since both front doors say it and neither looks into the other.

use serde_json::Value;

/// Its sort, with an article.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
