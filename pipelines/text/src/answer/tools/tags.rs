//! Calls written as tags: `<function=name>` with a `<parameter=key>` for each argument, between which a value stands as
//! plain text. What type a value has, the tool's schema says; out comes JSON.

use std::collections::BTreeMap;

use serde_json::Value;

use super::object::Outcome;

const FUNCTION: &str = "<function=";
const PARAMETER: &str = "<parameter=";
const VALUE_END: &str = "</parameter>";
const FUNCTION_END: &str = "</function>";

/// Types of a tool's parameters, by tool and parameter.
pub(crate) type Types = BTreeMap<String, BTreeMap<String, Value>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Function,
    Name,
    Between,
    Key,
    Value,
}

/// The reader of one function's tags.
#[derive(Debug, Clone)]
pub(super) struct TagScan {
    at: At,
    held: String,
    key: String,
    count: usize,
    pub(super) name: Option<String>,
    /// Arguments that were read and not taken yet.
    pub(super) arguments: String,
}

impl TagScan {
    pub(super) fn new() -> Self {
        Self {
            at: At::Function,
            held: String::new(),
            key: String::new(),
            count: 0,
            name: None,
            arguments: String::new(),
        }
    }

    pub(super) fn step(&mut self, character: char, types: &Types) -> Outcome {
        self.held.push(character);
        match self.at {
            At::Function => self.expect(&[(FUNCTION, At::Name)]),
            At::Name | At::Key if character == '>' => {
                self.held.pop();
                let text = std::mem::take(&mut self.held);
                if self.at == At::Name {
                    self.name = Some(text.trim().to_owned());
                    self.at = At::Between;
                } else {
                    self.key = text.trim().to_owned();
                    self.at = At::Value;
                }
                Outcome::More
            }
            At::Name | At::Key if "<\n".contains(character) => Outcome::Broken,
            At::Name | At::Key => Outcome::More,
            At::Between if self.held.trim_start() == FUNCTION_END => {
                self.arguments
                    .push_str(if self.count == 0 { "{}" } else { "}" });
                Outcome::Done
            }
            At::Between => self.expect(&[(PARAMETER, At::Key), (FUNCTION_END, At::Between)]),
            At::Value => {
                if let Some(value) = self.held.strip_suffix(VALUE_END) {
                    let value = value.strip_prefix('\n').unwrap_or(value);
                    let value = value.strip_suffix('\n').unwrap_or(value);
                    let kind = self
                        .name
                        .as_ref()
                        .and_then(|name| types.get(name)?.get(&self.key));
                    let lead = if self.count == 0 { "{" } else { ", " };
                    let key = Value::from(self.key.as_str());
                    self.arguments
                        .push_str(&format!("{lead}{key}: {}", typed(value, kind)));
                    self.count += 1;
                    self.held.clear();
                    self.at = At::Between;
                }
                Outcome::More
            }
        }
    }

    /// Space, and then one of these words.
    fn expect(&mut self, words: &[(&str, At)]) -> Outcome {
        let found = self.held.trim_start();
        if let Some((_, next)) = words.iter().find(|(word, _)| *word == found) {
            self.at = *next;
            self.held.clear();
            return Outcome::More;
        }
        match words.iter().any(|(word, _)| word.starts_with(found)) {
            true => Outcome::More,
            false => Outcome::Broken,
        }
    }
}

/// A value as JSON. Where the schema allows a string, and where it says nothing, it is one; else it is read as JSON,
/// and Python's words, which templates print, as what they mean.
fn typed(value: &str, schema: Option<&Value>) -> String {
    let text = || Value::from(value).to_string();
    let kind = schema.and_then(|schema| schema.get("type"));
    let is_text = match kind {
        Some(Value::String(kind)) => kind == "string",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "string"),
        _ => !schema
            .is_some_and(|schema| schema.get("anyOf").is_some() || schema.get("$ref").is_some()),
    };
    if is_text {
        return text();
    }
    let word = match value.trim() {
        "True" => "true",
        "False" => "false",
        "None" => "null",
        other => other,
    };
    match serde_json::from_str::<Value>(word) {
        Ok(_) => word.to_owned(),
        Err(_) => text(),
    }
}

/// The types of a tool's parameters, from its definition.
pub(super) fn types(parameters: &Value) -> BTreeMap<String, Value> {
    parameters
        .get("properties")
        .and_then(Value::as_object)
        .map(|fields| fields.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
        .unwrap_or_default()
}
